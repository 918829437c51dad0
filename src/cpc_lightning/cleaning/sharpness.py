"""How sure to be of the true classes, so that what remains is wrong labels.

Given labels alone do not tell a model that is unsure of the true class, with few wrong labels, from a sure one, with
many: both can make every label as likely. The regressions are unsure, for their weights are kept small, so that wrong
labels pass for images that are hard to tell. Where the features do not allow to be sure, a sure model is wrong, and its
labels become less likely. So the surest model is taken under which they are not (as Li et al., "Provably end-to-end
label-noise learning without anchor points", ICML 2021, take the transition matrix of the least volume).

With few samples, surer models are seldom less likely by so much, and the rule goes to the sure side: where 30 % of 100
labels were wrong, the estimated rate moved up by 0.06 in the mean.

Shapes: N samples, K classes, E judges.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cpc_lightning.cleaning.pooling import join
from cpc_lightning.cleaning.transition import (
    Shrunk,
    beyond_chance,
    expected_counts,
    given_the_label,
    shrunk_matrix,
    with_symmetric,
)

FACTORS = (1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""Of all exponents, to choose from. None below 1: with many classes, a matrix that follows unsure answers makes wrong
labels likelier than they are (letters with 60 % of them wrong: 43 % found)."""

STEPS = 10
"""Of expectation and maximisation until a matrix fits a factor."""


def sharpen(
    answers: Sequence[Tensor],
    exponents: Tensor,
    labels: Tensor,
    weights: Tensor,
    fold: Tensor,
    matrix: Tensor,
    factors: Sequence[float] = FACTORS,
) -> tuple[Tensor, Tensor, Tensor]:
    """The exponents times a factor, with the joint answer and the transition matrix that go with them.

    Each factor has a matrix of its own. Factors grow until given labels are less likely than under the best one so far,
    by more than a standard error of the paired difference.

    Args:
        answers: E of (N, K), probabilities of the true class by judges that have not seen the label.
        exponents: (E,), see `pooling.weigh`.
        labels: (N,) int64 given labels.
        weights: (N,) of the samples.
        fold: (N,) int64; the matrix that the labels of one are judged by is counted without them, from posteriors by a
            matrix of all.
        matrix: (K, K) to begin from.
        factors: to choose from, from small to large.

    Returns:
        (E,) exponents, (N, K) U, (K, K) T.
    """
    share = weights / weights.sum()
    best = None
    for factor in factors:
        say = factor * exponents
        joint = join(answers, say)
        fitted = _fit(joint, labels, weights, fold, matrix)
        if best is None or float((fitted.likely - best) @ share) > 0:
            best = fitted.likely
        if beyond_chance(best - fitted.likely, share) > 0:
            break
        chosen = say, joint, fitted.matrix
    return chosen


def _fit(joint: Tensor, labels: Tensor, weights: Tensor, fold: Tensor, matrix: Tensor) -> Shrunk:
    """The transition matrix that goes with an answer (N, K)."""
    fitted = shrunk_matrix(given_the_label(joint, labels, matrix), labels, joint, weights, fold)
    known = fitted.matrix
    for _ in range(STEPS):
        counts = expected_counts(given_the_label(joint, labels, known), labels, weights)
        known = with_symmetric(counts, fitted.pseudo_count)
    return shrunk_matrix(given_the_label(joint, labels, known), labels, joint, weights, fold)
