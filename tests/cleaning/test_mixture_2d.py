"""PLReMix's mixture of two losses: against an EM written here, and where one loss alone could not tell."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from cpc_lightning.cleaning.evidence import CleaningTask, Draw, Evidence, TakesSteps
from cpc_lightning.cleaning.mixture_2d import Mixture2dCleaner, fit_pairs, joint_probability, prototype_losses
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import InputError


def clusters(seed=0, good=200, bad=100, far=0.5):
    """Two clusters, correlated, whose cross-entropies overlap more than what both losses say together."""
    stream = np.random.RandomState(seed)
    spread = [[0.01, -0.009], [-0.009, 0.01]]
    pairs = np.concatenate(
        [stream.multivariate_normal([0.3, 0.3], spread, good), stream.multivariate_normal([far, far], spread, bad)]
    )
    return pairs - pairs.min(axis=0), np.repeat([True, False], [good, bad])


def em(pairs, good, steps, floor=5e-4):
    """Expectation and maximisation in float64 from the true division; the posterior of the nearer component."""
    shares = np.stack([good, ~good]).astype(float)
    for _ in range(steps):
        densities = []
        for share in shares:
            mean = share @ pairs / share.sum()
            covariance = (share[:, None] * (pairs - mean)).T @ (pairs - mean) / share.sum() + floor * np.eye(2)
            densities.append(share.mean() * multivariate_normal(mean, covariance).pdf(pairs))
        shares = np.array(densities) / np.sum(densities, axis=0)
    return shares[0]


def test_the_posterior_is_that_of_a_full_covariance():
    pairs, good = clusters()
    found = fit_pairs(pairs, seed=0)
    np.testing.assert_allclose(found, em(pairs, good, 60), atol=0.03)
    assert ((found > 0.5) == good).mean() > 0.97
    assert max(((pairs[:, 0] < cut) == good).mean() for cut in np.linspace(0, 1, 101)) < 0.9  # one loss alone


def test_clean_is_the_component_nearer_to_no_loss_whatever_its_size():
    for good, bad in ((300, 20), (20, 300)):
        pairs, right = clusters(1, good, bad, far=0.9)
        assert ((fit_pairs(pairs, 0) > 0.5) == right).mean() > 0.9


def test_prototype_losses_by_hand():
    found = prototype_losses(torch.tensor([1.0, 0.5, 0.0]))
    assert found.tolist() == pytest.approx([0.0, 0.693147, 87.336544], abs=1e-5)


def test_both_losses_are_scaled_first():
    pairs, _ = clusters()
    losses, prototypes = torch.tensor(pairs).float().T
    index = torch.arange(len(pairs))
    scaled = (pairs - pairs.min(axis=0)) / np.ptp(pairs, axis=0)
    found = joint_probability(losses, 7 * prototypes + 3, index, seed=5)
    np.testing.assert_allclose(found.numpy(), fit_pairs(scaled, 5), atol=1e-3)


def test_losses_that_are_all_equal_speak_against_no_label():
    index, equal = torch.arange(4), torch.full((4,), 0.3)
    assert joint_probability(equal, equal * 2, index, 0).tolist() == [1.0] * 4
    one = joint_probability(equal, torch.tensor([0.0, 0.0, 5.0, 5.0]), index, 0)  # the other loss tells
    assert (one > 0.5).tolist() == [True, True, False, False]
    assert fit_pairs(np.empty((0, 2)), 0).tolist() == []


@pytest.mark.parametrize("which", [0, 1])
def test_a_loss_that_is_no_number_is_refused_by_its_sample(which):
    pair = [torch.zeros(3), torch.zeros(3)]
    pair[which][1] = float("nan")
    with pytest.raises(ValueError, match=r"(scaled|prototype) loss of sample 21 is nan"):
        joint_probability(*pair, torch.arange(20, 23), 0)


def task_of(progress, rate=0.3, classes=3, count=300):
    """Features that tell the class, losses that tell half of the wrong labels; class 3 of four is empty."""
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(count) % classes
    wrong = torch.rand(count, generator=generator) < rate
    labels = torch.where(wrong, (true + 1) % classes, true)
    features = 3 * torch.eye(classes, 8)[true] + torch.randn(count, 8, generator=generator)
    losses = torch.where(wrong, 1.0, 0.3) + 0.25 * torch.randn(count, generator=generator)
    scaled = (losses - losses.min()) / (losses.max() - losses.min())
    given = (-losses).exp().clamp(0, 1)
    seen = Evidence(losses, scaled[None], given, true, torch.full((count,), 0.9), features)
    draw = Draw(torch.arange(count), labels, true)
    torch.manual_seed(0)
    heads = [PrototypeHead(8, 4, classes + 1) for _ in range(2)]
    optimizers = [torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9) for head in heads]
    return CleaningTask((draw, draw), (seen, seen), (seen, seen), tuple(heads), tuple(optimizers), progress, 3), wrong


def agreement(chance, wrong):
    return float(((chance <= 0.5) == wrong).float().mean())


def test_the_joint_evidence_divides_once_prototypes_have_learnt():
    task, wrong = task_of(progress=0.5)
    result = Mixture2dCleaner(steps=300).clean(task)
    for estimate, partition in zip(result.estimates, result.partitions, strict=True):
        assert agreement(estimate.clean_probability, wrong) > 0.95
        assert torch.equal(partition.clean, estimate.clean_probability > 0.5)  # networks say the same here
        assert (estimate.gmm, estimate.cpc) == (None, None)  # the verdict is neither's, and measured as its own
    assert result.thresholds == {}
    assert result.scalars["prototypes/steps_1"] > 0


def test_while_they_learn_the_loss_mixture_divides():
    task, _ = task_of(progress=0.0)
    cleaner = Mixture2dCleaner(steps=50)
    early = cleaner.clean(task).estimates[0].clean_probability
    torch.testing.assert_close(early, cleaner.prototypes.gmm.estimate(task, 0).clean_probability)
    late = Mixture2dCleaner(steps=50, warmup_share=0.0).clean(task_of(0.0)[0]).estimates[0].clean_probability
    assert not torch.allclose(early, late)


def test_a_trial_with_few_steps_reaches_the_prototypes():
    cleaner = Mixture2dCleaner()
    assert isinstance(cleaner, TakesSteps)
    assert (cleaner.steps, cleaner.expected_steps(1000)) == (2000, 75)
    cleaner.steps = 7
    assert cleaner.clean(task_of(0.5)[0]).scalars["prototypes/steps_1"] == 7


@pytest.mark.parametrize(("setting", "value"), [("threshold", 0), ("steps", 0), ("class_floor", 2), ("tolerance", 2)])
def test_what_cannot_be_used_is_refused(setting, value):
    with pytest.raises(InputError, match=setting):
        Mixture2dCleaner(**{setting: value})
