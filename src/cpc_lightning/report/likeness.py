"""Finds near-duplicates, and images that look like none of the classes, from the networks' features.

Shapes: N samples, M others, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]

NEAR = 0.99
"""The cosine of standardised features from which on two images count as near-duplicates."""

SCREEN = 64
"""Numbers a sample that pairs are first compared by: a random projection, whose cosines near 1 stay near 1."""

BLOCK = 1024
"""Samples that are compared with all others at once."""

PARTNERS = 20
"""Candidates a sample, on average over a block: of a thousand equal images not all pairs are kept."""


@dataclass(frozen=True)
class Alike:
    """Near-duplicates, the most alike first.

    Attributes:
        first: (P,) positions among the samples.
        second: (P,) positions among the samples, each larger than `first`; or among the others.
        cosine: (P,) of their standardised features.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    cosine: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)


def standardised(features: NDArray[Any], like: NDArray[Any] | None = None) -> Features:
    """(N, D) float32 rows of length 1, of features whose columns have mean 0 and deviation 1 in `like` (or themselves).

    What all images share says nothing about which are alike. Columns that do not vary become 0; so do rows of zeros.
    """
    source = np.asarray(features if like is None else like, dtype=np.float32)
    mean, deviation = source.mean(axis=0, dtype=np.float64), source.std(axis=0, dtype=np.float64)
    dead = deviation <= 1e-6 * (1 + np.abs(mean))
    scale = np.where(dead, 0, 1 / np.where(dead, 1, deviation))
    shifted = (np.asarray(features, dtype=np.float32) - mean.astype(np.float32)) * scale.astype(np.float32)
    return _length_one(shifted)


def _length_one(rows: NDArray[Any]) -> Features:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Features = np.divide(rows, length, out=np.zeros(rows.shape, np.float32), where=length > 0)
    return scaled


def near_duplicates(
    rows: Features, others: Features | None = None, near: float = NEAR, most: int = 1000, seed: int = 0
) -> Alike:
    """Pairs of samples, or of a sample and one of the others, whose cosine is at least `near`.

    A block of samples is compared with all others by `SCREEN` random projections, and what passes with a margin by all
    D features: time grows with N (N + M), memory with N + M. Where a block has more than `PARTNERS` candidates a
    sample, each of its samples keeps its best ones alone.

    Args:
        rows: (N, D) as `standardised` gives them.
        others: (M, D) likewise; None compares the samples with each other, each pair once.
        near: the least cosine.
        most: pairs to keep.
        seed: of the projections.
    """
    inside = others is None
    against = rows if others is None else others
    size = rows.shape[1]
    if size > SCREEN:
        draw = np.random.default_rng(seed).standard_normal((size, SCREEN)).astype(np.float32)
        left = _length_one(rows @ draw)
        right = left if inside else _length_one(against @ draw)
        passing = 1 - 3.5 * (1 - near)  # five deviations of a squared length under SCREEN projections
    else:
        left, right, passing = rows, against, near - 1e-6
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    for start in range(0, len(rows), BLOCK):
        block = left[start : start + BLOCK]
        offset = start if inside else 0  # what lies before has been compared
        scores = block @ right[offset:].T
        if inside:
            scores[np.tril_indices(len(block))] = -1  # itself, and each pair once
        first, second = _candidates(scores, passing)
        first, second = first + start, second + offset
        cosine = np.einsum("ij,ij->i", rows[first], against[second]).astype(np.float32)
        kept = cosine >= near
        found.append((first[kept], second[kept], np.minimum(cosine[kept], 1)))
    first, second, cosine = (np.concatenate(part) for part in zip(*found, strict=True)) if found else _none()
    order = np.lexsort((second, first, -cosine))[:most]
    return Alike(first[order], second[order], cosine[order])


def _candidates(scores: Features, passing: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the scores that pass; at most `PARTNERS` a row where there are too many."""
    passed = scores >= passing
    if np.count_nonzero(passed) > PARTNERS * len(scores):
        best = np.argpartition(-scores, PARTNERS, axis=1)[:, :PARTNERS]
        row, place = np.nonzero(np.take_along_axis(passed, best, axis=1))
        return row, best[row, place]
    row, column = np.divmod(np.flatnonzero(passed), passed.shape[1])  # many times as fast as np.nonzero
    return row, column


def _none() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)


def class_means(rows: Features, labels: NDArray[Any], believed: NDArray[np.bool_], num_classes: int) -> Features:
    """(K, D) the direction of the mean of each class's believed samples; 0 for a class without any.

    Args:
        rows: (N, D) as `standardised` gives them.
        labels: (N,) given labels, -1 where there is none.
        believed: (N,) labels that nothing speaks against.
        num_classes: K.
    """
    at = believed & (labels >= 0)
    sums = np.zeros((num_classes, rows.shape[1]), np.float64)
    np.add.at(sums, labels[at], rows[at])
    return _length_one(sums.astype(np.float32))


def none_of_the_classes(rows: Features, means: Features) -> NDArray[np.float32]:
    """(N,) how far each sample is from the nearest class mean: 1 - the largest cosine, in [0, 2].

    Classes without a mean (a row of zeros) are left out; where no class has one, every sample is at 1.
    """
    there = means[np.any(means != 0, axis=1)]
    if not len(there):
        return np.ones(len(rows), np.float32)
    return np.concatenate(
        [1 - (rows[start : start + BLOCK] @ there.T).max(axis=1) for start in range(0, len(rows), BLOCK)]
        or [np.zeros(0, np.float32)]
    )
