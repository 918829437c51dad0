"""The estimated noise rate, its interval and its matrix, against rates that are known."""

import pytest
import torch
from sklearn.datasets import load_digits

from cpc_lightning.cleaning.noise_rate import NoiseEstimate, calibrated_joint, concentration, estimate_noise
from cpc_lightning.cleaning.posterior import Posterior, infer_true_classes


def test_the_joint_counts_confident_samples_and_keeps_the_shares_of_labels():
    """Labels 0 0 0 1; means of own probabilities 0.6 and 0.8: samples 0 and 1 count as 0, 2 as 1, 3 as 1."""
    given = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.2, 0.8]])
    labels = torch.tensor([0, 0, 0, 1])
    joint = calibrated_joint(given, labels)
    torch.testing.assert_close(joint, torch.tensor([[0.5, 0.0], [0.25, 0.25]]))
    # Twice the third: its mean is 0.5, and of label 0 half the weight counts as 1.
    heavy = calibrated_joint(given, labels, torch.tensor([1.0, 1.0, 2.0, 1.0]))
    torch.testing.assert_close(heavy, torch.tensor([[0.4, 0.0], [0.4, 0.2]]))


def test_a_class_none_of_whose_labels_counts_is_taken_to_be_right():
    given = torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]])
    joint = calibrated_joint(given, torch.tensor([0, 0]))
    torch.testing.assert_close(joint, torch.diag(torch.tensor([1.0, 0.0, 0.0])))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ([[0, 0.1, 0.1], [0.1, 0, 0.1], [0.1, 0.1, 0]], 0.0),  # even
        ([[0, 0.2, 0], [0, 0, 0.2], [0.2, 0, 0]], 1.0),  # to one class each
        ([[0, 0.15, 0.05], [0, 0, 0], [0, 0, 0]], 0.5),  # 0.75 on a scale from 0.5 to 1
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], 0.0),
    ],
)
def test_concentration(wrong, expected):
    assert concentration(torch.tensor(wrong) + 0.1 * torch.eye(3)) == pytest.approx(expected, abs=1e-6)


def test_two_classes_cannot_tell():
    assert concentration(torch.tensor([[0.4, 0.1], [0.1, 0.4]])) == 0


def noisy_digits(kind, rate, seed=0):
    pixels, true = load_digits(return_X_y=True)
    features, true = torch.tensor(pixels[:700], dtype=torch.float32), torch.tensor(true[:700])
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(true), generator=generator) < rate
    drawn = torch.randint(10, (len(true),), generator=generator)
    labels = torch.where(wrong, drawn if kind == "even" else (true + 1) % 10, true)
    return features, labels, float((labels != true).float().mean())


@pytest.mark.long
@pytest.mark.parametrize(("kind", "rate"), [("even", 0.0), ("even", 0.3), ("next", 0.3)])
def test_the_interval_holds_the_rate(kind, rate):
    features, labels, true_rate = noisy_digits(kind, rate)
    found = infer_true_classes(features, labels, 10, decays=(0.01,))
    noise = estimate_noise([found], [labels], by_mixture=0.5)
    assert noise.low - 0.005 <= true_rate <= noise.high + 0.005
    assert noise.low <= noise.rate <= noise.high
    assert noise.high - noise.low < 0.1
    assert abs(noise.rate - true_rate) < 0.03
    assert (noise.concentration > 0.3) == (kind == "next" or rate == 0)
    assert noise.out_of_fold_error > noise.rate
    assert noise.scalars["noise/rate_mixture"] == 0.5
    again = NoiseEstimate.from_state(noise.to_state())
    assert again.scalars == noise.scalars
    assert torch.equal(again.transition_matrix, noise.transition_matrix)


def test_copies_are_drawn_together():
    """Forty copies of one wrong label say no more than one: the interval is as wide as without them, or wider."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (90,), generator=generator)
    sure = torch.nn.functional.one_hot(labels, 3).float() * 0.97 + 0.01
    sure[:30] = sure[:30].roll(1, dims=1)  # the first thirty are given another class

    def width(groups):
        found = Posterior(sure, sure, torch.eye(3), 0.0, sure, (1.0, 1.0), groups, None, [])
        noise = estimate_noise([found], [labels])
        return noise.high - noise.low

    apart, together = torch.arange(90), torch.cat([torch.zeros(30), torch.arange(1, 61)]).long()
    assert width(together) > 1.5 * width(apart)


@pytest.mark.long
def test_the_interval_of_two_networks_spans_both():
    features, labels, _ = noisy_digits("even", 0.3)
    found = [infer_true_classes(features + k * torch.randn(700, 64, generator=torch.Generator().manual_seed(1)),
                                labels, 10, decays=(0.1,), rounds=1) for k in (0, 6)]  # fmt: skip
    each = [estimate_noise([one], [labels]) for one in found]
    both = estimate_noise(found, [labels, labels])
    assert both.low == min(one.low for one in each)
    assert both.high == max(one.high for one in each)
    assert both.rate == pytest.approx(sum(one.rate for one in each) / 2)
