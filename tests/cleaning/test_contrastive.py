"""Prototypes without a mixture against MoPro's procedure spelled out, sample after sample, with the whole softmax."""

import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.cleaning.conftest import evidence_of
from tests.cleaning.test_cpc import make_task
from torch.nn import functional as F

from cpc_lightning.cleaning.contrastive import (
    ContrastiveCleaner,
    corrected_labels,
    fit_contrastive,
    label_probability,
    move_prototypes,
)
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import InputError


def mopros_labels(softmax, by_prototypes, given):
    """Its noise cleaning, for one sample: (label, kept). pseudo_w 0.5, pseudo_th 0.8, 1 / num_class (model.py)."""
    mixed = [0.5 * p + 0.5 * q for p, q in zip(softmax, by_prototypes, strict=True)]
    clean, label = mixed[given] > 1 / len(mixed), given
    if max(mixed) > 0.8:
        label, clean = mixed.index(max(mixed)), True
    return label, clean


def test_labels_are_corrected_as_in_mopro():
    g = torch.Generator().manual_seed(0)
    softmax = (4 * torch.randn(3000, 4, generator=g)).softmax(1)
    by_prototypes = (4 * torch.randn(3000, 4, generator=g)).softmax(1)
    by_prototypes[:1500] = (0.7 * softmax + 0.3 * by_prototypes)[:1500]  # so that many agree
    noisy = torch.randint(4, (3000,), generator=g)
    evidence = evidence_of(torch.zeros(3000), torch.zeros(1, 3000), softmax, noisy, torch.zeros(3000, 1))
    labels, kept = corrected_labels(
        by_prototypes, noisy, evidence.given_probability, evidence.predicted, evidence.confidence
    )
    rows = zip(softmax.tolist(), by_prototypes.tolist(), noisy.tolist(), strict=True)
    expected = [mopros_labels(*row) for row in rows]
    assert kept.tolist() == [clean for _, clean in expected]
    assert [int(y) for y, k in zip(labels, kept, strict=True) if k] == [y for y, clean in expected if clean]
    changed = int((labels != noisy)[kept].sum())
    assert changed > 100
    assert int((~kept).sum()) > 100


def test_labels_literal():
    # K = 4. Means of both: sample 0 0.9 for class 2, the given one is 0; sample 1 0.3 for the given class 1, above 1/4;
    # sample 2 0.2 for the given class 3, nothing above 0.8.
    by_prototypes = torch.tensor([[0.05, 0.0, 0.95, 0.0], [0.4, 0.2, 0.4, 0.0], [0.6, 0.0, 0.1, 0.3]])
    labels, kept = corrected_labels(
        by_prototypes,
        torch.tensor([0, 1, 3]),
        given=torch.tensor([0.1, 0.4, 0.1]),
        predicted=torch.tensor([2, 1, 0]),
        confidence=torch.tensor([0.85, 0.4, 0.9]),
    )
    assert labels.tolist() == [2, 1, 3]
    assert kept.tolist() == [True, True, False]


def test_prototypes_are_moving_averages_in_the_order_of_the_samples():
    g = torch.Generator().manual_seed(1)
    prototypes = F.normalize(torch.randn(3, 5, generator=g, dtype=torch.float64), dim=1)
    embeddings = F.normalize(torch.randn(40, 5, generator=g, dtype=torch.float64), dim=1)
    labels, used = torch.arange(40) % 2, torch.arange(40) % 5 != 0  # class 2 has none
    expected = prototypes.clone()
    for vector, label, take in zip(embeddings, labels.tolist(), used.tolist(), strict=True):
        if take:
            expected[label] = 0.999 * expected[label] + 0.001 * vector
    expected = expected / expected.norm(dim=1, keepdim=True)
    move_prototypes(prototypes, embeddings, labels, used)
    torch.testing.assert_close(prototypes, expected)


@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_a_fit_is_mopros_loop_on_cached_features(correct, trained):
    """Three steps by hand: prototypes first from a pass over the samples, then loss, step, update."""
    task = make_task(n=50, seed=3)
    evidence, labels = task.learning[0], task.draws[0].noisy_labels
    head, twin = task.heads[0], PrototypeHead(8, 4, 4)
    head.fitted.fill_(int(trained))
    twin.load_state_dict(head.state_dict())
    loss = fit_contrastive(head, task.optimizers[0], evidence, labels, correct=correct, steps=3, batch_size=20, seed=5)

    g = torch.Generator().manual_seed(5)
    C, projector = twin.prototypes.detach().clone(), twin.projector
    embed = lambda rows: F.normalize(projector(evidence.features[rows]), dim=1)  # noqa: E731

    def update(vectors, classes):
        for vector, y in zip(vectors.detach(), classes, strict=True):
            C[y] = 0.999 * C[y] + 0.001 * vector
        C.copy_(F.normalize(C, dim=1))

    if not trained:
        C.zero_()
        for rows in torch.split(torch.randperm(50, generator=g), 20):
            update(embed(rows), labels[rows].tolist())
    optimizer = torch.optim.SGD(projector.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    order, losses, left_out = torch.cat([torch.randperm(50, generator=g) for _ in range(2)]), [], 0
    for rows in torch.split(order[:60], 20):
        vectors = embed(rows)
        scores = vectors @ C.clone().t() / 0.1
        wanted = [(int(y), True) for y in labels[rows]]
        if correct:
            other = (1 - evidence.confidence[rows]) / 3  # of the classes that are not predicted, where only sums matter
            softmax = other[:, None].repeat(1, 4)
            softmax.scatter_(1, labels[rows][:, None], evidence.given_probability[rows][:, None])
            softmax.scatter_(1, evidence.predicted[rows][:, None], evidence.confidence[rows][:, None])
            pairs = zip(softmax.tolist(), scores.detach().softmax(1).tolist(), labels[rows].tolist(), strict=True)
            wanted = [mopros_labels(*row) for row in pairs]
        used = torch.tensor([clean for _, clean in wanted])
        classes = torch.tensor([y for y, _ in wanted])
        left_out += int((~used).sum())
        step_loss = F.cross_entropy(scores[used], classes[used])
        optimizer.zero_grad()
        step_loss.backward()
        optimizer.step()
        update(vectors[used], classes[used].tolist())
        losses.append(float(step_loss.detach()))
    assert (left_out > 0) == correct
    torch.testing.assert_close(head.prototypes.detach(), C, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(head.projector.weight, projector.weight, rtol=1e-4, atol=1e-6)
    assert loss == pytest.approx(sum(losses[-2:]) / 2, rel=1e-4)  # 50 // 20 = 2 steps make a pass
    assert int(head.fitted) == 1
    assert head.prototypes.grad is None


def test_q_is_the_softmax_of_the_given_label():
    head = PrototypeHead(3, 2, 2)
    with torch.no_grad():
        head.projector.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))
        head.projector.bias.zero_()
        head.prototypes.copy_(torch.eye(2))
    # (3, 4, .) has the direction (0.6, 0.8): logits 6 and 8, and 1 / (1 + e^2) = 0.1192 for class 0
    q = label_probability(head, torch.tensor([[3.0, 4.0, 9.0]] * 2), torch.tensor([0, 1]))
    assert q.tolist() == pytest.approx([0.119203, 0.880797], abs=1e-5)


@pytest.mark.long
def test_it_divides_without_a_mixture_for_the_peer():
    task = make_task(n=400, seed=2, progress=0.5)
    cleaner = ContrastiveCleaner(threshold=0.4, steps=200)
    result = cleaner.clean(task)
    assert result.thresholds == {"cpc": 0.4}
    assert {name: value for name, value in result.scalars.items() if "steps" in name} == {
        "prototypes/steps_1": 200, "prototypes/steps_2": 200,
    }  # fmt: skip
    assert all(0 < result.scalars[f"prototypes/loss_{number}"] < 10 for number in (1, 2))  # columns as CPC's
    truth = task.draws[0].noisy_labels == task.draws[0].true_labels
    for own, peer in ((0, 1), (1, 0)):
        estimate = result.estimates[own]
        assert estimate.gmm is None
        q = label_probability(task.heads[own], task.judging[own].features, task.draws[0].noisy_labels)
        assert torch.equal(estimate.cpc, q)
        assert result.partitions[peer].labeled.tolist() == task.draws[0].index[q > 0.4].tolist()
        assert roc_auc_score(truth.numpy(), q.numpy()) > 0.9


def test_labels_are_corrected_after_their_share_of_the_epochs(monkeypatch):
    seen = []
    fitted = "cpc_lightning.cleaning.contrastive.fit_contrastive"
    monkeypatch.setattr(fitted, lambda *_, correct, **__: seen.append(correct) or 0.0)
    for progress in (0.0, 10 / 90, 11 / 90, 0.5):
        ContrastiveCleaner().clean(make_task(progress=progress))
    assert seen[::2] == seen[1::2] == [False, False, True, True]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("threshold", 0), ("threshold", 1), ("uncleaned_share", 1.1), ("steps", 0), ("batch_size", 0),
     ("standardise_features", 1)],
)  # fmt: skip
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(InputError) as caught:
        ContrastiveCleaner(**{setting: value})
    assert caught.value.setting == setting
