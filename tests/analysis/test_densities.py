"""The numbers behind Figure 1, worked out by hand."""

import math

import numpy as np
import pytest

from cpc_lightning.analysis.densities import class_densities, density, kinds_of

NARROW = 1e-9  # a kernel that smooths nothing


def test_a_narrow_kernel_leaves_the_histogram():
    """Of 4 values in 4 bins of width 1/4: one sample has the density 1/4 / (1/4) = 1 there."""
    assert density(np.array([0.1, 0.1, 0.3, 0.9]), 4, NARROW).tolist() == [2.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("place", [0.0025, 0.4025, 0.9975])
def test_the_kernel_is_a_gaussian_that_the_ends_reflect(place):
    """Against the sum of the bell curves around the value, which is a bin's middle, and its two mirror images."""
    grid = (np.arange(200) + 0.5) / 200
    middles = place, -place, 2 - place
    bells = [np.exp(-(((grid - middle) / 0.03) ** 2) / 2) / (0.03 * math.sqrt(2 * math.pi)) for middle in middles]
    np.testing.assert_allclose(density(np.array([place])), np.sum(bells, axis=0), atol=0.01)  # the top is 13.3


@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], list(np.random.default_rng(0).beta(1, 5, 999))])
def test_every_density_integrates_to_one(values):
    assert density(np.array(values)).mean() == pytest.approx(1.0, abs=1e-12)  # 200 bins of width 1/200
    assert (density(np.array(values)) >= 0).all()


def test_class_densities_by_hand():
    scaled = np.array([0.1, 0.2, 0.6, 0.3, 0.9])
    seen = class_densities(scaled, np.array([0, 0, 3, 0, 0]), 2, NARROW)
    assert seen.grid.tolist() == [0.25, 0.75]
    assert (seen.classes.tolist(), seen.counts.tolist()) == ([0, 3], [4, 1])
    assert seen.by_class.tolist() == [[1.5, 0.5], [0.0, 2.0]]  # 3 of 4 and 1 of 4, over a width of 1/2; all of 1
    assert seen.mean.tolist() == [0.75, 1.25]
    np.testing.assert_allclose(seen.whole, [1.2, 0.8])
    assert seen.farthest == 1  # |0 - 1.2| + |2 - 0.8| against 0.3 + 0.3
    # Both deviations are 1.5 / sqrt(2), divided by sqrt(2) classes: 0.75. The 97.5 % point of Student's t with one
    # degree of freedom is tan(0.475 pi) = 12.7062.
    half = 0.75 * math.tan(0.475 * math.pi)
    np.testing.assert_allclose(seen.high, [0.75 + half, 1.25 + half])
    assert seen.low.tolist() == [0.0, 0.0]  # no density is negative


def test_the_interval_of_three_classes():
    """Densities of the lower half 1.0, 1.2, 0.8: mean 1, deviation 0.2; t with two degrees of freedom is 4.30265."""
    scaled = np.repeat([0.2, 0.8, 0.2, 0.8, 0.2, 0.8], [5, 5, 6, 4, 4, 6])
    seen = class_densities(scaled, np.repeat([0, 1, 2], 10), 2, NARROW)
    half = 4.30265 * 0.2 / math.sqrt(3)
    np.testing.assert_allclose(seen.low, [1 - half, 1 - half], rtol=1e-5)
    np.testing.assert_allclose(seen.high, [1 + half, 1 + half], rtol=1e-5)


def test_one_class_has_no_interval():
    seen = class_densities(np.array([0.1, 0.9]), np.array([7, 7]), 2, NARROW)
    assert seen.low.tolist() == seen.mean.tolist() == seen.high.tolist() == [1.0, 1.0]


def test_kinds():
    noisy, true = np.array([0, 1, 2, 0]), np.array([0, 2, -1, -2])
    rows = kinds_of(noisy, true)
    assert {kind: kept.tolist() for kind, kept in rows.items()} == {
        "clean": [True, False, False, False],
        "noisy": [False, True, False, True],  # an image of none of the classes has a wrong label, whatever it is
    }
    assert list(kinds_of(noisy, noisy)) == ["clean"]
    assert kinds_of(noisy, np.full(4, -1))["all"].tolist() == [True] * 4
