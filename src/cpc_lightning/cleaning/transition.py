"""The likelihood of given labels, and a transition matrix that is shrunk as far as held-out labels ask for.

Shapes: N samples, K classes, F folds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PSEUDO_COUNTS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 1e6)
"""How many samples of each class the symmetric matrix stands for, to choose from."""


def log_likelihoods(by_features: Tensor, labels: Tensor, transition_matrix: Tensor) -> Tensor:
    """(N,) log P(given label | features) = log sum_k R_k T[k, g].

    Args:
        by_features: (N, K) R, the probability of each true class.
        labels: (N,) int64 given labels g.
        transition_matrix: (K, K) T.
    """
    return (by_features * transition_matrix.T[labels]).sum(dim=1).clamp(min=1e-12).log()


def given_the_label(by_features: Tensor, labels: Tensor, transition_matrix: Tensor) -> Tensor:
    """(N, K) P(true = k | x, g), proportional to R_k T[k, g].

    Args:
        by_features: (N, K) R.
        labels: (N,) int64 g.
        transition_matrix: (K, K) T.
    """
    joint = by_features * transition_matrix.T[labels]
    return joint / joint.sum(dim=1, keepdim=True).clamp(min=1e-30)


class Shrunk(NamedTuple):
    """A transition matrix, and how it came about.

    Attributes:
        matrix: (K, K) T.
        pseudo_count: the further samples of each row, one of `PSEUDO_COUNTS`.
        likely: (N,) log P(given label | features), each by a matrix that its fold had no part in.
    """

    matrix: Tensor
    pseudo_count: float
    likely: Tensor


def shrunk_matrix(posterior: Tensor, labels: Tensor, by_features: Tensor, weights: Tensor, fold: Tensor) -> Shrunk:
    """The transition matrix (K, K) that the posteriors expect, drawn towards a symmetric one; and how far.

    With few samples a class, most of its cells are chance. Each row gets further samples, spread as symmetric noise
    would. How many, the labels of one fold tell by their likelihood under the matrix of the others: the most that are
    not worse than the best by more than a standard error.

    Args:
        posterior: (N, K) P(true | features, given label).
        labels: (N,) int64 given labels.
        by_features: (N, K) P(true | features), which has not seen the label.
        weights: (N,) of the samples.
        fold: (N,) int64.
    """
    parts = [fold == number for number in torch.unique(fold).tolist()]
    counts = [expected_counts(posterior[part], labels[part], weights[part]) for part in parts]
    whole = torch.stack(counts).sum(dim=0)
    likely = by_features.new_zeros(len(PSEUDO_COUNTS), len(labels))
    for part, own in zip(parts, counts, strict=True):
        for place, more in enumerate(PSEUDO_COUNTS):
            matrix = with_symmetric(whole - own, more)
            likely[place, part] = log_likelihoods(by_features[part], labels[part], matrix)
    share = weights / weights.sum()
    lost = likely[int((likely @ share).argmax())] - likely  # (choices, N)
    best = max(place for place, far in enumerate(beyond_chance(lost, share).tolist()) if far <= 0)
    return Shrunk(with_symmetric(whole, PSEUDO_COUNTS[best]), PSEUDO_COUNTS[best], likely[best])


def beyond_chance(lost: Tensor, share: Tensor, errors: float = 1.0) -> Tensor:
    """(...) how far the mean of paired differences (..., N) lies above so many of its standard errors.

    Weights are `share` (N,), of sum 1.
    """
    mean = lost @ share
    return mean - errors * ((lost - mean[..., None]).square() @ share.square()).sqrt()


def expected_counts(posterior: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """(K, K) the expected weight of the samples of each true class (rows) with each given label (columns)."""
    classes = posterior.shape[1]
    return posterior.new_zeros(classes, classes).index_add(0, labels, posterior * weights[:, None]).T


def with_symmetric(counts: Tensor, pseudo_count: float) -> Tensor:
    """Rows of counts (K, K), each with `pseudo_count` more samples from a symmetric matrix, normalised.

    The symmetric one keeps a label with the share that all rows together keep; the wrong labels of each row are as
    frequent as they are given. One further sample a row has a wrong label: where none was found, one may come.
    """
    classes, total = len(counts), counts.sum().clamp(min=1e-12)
    others = (counts.sum(dim=0) / total + 1e-9).expand(classes, -1).clone().fill_diagonal_(0.0)
    kept = counts.diagonal().sum() / total
    wrong = others / others.sum(dim=1, keepdim=True)
    symmetric = (1 - kept) * wrong + kept * torch.eye(classes)
    joint = counts + pseudo_count * symmetric + wrong + 1e-6 * torch.eye(classes)
    return joint / joint.sum(dim=1, keepdim=True)
