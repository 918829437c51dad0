"""Figures 1, 3 and 4 of the paper: arrays in, a matplotlib figure out.

Nothing here touches matplotlib's global state (no pyplot). Colours are Okabe and Ito's, which colour-blind people tell
apart; line styles and markers say the same once more, for print in grey.

Shapes: n samples, K classes, E epochs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from cpc_lightning.analysis.densities import KINDS, ClassDensities, class_densities, kinds_of
from cpc_lightning.analysis.metrics import ks_deviating_share
from cpc_lightning.cleaning.gmm import scale_losses
from cpc_lightning.errors import one_line

Array = NDArray[np.float64]

BLACK, GRAY = "#000000", "#8c8c8c"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osv^DXP*"  # 8 beside 7 colours: 56 runs differ in one or the other
AUC = {"cpc/auc": ("prototypes (CPC)", "-"), "gmm/auc": ("loss mixture (GMM)", "--")}
"""Columns of metrics.csv with the AUC of both networks together: what it is of, and the style of its line."""

AGREEMENT = {f"gmm_cpc/kl_divergence_{number}": (f"network {number}", style) for number, style in ((1, "-"), (2, "--"))}
"""Columns of metrics.csv with the divergence of mixture and prototypes, likewise; each has one of the agreement."""

MOST_LINES = 100  # classes of which each has a line of its own
LONGEST_NAME = 30  # characters of a class's name
HANDLE, LETTERS = 3.5, 10  # a legend's line in letters' sizes, and that size in points


@dataclass(frozen=True)
class RunCurves:
    """What a run logged every epoch.

    Attributes:
        name: of the run, for the legend.
        metrics: by column of metrics.csv, each (E,) float64, NaN where nothing was logged; "epoch" counts from 0.
    """

    name: str
    metrics: Mapping[str, Array]

    def has(self, column: str) -> bool:
        """Whether the column holds any number."""
        return column in self.metrics and bool(np.isfinite(self.metrics[column]).any())

    def points(self, column: str) -> tuple[Array, Array]:
        """The numbers of epochs trained at which the column holds a number, and those numbers."""
        values = self.metrics[column]
        there = np.isfinite(values)
        return self.metrics["epoch"][there] + 1, values[there]

    @property
    def judged(self) -> int | None:
        """How many labels network 2 judges in the first stage 1, which network 1 then trains on; None if unknown."""
        columns = ("partition/labeled_1", "partition/unlabeled_1")
        if not all(self.has(column) for column in columns):
            return None
        return int(sum(self.points(column)[1][0] for column in columns))


# Figure 1 -------------------------------------------------------------------------------------------------------------


def loss_densities(
    losses: Sequence[Array],
    noisy_labels: Sequence[NDArray[Any]],
    true_labels: Sequence[NDArray[Any]],
    class_names: Sequence[str],
    epoch: int,
    name: str = "",
) -> Figure:
    """Loss distributions of the classes at the end of the warm-up, of clean and of noisy samples (Figure 1).

    A row for each network, a column each for the samples with a right and with a wrong label (one column for all where
    no true label is known). In each: the density of every class, their mean with its 95 % confidence interval, the
    density of all samples of that kind, and the class farthest from it (by half the integral of the difference). The
    title has the share of classes whose losses deviate from all of that kind (Kolmogorov-Smirnov test, p < 0.05). Where
    only one class has such samples, there is nothing to compare it with, and the title names it.

    Args:
        losses: for each network (n,) cross-entropy in nats of the samples that it judges; scaled here.
        noisy_labels: for each network (n,) int given labels.
        true_labels: for each network (n,) int, -1 where unknown, -2 where the image shows none of the classes.
        class_names: of the K classes.
        epoch: how many epochs were trained.
        name: of the run, for the title.

    Raises:
        ValueError: a network has no losses, or one that is not finite.
    """
    kinds = [kinds_of(noisy, true) for noisy, true in zip(noisy_labels, true_labels, strict=True)]
    shown = [kind for kind in KINDS if any(kind in rows for rows in kinds)]
    figure = Figure(figsize=(0.6 + 4.6 * len(shown), 1.8 + 3.0 * len(losses)), layout="constrained")
    axes = figure.subplots(len(losses), len(shown), squeeze=False, sharex=True)
    for r, rows in enumerate(kinds):
        scaled = scale_losses(torch.from_numpy(np.asarray(losses[r], dtype=np.float64))).numpy()
        for column, kind in enumerate(shown):
            if kind in rows:
                kept = rows[kind]
                seen = class_densities(scaled[kept], noisy_labels[r][kept])
                _loss_panel(axes[r, column], seen)
                far = f"{safe(cut(class_names[seen.classes[seen.farthest]]))} (n = {seen.counts[seen.farthest]:,})"
                title = [f"network {r + 1}: {KINDS[kind]}, n = {int(kept.sum()):,}"]
                if len(seen.classes) > 1:
                    share = ks_deviating_share(torch.from_numpy(losses[r][kept]), _tensor(noisy_labels[r][kept]))
                    title += [
                        f"{100 * (share or 0.0):.0f} % of {len(seen.classes)} classes deviate (KS, p < 0.05)",
                        f"farthest from all: {far}",
                    ]
                else:
                    title += ["of one class alone:", far]
                axes[r, column].set_title("\n".join(title), fontsize="small")
            else:
                axes[r, column].set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel("cross-entropy, min-max scaled to [0, 1]")
    for axis in axes[:, 0]:
        axis.set_ylabel("probability density")
    _legend_below(figure, max(axes.flat, key=lambda axis: len(axis.lines)))
    figure.suptitle(_title(f"Losses by class at the end of the warm-up (epoch {epoch})", name))
    return figure


def _loss_panel(axis: Axes, seen: ClassDensities) -> None:
    lines = len(seen.classes) if len(seen.classes) <= MOST_LINES else 0
    for place in range(lines):
        label = "each class" if place == 0 else None
        alpha = 0.6 if lines <= 20 else 0.3  # where many lines lie on each other, the mean must show
        axis.plot(seen.grid, seen.by_class[place], color=GRAY, linewidth=0.6, alpha=alpha, label=label)
    if len(seen.classes) > 1:
        band = "95 % confidence interval of the mean"
        axis.fill_between(seen.grid, seen.low, seen.high, color=COLOURS[4], alpha=0.4, linewidth=0, label=band)
        axis.plot(seen.grid, seen.mean, color=COLOURS[0], linewidth=2, label="mean of the classes")
        far, label = seen.by_class[seen.farthest], "class farthest from all"
        axis.plot(seen.grid, far, color=COLOURS[1], linestyle=":", linewidth=1.8, label=label)
    axis.plot(seen.grid, seen.whole, color=BLACK, linestyle="--", linewidth=1.4, label="all classes together")
    axis.set_xlim(0, 1)
    axis.set_ylim(bottom=0)
    _grid(axis)


# Figures 3 and 4 ------------------------------------------------------------------------------------------------------


def auc_over_epochs(runs: Sequence[RunCurves]) -> Figure:
    """How well the cleaners of some runs tell right labels from wrong ones, over the epochs (Figure 3).

    A colour and a marker for each run; solid lines for prototypes (column cpc/auc), dashed ones for loss mixtures
    (gmm/auc). Both are of the two networks together.

    Args:
        runs: those without either column are left out.
    """
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    axis = figure.subplots()
    for place, run in enumerate(runs):
        for column, (what, style) in AUC.items():
            if run.has(column):
                _curve(axis, run, column, place, style, f"{run.name}: {what}")
    axis.set_ylabel("AUC of right against wrong labels")
    _epochs(axis)
    drawn = [run for run in runs if any(map(run.has, AUC))]
    figure.suptitle(_title("AUC of the label noise cleaners", _judged(drawn)))
    _legend_below(figure, axis)
    return figure


def agreement_over_epochs(runs: Sequence[RunCurves]) -> Figure:
    """How far the prototypes' clean probabilities q lie from the mixture's q' that teach them (Figure 4).

    Left KL(q' || q) in nats, mean over samples; right the share of samples that both put on the
    same side of their threshold. A colour and a marker for each run; solid for network 1, dashed for network 2.

    Args:
        runs: those without the columns gmm_cpc/kl_divergence_1, ... are left out.
    """
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, run in enumerate(runs):
        for divergence, (what, style) in AGREEMENT.items():
            if run.has(divergence):
                _curve(left, run, divergence, place, style, f"{run.name}: {what}")
                _curve(right, run, divergence.replace("kl_divergence", "agreement"), place, style, "")
    _epochs(left)
    _epochs(right)
    left.set_ylabel("KL(q' || q), mean over samples, nats")
    left.set_ylim(bottom=0)
    right.set_ylabel("agreement, share of samples")
    right.set_ylim(top=1)
    right.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    drawn = [run for run in runs if any(map(run.has, AGREEMENT))]
    figure.suptitle(_title("Loss mixture and class prototypes", _judged(drawn)))
    _legend_below(figure, left)
    return figure


def _curve(axis: Axes, run: RunCurves, column: str, place: int, style: str, label: str) -> None:
    epochs, values = run.points(column)
    axis.plot(
        epochs, values, color=COLOURS[place % len(COLOURS)], marker=MARKERS[place % len(MARKERS)], linestyle=style,
        linewidth=1.5, markersize=5, markerfacecolor="none" if style == "--" else None,
        markevery=max(1, len(epochs) // 15), label="\n".join(textwrap.wrap(safe(label), 60)),
    )  # fmt: skip


def _epochs(axis: Axes) -> None:
    axis.set_xlabel("epochs trained")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _grid(axis)


def _grid(axis: Axes) -> None:
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _legend_below(figure: Figure, axis: Axes) -> None:
    """A legend under the axes: of two columns where they fit into the figure, of smaller letters if need be."""
    lines, labels = axis.get_legend_handles_labels()
    texts = [line for label in labels for line in label.split("\n")]
    longest = max((TextPath((0, 0), text, size=LETTERS).get_extents().width for text in texts), default=0.0)
    inches = (longest + (HANDLE + 4) * LETTERS) / 72  # 4: what lies around a line and its label
    width = figure.get_figwidth()
    columns, size = 2 if 2 * inches <= width else 1, LETTERS * min(1.0, width / inches)
    figure.legend(
        lines, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=HANDLE, fontsize=size
    )


def _judged(runs: Sequence[RunCurves]) -> str:
    """How many labels the curves are about."""
    counts = list(dict.fromkeys(run.judged for run in runs if run.judged is not None))
    text = " or ".join(f"{count:,}" for count in counts)
    return f"n = {text} training labels, judged after each epoch" if counts else ""


def _title(first: str, second: str) -> str:
    return "\n".join([first, *textwrap.wrap(safe(second), 80)])


def cut(name: str) -> str:
    """The name, or its first letters where it is long."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def safe(text: str) -> str:
    """`text` on one line, with nothing in it that matplotlib takes for mathematics."""
    return one_line(text).replace("$", r"\$")


def _tensor(labels: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(labels.astype(np.int64))
