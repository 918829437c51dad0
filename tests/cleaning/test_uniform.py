"""UNICON's selection: the divergence by hand and by its definition, the same number from every class."""

import math

import numpy as np
import pytest
import torch
from tests.cleaning.conftest import evidence_of

from cpc_lightning.cleaning.evidence import Basis, CleaningTask, Draw
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.cleaning.uniform import UniformCleaner, divergence_of_label, divide
from cpc_lightning.errors import InputError

LOG_2 = math.log(2)


def by_definition(softmax, label):
    """(KL(p || m) + KL(y || m)) / 2 with m = (p + y) / 2, in float64 and natural logarithms."""
    given = np.eye(len(softmax))[label]
    mean = (softmax + given) / 2

    def kl(first):
        inside = first > 0
        return float((first[inside] * np.log(first[inside] / mean[inside])).sum())

    return (kl(softmax) + kl(given)) / 2


def task_of(first, second, labels, classes):
    """Both networks' softmax of the given label; the rest of it goes to the class after."""
    labels = torch.tensor(labels)

    def evidence(given):
        probabilities = torch.zeros(len(labels), classes)
        probabilities[torch.arange(len(labels)), labels] = torch.tensor(given)
        probabilities[torch.arange(len(labels)), (labels + 1) % classes] += 1 - torch.tensor(given)
        return evidence_of(torch.zeros(len(labels)), None, probabilities, labels, torch.empty(len(labels), 0))

    draw = Draw(torch.arange(len(labels)) + 10, labels, labels)
    seen, heads = (evidence(first), evidence(second)), [PrototypeHead(8, 4, classes) for _ in range(2)]
    return CleaningTask((draw, draw), seen, seen, tuple(heads), (None, None), 0.0, 0)


def test_the_divergence_by_hand_at_its_ends_and_at_a_half():
    # p = 1/2: (log 2 / 2 + log(2/3) / 2 + log(4/3)) / 2 = 0.215762
    found = divergence_of_label(torch.tensor([0.0, 0.5, 1.0]))
    assert found.tolist() == pytest.approx([LOG_2, 0.2157615543, 0.0], abs=1e-6)


def test_the_divergence_is_the_one_of_the_whole_softmax():
    softmax = np.random.RandomState(0).dirichlet(np.ones(7), size=50)
    labels = np.arange(50) % 7
    expected = [by_definition(p, y) for p, y in zip(softmax, labels, strict=True)]
    found = divergence_of_label(torch.tensor(softmax[np.arange(50), labels]))
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


GIVEN = [1.0, 0.9, 0.1, 0.0, 1.0, 0.2, 0.1, 0.0]  # of classes 0 0 0 0 1 1 1 1; nothing of class 2
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]


def test_each_class_gives_as_many_labels_as_the_mean_leaves_it():
    """Three labels look clean, three classes: one of each, and class 2 has none to give."""
    result = UniformCleaner().clean(task_of(GIVEN, GIVEN, LABELS, 3))
    divergence = [by_definition(np.array([p, 1 - p]), 0) for p in GIVEN]
    assert result.threshold == pytest.approx(1 - np.mean(divergence) / LOG_2, abs=1e-6)
    for estimate, partition in zip(result.estimates, result.partitions, strict=True):
        assert estimate.clean_probability.tolist() == pytest.approx([1 - d / LOG_2 for d in divergence], abs=1e-6)
        assert (estimate.clean_probability > result.threshold).tolist() == [1, 1, 0, 0, 1, 0, 0, 0]
        assert partition.labeled.tolist() == [10, 14]
    wide = UniformCleaner().clean(task_of(GIVEN[:5], GIVEN[:5], LABELS[:5], 2))  # 3 of 5 look clean: one of two each
    assert wide.partitions[0].labeled.tolist() == [10, 14]


def test_a_class_with_fewer_labels_than_its_share_gives_all_also_a_doubtful_one():
    """Four of six look clean, so two of each class: class 1 has a doubtful one, and gives it with its own weight."""
    given = [1.0, 1.0, 1.0, 0.9, 0.9, 0.05]
    partition = UniformCleaner().clean(task_of(given, given, [0, 0, 0, 0, 1, 1], 2)).partitions[0]
    assert partition.labeled.tolist() == [10, 11, 14, 15]
    doubtful = by_definition(np.array([0.05, 0.95]), 0)
    assert doubtful > 0.5
    assert partition.labeled_probability.tolist() == pytest.approx([1, 1, 1, 1 - doubtful], abs=1e-6)


def test_both_networks_judge_together():
    first, second = [0.8, 0.1, 0.5, 0.7], [0.4, 0.3, 0.9, 0.7]
    joint = [0.6, 0.2, 0.7, 0.7]
    result = UniformCleaner().clean(task_of(first, second, [0, 0, 1, 1], 2))
    expected = 1 - divergence_of_label(torch.tensor(joint)) / LOG_2
    for estimate in result.estimates:
        torch.testing.assert_close(estimate.clean_probability, expected)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_equal_divergences_speak_against_no_label(value):
    result = UniformCleaner().clean(task_of([value] * 4, [value] * 4, [0, 0, 0, 1], 3))
    assert all(partition.clean.all() for partition in result.partitions)
    assert (result.estimates[0].clean_probability > result.threshold).all()


def test_too_small_a_share_leaves_the_division_to_the_cut():
    given = [1.0, 1.0, 1.0, 0.0]
    partition = UniformCleaner().clean(task_of(given, given, [0, 1, 2, 3], 4)).partitions[0]  # 3 labels, 4 classes
    assert partition.labeled.tolist() == [10, 11, 12]
    assert not partition.fell_back


def test_a_probability_that_is_no_number_is_refused_by_its_sample():
    with pytest.raises(ValueError, match="probability of the given label of sample 12 is nan"):
        UniformCleaner().clean(task_of([0.5, 0.5, float("nan")], [0.5] * 3, [0, 1, 0], 2))


def test_of_equals_the_earlier_ones():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    draw = Draw(torch.arange(6), labels, labels)
    divergence = torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2, 0.6])
    chance = torch.tensor([0.9, 0.9, 0.1, 0.9, 0.9, 0.1])
    assert divide(draw, divergence, chance, 0.5, 2).labeled.tolist() == [0, 1, 3, 4]


def test_one_network_judges_other_images():
    task = task_of(GIVEN, GIVEN, LABELS, 3)
    judged = UniformCleaner().judge(task.judging[0], task.draws[0], Basis((0.0, 1.0), None, 0.0), task.heads[0])
    torch.testing.assert_close(judged, UniformCleaner().clean(task).estimates[0].clean_probability)


def test_a_floor_that_is_no_share_is_refused():
    with pytest.raises(InputError, match="class_floor"):
        UniformCleaner(class_floor=2)
