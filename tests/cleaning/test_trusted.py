"""Labels that a person has confirmed, by hand on a few samples."""

import torch

from cpc_lightning.cleaning.evidence import CleaningResult, Draw, Estimate
from cpc_lightning.cleaning.partition import Partition, co_divide
from cpc_lightning.cleaning.trusted import believe


def divided(first, second, draws, threshold=0.5):
    """The result of a cleaner by which network 1 gives its peer's draw `first`, and network 2 `second`."""
    estimates = tuple(Estimate(torch.tensor(values), gmm=torch.tensor(values)) for values in (first, second))
    partitions = (
        Partition.from_probability(draws[1 - r].index, estimates[r].clean_probability, threshold) for r in (0, 1)
    )
    return CleaningResult(estimates, co_divide(*partitions), threshold, {"gmm": threshold}, {})


def draw(index, trusted):
    labels = torch.zeros(len(index), dtype=torch.int64)
    return Draw(torch.tensor(index), labels, labels, None if trusted is None else torch.tensor(trusted))


def test_trusted_labels_are_labeled_with_a_clean_probability_of_1():
    """Network 1 trains on samples 2, 4, 6, of which 4 is trusted, and network 2 on 1, 4, of which 4 is."""
    draws = draw([2, 4, 6], [False, True, False]), draw([1, 4], [False, True])
    result = believe(divided([0.2, 0.3], [0.9, 0.1, 0.6], draws), draws)
    assert result.estimates[0].clean_probability.tolist() == [torch.tensor(0.2).item(), 1.0]
    assert torch.equal(result.estimates[1].clean_probability, torch.tensor([0.9, 1.0, 0.6]))
    assert torch.equal(result.estimates[1].gmm, torch.tensor([0.9, 0.1, 0.6]))  # what the mixture says is measured
    for_first, for_second = result.partitions
    assert for_first.labeled.tolist() == [2, 4, 6]
    assert torch.equal(for_first.labeled_probability, torch.tensor([0.9, 1.0, 0.6]))
    assert for_second.index.tolist() == [1, 4]
    assert 4 in for_second.labeled.tolist()


def test_a_threshold_that_nothing_passes():
    draws = (draw([0, 1, 2, 3], [True, True, True, False]),) * 2
    result = believe(divided([0.9] * 4, [0.9] * 4, draws, threshold=1.0), draws)
    assert result.partitions[0].labeled.tolist() == [0, 1, 2]


def test_without_trusted_labels_the_answer_is_the_cleaners():
    for trusted in (None, [False, False, False]):
        draws = (draw([0, 1, 2], trusted),) * 2
        result = divided([0.9, 0.1, 0.8], [0.2, 0.9, 0.8], draws)
        assert believe(result, draws) is result


def test_a_trusted_label_is_the_target_where_a_cleaner_gives_targets():
    index, every = torch.arange(2), torch.ones(2, dtype=torch.bool)
    targets = torch.tensor([[0.25, 0.75], [0.25, 0.75]])
    partition = Partition(index, torch.ones(2), every, targets=targets)
    draw = Draw(index, torch.tensor([0, 0]), torch.tensor([-1, -1]), torch.tensor([True, False]))
    estimate = Estimate(torch.tensor([0.25, 0.25]))
    result = believe(CleaningResult((estimate, estimate), (partition, partition), 0.5, {}, {}), (draw, draw))
    for number in (0, 1):
        assert result.partitions[number].targets.tolist() == [[1, 0], [0.25, 0.75]]
        assert result.partitions[number].clean.all()
        assert result.estimates[number].clean_probability.tolist() == [1, 0.25]


def test_a_division_of_a_cleaners_own_stays_but_for_trusted_labels():
    """UNICON's sides are not the threshold's: what it leaves out although it looks clean stays out."""
    draws = (draw([0, 1, 2, 3], [False, False, False, True]),) * 2
    index = torch.arange(4)
    own = Partition(index, torch.tensor([1.0, 0.6, 1.0, 0.2]), torch.tensor([True, True, False, False]))
    result = divided([0.9, 0.3, 0.9, 0.1], [0.9, 0.3, 0.9, 0.1], draws)
    result = CleaningResult(result.estimates, (own, own), 0.5, {}, {})
    for partition in believe(result, draws).partitions:
        assert partition.labeled.tolist() == [0, 1, 3]
        assert torch.equal(partition.labeled_probability, torch.tensor([1.0, 0.6, 1.0]))
