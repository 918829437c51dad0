"""ProtoMix's cleaner: soft labels by the published formula, who is relabelled, what is kept between epochs."""

import numpy as np
import pytest
import torch
from tests.cleaning.conftest import evidence_of

from cpc_lightning.cleaning.evidence import CleaningTask, Draw
from cpc_lightning.cleaning.neighbour_labels import NeighbourLabelsCleaner, set_prototypes
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import InputError


def task_of(features, labels, classes=3, second=None, index=None):
    """Network 1 sees `features`; network 2 is the same, or sees `second`."""
    torch.manual_seed(0)
    labels = torch.tensor(labels)
    index = torch.arange(len(labels)) + 10 if index is None else torch.tensor(index)
    draw = Draw(index, labels, labels)
    heads = [PrototypeHead(features.shape[1], 2, classes) for _ in range(1 if second is None else 2)]
    classifiers = [torch.nn.Linear(features.shape[1], classes) for _ in heads]
    seen = [
        evidence_of(torch.zeros(len(labels)), None, c(rows).softmax(dim=1).detach(), labels, rows)
        for c, rows in zip(classifiers, (features, second), strict=False)
    ]
    both = (seen[0], seen[-1])
    return CleaningTask(
        (draw, draw), both, both, (heads[0], heads[-1]), (None, None), 0.0, 0, None, (classifiers[0], classifiers[-1])
    )


def rows(count, size=4, seed=0):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def softmax(values):
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


def reference(task, number, before, cleaner, k):
    """The published loop over samples, in float64: verdict and soft labels, from those of before."""
    judged, head, classifier = task.judging[number], task.heads[number], task.classifiers[number]
    given = task.draws[1 - number].noisy_labels.numpy()
    with torch.no_grad():
        z = head.projector(judged.features).double().numpy()
        p = softmax(classifier(judged.features).double().numpy())
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    one_hot = np.eye(p.shape[1])
    if before is None:
        before = np.where((p[np.arange(len(p)), given] > cleaner.threshold)[:, None], one_hot[given], p)
    soft, verdict = np.zeros_like(p), np.zeros(len(p))
    for i in range(len(p)):
        cosine = z @ z[i]
        near = [j for j in np.argsort(-cosine) if j != i][:k]
        score = sum(np.exp(cosine[j] / cleaner.temperature) * before[j] for j in near)
        soft[i] = (score / score.sum() + p[i]) / 2
        verdict[i] = soft[i, given[i]]
        if verdict[i] > cleaner.threshold:
            soft[i] = one_hot[given[i]]
    return verdict, soft, z


def test_the_soft_labels_are_the_published_loop_from_stage_to_stage():
    """Three stages 1 with features that change: the second starts from what the first has left."""
    cleaner = NeighbourLabelsCleaner(neighbours=5, keep_above=0.35, learn_above=0.6)
    labels, before = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 1, 1], None
    for stage in range(3):
        task = task_of(rows(16, seed=stage), labels)
        verdict, before, z = reference(task, 0, before, cleaner, 5)
        result = cleaner.clean(task)
        assert result.estimates[0] is result.estimates[1]
        np.testing.assert_allclose(result.estimates[0].clean_probability.numpy(), verdict, atol=1e-5)
        partition = result.partitions[0]
        chosen = before.max(axis=1) > 0.6
        assert 0 < chosen.sum() < 16
        np.testing.assert_array_equal(partition.clean.numpy(), chosen)
        np.testing.assert_array_equal(partition.targets.argmax(dim=1).numpy(), before.argmax(axis=1))
        assert partition.targets.sum(dim=1).tolist() == [1.0] * 16
        for k in range(3):
            members = z[chosen & (before.argmax(axis=1) == k)]
            expected = members.mean(axis=0) / np.linalg.norm(members.mean(axis=0))
            np.testing.assert_allclose(task.heads[0].prototypes[k].detach().numpy(), expected, atol=1e-5)
    assert result.threshold == 0.35
    assert int(task.heads[0].fitted) == 1


def test_two_networks_judge_for_each_other_and_remember_apart():
    cleaner = NeighbourLabelsCleaner(neighbours=3, keep_above=0.35, learn_above=0.5)
    labels, before = [0, 1, 2, 0, 1, 2, 0, 1], [None, None]
    for stage in (0, 1):
        task = task_of(rows(8, seed=stage), labels, second=rows(8, seed=stage + 7))
        result = cleaner.clean(task)
        for number in (0, 1):
            verdict, before[number], _ = reference(task, number, before[number], cleaner, 3)
            np.testing.assert_allclose(result.estimates[number].clean_probability.numpy(), verdict, atol=1e-5)
            partition = result.partitions[1 - number]
            np.testing.assert_array_equal(partition.clean.numpy(), before[number].max(axis=1) > 0.5)


def test_what_it_keeps_goes_through_a_checkpoint_and_other_samples_begin_anew(tmp_path):
    one, labels = NeighbourLabelsCleaner(neighbours=3, keep_above=0.35), [0, 1, 2, 0, 1, 2]
    one.clean(task_of(rows(6), labels))
    torch.save(one.state_dict(), tmp_path / "state")
    two = NeighbourLabelsCleaner(neighbours=3, keep_above=0.35)
    two.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    fresh = NeighbourLabelsCleaner(neighbours=3, keep_above=0.35)
    answers = [c.clean(task_of(rows(6, seed=4), labels)).estimates[0].clean_probability for c in (one, two, fresh)]
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    other = [
        c.clean(task_of(rows(6, seed=4), labels, index=[1, 2, 3, 4, 5, 6])).estimates[0].clean_probability
        for c in (one, fresh)
    ]
    assert torch.equal(*other)


def test_one_sample_and_two_classes():
    for count in (1, 2):
        result = NeighbourLabelsCleaner().clean(task_of(rows(count), [1, 0][:count], classes=2))
        assert torch.isfinite(result.estimates[0].clean_probability).all()
        assert bool(result.partitions[0].clean.all())  # nothing else is left


def test_where_nothing_is_sure_the_surest_two_are_trained_on():
    cleaner = NeighbourLabelsCleaner(neighbours=2, keep_above=0.9999, learn_above=0.9999)
    partition = cleaner.clean(task_of(rows(6), [0, 1, 2, 0, 1, 2])).partitions[0]
    assert partition.fell_back
    assert int(partition.clean.sum()) == 2


def test_a_class_without_a_sample_keeps_its_prototype():
    head = PrototypeHead(4, 2, 3)
    head.prototypes.data = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.3, 0.1]])
    embeddings = torch.tensor([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    set_prototypes(head, embeddings, torch.tensor([0, 0, 1]), torch.tensor([True, True, False]))
    first = np.array([0.6, 1.8]) / np.linalg.norm([0.6, 1.8])
    np.testing.assert_allclose(head.prototypes.detach().numpy(), [first, [0.5, 0.5], [0.3, 0.1]], atol=1e-6)


def test_a_feature_that_is_no_number_is_refused_by_its_sample():
    features = rows(4)
    features[2, 1] = float("nan")
    with pytest.raises(ValueError, match="sum of features of sample 12 is nan"):
        NeighbourLabelsCleaner().clean(task_of(features, [0, 1, 2, 0]))


OUT_OF_RANGE = {"neighbours": 0, "keep_above": 1.5, "learn_above": -0.1, "temperature": 0, "class_floor": 2}


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE.items(), ids=OUT_OF_RANGE)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}={value}: must"):
        NeighbourLabelsCleaner(**{name: value})
