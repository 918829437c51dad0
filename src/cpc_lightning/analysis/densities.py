"""Probability densities of losses by class, and the confidence interval of their mean (Figure 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.stats import t

from cpc_lightning.datasets.dataset import UNKNOWN

Array = NDArray[np.float64]

KINDS = {"clean": "clean labels", "noisy": "noisy labels", "all": "all labels (truth unknown)"}
"""Kinds of samples, and what a person reads."""

BINS = 200
BANDWIDTH = 0.03  # standard deviation of the kernel, of losses scaled to [0, 1]


@dataclass(frozen=True)
class ClassDensities:
    """Densities over [0, 1], at the G middles of bins of equal width; each integrates to 1. K classes have a sample.

    Attributes:
        grid: (G,) the middles.
        classes: (K,) labels, ascending.
        counts: (K,) samples of each.
        by_class: (K, G) density of each class.
        mean: (G,) mean over the classes.
        low: (G,) lower end of the 95 % confidence interval of that mean, at least 0; the mean itself for one class.
        high: (G,) its upper end.
        whole: (G,) density of all samples together.
    """

    grid: Array
    classes: NDArray[np.int64]
    counts: NDArray[np.int64]
    by_class: Array
    mean: Array
    low: Array
    high: Array
    whole: Array

    @property
    def farthest(self) -> int:
        """The place of the class with the largest total variation distance from all samples together."""
        return int(np.abs(self.by_class - self.whole).sum(axis=1).argmax())


def kinds_of(noisy_labels: NDArray[Any], true_labels: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Which of the samples (n,) are of which of `KINDS`; kinds without a sample are left out.

    Samples of unknown truth are left out too, unless that is all there are.
    """
    known = true_labels != UNKNOWN
    right = noisy_labels == true_labels
    rows = {"clean": right & known, "noisy": known & ~right} if known.any() else {"all": ~known}
    return {kind: kept for kind, kept in rows.items() if kept.any()}


def density(values: Array, bins: int = BINS, bandwidth: float = BANDWIDTH) -> Array:
    """Kernel density estimate of values (n,) in [0, 1], n >= 1, at the middles of `bins` bins; integrates to 1.

    A histogram, smoothed by a Gaussian that the ends of [0, 1] reflect, so that no probability leaves the interval.
    """
    counts, _ = np.histogram(values, bins, range=(0.0, 1.0))
    smooth: Array = gaussian_filter1d(counts * (bins / len(values)), bandwidth * bins, mode="reflect")
    return smooth


def class_densities(
    scaled: Array, labels: NDArray[Any], bins: int = BINS, bandwidth: float = BANDWIDTH
) -> ClassDensities:
    """Densities of losses scaled to [0, 1] (n,), n >= 1, by given label (n,).

    The interval is the mean ± the 97.5 % point of Student's t with K - 1 degrees of freedom x standard deviation over
    the K classes (K - 1) / sqrt(K), at each point of the grid.
    """
    classes, counts = np.unique(labels, return_counts=True)
    by_class = np.stack([density(scaled[labels == label], bins, bandwidth) for label in classes])
    mean, half, size = by_class.mean(axis=0), np.zeros(bins), len(classes)
    if size > 1:
        half = t.ppf(0.975, size - 1) * by_class.std(axis=0, ddof=1) / np.sqrt(size)
    return ClassDensities(
        (np.arange(bins) + 0.5) / bins, classes.astype(np.int64), counts, by_class,
        mean, np.maximum(mean - half, 0.0), mean + half, density(scaled, bins, bandwidth),
    )  # fmt: skip
