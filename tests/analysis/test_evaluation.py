"""Metrics of an evaluation, by hand and by references of their own."""

import math

import numpy as np
import pytest
import torch

from cpc_lightning.analysis.evaluation import (
    bins_of,
    calibrate,
    calibration_error,
    evaluate,
    fit_temperature,
    matched,
    scaled,
    wilson,
)


def one_hot(classes, count, sure=0.9):
    """Rows that predict these classes with this probability, the rest shared out."""
    rows = torch.full((len(classes), count), (1 - sure) / (count - 1))
    rows[torch.arange(len(classes)), torch.tensor(classes)] = sure
    return rows


def test_by_hand():
    """Class 0: two of three right. Class 1: one of one. Class 2: none. Predictions: 0 twice, 1 twice."""
    found = evaluate(one_hot([0, 0, 1, 1], 3), torch.tensor([0, 0, 0, 1]))
    assert found.images == 4
    assert found.accuracy == 0.75
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found.support.tolist() == [3, 1, 0]
    np.testing.assert_allclose(found.precision, [1.0, 0.5, np.nan])
    np.testing.assert_allclose(found.recall, [2 / 3, 1.0, np.nan])
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)  # of the classes that have images
    assert found.calibration_error == pytest.approx(0.15, abs=1e-6)  # all in one bin: 0.9 said, 0.75 right
    assert found.top5 is None
    assert found.calibration.temperature is None  # four images


def test_top5_is_of_more_than_five_classes():
    probabilities = torch.tensor([[0.30, 0.25, 0.15, 0.12, 0.10, 0.08]] * 6)
    assert evaluate(probabilities, torch.arange(6)).top5 == pytest.approx(5 / 6)


def test_nothing_to_evaluate():
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17), Table I, method 3: Wilson's score without a correction.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=5e-5)


def test_an_interval_stays_within_0_and_1():
    assert wilson(5, 5)[1] == 1.0
    assert wilson(0, 5)[0] == 0.0


def test_calibration_error_by_a_loop():
    """The reference: fifteen bins of equal width, one image after the other."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(500, 4, generator=generator).softmax(dim=1)
    labels = torch.randint(4, (500,), generator=generator)
    sums = [[0.0, 0.0, 0] for _ in range(15)]
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        k = min(14, max(0, math.ceil(max(row) * 15) - 1))
        sums[k][0] += max(row)
        sums[k][1] += row.index(max(row)) == label
        sums[k][2] += 1
    expected = sum(abs(said - right) for said, right, _ in sums) / 500
    assert calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-5)
    for bin_, (said, right, count) in zip(bins_of(probabilities, labels), [s for s in sums if s[2]], strict=True):
        assert bin_ == pytest.approx((said / count, right / count, count), abs=1e-6)


def test_a_temperature_is_found_again():
    """Labels are drawn from p; what is said is p^2, renormalised: T = 2 puts it right."""
    generator = torch.Generator().manual_seed(1)
    true = (1.5 * torch.randn(20_000, 5, generator=generator)).softmax(dim=1)
    labels = torch.multinomial(true, 1, generator=generator).flatten()
    said = true.square() / true.square().sum(dim=1, keepdim=True)
    assert fit_temperature(said, labels) == pytest.approx(2.0, rel=0.03)
    found = calibrate(said, labels)
    assert (found.fitted_on, found.measured_on) == (10_000, 10_000)
    assert found.temperature == pytest.approx(2.0, rel=0.05)
    assert found.before > 0.08
    assert found.after < 0.02
    torch.testing.assert_close(scaled(said, 2.0).float(), true, atol=1e-5, rtol=1e-4)


def test_certainty_does_not_break_the_temperature():
    probabilities = torch.eye(3)[torch.arange(30) % 3]
    found = calibrate(probabilities, torch.arange(30) % 3)
    assert found.after == pytest.approx(0.0, abs=1e-6)


def test_classes_are_matched_by_name():
    """Theirs are in another order, lack a class, and have one of their own."""
    labels, unknown = matched(["zebra", "cat", "dog"], ["cat", "dog", "eel"], torch.tensor([0, 1, 2, 2, 0, -1]))
    assert labels.tolist() == [-1, 0, 1, 1, -1, -1]
    assert unknown == {"zebra": 2}
