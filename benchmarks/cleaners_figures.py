"""Figures 1, 3 and 4 of the paper for the sets of `cleaners.py`, drawn from its rows."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from cleaners_choices import REFERENCE
from cleaners_tables import Cell, Rows
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cpc_lightning.analysis.densities import KINDS, class_densities, kinds_of
from cpc_lightning.analysis.figures import BLACK, COLOURS, MARKERS
from cpc_lightning.analysis.metrics import ks_deviating_share
from cpc_lightning.app.figures import write
from cpc_lightning.cleaning.gmm import scale_losses
from cpc_lightning.report.warmup_losses import read_warmup_losses

FIGURE_1 = (
    ("letters", "symmetric 90 %"), ("letters", "asymmetric 40 %"), ("digits", "symmetric 80 %"),
    ("digits", "asymmetric 40 %"),
)  # fmt: skip
"""Cells whose losses are drawn; the paper has 90 % symmetric noise and 40 % asymmetric."""
FIGURE_3 = {"gmm_agn": "auc_gmm", "gmm_awr": "auc_gmm", "cpc_agn": "auc_cpc", "cpc_awr": "auc_cpc"}
FIGURE_4 = ("cpc_agn", "cpc_awr", REFERENCE)

EPOCHS = "epochs trained"
BINS = 50
DRAWN = ("grid", "mean", "low", "high", "whole", "farthest")
OF_LOSSES = ("set", "noise", "seed", "kind", "samples", "classes", "deviating", *DRAWN)

Curve = dict[int, list[float]]
"""By epochs trained the values of the seeds."""


def warmup_rows(file: Path, place: Mapping[str, str]) -> list[dict[str, str]]:
    """Densities of the losses of network 1 at the end of the warm-up: a row for each kind of label and point.

    Args:
        file: a run's warmup_losses.npz.
        place: columns that say of which run.
    """
    (first, _), _ = read_warmup_losses(file)
    scaled = scale_losses(torch.from_numpy(first.losses).double()).numpy()
    rows = []
    for kind, kept in kinds_of(first.noisy_labels, first.true_labels).items():
        labels = first.noisy_labels[kept]
        seen = class_densities(scaled[kept], labels, BINS)
        share = ks_deviating_share(torch.from_numpy(first.losses[kept]), torch.from_numpy(labels.astype("int64")))
        counted = {"samples": str(len(labels)), "classes": str(len(seen.classes)), "deviating": f"{share or 0:.4g}"}
        drawn = {name: getattr(seen, name) for name in DRAWN[:-1]} | {"farthest": seen.by_class[seen.farthest]}
        rows += [
            {**place, "kind": kind, **counted, **{name: f"{drawn[name][point]:.4g}" for name in DRAWN}}
            for point in range(BINS)
        ]
    return rows


def losses_by_class(losses: Rows) -> Figure:
    """Figure 1: a row of panels for each cell, of right and of wrong labels."""
    cells = [cell for cell in FIGURE_1 if any((row["set"], row["noise"]) == cell for row in losses)]
    figure = Figure(figsize=(8.0, 1.2 + 2.3 * len(cells)), layout="constrained")
    axes = figure.subplots(len(cells), 2, squeeze=False, sharex=True)
    for place, cell in enumerate(cells):
        for axis, kind in zip(axes[place], ("clean", "noisy"), strict=True):
            rows = [row for row in losses if (row["set"], row["noise"]) == cell and row["kind"] == kind]
            grid, mean, low, high, whole, farthest = ([float(row[name]) for row in rows] for name in DRAWN)
            axis.fill_between(grid, low, high, color=COLOURS[4], alpha=0.4, linewidth=0, label="interval of that mean")
            axis.plot(grid, mean, color=COLOURS[0], linewidth=2, label="mean of the classes")
            axis.plot(grid, farthest, color=COLOURS[1], linestyle=":", label="class farthest from all labels")
            axis.plot(grid, whole, color=BLACK, linestyle="--", linewidth=1.2, label="all labels")
            of = rows[0]
            axis.set_title(
                f"{' '.join(cell)}: {KINDS[kind]}, n = {int(of['samples']):,}\n"
                f"{100 * float(of['deviating']):.0f} % of {of['classes']} classes deviate (KS, p < 0.05)",
                fontsize="small",
            )
            axis.set_ylim(bottom=0)
            axis.set_xlim(0, 1)
    title = "Losses at the end of the warm-up, of network 1 and one seed; the band is the 95 % interval of the mean"
    _finish(figure, [*axes.flat], title, "cross-entropy, scaled to [0, 1]", "density")
    return figure


def seeds_of(curves: Rows, cell: Cell, choice: str, column: str) -> set[str]:
    """Seeds that have a number there."""
    return {row["seed"] for row in curves if _is(row, cell, choice, column)}


def curve_of(curves: Rows, cell: Cell, choice: str, column: str, seeds: Collection[str]) -> Curve:
    """The column's values of those seeds, where there are any."""
    found: Curve = {}
    for row in curves:
        if _is(row, cell, choice, column) and row["seed"] in seeds:
            found.setdefault(int(row["epoch"]) + 1, []).append(float(row[column]))
    return dict(sorted(found.items()))


def _is(row: Mapping[str, str], cell: Cell, choice: str, column: str) -> bool:
    return (row["set"], row["noise"]) == cell and row["choice"] == choice and bool(row.get(column))


def cells_of(curves: Rows) -> Iterator[Cell]:
    """In their order."""
    yield from dict.fromkeys((row["set"], row["noise"]) for row in curves)


def auc_over_epochs(curves: Rows) -> Figure:
    """Figure 3: a panel for each cell that has two of the cleaners, of the seeds that all of its cleaners have."""
    panels: dict[Cell, tuple[list[str], set[str]]] = {}
    for cell in cells_of(curves):
        seeds = {choice: seeds_of(curves, cell, choice, column) for choice, column in FIGURE_3.items()}
        there = [choice for choice in FIGURE_3 if seeds[choice]]
        shared = set.intersection(*(seeds[choice] for choice in there)) if len(there) > 1 else set()
        if shared:
            panels[cell] = there, shared
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(0.6 + 4.2 * columns, 1.2 + 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (cell, (there, shared)) in zip(axes.flat, panels.items(), strict=False):
        for choice in there:
            curve = curve_of(curves, cell, choice, FIGURE_3[choice], shared)
            _plot(axis, curve, [*FIGURE_3].index(choice), choice)
        axis.set_title(f"{' '.join(cell)}, n = {len(shared)}", fontsize="small")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = "AUC of right against wrong labels: mean over n seeds that all have, shaded from least to most"
    _finish(figure, list(axes.flat[: len(panels)]), title, EPOCHS, "AUC")
    return figure


def agreement_over_epochs(curves: Rows) -> Figure:
    """Figure 4: left the divergence of mixture and prototypes, right how often they agree; a line a cell and choice."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    place = 0
    for cell in cells_of(curves):
        for choice in FIGURE_4:
            seeds = seeds_of(curves, cell, choice, "kl_divergence_1")  # the first rows of the study do not have it
            if seeds:
                name = f"{' '.join(cell)}, {choice}, n = {len(seeds)}"
                _plot(axes[0], curve_of(curves, cell, choice, "kl_divergence_1", seeds), place, name)
                _plot(axes[1], curve_of(curves, cell, choice, "agreement_1", seeds), place, name)
                place += 1
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(top=1)
    axes[1].yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    title = "Loss mixture q' and prototypes q of network 1: mean over n seeds, shaded from least to most"
    _finish(figure, axes, title, EPOCHS, "KL(q' || q), nats")
    axes[1].set_ylabel("labels on the same side", fontsize="small")
    return figure


def _plot(axis: Axes, curve: Curve, place: int, name: str) -> None:
    epochs, colour = [*curve], COLOURS[place % len(COLOURS)]
    axis.plot(
        epochs, [fmean(values) for values in curve.values()], color=colour, marker=MARKERS[place % len(MARKERS)],
        markersize=4, markevery=max(1, len(epochs) // 10), linewidth=1.4, label=name,
    )  # fmt: skip
    axis.fill_between(epochs, [*map(min, curve.values())], [*map(max, curve.values())], color=colour, alpha=0.15)


def _finish(figure: Figure, axes: Sequence[Axes], title: str, below: str, beside: str) -> None:
    """One title and one legend for all axes."""
    labels: dict[str, Artist] = {}
    for axis in axes:
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize="small")
        axis.set_xlabel(below, fontsize="small")
        axis.set_ylabel(beside, fontsize="small")
        labels |= {name: line for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.suptitle("\n".join(textwrap.wrap(title, 70)), fontsize="medium")
    columns = 4 if len(labels) == 4 and figure.get_figwidth() > 7 else 2
    figure.legend(
        [*labels.values()], [*labels], loc="outside lower center", ncols=columns, frameon=False, fontsize="small"
    )


def draw(curves: Rows, losses: Rows, folder: Path) -> None:
    """Write those figures that there is something for, as FOLDER/cleaners_NAME.svg."""
    made = {}
    if losses:
        made["cleaners_losses.svg"] = losses_by_class(losses)
    if any(row["auc_gmm"] for row in curves):
        made["cleaners_auc.svg"] = auc_over_epochs(curves)
    if any(row.get("kl_divergence_1") for row in curves):
        made["cleaners_agreement.svg"] = agreement_over_epochs(curves)
    write(made, folder, "svg")
