from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.cleaning.conftest import evidence_of, whole_set_task, with_evidence
from torch.nn import functional as F

from cpc_lightning.cleaning.cpc import CpcCleaner
from cpc_lightning.cleaning.evidence import CLASS_AGNOSTIC, Basis, Draw, LossMixture
from cpc_lightning.cleaning.gmm import GmmCleaner, scale_losses
from cpc_lightning.cleaning.prototypes import PrototypeFit, PrototypeHead, confident_predictions, fit_prototypes
from cpc_lightning.errors import InputError


def make_task(n=240, K=4, D=8, d=4, seed=0, progress=0.5, noise=0.4, loss_noise=3.0):
    """Informative features; losses of which each class has its own level, as after an early epoch (Figure 1)."""
    g = torch.Generator().manual_seed(seed)
    true = torch.arange(n) % K
    wrong = torch.rand(n, generator=g) < noise
    noisy = torch.where(wrong, (true + 1 + torch.randint(K - 1, (n,), generator=g)) % K, true)
    evidence, heads, optimizers = [], [], []
    for r in range(2):
        features = 0.7 * torch.randn(n, D, generator=g) + 2 * F.one_hot(true, D) + 5
        level = torch.linspace(0, 2.0, K)[noisy]
        losses = level + 1.5 * wrong + loss_noise * torch.rand(n, generator=g)
        probabilities = (F.one_hot(true, K) * 2 + torch.randn(n, K, generator=g)).softmax(1)
        evidence.append(evidence_of(losses, scale_losses(losses)[None], probabilities, noisy, features))
        torch.manual_seed(seed + r)
        heads.append(PrototypeHead(D, d, K))
        optimizers.append(torch.optim.SGD(heads[-1].parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4))
    index = torch.arange(1000, 1000 + n)
    return whole_set_task(index, noisy, true, tuple(evidence), tuple(heads), tuple(optimizers), progress, seed)


def auc(task, probability):
    draw = task.draws[0]
    return roc_auc_score((draw.noisy_labels == draw.true_labels).numpy(), probability.numpy())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_prototypes_overrule_the_mixture_that_taught_them(seed):
    task = make_task(n=600, seed=seed)
    result = CpcCleaner(class_aware=True, steps=600).clean(task)
    for estimate in result.estimates:
        assert auc(task, estimate.cpc) > auc(task, estimate.gmm) + 0.03
        assert auc(task, estimate.cpc) > 0.9


def test_the_peers_mixture_teaches_on_own_features():
    """Stage 1 spelled out for each network, with the evidence of the two kept apart by hand."""
    task, again = make_task(), make_task()
    cleaner = CpcCleaner(class_aware=True, threshold=0.6, gmm_threshold=0.4, alpha=1.0, steps=150, batch_size=32)
    result = cleaner.clean(task)
    gmm = GmmCleaner(class_aware=True)
    q_gmm = [gmm.estimate(again, r).gmm for r in (0, 1)]
    assert not torch.equal(q_gmm[0] > 0.4, q_gmm[1] > 0.4)
    for own, peer in ((0, 1), (1, 0)):
        evidence, head, labels = again.learning[own], again.heads[own], again.draws[0].noisy_labels
        labeled, predicted = q_gmm[peer] > 0.4, evidence.predicted
        confident = confident_predictions(
            evidence.given_probability, predicted, evidence.confidence, labels, labeled, 4
        )
        assert confident.any()
        head.standardise_to(evidence.features)
        fit = fit_prototypes(
            head,
            again.optimizers[own],
            evidence.features,
            labels,
            labeled,
            confident,
            predicted,
            alpha=1.0,
            steps=150,
            batch_size=32,
            seed=own,  # 2 * 0 + own
            tolerance=cleaner.tolerance,
        )
        q = head.clean_probability(evidence.features, labels).detach()
        assert torch.equal(result.estimates[own].cpc, q)
        assert torch.equal(result.estimates[own].gmm, q_gmm[own])
        assert torch.equal(result.estimates[own].clean_probability, q)
        # What own's prototypes say divides for the peer, at the prototypes' threshold.
        assert result.partitions[peer].labeled.tolist() == again.draws[0].index[q > 0.6].tolist()
        assert torch.equal(result.partitions[peer].clean_probability, q)
        assert result.scalars[f"prototypes/loss_{own + 1}"] == fit.loss
        assert result.scalars[f"prototypes/steps_{own + 1}"] == fit.steps
    assert not torch.equal(result.partitions[0].clean, result.partitions[1].clean)


def test_features_as_they_are_where_the_paper_is_followed():
    """By hand: without standardising, scores are those of projector and prototypes on the features themselves."""
    task, standardised = make_task(), make_task()
    result = CpcCleaner(class_aware=True, steps=50, standardise_features=False).clean(task)
    other = CpcCleaner(class_aware=True, steps=50).clean(standardised)
    for own, head in enumerate(task.heads):
        features, labels = task.judging[own].features, task.draws[0].noisy_labels
        embedding = features @ head.projector.weight.t() + head.projector.bias
        scores = (embedding * head.prototypes[labels]).sum(dim=1)
        torch.testing.assert_close(result.estimates[own].cpc, scores.sigmoid().detach(), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(result.estimates[own].cpc, other.estimates[own].cpc, atol=1e-2)
        assert torch.equal(head.feature_mean, torch.zeros(8))
        assert float(standardised.heads[own].feature_mean.mean()) > 3  # features lie about 5


def test_each_network_judges_the_others_draw_and_learns_from_its_own():
    """Two draws of different samples, as Clothing1M has them: by hand, with the evidence of each kept apart."""
    one, two = make_task(n=240, seed=1), make_task(n=160, seed=2)
    first = Draw(torch.arange(240), one.draws[0].noisy_labels, one.draws[0].true_labels)
    second = Draw(torch.arange(500, 660), two.draws[0].noisy_labels, two.draws[0].true_labels)

    def task():
        fresh = make_task(n=240, seed=1)
        return replace(
            fresh,
            draws=(first, second),
            judging=(two.judging[0], one.judging[1]),  # network 1 on the second draw, network 2 on the first
            learning=(one.judging[0], two.judging[1]),
        )

    cleaner = CpcCleaner(class_aware=False, steps=100)
    asked, again = task(), task()
    result = cleaner.clean(asked)
    gmm = GmmCleaner(class_aware=False)
    taught_by = [gmm.estimate(again, 1).gmm, gmm.estimate(again, 0).gmm]  # of draw 1 and of draw 2
    assert [len(q) for q in taught_by] == [240, 160]
    for own, (draw, other) in enumerate([(first, second), (second, first)]):
        learnt, head = again.learning[own], again.heads[own]
        labeled = taught_by[own] > 0.5
        confident = confident_predictions(
            learnt.given_probability, learnt.predicted, learnt.confidence, draw.noisy_labels, labeled, 4
        )
        head.standardise_to(learnt.features)
        fit_prototypes(
            head, again.optimizers[own], learnt.features, draw.noisy_labels, labeled, confident, learnt.predicted,
            alpha=0.0, steps=100, batch_size=128, seed=2 + own, tolerance=cleaner.tolerance,
        )  # fmt: skip
        q = head.clean_probability(again.judging[own].features, other.noisy_labels)
        assert torch.equal(result.estimates[own].cpc, q)
        partition = result.partitions[1 - own]
        assert torch.equal(partition.index, other.index)
        assert torch.equal(partition.clean_probability, q)


def test_mixtures_divide_while_prototypes_warm_up():
    task = make_task(progress=0.04)
    before = task.heads[0].prototypes.detach().clone()
    result = CpcCleaner(False, threshold=0.6, gmm_threshold=0.3, steps=50).clean(task)
    first, second = result.estimates
    assert torch.equal(first.clean_probability, first.gmm)
    assert torch.equal(result.partitions[1].clean, first.gmm > 0.3)
    assert (result.threshold, result.thresholds) == (0.3, {"gmm": 0.3, "cpc": 0.6})  # and later 0.6 divides
    assert CpcCleaner(False, threshold=0.6, gmm_threshold=0.3, steps=5).clean(make_task()).threshold == 0.6
    assert torch.equal(result.partitions[0].clean, second.gmm > 0.3)
    assert not torch.equal(first.cpc, first.gmm)  # and q is still there, to be logged
    assert not torch.equal(task.heads[0].prototypes, before)  # they learn


@pytest.mark.parametrize(
    ("epochs", "share", "expected"),
    [(450, 0.05, 23), (20, 0.05, 1), (100, 0.05, 5), (300, 0.1, 30), (20, 0.15, 3), (9, 0, 0), (4, 1, 4)],
)
def test_length_of_the_warm_up_in_epochs(epochs, share, expected):
    cleaner = CpcCleaner(False, warmup_share=share)
    assert sum(cleaner.warming_up(epoch / epochs) for epoch in range(epochs)) == expected


def test_a_rounding_error_adds_no_warm_up_epoch():
    assert 0.05 + 0.1 > 0.15
    assert not CpcCleaner(False, warmup_share=0.05 + 0.1).warming_up(0.15)


def test_bit_for_bit_and_without_torchs_generator():
    first_task, second_task = make_task(), make_task()
    state = torch.get_rng_state()
    first, second = (CpcCleaner(True, alpha=1.0, steps=50).clean(t) for t in (first_task, second_task))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.estimates, second.estimates, strict=True):
        assert torch.equal(a.cpc, b.cpc)
        assert torch.equal(a.gmm, b.gmm)
    other = CpcCleaner(True, alpha=1.0, steps=50).clean(replace(make_task(), seed=1))
    assert not torch.equal(other.estimates[0].cpc, first.estimates[0].cpc)


def test_networks_draw_different_mini_batches():
    task = make_task()
    twin = replace(
        with_evidence(task, lambda number, evidence: task.judging[0]),
        heads=(task.heads[0], make_task().heads[0]),
        optimizers=(task.optimizers[0], None),
    )
    twin = replace(twin, optimizers=(task.optimizers[0], torch.optim.SGD(twin.heads[1].parameters(), lr=0.02)))
    twin = replace(twin, optimizers=(torch.optim.SGD(twin.heads[0].parameters(), lr=0.02), twin.optimizers[1]))
    first, second = CpcCleaner(False, steps=5, batch_size=8).clean(twin).estimates
    assert torch.equal(first.gmm, second.gmm)
    assert not torch.equal(first.cpc, second.cpc)


def with_losses(task, losses):
    return with_evidence(task, lambda _, e: replace(e, losses=losses, loss_history=scale_losses(losses)[None]))


def test_constant_losses_leave_an_empty_noisy_side():
    task = with_losses(make_task(), torch.full((240,), 0.7))
    result = CpcCleaner(True, alpha=1.0, steps=50).clean(task)
    for estimate, partition in zip(result.estimates, result.partitions, strict=True):
        assert (estimate.gmm == 1).all()
        assert torch.isfinite(estimate.cpc).all()
        assert len(partition.labeled) >= 2
    early = CpcCleaner(True, steps=50).clean(replace(task, progress=0.0))
    assert len(early.partitions[0].unlabeled) == 0


def test_an_empty_clean_side_falls_back():
    """Every posterior is below the mixture's threshold."""
    losses = torch.tensor([0.0, 1.0]).repeat(120) + torch.linspace(0, 0.9, 240)
    task = with_losses(make_task(), losses)
    result = CpcCleaner(False, gmm_threshold=1 - 1e-9, alpha=1.0, steps=300).clean(task)
    assert not (result.estimates[0].gmm > 1 - 1e-9).any()
    for estimate, partition in zip(result.estimates, result.partitions, strict=True):
        assert torch.isfinite(estimate.cpc).all()
        assert estimate.cpc.max() < 0.5  # nobody vouches for any prototype
        assert partition.fell_back
        assert len(partition.labeled) == 2


@pytest.mark.parametrize("counts", [(0, 120, 120), (1, 119, 120), (2, 118, 120)])
def test_tiny_given_classes(counts):
    task = make_task(K=3)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    task = replace(task, draws=(replace(task.draws[0], noisy_labels=labels),) * 2)
    result = CpcCleaner(True, alpha=1.0, steps=50).clean(task)
    for estimate in result.estimates:
        assert torch.isfinite(estimate.cpc).all()
        assert torch.isfinite(estimate.gmm).all()


def test_two_classes_and_a_network_that_predicts_only_one():
    task = make_task(K=2)
    labels = task.draws[0].noisy_labels
    stuck = torch.tensor([0.9, 0.1]).repeat(240, 1)
    task = with_evidence(
        task, lambda r, e: evidence_of(e.losses, e.loss_history, stuck, labels, e.features) if r == 0 else e
    )
    result = CpcCleaner(True, alpha=1.0, steps=300).clean(task)
    assert all(auc(task, e.cpc) > 0.9 for e in result.estimates)


def test_broken_features_do_not_pass_silently():
    task = make_task()
    features = task.judging[0].features.clone()
    features[3, 2] = float("nan")
    task = with_evidence(task, lambda r, e: replace(e, features=features) if r == 0 else e)
    with pytest.raises((ValueError, RuntimeError)):
        CpcCleaner(True, steps=50).clean(task)


def test_tolerance_ends_a_settled_fit():
    settled = CpcCleaner(True, steps=2000, tolerance=0.2).clean(make_task()).scalars
    full = CpcCleaner(True, steps=600, tolerance=0).clean(make_task()).scalars
    for r in "12":
        assert settled[f"prototypes/steps_{r}"] < 600
        assert full[f"prototypes/steps_{r}"] == 600


def test_each_networks_fit_is_told_under_its_number(monkeypatch):
    fits = iter([PrototypeFit(3, 0.5), PrototypeFit(7, 0.25)])
    monkeypatch.setattr("cpc_lightning.cleaning.cpc.fit_prototypes", lambda *_, **__: next(fits))
    assert CpcCleaner(False).clean(make_task()).scalars == {
        "prototypes/loss_1": 0.5, "prototypes/loss_2": 0.25, "prototypes/steps_1": 3, "prototypes/steps_2": 7,
    }  # fmt: skip


def test_history_reaches_the_mixture():
    history = torch.rand(7, 240, generator=torch.Generator().manual_seed(0))
    task = make_task()
    task = with_evidence(task, lambda _, e: replace(e, loss_history=history))
    cleaner = CpcCleaner(False, history_length=5, steps=5)
    assert cleaner.history_length == 5
    expected = GmmCleaner(False, history_length=5).estimate(task, 0).gmm
    got = cleaner.clean(task).estimates[0].gmm
    np.testing.assert_array_equal(got, expected)
    assert not torch.equal(got, GmmCleaner(False, history_length=1).estimate(task, 0).gmm)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("threshold", 1.0),
        ("threshold", 0),
        ("gmm_threshold", 1),
        ("gmm_threshold", 0.0),
        ("warmup_share", 1.5),
        ("alpha", -1),
        ("steps", 0),
        ("batch_size", 0),
        ("tolerance", -0.1),
        ("history_length", 0),
    ],
)
def test_unusable_settings_are_named(setting, value):
    with pytest.raises(InputError) as error:
        CpcCleaner(True, **{setting: value})
    assert error.value.setting == setting


def test_other_samples_are_judged_by_prototypes_and_by_the_mixture_while_those_learn():
    """A feature 3 of mean 1 and deviation 2: v = 1. v' = 2 v, c_0 = 0.5, c_1 = -1: the scores are 1 and -2."""
    head = PrototypeHead(2, 1, 2)
    with torch.no_grad():
        head.feature_mean.copy_(torch.tensor([1.0, 0.0]))
        head.feature_std.copy_(torch.tensor([2.0, 1.0]))
        head.projector.weight.copy_(torch.tensor([[2.0, 0.0]]))
        head.projector.bias.zero_()
        head.prototypes.copy_(torch.tensor([[0.5], [-1.0]]))
        labels = torch.tensor([0, 1])
        evidence = evidence_of(
            torch.zeros(2), torch.tensor([[0.5, 0.4]]), torch.full((2, 2), 0.5), labels, torch.tensor([[3.0, 9.0]] * 2)
        )
        draw = Draw(torch.arange(2), labels, labels)
        mixtures = {CLASS_AGNOSTIC: LossMixture(means=(0.1, 0.9), variances=(0.04, 0.04), weights=(0.5, 0.5))}
        cleaner = CpcCleaner(class_aware=True, warmup_share=0.5)
        told = [cleaner.judge(evidence, draw, Basis((0, 1), mixtures, progress), head) for progress in (0.5, 0.25)]
    assert told[0].tolist() == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2))])
    assert told[1].tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-2))])
