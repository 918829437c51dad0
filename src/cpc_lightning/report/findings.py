"""Sums up a verdict on labels: counts, confused pairs, matrices, how many of the first n labels are wrong.

Pure functions of columns of labels.csv. Shapes: N samples, K classes. Everywhere `noisy` (N,) are given labels, -1
where there is none; `suggested` (N,) the networks' classes; `clean` (N,) clean probabilities, NaN where nobody judged;
`true` (N,) true labels, -1 where unknown, -2 where the image shows none of the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.datasets.dataset import UNKNOWN
from cpc_lightning.errors import count_of

Labels = NDArray[Any]
Chances = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

Z95 = 1.959964
"""The 97.5 % point of the normal distribution: what a two-sided 95 % interval reaches to."""

LOST, TIMES, EVER = 0.5, 2.0, 0.9
"""A class is emptied where it loses more than half of its labels, and twice the share of all, or nine tenths."""

BEYOND = 0.1
"""How far more labels may be predicted otherwise out of fold than look wrong, before the estimate is doubted.

On features where nothing hides it is 0.02 to 0.06 (digits); under noise by the image, 0.3."""


@dataclass(frozen=True)
class Pair:
    """How many suspected labels say `given` where the networks see `suggested`."""

    given: int
    suggested: int
    count: int


@dataclass(frozen=True)
class FirstOnes:
    """How many labels are wrong among the n most suspicious ones, for several n.

    Attributes:
        n: (M,) how many one looks at, ascending.
        wrong: (M,) how many of them are wrong, or are expected to be.
        low: (M,) lower end of the 95 % interval; equal to `wrong` where wrong labels are counted.
        high: (M,) upper end.
    """

    n: NDArray[np.int64]
    wrong: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class ClassCount:
    """What was found in one class.

    Attributes:
        label: of the class.
        labels: how many samples are given this class.
        suspected: how many of them are suspected.
        away: suspected ones for which another class is suggested.
        towards: suspected ones given another class for which this class is suggested.
        noise: estimated share of wrong labels among those given this class; None where nobody judged.
    """

    label: int
    labels: int
    suspected: int
    away: int
    towards: int
    noise: float | None


def most_suspicious_first(
    noisy: Labels, suggested: Labels, confidence: Chances, clean: Chances, suspected: Mask, trusted: Mask
) -> NDArray[np.int64]:
    """The positions of all N samples, the most suspicious label first.

    Suspected ones come first, by clean probability; among equal ones, a label that the networks contradict comes first,
    with more confidence earlier. The others that were judged follow likewise; then labels that nobody judged (every
    label, without a cleaner) by that contradiction alone, labels that a person has confirmed, and samples without one.
    """
    contradiction = np.where(suggested != noisy, confidence, -confidence)
    rank = np.select([noisy < 0, trusted, suspected, ~np.isnan(clean)], [4, 3, 0, 1], default=2)
    return np.lexsort((-contradiction, np.nan_to_num(clean, nan=0.0), rank))


def estimated_noise_rate(clean: Chances) -> float | None:
    """The mean of 1 - clean probability over the labels that were judged; None where none was."""
    judged = clean[~np.isnan(clean)]
    return float((1 - judged.astype(np.float64)).mean()) if len(judged) else None


def confused_pairs(noisy: Labels, suggested: Labels, suspected: Mask) -> list[Pair]:
    """Pairs of given and suggested class among suspected labels, the most frequent first, then by number."""
    at = suspected & (noisy >= 0) & (suggested >= 0) & (noisy != suggested)
    pairs, counts = np.unique(np.stack([noisy[at], suggested[at]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [Pair(int(pairs[0, i]), int(pairs[1, i]), int(counts[i])) for i in order]


def by_class(noisy: Labels, suggested: Labels, suspected: Mask, clean: Chances, num_classes: int) -> list[ClassCount]:
    """What was found in each of the K classes."""

    def count(labels: Labels, at: Mask) -> list[int]:
        return np.bincount(labels[at], minlength=num_classes).tolist()  # type: ignore[no-any-return]

    labeled = noisy >= 0
    doubted = suspected & labeled
    moved = doubted & (noisy != suggested) & (suggested >= 0)
    judged = labeled & ~np.isnan(clean)
    wrong = np.bincount(noisy[judged], 1 - clean[judged].astype(np.float64), minlength=num_classes)
    columns = (count(noisy, labeled), count(noisy, doubted), count(noisy, moved), count(suggested, moved))
    return [
        ClassCount(label, labels, doubts, away, towards, float(wrong[label] / seen) if seen else None)
        for label, (labels, doubts, away, towards, seen) in enumerate(zip(*columns, count(noisy, judged), strict=True))
    ]


def true_matrix(noisy: Labels, true: Labels, num_classes: int) -> NDArray[np.float64] | None:
    """(K, K) P(given j | true i) where true labels are known; rows without a sample are 0; None if none is known."""
    known = (true >= 0) & (noisy >= 0)
    if not known.any():
        return None
    return _rows_to_one(_count(true[known], noisy[known], np.ones(int(known.sum())), num_classes))


def estimated_matrix(noisy: Labels, suggested: Labels, clean: Chances, num_classes: int) -> NDArray[np.float64]:
    """(K, K) P(given j | true i) as the run estimates it; rows without a sample are 0.

    A label given j counts with its clean probability as truly j, and with the rest as truly what is suggested. Where
    nobody judged (no cleaner), it counts as what is suggested.
    """
    at = (noisy >= 0) & (suggested >= 0)
    given, seen, chance = noisy[at], suggested[at], np.nan_to_num(clean[at].astype(np.float64), nan=0.0)
    return _rows_to_one(_count(given, given, chance, num_classes) + _count(seen, given, 1 - chance, num_classes))


def confusion(labels: Labels, predicted: Labels, num_classes: int) -> NDArray[np.int64]:
    """(K, K) how many samples labeled i are predicted as j; samples without a label are left out."""
    at = (labels >= 0) & (predicted >= 0)
    return _count(labels[at], predicted[at], np.ones(int(at.sum())), num_classes).astype(np.int64)


def _count(rows: Labels, columns: Labels, weights: NDArray[np.float64], num_classes: int) -> NDArray[np.float64]:
    cells = rows.astype(np.int64) * num_classes + columns
    counts: NDArray[np.float64] = np.bincount(cells, weights, minlength=num_classes**2).astype(np.float64)
    return counts.reshape(num_classes, num_classes)


def _rows_to_one(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = counts.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(counts, sums, out=np.zeros_like(counts), where=sums > 0)
    return shares


def histogram(values: Chances, bins: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.int64]:
    """(bins,) how many values lie in each of the bins of equal width over [low, high]; NaN and others are left out."""
    inside = values[np.isfinite(values)].astype(np.float64)
    return np.histogram(inside, bins, range=(low, high))[0].astype(np.int64)


def expected_wrong(clean: Chances, n: NDArray[np.int64]) -> FirstOnes:
    """How many of the first n labels are wrong if the clean probabilities are right.

    Each label is wrong with probability 1 - p, independently: the sum is Poisson-binomial, with mean sum(1 - p) and
    variance sum(p (1 - p)). The interval is the normal approximation, cut off at 0 and n.

    Args:
        clean: (N,) without NaN, the most suspicious first.
        n: (M,) each in 1..N.
    """
    p = clean.astype(np.float64)
    mean = np.cumsum(1 - p)[n - 1]
    half = Z95 * np.sqrt(np.cumsum(p * (1 - p))[n - 1])
    return FirstOnes(n, mean, np.maximum(mean - half, 0), np.minimum(mean + half, n))


def counted_wrong(noisy: Labels, true: Labels, n: NDArray[np.int64]) -> FirstOnes:
    """How many of the first n labels are wrong, by their true labels.

    Args:
        noisy: (N,) the most suspicious first.
        true: (N,) likewise, all known.
        n: (M,) each in 1..N.
    """
    wrong = np.cumsum(noisy != true)[n - 1].astype(np.float64)
    return FirstOnes(n, wrong, wrong, wrong)


def all_known(true: Labels) -> bool:
    """Whether there are labels, and the truth about each is known."""
    return len(true) > 0 and bool((true != UNKNOWN).all())


def how_many_to_look_at(count: int, suspected: int, points: int = 60) -> NDArray[np.int64]:
    """Up to `points` values of n for a curve over the first n of `count` labels, ascending.

    They go from 1 to twice the suspected ones (at least 100), 1, 10, 100, ... and the suspected count among them.
    """
    if count == 0:
        return np.zeros(0, np.int64)
    most = min(count, max(2 * suspected, 100))
    spread = np.linspace(1, most, points).round().astype(np.int64)
    round_ones = [value for value in (1, 10, 100, 1000, 10_000, 100_000, suspected) if 1 <= value <= most]
    return np.union1d(spread, np.array(round_ones, np.int64))


@dataclass(frozen=True)
class SizeCount:
    """What was found in the classes of one size.

    Attributes:
        low: labels of the smallest class of that size.
        high: labels of the largest one.
        classes: how many there are.
        labels: of all of them.
        suspected: how many of these are suspected.
    """

    low: int
    high: int
    classes: int
    labels: int
    suspected: int


def by_class_size(counts: Sequence[ClassCount]) -> list[SizeCount]:
    """Classes by the power of ten of their labels: 1 to 9, 10 to 99, ...; those without a label are left out."""
    groups: dict[int, list[ClassCount]] = {}
    for count in counts:
        if count.labels:
            groups.setdefault(len(str(count.labels)), []).append(count)
    return [
        SizeCount(
            min(one.labels for one in group),
            max(one.labels for one in group),
            len(group),
            sum(one.labels for one in group),
            sum(one.suspected for one in group),
        )
        for _, group in sorted(groups.items())
    ]


def emptied(counts: Sequence[ClassCount]) -> list[ClassCount]:
    """Classes that lose more than `LOST` of their labels, and `TIMES` the share of all labels; the worst first.

    Where half of all labels are wrong, a class that loses half of its own is nothing special.
    """
    labels, suspected = (sum(getattr(one, name) for one in counts) for name in ("labels", "suspected"))
    share = suspected / labels if labels else 0.0
    lost = [one for one in counts if one.labels and one.suspected / one.labels > max(LOST, min(TIMES * share, EVER))]
    return sorted(lost, key=lambda one: (-one.suspected / one.labels, -one.labels, one.label))


def unseen(rate: float, out_of_fold_error: float) -> str:
    """What an estimated noise rate cannot see, in a sentence or three.

    Args:
        rate: estimated.
        out_of_fold_error: see `cleaning.noise_rate.NoiseEstimate`.
    """
    if out_of_fold_error - rate > BEYOND:
        return (
            f"The estimated noise rate of {100 * rate:.1f} % may be far too low: a model that has not seen a label "
            f"predicts another in {100 * out_of_fold_error:.1f} % of cases. The rest are images that these features "
            "cannot tell apart, or wrong labels that follow what the features confuse: the two look the same here. "
            "Look at the most confused pairs."
        )
    return (
        "Mistakes between classes that the features confuse cannot be seen: if there are such mistakes, "
        f"the estimated noise rate of {100 * rate:.1f} % is too low."
    )


def never_divided(summary: Mapping[str, Any]) -> str | None:
    """What to say where the division waited to the end for the networks to know more; None elsewhere.

    Args:
        summary: as in summary.json; that of an older version tells nothing of it.
    """
    if summary.get("effective_gain") is None or summary["divided_after"] is not None:
        return None
    if summary["effective_gain"] > 0:
        why = (
            f"in the first half of {count_of(summary['epochs'], 'epoch')} that would have gained nothing, because "
            "hardly any label is wrong, or because these networks do not tell wrong labels from hard images. If so, a "
            "larger network or more epochs go further, features of a pretrained one (experiment=photos) furthest"
        )
    else:
        why = (
            "there are too few, or these networks learnt too little of them, to tell wrong ones. More images or epochs "
            "go further, features of a pretrained network (experiment=photos) furthest"
        )
    return (
        f"The labels were not divided: {why}. So this is plain training, and the verdict is one look at its end. "
        "training.divide_when=scheduled divides them all the same."
    )
