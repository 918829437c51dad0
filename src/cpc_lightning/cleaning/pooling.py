"""Combines several models' predictions, each with a fitted exponent. Shapes: N samples, K classes, E judges."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOOR = 1e-3
"""Added to each probability: no judge rules a class out alone."""

PRIOR = 1e-4
"""Pull towards half a say each, which decides where labels do not tell judges apart."""

EVEN = 0.5
"""Share of the say that is divided evenly: the most likely shares alone favour one judge too much."""


def weigh(
    answers: Sequence[Tensor], labels: Tensor, weights: Tensor, transition_matrix: Tensor, even: float = EVEN
) -> Tensor:
    """The exponents (E,), at least 0, under which the joint answer makes the given labels likely.

    The joint answer is proportional to the product of the answers to the power of their exponents (a logarithmic
    opinion pool); a label g has the probability sum_k U_k T[k, g]. Exponents above 1 in sum sharpen, below 1 soften.

    Args:
        answers: E of (N, K), probabilities of the true class by judges that have not seen the label.
        labels: (N,) int64 given labels.
        weights: (N,) of the samples.
        transition_matrix: (K, K) T.
        even: share in [0, 1] of the sum of the most likely exponents that is divided evenly.
    """
    logs = torch.stack([(answer + FLOOR).log() for answer in answers])  # (E, N, K)
    log_matrix = transition_matrix.clamp(min=1e-12).log().T[labels]  # (N, K)
    share = weights / weights.sum()
    roots = torch.full((len(answers),), 0.5**0.5, requires_grad=True)  # squares are never negative
    optimizer = torch.optim.LBFGS([roots], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        joint = torch.einsum("e,enk->nk", roots.square(), logs).log_softmax(dim=1)
        value = -(share * (joint + log_matrix).logsumexp(dim=1)).sum() + PRIOR * (roots.square() - 0.5).square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = roots.detach().square()
    return (1 - even) * found + even * found.mean()


def join(answers: Sequence[Tensor], exponents: Tensor) -> Tensor:
    """(N, K) proportional to the product of the answers (N, K) to the power of the exponents (E,)."""
    logs = sum(float(power) * (answer + FLOOR).log() for power, answer in zip(exponents, answers, strict=True))
    assert isinstance(logs, Tensor)
    return logs.softmax(dim=1)
