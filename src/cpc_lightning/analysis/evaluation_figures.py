"""Figures of an evaluation: the confusion matrix, and accuracy against confidence (calibration).

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cpc_lightning.analysis.evaluation import Evaluation
from cpc_lightning.analysis.figures import COLOURS, GRAY, cut, safe

MOST_NAMED = 60
"""Classes whose names fit beside a matrix."""
MOST_WRITTEN = 20
"""Classes whose numbers of images fit into it."""

Bins = Sequence[tuple[float, float, int]]


def confusion_figure(found: Evaluation, class_names: Sequence[str]) -> Figure:
    """Share of each class's images (rows) that are predicted as each class (columns); the numbers where they fit."""
    count = len(class_names)
    side = 2.5 + 0.28 * min(count, MOST_NAMED)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axis = figure.subplots()
    shares = found.confusion / np.maximum(found.support, 1)[:, None]
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axis, format=PercentFormatter(xmax=1, symbol=" %"), label="of the class's images")
    if count <= MOST_NAMED:
        names = [safe(cut(name)) for name in class_names]
        axis.set_xticks(range(count), names, rotation=90, fontsize="small")
        axis.set_yticks(range(count), names, fontsize="small")
    if count <= MOST_WRITTEN:
        for row, column in np.argwhere(found.confusion > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{found.confusion[row, column]:,}"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize="x-small")
    axis.set_xlabel("predicted class")
    axis.set_ylabel("class")
    low, high = found.interval
    axis.set_title(
        f"{100 * found.accuracy:.2f} % of {found.images:,} images right\n"
        f"(95 % interval: {100 * low:.2f} to {100 * high:.2f} %)",
        fontsize="medium",
    )
    return figure


def reliability_figure(bins: Bins, scaled: Bins | None, found: Evaluation) -> Figure:
    """Accuracy over confidence, a point for each bin, its area by its images; with and without the temperature."""
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle="--", label="confidence is what it says")
    calibration = found.calibration
    curves = [(bins, "as predicted", COLOURS[0], "o")]
    if scaled is not None:
        curves.append((scaled, f"with temperature {calibration.temperature:.2f}", COLOURS[1], "s"))
    for points, label, colour, marker in curves:
        confidence, accuracy, counts = zip(*points, strict=True)
        axis.plot(confidence, accuracy, color=colour, linewidth=1)
        area = 12 + 150 * np.array(counts) / sum(counts)
        axis.scatter(confidence, accuracy, s=area, color=colour, marker=marker, label=label, alpha=0.8)
    for set_limits in (axis.set_xlim, axis.set_ylim):
        set_limits(0, 1.02)
    axis.set_xlabel("confidence (largest probability)")
    axis.set_ylabel("accuracy")
    axis.legend(frameon=False, loc="upper left")
    title = f"expected calibration error {100 * found.calibration_error:.2f} %, n = {found.images:,}"
    if calibration.after is not None and calibration.before is not None:
        errors = f"{100 * calibration.before:.2f} % before, {100 * calibration.after:.2f} % after"
        title += f"\nthe half that did not choose the temperature: {errors}"
    axis.set_title(title, fontsize="medium")
    return figure
