"""Measures predictions: accuracy with its interval, numbers of each class, calibration.

Shapes: n images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

BINS = 15
"""Of confidence, for the calibration error (Guo et al. 2017)."""
FEWEST = 20
"""Images below which no temperature is fitted: half of them would say next to nothing."""
SEED = 0
"""Decides which half of the images the temperature is fitted on: the same in every evaluation of as many images."""
TEMPERATURES = (0.05, 20.0)
SMALLEST = 1e-12  # of a probability, before its logarithm


@dataclass(frozen=True)
class Calibration:
    """How much confidence is worth, before and after one number has put it right.

    Attributes:
        temperature: T of p^(1/T), renormalised, with the smallest mean negative log-likelihood on half of the images;
            None for fewer than `FEWEST`.
        fitted_on: how many images that half has.
        measured_on: how many the other half has, on which the two errors are.
        before: expected calibration error (L1, `BINS` bins of equal width), of p.
        after: the same of p^(1/T).
    """

    temperature: float | None
    fitted_on: int
    measured_on: int
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Evaluation:
    """What is measured on n images.

    Attributes:
        images: n.
        accuracy: share of right predictions.
        interval: its 95 % interval (Wilson 1927).
        top5: share of images whose label is among the five most probable; None for K of 5 or fewer.
        balanced_accuracy: mean recall of the classes that have images.
        calibration_error: expected (L1, `BINS` bins of equal width), of all images.
        calibration: see there.
        confusion: (K, K) int64, images of class i that are predicted as class j.
        precision: (K,) share of an class's predictions that are right; NaN where it is never predicted.
        recall: (K,) share of a class's images that are predicted as such; NaN where it has none.
    """

    images: int
    accuracy: float
    interval: tuple[float, float]
    top5: float | None
    balanced_accuracy: float
    calibration_error: float
    calibration: Calibration
    confusion: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    @property
    def support(self) -> NDArray[np.int64]:
        """(K,) images of each class."""
        return np.asarray(self.confusion.sum(axis=1), dtype=np.int64)


def evaluate(probabilities: Tensor, labels: Tensor) -> Evaluation:
    """Measure predictions.

    Args:
        probabilities: (n, K), rows that sum to 1; of equal ones the first class is predicted.
        labels: (n,) int64 in 0..K-1.

    Raises:
        ValueError: for no images.
    """
    count, classes = probabilities.shape
    if count == 0:
        raise ValueError("there is nothing to evaluate")
    predicted = probabilities.argmax(dim=1)
    pairs = torch.bincount(labels * classes + predicted, minlength=classes * classes)
    confusion = pairs.view(classes, classes).numpy()
    right, support = np.diagonal(confusion).astype(np.float64), confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which is what it means
        precision, recall = right / confusion.sum(axis=0), right / support
    order = probabilities.topk(min(5, classes), dim=1).indices
    top5 = float((order == labels[:, None]).any(dim=1).double().mean()) if classes > 5 else None
    hits = int(right.sum())
    return Evaluation(
        count, hits / count, wilson(hits, count), top5, float(np.nanmean(recall)),
        calibration_error(probabilities, labels), calibrate(probabilities, labels), confusion, precision, recall,
    )  # fmt: skip


def wilson(right: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share, `right` of `count`, by Wilson's score (1927), which holds for few images and near 1."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error: mean |confidence - accuracy| over `BINS` bins, weighted by their images."""
    classes = probabilities.shape[1]
    return float(multiclass_calibration_error(probabilities.float(), labels, classes, n_bins=BINS, norm="l1"))


def calibrate(probabilities: Tensor, labels: Tensor) -> Calibration:
    """Temperature scaling (Guo et al. 2017) of one half of the images, measured on the other."""
    count = len(labels)
    if count < FEWEST:
        return Calibration(None, 0, 0, None, None)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SEED))
    fit, measure = order[: count // 2], order[count // 2 :]
    temperature = fit_temperature(probabilities[fit], labels[fit])
    rest, given = probabilities[measure], labels[measure]
    before, after = (calibration_error(scaled(rest, t), given) for t in (1.0, temperature))
    return Calibration(temperature, len(fit), len(measure), before, after)


def fit_temperature(probabilities: Tensor, labels: Tensor) -> float:
    """T in `TEMPERATURES` with the smallest mean negative log-likelihood of p^(1/T), renormalised."""
    logs = probabilities.double().clamp(min=SMALLEST).log()

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logs / math.exp(log_temperature), labels))

    low, high = map(math.log, TEMPERATURES)
    return math.exp(float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def scaled(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T), renormalised, (n, K)."""
    return (probabilities.double().clamp(min=SMALLEST).log() / temperature).softmax(dim=1)


def bins_of(probabilities: Tensor, labels: Tensor) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and number of images of each of `BINS` bins that has any."""
    confidence, predicted = probabilities.double().max(dim=1)
    place = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    found = []
    for k in range(BINS):
        inside = place == k
        if bool(inside.any()):
            right = (predicted == labels)[inside].double().mean()
            found.append((float(confidence[inside].mean()), float(right), int(inside.sum())))
    return found


def matched(theirs: Sequence[str], ours: Sequence[str], labels: Tensor) -> tuple[Tensor, dict[str, int]]:
    """Labels of another data set as numbers of our classes, matched by name.

    Args:
        theirs: names of the data set's classes.
        ours: names of K classes.
        labels: (n,) int64, numbers of theirs; negative where there is none.

    Returns:
        (n,) int64 numbers of ours, -1 where there is no such class, or no label; and how many images each class of
        theirs has that is none of ours.
    """
    number = {name: k for k, name in enumerate(ours)}
    table = torch.tensor([number.get(name, -1) for name in theirs] + [-1], dtype=torch.int64)
    counts = torch.bincount(labels[labels >= 0], minlength=len(theirs)).tolist()
    unknown = {name: count for name, count in zip(theirs, counts, strict=True) if name not in number and count}
    return table[labels.clamp(min=-1)], unknown
