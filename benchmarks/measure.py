"""What every benchmark needs: fair timing, the machine's name, and one table as text, Markdown and JSON."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

SHARED = ("callbacks=none", "report=false", "trainer.precision=32-true", "trainer.enable_progress_bar=false")
"""Settings of the runs of a study."""
RESULTS = Path(os.environ.get("CPC_BENCHMARK_RESULTS", Path(__file__).parent / "results"))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait() -> None:
    """Until the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes, the device's part included."""
    wait()
    begin = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begin


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1) -> dict[str, float]:
    """Median seconds of each way over `rounds`, each round timing every way once, so that a busy machine slows all."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm + rounds):
        for name, work in ways.items():
            spent = seconds(work)
            if turn >= warm:
                times[name].append(spent)
    return {name: median(values) for name, values in times.items()}


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a study so far; none where there is no file yet."""
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def append_rows(file: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows below those that there are; a new file gets its header first."""
    new = not file.exists()
    with file.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The confidence interval of the mean of two values or more, by Student's t: its ends."""
    half = float(student.ppf((1 + level) / 2, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half


def difference(values: Sequence[float]) -> str:
    """The mean of paired differences, and its 95 % interval where there are two or more."""
    if len(values) < 2:
        return f"{values[0]:+.2f}, one seed" if values else "-"
    low, high = interval(values)
    return f"{fmean(values):+.2f} ({low:+.2f} to {high:+.2f})"


def machine() -> dict[str, str]:
    """What a figure was measured on."""
    versions = {name: importlib.metadata.version(name) for name in ("cpc-lightning", "torch", "torchvision")}
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else cpu_name()
    threads = f"{torch.get_num_threads()} threads"
    return {"device": device, "host": f"{cpu_name()}, {threads}", "python": platform.python_version(), **versions}


def cpu_name() -> str:
    """The processor's name, and what it has for fast arithmetic."""
    has = getattr(torch.cpu, "get_capabilities", dict)()
    fast = [name for name in ("avx512_f", "avx512_bf16", "amx_bf16") if has.get(name)]
    return " ".join([str(has.get("cpu_name", platform.processor() or platform.machine())), *fast])


def report(name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], notes: Sequence[str]) -> None:
    """Print the table, and write it to RESULTS/NAME.md and, with exact numbers, to RESULTS/NAME.json."""
    if DEVICE.type == "cpu":
        notes = [*notes, "on a GPU: not measured"]
    shown = [[show(cell) for cell in row] for row in rows]
    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in shown:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for note in notes:
        console.print(f"  {note}", highlight=False)
    where = machine()
    text = [f"## {title}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    text += ["| " + " | ".join(row) + " |" for row in shown]
    text += [
        "",
        *(f"* {note}" for note in notes),
        f"* {', '.join(f'{key} {value}' for key, value in where.items())}",
        "",
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(text))
    found = {"title": title, "columns": columns, "rows": rows, "notes": notes, "machine": where}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def show(cell: Any) -> str:
    """Three significant digits for a float."""
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return str(cell)
