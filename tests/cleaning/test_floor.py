"""A share of each class stays on the labeled side, whatever the cleaner says of it; its verdict stays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Draw, Estimate, Evidence
from cpc_lightning.cleaning.floor import best_of_each_class, keep_floor
from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.cleaning.partition import Partition, co_divide
from cpc_lightning.errors import InputError

LABELS = torch.tensor([0, 1, 0, 0, 1, 2, 0, 0])
CLEAN = torch.tensor([0.9, 0.1, 0.8, 0.2, 0.3, 0.05, 0.7, 0.6])


def result_of(first, second, floor, targets=None):
    index = torch.arange(len(LABELS)) + 100
    by = [Partition.from_probability(index, q, 0.5) for q in (first, second)]
    if targets is not None:
        every = torch.ones(len(LABELS))
        by = [Partition(index, every, every.bool(), targets=targets)] * 2
    draw = Draw(index, LABELS, torch.full_like(LABELS, -1))
    return CleaningResult((Estimate(first), Estimate(second)), co_divide(*by), 0.5, {}, {}, floor), (draw, draw)


def test_the_best_of_each_class_rounded_up():
    assert torch.nonzero(best_of_each_class(CLEAN, LABELS, 0.4)).flatten().tolist() == [0, 2, 4, 5]  # 2 of 5, 1 of 2, 1
    assert not best_of_each_class(CLEAN, LABELS, 0.0).any()
    assert best_of_each_class(CLEAN, LABELS, 1.0).all()
    # 0.2 of 5 is 1.0000000000000002 in another order of multiplication: one is meant.
    assert int(best_of_each_class(torch.ones(5), torch.zeros(5, dtype=torch.int64), 0.2).sum()) == 1


def test_of_equals_the_earlier_ones():
    assert best_of_each_class(torch.full((4,), 0.3), torch.zeros(4, dtype=torch.int64), 0.5).tolist() == [1, 1, 0, 0]


def test_doubted_labels_of_an_emptied_class_are_trained_on_with_the_threshold_as_their_probability():
    result, draws = result_of(CLEAN, CLEAN, 0.4)
    for partition in keep_floor(result, draws).partitions:
        assert partition.labeled.tolist() == [100, 102, 104, 105, 106, 107]
        assert partition.labeled_probability.tolist() == pytest.approx([0.9, 0.8, 0.5, 0.5, 0.7, 0.6])
    assert keep_floor(result, draws).estimates is result.estimates  # the verdict


def test_without_a_floor_nothing_changes():
    result, draws = result_of(CLEAN, CLEAN, 0.0)
    assert keep_floor(result, draws) is result


def test_what_network_2_says_decides_for_network_1():
    other = torch.where(LABELS == 1, 0.9, CLEAN)
    result, draws = result_of(CLEAN, other, 0.5)
    for_first, for_second = keep_floor(result, draws).partitions
    assert for_first.clean.tolist() == [True, True, True, False, True, True, True, True]
    assert for_second.clean.tolist() == [True, False, True, False, True, True, True, True]


def test_targets_of_kept_labels_become_the_given_ones():
    targets = torch.full((8, 3), 1 / 3)
    result, draws = result_of(CLEAN, CLEAN, 0.4, targets)
    kept = keep_floor(result, draws).partitions[0].targets
    assert kept[4].tolist() == [0, 1, 0]
    assert kept[5].tolist() == [0, 0, 1]
    torch.testing.assert_close(kept[[0, 1, 2, 3, 6, 7]], targets[:6])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), True])
def test_a_floor_is_a_share(share):
    with pytest.raises(InputError, match="class_floor"):
        GmmCleaner(False, class_floor=share)


def test_the_smallest_losses_of_each_class_as_in_promix():
    """Half of each class by the loss mixture's clean probability is half of its smallest losses."""
    stream = np.random.RandomState(0)
    labels = torch.arange(200) % 4
    losses = torch.tensor(np.concatenate([stream.rand(150), 2 + stream.rand(50)]), dtype=torch.float32)
    losses = torch.where(labels == 3, losses + 2, losses)  # a hard class, which the mixture of all empties
    scaled = ((losses - losses.min()) / (losses.max() - losses.min()))[None]
    none, draw = torch.zeros(200), Draw(torch.arange(200), labels, labels)
    seen = Evidence(losses, scaled, none, labels, none, torch.empty(200, 0))
    task = CleaningTask((draw, draw), (seen, seen), (seen, seen), (None, None), (None, None), 0.0, 0)
    cleaner = GmmCleaner(False, class_floor=0.5)
    result = cleaner.clean(task)
    assert int(result.partitions[0].clean[labels == 3].sum()) < 5
    kept = keep_floor(result, (draw, draw)).partitions[0]
    for label in range(4):
        members = torch.nonzero(labels == label).flatten()
        smallest = members[losses[members].argsort()][:25]
        assert kept.clean[smallest].all()
        assert int(kept.clean[members].sum()) == max(25, int(result.partitions[0].clean[members].sum()))


def test_a_partition_of_a_cleaners_own_keeps_its_floor_too():
    """UNICON leaves out labels that look clean, where their class has more than its share; half are a half."""
    index = torch.arange(len(LABELS)) + 100
    own = Partition(index, torch.ones(len(LABELS)), torch.tensor([True, True] + [False] * 6))
    result, draws = result_of(CLEAN, CLEAN, 0.6)
    kept = keep_floor(replace(result, partitions=(own, own)), draws).partitions[0]
    assert kept.labeled.tolist() == [100, 101, 102, 104, 105, 106]  # 3 of class 0, 2 of class 1, 1 of class 2
