"""Mixtures of two Gaussians in one dimension, fitted to many groups of values at once.

They are scikit-learn's `GaussianMixture(n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4)` but for rounding, from
the same halves to begin with. A fit of scikit-learn's takes milliseconds whatever its size, of which a stage 1 would
need two for each class.

Shapes: n values, G groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_ITER, TOL = 10, 1e-2
"""Steps of EM at most, and the change of the mean log-likelihood that ends them; DivideMix's."""

REG_COVAR = 5e-4
"""Added to both variances, so no component is narrower than sqrt(REG_COVAR) = 0.022 of the loss range."""

KMEANS_STEPS, KMEANS_TOL = 300, 1e-4
"""Of scikit-learn's `KMeans`: steps at most, and the squared shift of centres, in variances, that ends them."""


@dataclass(frozen=True)
class Pairs:
    """Two Gaussians for each group; each of these (2, G), smaller mean first."""

    means: Array
    variances: Array
    weights: Array


def fit_pairs(values: Array, sizes: Array, seed: int) -> tuple[Pairs, Array]:
    """Fit two Gaussians to each group.

    Args:
        values: (n,) float64, group after group.
        sizes: (G,) how many values each group has, at least 2.
        seed: of the start of each group.

    Returns:
        The Gaussians, and the posterior probability (n,) of the one with the smaller mean.
    """
    starts = np.cumsum(sizes) - sizes
    group = np.repeat(np.arange(len(sizes)), sizes)

    def total(each: Array) -> Array:
        return np.add.reduceat(each, starts, axis=-1)

    def maximise(share: Array) -> Array:
        """Means, variances and weights (3, 2, G) from each value's share in either Gaussian (2, n)."""
        count = total(share) + 10 * np.finfo(np.float64).eps
        means = total(share * values) / count
        variances = total(share * np.square(values - means[:, group])) / count + REG_COVAR
        return np.stack([means, variances, count / count.sum(axis=0)])

    def expect(found: Array) -> tuple[Array, Array]:
        """Log-likelihood (n,) of each value and its shares (2, n)."""
        means, variances, weights = found
        constant = np.log(weights) - np.log(2 * np.pi * variances) / 2
        joint = constant[:, group] - np.square(values - means[:, group]) / (2 * variances)[:, group]
        likelihood = np.logaddexp(joint[0], joint[1])
        return likelihood, np.exp(joint - likelihood)

    upper = _upper_half(values, sizes, starts, group, total, seed)
    found = maximise(np.stack([~upper, upper]).astype(np.float64))
    before, going = np.full(len(sizes), -np.inf), np.ones(len(sizes), dtype=bool)
    for _ in range(MAX_ITER):
        likelihood, share = expect(found)
        found = np.where(going, maximise(share), found)
        now = total(likelihood) / sizes
        going &= np.abs(now - before) >= TOL
        before = now
        if not going.any():
            break
    swap = found[0, 0] > found[0, 1]
    found = np.where(swap, found[:, ::-1], found)
    return Pairs(*found), expect(found)[1][0]


def _upper_half(
    values: Array, sizes: Array, starts: Array, group: Array, total: Callable[[Array], Array], seed: int
) -> Array:
    """Which values (n,) 2-means puts with the larger centre of their group, from k-means++'s start.

    The start: one value at random; of two more, drawn in proportion to the squared distance to it, the one that leaves
    the smaller sum of squares. The same three numbers are drawn for every group.
    """
    draws = np.random.RandomState(seed % 2**32).random_sample(3)
    one = values[starts + (draws[0] * sizes).astype(np.int64)]
    squares = np.square(values - one[group])
    sums = np.cumsum(squares)
    before = sums[starts] - squares[starts]
    drawn = np.searchsorted(sums, before + draws[1:, None] * total(squares))
    others = values[np.minimum(drawn, starts + sizes - 1)]  # (2, G)
    left = total(np.minimum(squares, np.square(values - others[:, group])))
    centres = np.sort([one, np.where(left[1] < left[0], others[1], others[0])], axis=0)
    whole = total(values)
    least = KMEANS_TOL * total(np.square(values - (whole / sizes)[group])) / sizes
    going = np.ones(len(sizes), dtype=bool)
    for _ in range(KMEANS_STEPS):
        upper = values > centres.mean(axis=0)[group]
        above = total(upper.astype(np.float64)).clip(1, sizes - 1)  # equal values have no halves
        sums = total(values * upper)
        moved = np.stack([(whole - sums) / (sizes - above), sums / above])
        moved = np.where(going, moved, centres)
        going &= np.square(moved - centres).sum(axis=0) > least
        centres = moved
        if not going.any():
            break
    return np.asarray(values > centres.mean(axis=0)[group])
