"""The tables of `methods.py`, made from its rows: accuracy, who wins, time and memory, verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from cleaners_tables import ACCURACY, Cell, Rows, Study, heads, judged, table

from cpc_lightning.report.sweep import mean_and_deviation

REFERENCE = "cpc_awr"
"""What the others are compared with."""


def tables(rows: Rows) -> str:
    """Markdown."""
    study = Study(rows)
    hosts = ", ".join(sorted({row["host"] for row in rows}))
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    parts = [
        "## Methods on sets that two cores can pay",
        "",
        "`python benchmarks/methods.py`; `--help` tells what the sets are. Small networks and 30 to 48 epochs: the",
        "constants are those of the methods' papers, which have 200 to 600 epochs. Test accuracy in % after the last",
        "epoch (the best epoch's in brackets): mean ± standard deviation over n seeds, which draw other labels too.",
        "",
        *accuracy_table(study),
        "",
        f"Less the accuracy of {REFERENCE}, in points: paired over seeds, with the 95 % interval of the mean.",
        "",
        *difference_table(study),
        "",
        f"Seconds of one processor core for a run and peak memory in MB, as multiples of {REFERENCE}'s; mean.",
        "",
        *cost_table(study),
        "",
        "AUC of right against wrong labels in the final verdict:",
        "",
        *auc_table(study),
        "",
        f"* host {hosts}, one thread a run, float32; code of {commits}",
        "",
    ]
    return "\n".join(parts)


def accuracy_table(study: Study) -> Iterator[str]:
    """A row a method, a column a cell; the best mean of a column is bold."""
    found = {(cell, choice): [*study.values(cell, choice).values()] for cell in study.cells for choice in study.choices}
    best = {
        cell: max(fmean(values) for (where, _), values in found.items() if where == cell and values)
        for cell in study.cells
    }

    def shown(cell: Cell, choice: str) -> str:
        values = found[cell, choice]
        if not values:
            return "-"
        text, top = mean_and_deviation(values), fmean(study.values(cell, choice, "test_accuracy_best").values())
        return f"{f'**{text}**' if fmean(values) == best[cell] else text} ({top:.2f}), n = {len(values)}"

    rows = ([choice, *(shown(cell, choice) for cell in study.cells)] for choice in study.choices)
    return table(["method", *heads(study.cells)], rows)


def difference_table(study: Study) -> Iterator[str]:
    """A row a method but the reference."""

    def shown(cell: Cell, choice: str) -> str:
        return judged(study.differences(cell, (choice, ACCURACY), (REFERENCE, ACCURACY)))

    rows = ([choice, *(shown(cell, choice) for cell in study.cells)] for choice in study.choices if choice != REFERENCE)
    return table(["method", *heads(study.cells)], rows)


def cost_table(study: Study) -> Iterator[str]:
    """A row a method: time and memory by cell, both on the seeds that both have."""

    def ratio(cell: Cell, choice: str, measure: str) -> str:
        ours, theirs = study.values(cell, choice, measure), study.values(cell, REFERENCE, measure)
        ratios = [ours[seed] / theirs[seed] for seed in ours if seed in theirs]
        return f"{fmean(ratios):.2f}" if ratios else "-"

    rows = (
        [choice, *(f"{ratio(cell, choice, 'seconds')}, {ratio(cell, choice, 'megabytes')}" for cell in study.cells)]
        for choice in study.choices
    )
    return table(["method: time, memory", *heads(study.cells)], rows)


def auc_table(study: Study) -> Iterator[str]:
    """A row a method: of its last word on the labels, prototypes before a mixture."""

    def shown(cell: Cell, choice: str) -> str:
        return mean_and_deviation([*study.auc(cell, choice).values()])

    rows = ([choice, *(shown(cell, choice) for cell in study.cells)] for choice in study.choices)
    return table(["method", *heads(study.cells)], rows)
