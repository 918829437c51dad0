"""Class means with one shared, shrunk covariance ("clouds"): predicts true classes from fixed features.

Linear discriminant analysis on probabilities of classes in the place of labels: means and one covariance, which is
shrunk towards a ball (Friedman, "Regularized discriminant analysis", 1989). A wrong label pulls a mean a little, where
it pulls a regression's border as far as its sample lies.

Shapes: N samples, n of them, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SHRINKAGES = (0.03, 0.1, 0.3, 0.6, 0.9)
"""Shares of the ball in the covariance to choose from."""

TEMPERATURES = (1.0, 0.7, 0.4, 0.2, 0.1, 0.05)
"""Factors of the scores to choose from: clouds of many features are not normal, and are too sure."""

ROWS = 1 << 14
"""Samples whose features are weighted at once."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What means and covariance of a part of the samples are made of; those of disjoint parts add up.

    Attributes:
        counts: (K,) the expected weight of each class.
        sums: (K, D) of the weighted features of each class.
        squares: (D, D) the sum of the weighted outer products of the features.
    """

    counts: Tensor
    sums: Tensor
    squares: Tensor

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.counts + other.counts, self.sums + other.sums, self.squares + other.squares)


def outer_products(inputs: Tensor, weights: Tensor) -> Tensor:
    """(D, D) the sum of the weighted outer products of n inputs (n, D) with weights (n,)."""
    total = inputs.new_zeros(inputs.shape[1], inputs.shape[1])
    for rows, shares in zip(torch.split(inputs, ROWS), torch.split(weights, ROWS), strict=True):
        total.addmm_((rows * shares[:, None]).T, rows)
    return total


def moments(inputs: Tensor, posterior: Tensor, weights: Tensor, squares: Tensor | None = None) -> Moments:
    """The moments of n samples.

    Args:
        inputs: (n, D).
        posterior: (n, K) the probability of each class.
        weights: (n,).
        squares: (D, D) of `outer_products`, where they are known.
    """
    shares = posterior * weights[:, None]
    squares = outer_products(inputs, weights) if squares is None else squares
    return Moments(shares.sum(dim=0), shares.T @ inputs, squares)


def fit_clouds(known: Moments, shrinkage: float) -> Tensor:
    """The linear scores of the classes, (D + 1, K), the last row the bias: log P(class | features) but for a constant.

    Args:
        known: of the samples to learn from; without any, all classes score alike.
        shrinkage: share of the ball of the same size in the covariance, in (0, 1].
    """
    total = known.counts.sum().clamp(min=1e-6)
    means = known.sums / known.counts.clamp(min=1e-6)[:, None]
    within = (known.squares - means.T @ known.sums) / total
    ball = shrinkage * within.diagonal().mean().clamp(min=1e-6)
    covariance = (1 - shrinkage) * within
    covariance.diagonal().add_(ball)
    slopes = torch.cholesky_solve(means.T, torch.linalg.cholesky(covariance))  # (D, K)
    prior = (known.counts / total).clamp(min=1e-6).log()
    return torch.cat([slopes, (prior - (means.T * slopes).sum(dim=0) / 2)[None]])


def score(inputs: Tensor, model: Tensor) -> Tensor:
    """(n, K) scores of inputs (n, D) by linear scores (D + 1, K)."""
    return torch.addmm(model[-1], inputs, model[:-1])
