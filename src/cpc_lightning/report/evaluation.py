"""What mode=evaluate prints: the numbers, and the classes that are recognised worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cpc_lightning.errors import one_line
from cpc_lightning.report.ending import shortened

SHOWN = 20
"""Classes that are printed: classes.csv has all of them."""


def print_evaluation(numbers: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what a person wants to know.

    Args:
        numbers: as written to evaluation.json.
        console: where to print; None: standard output.
    """
    console = console or Console()
    table = Table(title=f"Evaluation on {numbers['images']:,} images", show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    low, high = (100 * numbers[f"accuracy_{end}"] for end in ("low", "high"))
    table.add_row("accuracy of both networks", percent(numbers["accuracy"]))
    table.add_row("  its 95 % interval", f"{low:.2f} to {high:.2f} %")
    for network in (1, 2):
        table.add_row(f"  network {network} alone", percent(numbers[f"accuracy_{network}"]))
    if numbers["accuracy_top5"] is not None:
        table.add_row("top-5 accuracy", percent(numbers["accuracy_top5"]))
    table.add_row("balanced accuracy", percent(numbers["balanced_accuracy"]))
    table.add_row("expected calibration error", percent(numbers["calibration_error"]))
    calibration = numbers["calibration"]
    if calibration["temperature"] is not None:
        table.add_row("  of the half that is measured", percent(calibration["before"]))
        table.add_row(f"  with temperature {calibration['temperature']:.2f}", percent(calibration["after"]))
    console.print(table)
    there = [row for row in numbers["classes"] if row["images"]]
    worst = sorted(there, key=lambda row: row["recall"])[:SHOWN]
    title = "Classes" if len(worst) == len(there) else f"The {SHOWN} of {len(there):,} classes with the lowest recall"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("class", overflow="fold")
    for name in ("images", "precision", "recall"):
        table.add_column(name, justify="right")
    for row in worst:
        shown = Text(shortened(one_line(row["class"])))
        table.add_row(shown, f"{row['images']:,}", percent(row["precision"]), percent(row["recall"]))
    console.print(table)


def percent(value: float | None) -> str:
    """A share in percent; "-" where there is none."""
    return "-" if value is None else f"{100 * value:.2f} %"
