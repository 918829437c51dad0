"""Prints the table of a sweep: `python -m cpc_lightning.report.sweep multirun/FOLDER`.

Runs that differ in nothing but their seed make one row: mean ± standard deviation (n - 1) over them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cpc_lightning.errors import InputError, one_line

METRICS = {  # in summary.json, and above a column
    "test_accuracy_best": "accuracy, best",
    "test_accuracy_last": "accuracy, last",
    "test_accuracy_last10": "accuracy, mean of last 10",
    "test_accuracy_selected": "accuracy, selected on val",
    "val_accuracy_best": "accuracy on val, best",
    "test_accuracy_top5_best": "top-5, best",
    "ilsvrc12_accuracy_best": "ILSVRC12, best",
    "ilsvrc12_accuracy_top5_best": "ILSVRC12 top-5, best",
    "test_prototype_accuracy_best": "accuracy of prototypes, best",
    "cleaner_auc_gmm": "AUC of GMM",
    "cleaner_auc_cpc": "AUC of CPC",
    "cleaner_auc_verdict": "AUC of other cleaners",
}
TOP5, BESIDE = "test_accuracy_top5_best", "ilsvrc12_accuracy_best"  # of ten classes, five tell little
NAME = "summary.json"
SEEDS = ("seed", "noise_seed", "dataset.split_seed")


def read_runs(folders: Iterable[Path]) -> list[dict[str, object]]:
    """The summaries of all finished runs below `folders`, in the order of their paths, job 2 before job 10.

    Raises:
        InputError: named "folder", if one of the folders below may not be read.
    """

    def refuse(error: OSError) -> NoReturn:
        raise InputError("folder", str(error.filename), f"cannot be read: {error.strerror or error}")

    def order(file: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in file.parts]

    below = (Path(place) for folder in folders for place, _, names in os.walk(folder, onerror=refuse) if NAME in names)
    files = sorted({place / NAME for place in below}, key=order)
    return [json.loads(file.read_text()) for file in files]


def group_runs(runs: Sequence[Mapping[str, object]]) -> dict[tuple[str, ...], list[Mapping[str, object]]]:
    """Runs by their overrides other than seeds."""
    groups: dict[tuple[str, ...], list[Mapping[str, object]]] = {}
    for run in runs:
        overrides = [str(o) for o in run["overrides"]]  # type: ignore[attr-defined]
        key = tuple(o for o in overrides if o.split("=", 1)[0] not in SEEDS and not o.startswith("hydra."))
        groups.setdefault(key, []).append(run)
    return groups


def mean_and_deviation(values: Sequence[float]) -> str:
    """`mean ± standard deviation`; the mean alone for one value, "-" for none."""
    if not values:
        return "-"
    mean = statistics.fmean(values)
    digits = 3 if max(values) <= 1 else 2
    return f"{mean:.{digits}f}" + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def sweep_rows(runs: Sequence[Mapping[str, object]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: what varies between the groups, n, and each metric that any run has.

    Top-5 is WebVision's: it has a column only beside ILSVRC12's accuracies.
    """
    groups = group_runs(runs)
    common = set.intersection(*(set(key) for key in groups)) if len(groups) > 1 else set()
    metrics = [m for m in METRICS if any(run.get(m) is not None for run in runs)]
    metrics = [m for m in metrics if m != TOP5 or BESIDE in metrics]
    rows = []
    for key, members in groups.items():
        values = [[float(run[m]) for run in members if run.get(m) is not None] for m in metrics]  # type: ignore[arg-type]
        name = one_line(" ".join(o for o in key if o not in common)) or "(defaults)"
        rows.append([name, str(len(members)), *(mean_and_deviation(v) for v in values)])
    return ["run", "n", *(METRICS[m] for m in metrics)], rows


def markdown(cell: str) -> str:
    """A cell of a Markdown table that stays one, and no HTML."""
    return cell.replace("|", r"\|").replace("<", "&lt;")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 2 if there is nothing to print."""
    parser = argparse.ArgumentParser(prog="python -m cpc_lightning.report.sweep", description=__doc__)
    parser.add_argument("folder", nargs="+", type=Path, help="a sweep's folder, or any folder that holds runs")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args(arguments)
    try:
        runs = read_runs(folder for folder in options.folder if folder.exists())
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if not runs:
        print(f"folder={one_line(str(options.folder[0]))}: holds no finished run (no summary.json)", file=sys.stderr)
        return 2
    header, rows = sweep_rows(runs)
    if options.markdown:
        print("\n".join("| " + " | ".join(map(markdown, row)) + " |" for row in [header, ["---"] * len(header), *rows]))
    else:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(header[0], overflow="fold")
        for name in header[1:]:
            width = 10 if name != "n" else None
            table.add_column(name, justify="right", no_wrap=name == "n", min_width=width, overflow="fold")
        for name, *cells in rows:
            # 80 columns hold it, with the deviation on a line of its own where there are many metrics.
            table.add_row(escape(name), *(cell.replace(" ± ", " ±") for cell in cells))
        Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
