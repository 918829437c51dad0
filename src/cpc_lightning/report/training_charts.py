"""Charts of how training went: what metrics.csv says of every epoch, and the losses with the mixture fitted to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from cpc_lightning.cleaning.gmm import fit_mixture, scale_losses
from cpc_lightning.report.charts import Chart, bar_chart, line_chart
from cpc_lightning.report.findings import histogram

Array = NDArray[np.float64]

LOSS_BINS = 40
MOST_LOSSES = 200_000  # that a mixture of the page is fitted to

CURVES: tuple[tuple[str, str, str, Mapping[str, str]], ...] = (
    ("Accuracy", "on the test images, percent", "percent",
     {"both networks": "test/accuracy", "network 1": "test/accuracy_1", "network 2": "test/accuracy_2",
      "prototypes": "test/prototype_accuracy"}),
    ("Partition sizes", "how many labels each network trains on as labeled or unlabeled", "samples",
     {"labeled, network 1": "partition/labeled_1", "labeled, network 2": "partition/labeled_2",
      "unlabeled, network 1": "partition/unlabeled_1", "unlabeled, network 2": "partition/unlabeled_2"}),
    ("Who finds the wrong labels: AUC", "right against wrong labels, by true labels", "AUC",
     {"prototypes (CPC)": "cpc/auc", "loss mixture (GMM)": "gmm/auc"}),
    ("Precision and recall of the labels kept", "by true labels", "share",
     {"CPC precision": "cpc/precision", "CPC recall": "cpc/recall",
      "GMM precision": "gmm/precision", "GMM recall": "gmm/recall"}),
    ("Training loss", "mean over an epoch", "loss",
     {"network 1": "train/loss_1", "network 2": "train/loss_2"}),
)  # fmt: skip
"""Title, what is measured, name of the axis, and by legend the column of metrics.csv, of each chart over epochs."""


def epoch_charts(metrics: Mapping[str, Array]) -> list[Chart]:
    """The charts whose columns hold numbers."""
    if "epoch" not in metrics:
        return []
    trained = metrics["epoch"] + 1
    charts = []
    for title, about, axis, columns in CURVES:
        series = {name: (trained, metrics[column]) for name, column in columns.items() if column in metrics}
        if "both networks" in series and "network 2" not in series:  # a method of one
            series = {"the network": series.pop("both networks"), **series}
            series.pop("network 1", None)
        finite = [values[np.isfinite(values)] for _, values in series.values()]
        if not any(map(len, finite)):
            continue
        every = np.concatenate(finite)
        low, high = float(every.min()), float(every.max())
        near = low > 0.5 * high  # far from 0, an axis from 0 would flatten all there is to see
        chart = line_chart(
            title, f"{title} over the epochs: {about}.", series, "epochs trained", axis,
            y_range=(low - 0.05 * (high - low), high) if near and high > low else None,
        )  # fmt: skip
        if chart is not None:
            charts.append(chart)
    return charts


def loss_charts(losses: Iterable[NDArray[np.float32]], when: str) -> list[Chart]:
    """For each network the histogram of its scaled losses (n,), with both components of a mixture of two Gaussians.

    The mixture is fitted anew, over all classes together, with the cleaner's constants.
    """
    charts = []
    first, *rest = losses
    second = [values for values in rest if not np.array_equal(values, first)]  # a method of one network has it twice
    for number, values in enumerate([first, *second], start=1):
        finite = values[np.isfinite(values)].astype(np.float64)
        if len(finite) < 2 or np.ptp(finite) == 0:
            continue
        scaled = scale_losses(torch.from_numpy(finite)).numpy()
        step = -(-len(scaled) // MOST_LOSSES)
        mixture, _ = fit_mixture(scaled[::step], seed=0)
        grid = np.linspace(0, 1, 161)
        bell = {
            name: weight * len(scaled) / LOSS_BINS * _density(grid, mean, variance)
            for name, mean, variance, weight in zip(
                ("clean component", "noisy component"), mixture.means, mixture.variances, mixture.weights, strict=True
            )
        }
        chart = bar_chart(
            f"Losses of network {number}",
            f"Histogram of network {number}'s losses on the given labels {when}, scaled to 0..1, with the two "
            f"components of a Gaussian mixture: means {mixture.means[0]:.2f} and {mixture.means[1]:.2f}.",
            0, 1, {"labels": histogram(scaled, LOSS_BINS)}, "cross-entropy, scaled", "labels", bell,
        )  # fmt: skip
        if chart is not None:
            charts.append(chart)
    return charts


def _density(grid: Array, mean: float, variance: float) -> Array:
    bell: Array = np.exp(-((grid - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    return bell
