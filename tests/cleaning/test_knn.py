"""SSR+'s relabelling and vote, by hand on a line of samples and against a plain loop."""

import numpy as np
import pytest
import torch
from tests.cleaning.conftest import whole_set_task, with_evidence

from cpc_lightning.cleaning.evidence import Evidence
from cpc_lightning.cleaning.knn import KnnCleaner, label_ratios, relabel
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import InputError


def by_loops(features, labels, classes, neighbours):
    """The ratios (n, K) in float64, one sample after the other."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    share = np.bincount(labels, minlength=classes) / len(labels)
    ratios = np.zeros((len(labels), classes))
    for sample, cosines in enumerate(unit @ unit.T):
        cosines[sample] = 2  # oneself comes first
        for other in np.argsort(-cosines, kind="stable")[:neighbours]:
            ratios[sample, labels[other]] += 1 / share[labels[other]]
        ratios[sample] /= ratios[sample].max()
    return ratios


def fan(*degrees):
    """Directions in the plane, of different lengths: only the angle counts."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return (torch.stack([angles.cos(), angles.sin()], dim=1) * torch.arange(1, len(degrees) + 1)[:, None]).float()


def task_of(features, labels, predicted=None, confidence=None, classes=2):
    labels = torch.tensor(labels)
    predicted = labels if predicted is None else torch.tensor(predicted)
    confidence = torch.full((len(labels),), 0.5) if confidence is None else torch.tensor(confidence)
    given = torch.where(predicted == labels, confidence, 1 - confidence)
    none = torch.zeros(len(labels))
    seen = Evidence(none, none[None], given, predicted, confidence, features)
    heads = PrototypeHead(8, 4, classes), PrototypeHead(8, 4, classes)
    index = torch.arange(len(labels)) + 10
    return whole_set_task(index, labels, torch.full_like(labels, -1), (seen, seen), heads, (None, None), 0.0, 0)


LINE = fan(0, 1, 3, 40, 41, 43)


def test_the_vote_by_hand():
    """Two groups of three; one label of the first is wrong. Shares are 1/3 and 2/3: a vote for 0 counts twice."""
    ratios = label_ratios(LINE, torch.tensor([0, 0, 1, 1, 1, 1]), 2, 3)
    # Group one: two votes for 0, balanced 2 / (1/3) = 6; one for 1, 1 / (2/3) = 1.5. Group two: 1 only.
    torch.testing.assert_close(ratios, torch.tensor([[1, 0.25]] * 3 + [[0, 1.0]] * 3))


def test_the_vote_is_that_of_a_plain_loop():
    stream = np.random.RandomState(0)
    features, labels = stream.randn(60, 5), np.concatenate([np.zeros(40, int), stream.randint(1, 4, 20)])
    for neighbours in (1, 2, 7, 30):
        found = label_ratios(torch.tensor(features), torch.tensor(labels), 4, neighbours)
        np.testing.assert_allclose(found.numpy(), by_loops(features, labels, 4, neighbours), atol=1e-6)


def test_a_wrong_label_among_its_neighbours_is_left_out_and_the_rest_drawn_class_by_class():
    result = KnnCleaner(neighbours=3).clean(task_of(LINE, [0, 0, 1, 1, 1, 1]))
    for estimate, partition in zip(result.estimates, result.partitions, strict=True):
        assert estimate.clean_probability.tolist() == pytest.approx([1, 1, 0.25, 1, 1, 1])
        assert (estimate.clean_probability > result.threshold).tolist() == [1, 1, 0, 1, 1, 1]
        assert partition.labeled.tolist() == [10, 11, 13, 14, 15]
        assert partition.labeled_probability.tolist() == [1] * 5
        assert partition.labeled_weights.tolist() == pytest.approx([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])
    assert (
        KnnCleaner(neighbours=3, class_balance=0).clean(task_of(LINE, [0, 0, 1, 1, 1, 1])).partitions[0].weights is None
    )


def test_a_label_that_a_network_is_sure_against_is_replaced():
    task = task_of(LINE, [0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0], [0.5, 0.5, 0.95, 0.5, 0.5, 0.9])
    result = KnnCleaner(neighbours=3).clean(task)
    partition = result.partitions[0]
    assert partition.clean.all()
    assert partition.targets.argmax(dim=1).tolist() == [0, 0, 0, 1, 1, 1]  # 0.9 is not above 0.9
    assert result.estimates[0].clean_probability.tolist() == pytest.approx([1, 1, 0.05, 1, 1, 1])  # of the given label
    assert result.scalars == {"knn/relabeled_1": pytest.approx(1 / 6), "knn/relabeled_2": pytest.approx(1 / 6)}
    kept = KnnCleaner(neighbours=3, relabel_above=1.0).clean(task).partitions[0]
    assert kept.targets.argmax(dim=1).tolist() == [0, 0, 1, 1, 1, 1]
    assert relabel(task.judging[0], task.draws[0].noisy_labels, 0.4).tolist() == [0, 0, 0, 1, 1, 0]


def test_a_lower_theta_s_takes_labels_with_fewer_votes():
    assert KnnCleaner(neighbours=3, select_from=0.25).clean(task_of(LINE, [0, 0, 1, 1, 1, 1])).partitions[0].clean.all()
    some = KnnCleaner(neighbours=3, select_from=0.26).clean(task_of(LINE, [0, 0, 1, 1, 1, 1])).partitions[0]
    assert some.labeled.tolist() == [10, 11, 13, 14, 15]
    assert KnnCleaner(select_from=0).threshold == 0


def test_a_network_judges_its_peers_samples_by_its_own_features():
    task = with_evidence(
        task_of(LINE, [0, 0, 1, 1, 1, 1]),
        lambda number, seen: seen if number == 0 else Evidence(**{**vars(seen), "features": LINE.flip(0)}),
    )
    result = KnnCleaner(neighbours=3).clean(task)
    assert result.partitions[1].labeled.tolist() == [10, 11, 13, 14, 15]  # by network 1, for network 2
    assert result.partitions[0].labeled.tolist() == result.partitions[1].labeled.tolist()  # groups are the same


def test_with_fewer_samples_than_neighbours_nobody_can_tell():
    result = KnnCleaner().clean(task_of(LINE, [0, 0, 0, 0, 0, 1], classes=3))  # k = 200, and class 2 is empty
    for estimate, partition in zip(result.estimates, result.partitions, strict=True):
        assert estimate.clean_probability.tolist() == [1] * 6
        assert partition.clean.all()


def test_all_right_and_all_wrong():
    features = torch.cat([fan(0, 1, 2, 3), fan(90, 91, 92, 93)])
    right = KnnCleaner(neighbours=4).clean(task_of(features, [0] * 4 + [1] * 4)).partitions[0]
    assert right.clean.all()
    # Labels that say nothing of the features: each is as good as any other, but in the majority of its neighbours.
    wrong = KnnCleaner(neighbours=4).clean(task_of(features, [0, 1, 0, 1, 1, 0, 1, 0])).partitions[0]
    assert wrong.clean.all()


def test_where_nothing_passes_training_goes_on_with_two():
    cleaner = KnnCleaner(neighbours=3)
    cleaner.threshold = 1.0
    partition = cleaner.clean(task_of(LINE, [0, 0, 1, 1, 1, 1])).partitions[0]
    assert partition.fell_back
    assert partition.labeled.tolist() == [10, 11]
    assert partition.labeled_targets.tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("field", ["features", "confidence"])
def test_what_is_no_number_is_refused_by_its_sample(field):
    broken = {"features": LINE.clone(), "confidence": torch.full((6,), 0.5)}[field]
    broken[2] = float("nan")
    task = with_evidence(task_of(LINE, [0, 0, 1, 1, 1, 1]), lambda _, seen: Evidence(**{**vars(seen), field: broken}))
    with pytest.raises(ValueError, match="of sample 12 is nan"):
        KnnCleaner(neighbours=3).clean(task)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("neighbours", 0), ("relabel_above", 1.1), ("select_from", -1), ("class_balance", 2), ("class_floor", 2)],
)
def test_what_cannot_be_used_is_refused(setting, value):
    with pytest.raises(InputError, match=setting):
        KnnCleaner(**{setting: value})
