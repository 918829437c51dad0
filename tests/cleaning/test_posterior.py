"""Each step from features to true classes against numbers worked out by hand, or by scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cpc_lightning.cleaning import posterior
from cpc_lightning.cleaning.posterior import (
    choose_decay,
    confident_joint,
    fit_regression,
    infer_true_classes,
    predict,
    predict_out_of_fold,
    split_in_folds,
)


def rows(values):
    return torch.tensor(values, dtype=torch.float32)


def test_folds_spread_classes_and_keep_groups_together():
    labels = torch.tensor([0] * 10 + [1] * 5 + [2] * 2)
    groups = torch.arange(17)
    fold = split_in_folds(labels, groups, 5, seed=3)
    assert torch.bincount(fold[:10], minlength=5).tolist() == [2] * 5
    assert torch.bincount(fold[10:15], minlength=5).tolist() == [1] * 5
    assert fold[15] != fold[16]
    assert torch.equal(fold, split_in_folds(labels, groups, 5, seed=3))
    assert not torch.equal(fold, split_in_folds(labels, groups, 5, seed=4))
    together = split_in_folds(labels, torch.tensor([0, 0, 0, *range(1, 15)]), 5, seed=3)
    assert together[0] == together[1] == together[2]


def regression_problem():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(60, 4))
    labels = (inputs @ generator.normal(size=(4, 3)) + generator.normal(size=(60, 3))).argmax(1)
    return inputs, labels, generator.uniform(0.5, 2, size=60)


def test_regression_is_scikit_learns():
    inputs, labels, weights = regression_problem()
    decay = 0.05
    wide = fit_regression(torch.tensor(inputs), torch.tensor(labels), torch.tensor(weights), 3, decay, steps=1000)
    # scikit-learn minimises C * sum of weighted losses + |W|^2 / 2.
    reference = LogisticRegression(C=1 / (decay * weights.sum()), tol=1e-10, max_iter=10_000)
    reference.fit(inputs, labels, sample_weight=weights)
    expected = reference.predict_proba(inputs)
    np.testing.assert_allclose(predict(torch.tensor(inputs), wide).numpy(), expected, atol=1e-3)


def test_forward_corrected_regression_minimises_its_loss():
    inputs, labels, weights = regression_problem()
    matrix = np.array([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.0, 0.4, 0.6]])

    def loss(flat):
        wide = flat.reshape(5, 3)
        logits = inputs @ wide[:4] + wide[4]
        soft = np.exp(logits - logits.max(1, keepdims=True))
        soft /= soft.sum(1, keepdims=True)
        given = (soft @ matrix)[np.arange(60), labels]
        return -(weights / weights.sum() * np.log(given)).sum() + 0.05 / 2 * (wide[:4] ** 2).sum()

    expected = minimize(loss, np.zeros(15), tol=1e-12)
    arguments = torch.tensor(inputs), torch.tensor(labels), torch.tensor(weights), 3, 0.05, torch.tensor(matrix)
    wide = fit_regression(*arguments, steps=1000)
    assert loss(wide.numpy().ravel()) == pytest.approx(expected.fun, abs=1e-5)


def test_regression_converges_where_numbers_differ_in_size():
    """Principal components do: without units of their own the weights of the small ones are not found in 100 steps."""
    generator = np.random.default_rng(1)
    sizes = np.logspace(1, -2, 12)
    inputs = generator.normal(size=(400, 12)) * sizes
    labels = (inputs / sizes @ generator.normal(size=(12, 3)) + generator.normal(size=(400, 3))).argmax(1)
    weights, decay = np.ones(400), 1e-5
    reference = LogisticRegression(C=1 / (decay * 400), tol=1e-10, max_iter=100_000).fit(inputs, labels)
    wide = fit_regression(torch.tensor(inputs), torch.tensor(labels), torch.tensor(weights), 3, decay)
    found = predict(torch.tensor(inputs), wide).numpy()
    np.testing.assert_allclose(found, reference.predict_proba(inputs), atol=5e-3)


def test_copies_that_share_a_weight_are_one_sample_after_any_number_of_steps():
    inputs, labels, _ = regression_problem()
    inputs[0] *= 30
    copies = np.repeat(np.arange(60), [100, *[1] * 59])
    weights = np.where(copies == 0, 0.01, 1.0)
    once = fit_regression(torch.tensor(inputs), torch.tensor(labels), torch.ones(60).double(), 3, 0.05, steps=4)
    often = fit_regression(
        torch.tensor(inputs[copies]), torch.tensor(labels[copies]), torch.tensor(weights), 3, 0.05, steps=4
    )
    torch.testing.assert_close(often, once)


def test_a_number_that_never_varies_has_no_weight():
    inputs, labels, weights = regression_problem()
    wide = fit_regression(
        torch.tensor(np.pad(inputs, ((0, 0), (0, 1)))), torch.tensor(labels), torch.tensor(weights), 3, decay=0.0
    )
    assert torch.isfinite(wide).all()
    assert wide[4].abs().max() == 0


def test_everybody_is_judged_by_the_model_that_has_not_seen_it():
    inputs, fold = rows([[1], [1], [1]]), torch.tensor([0, 1, 1])
    models = [rows([[0, 0], [0, 0]]), rows([[0, 0], [np.log(3), 0]])]
    torch.testing.assert_close(
        predict_out_of_fold(inputs, fold, models), rows([[0.5, 0.5], [0.75, 0.25], [0.75, 0.25]])
    )


def test_the_decay_is_what_predicts_unseen_labels_best():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 20, generator=generator)
    fold, weights = torch.arange(200) % 5, torch.ones(200)
    noise = torch.randint(2, (200,), generator=generator)
    assert choose_decay(inputs, noise, fold, weights, 2, (10.0, 0.001)) == 10.0  # nothing to learn
    assert choose_decay(inputs, (inputs[:, 0] > 0).long(), fold, weights, 2, (10.0, 0.001)) == 0.001


def test_confident_joint():
    # Mean of the own label: 0.7 of class 0 (samples 0-1), 0.5 of class 1 (samples 2-4).
    given = rows([[0.9, 0.1], [0.5, 0.5], [0.8, 0.2], [0.35, 0.65], [0.35, 0.65]])
    labels = torch.tensor([0, 0, 1, 1, 1])
    # Sample 0 -> 0; 1 -> class 1 (0.5 >= 0.5); 2 -> 0; 3, 4 -> 1. With 1 on the diagonal: [[2, 1], [1, 3]].
    torch.testing.assert_close(confident_joint(given, labels), rows([[2 / 3, 1 / 3], [1 / 4, 3 / 4]]))
    nobody = confident_joint(rows([[0.6, 0.3, 0.1]]), torch.tensor([0]))  # classes 1 and 2 have no sample
    assert nobody.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "rate", "least", "plain"),
    [("symmetric", 0.4, 0.998, 0.98), ("symmetric", 0.8, 0.985, 0.9), ("pair", 0.4, 0.999, 0.7)],
)
def test_wrong_labels_of_digits_are_found(kind, rate, least, plain):
    pixels, true = load_digits(return_X_y=True)
    generator = np.random.default_rng(1)
    labels, flipped = true.copy(), generator.random(len(true)) < rate
    drawn = generator.integers(0, 10, flipped.sum())
    labels[flipped] = drawn if kind == "symmetric" else (true[flipped] + 1) % 10
    found = infer_true_classes(torch.tensor(pixels), torch.tensor(labels), 10)
    wrong, place = labels != true, (range(len(true)), labels)
    assert roc_auc_score(wrong, -found.posterior.numpy()[place]) > least
    assert roc_auc_score(wrong, -found.given.numpy()[place]) > plain
    assert found.noise_rate == pytest.approx(wrong.mean(), abs=0.04)


@pytest.mark.long
def test_wrong_labels_do_not_pass_for_images_that_are_hard_to_tell():
    """Classes far apart, in so many numbers that a regression dares to be sure of nothing."""
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(10).repeat(200)
    features = 0.25 * torch.randn(10, 600, generator=generator)[true] + torch.randn(2000, 600, generator=generator)
    wrong = torch.rand(2000, generator=generator) < 0.2
    labels = torch.where(wrong, (true + torch.randint(1, 10, true.shape, generator=generator)) % 10, true)
    found = infer_true_classes(features, labels, 10)
    suspected = found.posterior.gather(1, labels[:, None]).squeeze(1) < 0.5
    assert float((suspected == wrong).float().mean()) > 0.99
    assert found.noise_rate == pytest.approx(0.2, abs=0.02)


@pytest.mark.long
def test_right_labels_of_digits_are_left_alone():
    pixels, true = load_digits(return_X_y=True)
    found = infer_true_classes(torch.tensor(pixels), torch.tensor(true), 10)
    assert float((found.posterior[range(len(true)), true] <= 0.5).float().mean()) < 0.01
    assert found.noise_rate < 0.01


@pytest.mark.long
def test_a_class_with_one_sample_and_copies_of_one_misfiled_picture():
    pixels, true = load_digits(n_class=3, return_X_y=True)
    pixels, true = torch.tensor(pixels[:200]), torch.tensor(true[:200])
    zero = int(torch.nonzero(true == 0)[0])
    inputs = torch.cat([pixels, pixels[zero].expand(40, -1), torch.rand(1, 64)])
    labels = torch.cat([true, torch.ones(40, dtype=torch.int64), torch.tensor([3])])
    found = infer_true_classes(inputs, labels, 4)
    assert float(found.posterior[200:240, 1].max()) < 0.5  # forty copies of a zero among the ones do not confirm it
    assert float(found.posterior[240, 3]) == 1  # nobody can tell


@pytest.mark.long
def test_of_very_many_samples_some_choose_the_decay_and_all_are_judged(monkeypatch):
    pixels, true = load_digits(n_class=3, return_X_y=True)
    pixels, true = torch.tensor(pixels[:200]), torch.tensor(true[:200])
    asked = []

    def counted(inputs, *others, kept=posterior.choose_decay):
        asked.append({tuple(row) for row in inputs.tolist()})
        return kept(inputs, *others)

    monkeypatch.setattr(posterior, "choose_decay", counted)
    monkeypatch.setattr(posterior, "CHOOSING", 60)
    found = infer_true_classes(pixels, true, 3, decays=(0.1, 0.01))
    assert [len(some) for some in asked] == [60, 60]
    assert asked[0] == asked[1]
    assert found.posterior.shape == (200, 3)
    assert float((found.posterior[range(200), true] > 0.5).float().mean()) > 0.98
