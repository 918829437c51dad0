"""NGC's cleaner: labels over a graph against the equations that they solve, components by hand, what is kept."""

import numpy as np
import pytest
import torch
from tests.cleaning.test_neighbour_labels import rows, softmax, task_of

from cpc_lightning.cleaning.graph import GraphCleaner, largest_pieces, spread
from cpc_lightning.errors import InputError


def solved(near, cosines, sources):
    """(1 - S / 2) Z = Y by numpy, rows at a sum of 1."""
    count = len(near)
    weights = np.zeros((count, count))
    for i in range(count):
        for j, cosine in zip(near[i], cosines[i], strict=True):
            weights[i, j] = max(cosine, 0) ** 3
    weights = weights + weights.T
    degrees = weights.sum(axis=1)
    degrees[degrees == 0] = 1
    weights = weights / np.sqrt(degrees[:, None] * degrees[None, :])
    columns = sources.sum(axis=0)
    result = np.linalg.solve(np.eye(count) - weights / 2, sources / np.where(columns > 0, columns, 1))
    return result / result.sum(axis=1, keepdims=True)


def neighbours_of(z, k):
    cosines = z @ z.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.argsort(-cosines, axis=1)[:, :k]
    return near, np.take_along_axis(cosines, near, axis=1)


@pytest.mark.parametrize("classes", [2, 4])
def test_spreading_solves_its_equations(classes):
    """A class without a source among them; a sample whose cosines are all negative."""
    z = np.random.RandomState(0).randn(12, 3)
    near, cosines = neighbours_of(z / np.linalg.norm(z, axis=1, keepdims=True), 4)
    cosines[5] = -0.2
    sources = np.random.RandomState(1).dirichlet(np.ones(classes), size=12)
    sources[:, -1] = 0
    sources /= sources.sum(axis=1, keepdims=True)
    found = spread(torch.tensor(near), torch.tensor(cosines).float(), torch.tensor(sources).float())
    np.testing.assert_allclose(found.numpy(), solved(near, cosines, sources), atol=1e-5)


def test_a_sample_without_neighbours_keeps_its_source():
    none = torch.empty(1, 0, dtype=torch.int64)
    found = spread(none, none.float(), torch.tensor([[0.0, 1.0, 0.0]]))
    assert found.tolist() == [[0.0, 1.0, 0.0]]


def test_the_largest_pieces_by_hand():
    """Class 0: 0-1-2 hang together, 3-4 too, 5 alone, for 5's choice of 0 is not returned. Class 1: two pairs, the
    earlier one stays. Class 2: nothing is chosen. 10 is of class 0 and a neighbour of it, but not chosen."""
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 2])
    chosen = torch.tensor([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0], dtype=torch.bool)
    near = torch.tensor(
        [[1, 10], [0, 2], [1, 10], [4, 6], [3, 10], [0, 1], [7, 3], [6, 0], [9, 0], [8, 0], [0, 2], [0, 1]]
    )
    assert largest_pieces(near, labels, chosen).tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0]


def test_lone_samples_are_pieces_of_one():
    near = torch.tensor([[1], [2], [0]])
    assert largest_pieces(near, torch.tensor([0, 0, 1]), torch.tensor([True, True, True])).tolist() == [1, 0, 1]
    assert not largest_pieces(near, torch.tensor([0, 0, 1]), torch.tensor([False, False, False])).any()


def reference(task, memory, cleaner, k):
    """One stage 1 of the published code, in float64; `memory`: averaged logits, how many, labels, who was kept."""
    judged, given = task.judging[0], task.draws[0].noisy_labels.numpy()
    with torch.no_grad():
        z = task.heads[0].projector(judged.features).double().numpy()
        logits = task.classifiers[0](judged.features).double().numpy()
    one_hot = np.eye(logits.shape[1])
    near, cosines = neighbours_of(z / np.linalg.norm(z, axis=1, keepdims=True), k)
    averaged, looks = (0.0, 0) if memory is None else memory[:2]
    averaged, looks = 0.6 * averaged + 0.4 * logits, looks + 1
    sources = one_hot[given]
    if memory is not None:
        sources = np.where(memory[3][:, None], one_hot[memory[2]], softmax(averaged / (1 - 0.6**looks)))
    soft = solved(near, cosines, sources)
    verdict = soft[np.arange(len(given)), given]
    soft = np.where((verdict > cleaner.threshold)[:, None], one_hot[given], soft)
    labels, confident = soft.argmax(axis=1), soft.max(axis=1) > cleaner.learn_above
    kept = largest_pieces(torch.tensor(near), torch.tensor(labels), torch.tensor(confident)).numpy()
    return verdict, (averaged, looks, labels, kept)


def test_stages_follow_each_other_as_in_the_code():
    cleaner, memory = GraphCleaner(neighbours=4, keep_above=0.35, learn_above=0.5), None
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 1, 1, 2, 2, 0, 1]
    for stage in range(3):
        task = task_of(rows(20, seed=stage), labels)
        result = cleaner.clean(task)
        verdict, memory = reference(task, memory, cleaner, 4)
        np.testing.assert_allclose(result.estimates[0].clean_probability.numpy(), verdict, atol=1e-4)
        assert 2 <= memory[3].sum() < 20
        partition = result.partitions[0]
        np.testing.assert_array_equal(partition.clean.numpy(), memory[3])
        np.testing.assert_array_equal(partition.targets.argmax(dim=1).numpy(), memory[2])
        assert (partition.clean_probability[partition.clean] > 0.5).all()
    assert result.threshold == 0.35


def test_without_geometry_all_confident_samples_are_trained_on():
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    wide, narrow = (
        GraphCleaner(2, 0.35, 0.5, largest_component=some).clean(task_of(rows(12), labels)).partitions[0].clean
        for some in (False, True)
    )
    assert bool((narrow <= wide).all())
    assert int(narrow.sum()) < int(wide.sum())


def test_what_it_keeps_goes_through_a_checkpoint_and_other_samples_begin_anew(tmp_path):
    one, labels = GraphCleaner(neighbours=3), [0, 1, 2, 0, 1, 2]
    one.clean(task_of(rows(6), labels))
    torch.save(one.state_dict(), tmp_path / "state")
    two, fresh = GraphCleaner(neighbours=3), GraphCleaner(neighbours=3)
    two.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    answers = [c.clean(task_of(rows(6, seed=4), labels)).estimates[0].clean_probability for c in (one, two, fresh)]
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    new = GraphCleaner(neighbours=3)
    others = [c.clean(task_of(rows(6, seed=4), labels, index=[1, 2, 3, 4, 5, 6])).estimates[0] for c in (one, new)]
    assert torch.equal(others[0].clean_probability, others[1].clean_probability)


def test_one_sample_and_two_classes():
    for count in (1, 2):
        result = GraphCleaner().clean(task_of(rows(count), [1, 0][:count], classes=2))
        assert torch.isfinite(result.estimates[0].clean_probability).all()
        assert bool(result.partitions[0].clean.all())


OUT_OF_RANGE = {"neighbours": 0, "keep_above": 1.5, "learn_above": -0.1, "largest_component": 1, "class_floor": 2}


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE.items(), ids=OUT_OF_RANGE)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}={value}: must"):
        GraphCleaner(**{name: value})
