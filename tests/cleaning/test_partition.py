import io

import pytest
import torch

from cpc_lightning.cleaning.partition import Partition, co_divide


def test_clean_is_strictly_above_the_threshold():
    p = Partition.from_probability(torch.tensor([7, 2, 9, 4]), torch.tensor([0.5, 0.75, 0.25, 1.0]), 0.5)
    assert p.clean.tolist() == [False, True, False, True]
    assert p.labeled.tolist() == [2, 4]
    assert p.unlabeled.tolist() == [7, 9]
    assert p.labeled_probability.tolist() == [0.75, 1.0]
    assert p.clean_probability.dtype == torch.float32
    assert not p.fell_back


def test_a_threshold_that_float32_cannot_hold_is_still_strict():
    p = Partition.from_probability(torch.arange(3), torch.tensor([0.3, 0.31, 0.32]), 0.3)
    assert p.clean.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("probability", "labeled"),
    [
        ([0.1, 0.4, 0.2, 0.3], [11, 13]),  # nobody passes: the two highest
        ([0.1, 0.2, 0.9, 0.2], [11, 12]),  # one passes: itself, and the earlier of the tied
        ([0.0, 0.0, 0.0, 0.0], [10, 11]),  # all tied: by position
        ([0.0] * 100, [10, 11]),  # more than a sort that is not stable keeps in order
        ([0.2], [10]),  # a single sample
    ],
)
def test_too_few_clean_samples_are_filled_up_by_rank(probability, labeled):
    index = torch.arange(10, 10 + len(probability))
    p = Partition.from_probability(index, torch.tensor(probability), 0.5)
    assert p.labeled.tolist() == labeled
    assert p.fell_back


def test_the_smallest_labeled_side_can_be_set():
    p = Partition.from_probability(torch.arange(4), torch.tensor([0.9, 0.8, 0.1, 0.2]), 0.5, minimum_labeled=3)
    assert p.labeled.tolist() == [0, 1, 3]
    assert p.fell_back


def test_an_empty_unlabeled_side_is_no_fall_back():
    p = Partition.from_probability(torch.arange(3), torch.ones(3), 0.5)
    assert p.labeled.tolist() == [0, 1, 2]
    assert p.unlabeled.tolist() == []
    assert not p.fell_back


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_probabilities_that_are_not_finite_name_the_sample(bad):
    with pytest.raises(ValueError, match="sample 8 "):
        Partition.from_probability(torch.tensor([3, 8]), torch.tensor([0.5, bad]), 0.5)


def test_probabilities_outside_0_1_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Partition.from_probability(torch.tensor([3, 8]), torch.tensor([0.5, 1.5]), 0.5)
    with pytest.raises(ValueError, match=r"\(n,\)"):
        Partition.from_probability(torch.arange(3), torch.tensor([0.5, 0.9]), 0.5)


def test_state_survives_a_weights_only_checkpoint():
    p = Partition.from_probability(torch.tensor([5, 1, 3]), torch.tensor([0.1, 0.7, 0.2]), 0.5)
    file = io.BytesIO()
    torch.save(p.to_state(), file)
    file.seek(0)
    q = Partition.from_state(torch.load(file, weights_only=True))
    assert q.index.tolist() == [5, 1, 3]
    assert torch.equal(q.clean_probability, p.clean_probability)
    assert q.clean.tolist() == [False, True, True]
    assert q.fell_back is True


def test_co_divide_swaps():
    first, second = (Partition.from_probability(torch.arange(2), torch.ones(2), 0.5) for _ in "12")
    assert co_divide(first, second) == (second, first)
    assert first != second


def test_targets_and_weights_of_the_labeled_side_survive_a_checkpoint():
    targets, weights = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0, 1.0]]), torch.tensor([1.0, 2.0, 3.0])
    index, clean = torch.tensor([5, 6, 7]), torch.tensor([True, False, True])
    partition = Partition(index, torch.ones(3), clean, targets=targets, weights=weights)
    file = io.BytesIO()
    torch.save(partition.to_state(), file)
    file.seek(0)
    back = Partition.from_state(torch.load(file, weights_only=True))
    assert back.labeled_targets.tolist() == [[0.75, 0.25], [0, 1]]
    assert back.labeled_weights.tolist() == [1, 3]
    plain = Partition.from_state(Partition(index, torch.ones(3), clean).to_state())
    assert plain.labeled_targets is None
    assert plain.labeled_weights is None


@pytest.mark.parametrize(
    "wrong", [{"targets": torch.ones(2, 2)}, {"targets": torch.ones(3)}, {"weights": torch.ones(2)}]
)
def test_targets_and_weights_are_of_every_sample(wrong):
    with pytest.raises(ValueError, match=r"must"):
        Partition(torch.arange(3), torch.ones(3), torch.ones(3, dtype=torch.bool), **wrong)
