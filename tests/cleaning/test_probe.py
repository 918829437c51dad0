"""The probe as a cleaner: soft targets or a division, once for fixed features, alike for both networks."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from cpc_lightning.cleaning import probe
from cpc_lightning.cleaning.evidence import CleaningTask, Draw, Evidence
from cpc_lightning.cleaning.probe import ProbeCleaner
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import InputError


def make_task(vectors: bool, rate: float = 0.3) -> tuple[CleaningTask, torch.Tensor]:
    pixels, true = load_digits(n_class=4, return_X_y=True)
    features, true = torch.tensor(pixels, dtype=torch.float32)[:300], torch.tensor(true)[:300]
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(true), generator=generator) < rate
    labels = torch.where(wrong, (true + 1) % 4, true)
    index, none = torch.arange(len(true)), torch.empty(0)
    draw = Draw(index, labels, torch.full_like(labels, -1))
    seen = [Evidence(none, none, none, none, none, features * scale) for scale in (1, 2)]
    heads = PrototypeHead(64, 4, 8), PrototypeHead(64, 4, 8)
    task = CleaningTask(
        (draw, draw), (seen[0], seen[1]), (seen[0], seen[1]), heads, (None, None), 0.0, 0, features if vectors else None
    )
    return task, wrong


@pytest.mark.long
@pytest.mark.parametrize("vectors", [True, False])
def test_wrong_labels_get_low_probabilities_and_targets_of_their_true_class(vectors):
    task, wrong = make_task(vectors)
    result = ProbeCleaner().clean(task)
    for estimate, partition in zip(result.estimates, result.partitions, strict=True):
        assert agreement(estimate.clean_probability <= 0.5, wrong) > 0.95
        assert partition.clean.all()  # trains on everything
        assert torch.equal(partition.labeled_probability, torch.ones(300))
        assert agreement(partition.targets.argmax(dim=1) != task.draws[0].noisy_labels, wrong) > 0.95
    assert result.scalars["noise/rate_estimated"] == pytest.approx(float(wrong.float().mean()), abs=0.04)


def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first == second).float().mean())


@pytest.mark.long
def test_without_soft_targets_the_data_is_divided():
    task, wrong = make_task(vectors=True)
    first, second = ProbeCleaner(soft_targets=False).clean(task).partitions
    assert agreement(~first.clean, wrong) > 0.95
    assert torch.equal(first.clean, second.clean)
    assert first.targets is None


@pytest.mark.long
def test_the_recall_is_told_where_not_all_pairs_are_compared(monkeypatch):
    task, _ = make_task(vectors=True)
    assert "stage1/neighbour_recall" not in ProbeCleaner().clean(task).scalars
    monkeypatch.setattr("cpc_lightning.cleaning.neighbours.EXACT", 200)
    assert 0.9 < ProbeCleaner().clean(task).scalars["stage1/neighbour_recall"] < 1


@pytest.mark.long
def test_fixed_features_are_judged_once(monkeypatch):
    task, _ = make_task(vectors=True)
    times = []
    infer = probe.infer_true_classes
    monkeypatch.setattr(probe, "infer_true_classes", lambda *args: times.append(1) or infer(*args))
    cleaner = ProbeCleaner()
    for _ in range(2):
        cleaner.clean(task)
    assert len(times) == 1
    other = Draw(task.draws[0].index, (task.draws[0].noisy_labels + 1) % 4, task.draws[0].true_labels)
    cleaner.clean(CleaningTask((other, other), *[getattr(task, n) for n in (
        "judging", "learning", "heads", "optimizers", "progress", "seed", "vectors")]))  # fmt: skip
    assert len(times) == 2


@pytest.mark.long
def test_features_of_images_are_judged_anew_with_the_decays_of_the_first_time(monkeypatch):
    """Each network's own; they travel in a checkpoint."""
    task, _ = make_task(vectors=False)
    asked, infer = [], probe.infer_true_classes
    monkeypatch.setattr(probe, "infer_true_classes", lambda *args: asked.append(args[6]) or infer(*args))
    cleaner = ProbeCleaner(decays=[1.0, 0.1, 0.01])
    cleaner.clean(task)
    cleaner.clean(task)
    assert asked[:2] == [(1.0, 0.1, 0.01)] * 2
    assert all(1 <= len(decays) <= 2 and {*decays} <= {1.0, 0.1, 0.01} for decays in asked[2:])
    again = ProbeCleaner()
    again.load_state_dict({"0": torch.tensor([0.1], dtype=torch.float64), **cleaner.state_dict()})
    again.clean(task)
    assert asked[4:] == asked[2:4]
    fixed, _ = make_task(vectors=True)
    cleaner.clean(fixed)
    assert asked[6] == (1.0, 0.1, 0.01)


@pytest.mark.long
def test_class_balance_draws_rare_classes_as_often(monkeypatch):
    task, _ = make_task(vectors=True)
    (partition, _) = ProbeCleaner(class_balance=1.0).clean(task).partitions
    likely = partition.targets.argmax(dim=1)
    shares = torch.stack([partition.weights[likely == k].sum() for k in range(4)])
    torch.testing.assert_close(shares, torch.ones(4), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "setting",
    [
        {"threshold": 0}, {"folds": 1}, {"neighbours": 0}, {"decays": []}, {"decays": [0.0]}, {"decays": "0.1"},
        {"rounds": 0}, {"class_balance": 2}, {"soft_targets": 1}, {"fold_seed": -1},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        ProbeCleaner(**setting)
