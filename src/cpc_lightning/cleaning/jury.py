"""Combines three predictions of true classes that have not seen the label: regression, neighbours, class means.

What one fold's samples are judged by is made of the other folds' labels alone, their posteriors included: a label must
not come back to its own sample by way of a neighbour, or of a mean that it has pulled. So there is a world for each
fold, where the fold's labels are unknown; in it, the others' posteriors grow better by rounds. What remains is that the
regressions of other folds, which the first posteriors are made of, have seen the label.

Shapes: N samples, D features, K classes, F folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cpc_lightning.cleaning.discriminant import (
    SHRINKAGES,
    TEMPERATURES,
    Moments,
    fit_clouds,
    moments,
    outer_products,
    score,
)
from cpc_lightning.cleaning.pooling import EVEN, join, weigh
from cpc_lightning.cleaning.sharpness import FACTORS, sharpen
from cpc_lightning.cleaning.transition import given_the_label, log_likelihoods, shrunk_matrix

ROUNDS = 3
"""Of making posteriors anew; digits, letters and clothes gain until the third (docs/features.md)."""

Votes = Callable[[Tensor, Tensor], Tensor]
"""Posteriors (N, K), and which samples (N,) have no vote -> the mean of the neighbours' posteriors (N, K)."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the judges found together.

    Attributes:
        true_class: (N, K) U, P(true | features) without the sample's own label.
        transition_matrix: (K, K) T, of U's posteriors.
        exponents: (3,) the say of regression, neighbours and clouds.
        clouds: (D + 1, K) linear scores that all samples together give.
    """

    true_class: Tensor
    transition_matrix: Tensor
    exponents: Tensor
    clouds: Tensor


def judge_together(
    inputs: Tensor,
    by_regression: Tensor,
    votes: Votes,
    labels: Tensor,
    weights: Tensor,
    fold: Tensor,
    transition_matrix: Tensor,
    rounds: int = ROUNDS,
    even: float = EVEN,
    factors: Sequence[float] = FACTORS,
) -> Verdict:
    """U and its transition matrix, after some rounds.

    Args:
        inputs: (N, D) standardised features.
        by_regression: (N, K) R, out of fold.
        votes: of the nearest neighbours.
        labels: (N,) int64 given labels.
        weights: (N,) of the samples.
        fold: (N,) int64.
        transition_matrix: (K, K) of the regression.
        rounds: how often posteriors are made anew from what the judges say of the last ones.
        even: see `pooling.weigh`.
        factors: see `sharpness.sharpen`.
    """
    matrix = transition_matrix
    parts = [fold == number for number in torch.unique(fold).tolist()]
    squares = [outer_products(inputs[part], weights[part]) for part in parts]
    worlds = [given_the_label(by_regression, labels, matrix)] * len(parts)  # posteriors (N, K) without a fold's labels
    for _ in range(rounds):
        neighbours = [votes(world, part) for world, part in zip(worlds, parts, strict=True)]
        known = [
            [moments(inputs[part], world[part], weights[part], own) for part, own in zip(parts, squares, strict=True)]
            for world in worlds
        ]
        shrinkage, factor = choose_clouds(inputs, known, parts, labels, weights, matrix)
        clouds = [
            cloud_answers(inputs, known[number], parts, number, shrinkage, factor) for number in range(len(parts))
        ]
        answers = [by_regression, own_rows(neighbours, parts), own_rows(clouds, parts)]
        exponents = weigh(answers, labels, weights, matrix, even)
        worlds = [
            given_the_label(join([by_regression, seen, cloud], exponents), labels, matrix)
            for seen, cloud in zip(neighbours, clouds, strict=True)
        ]
        true_class = join(answers, exponents)
        matrix = shrunk_matrix(given_the_label(true_class, labels, matrix), labels, true_class, weights, fold).matrix
    exponents, true_class, matrix = sharpen(answers, exponents, labels, weights, fold, matrix, factors)
    all_of_them = moments(inputs, given_the_label(true_class, labels, matrix), weights, torch.stack(squares).sum(dim=0))
    return Verdict(true_class, matrix, exponents, factor * fit_clouds(all_of_them, shrinkage))


def own_rows(answers: list[Tensor], parts: list[Tensor]) -> Tensor:
    """(N, K) of each world's answer (N, K) the rows of the fold whose labels it does not know."""
    joined = torch.empty_like(answers[0])
    for answer, part in zip(answers, parts, strict=True):
        joined[part] = answer[part]
    return joined


def total(known: list[Moments], without: set[int]) -> Moments:
    """The sum of the folds' moments, `without` some; all zero where none is left."""
    left = [part for number, part in enumerate(known) if number not in without]
    first = known[0]
    nothing = Moments(first.counts * 0, first.sums * 0, first.squares * 0)
    return sum(left, nothing)


def choose_clouds(
    inputs: Tensor, known: list[list[Moments]], parts: list[Tensor], labels: Tensor, weights: Tensor, matrix: Tensor
) -> tuple[float, float]:
    """The shrinkage and the factor of the scores under which each fold's labels are likely to the others' clouds.

    Args:
        inputs: (N, D).
        known: of each world, the moments of each fold.
        parts: F masks (N,) bool.
        labels: (N,) int64 given labels.
        weights: (N,) of the samples.
        matrix: (K, K) transition matrix.
    """
    best, chosen = -torch.inf, (SHRINKAGES[0], TEMPERATURES[0])
    for shrinkage in SHRINKAGES:
        scores = inputs.new_empty(len(inputs), len(matrix))
        for number, part in enumerate(parts):
            scores[part] = score(inputs[part], fit_clouds(total(known[number], {number}), shrinkage))
        for factor in TEMPERATURES:
            likely = float(weights @ log_likelihoods((factor * scores).softmax(dim=1), labels, matrix))
            if likely > best:
                best, chosen = likely, (shrinkage, factor)
    return chosen


def cloud_answers(
    inputs: Tensor, known: list[Moments], parts: list[Tensor], world: int, shrinkage: float, factor: float
) -> Tensor:
    """(N, K) each fold judged by the clouds of the others, without those of the fold `world`."""
    answers = inputs.new_empty(len(inputs), len(known[0].counts))
    for number, part in enumerate(parts):
        model = fit_clouds(total(known, {number, world}), shrinkage)
        answers[part] = (factor * score(inputs[part], model)).softmax(dim=1)
    return answers
