"""A run in a few numbers: summary.json, and the table that ends a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cpc_lightning.errors import one_line
from cpc_lightning.files import atomic_write
from cpc_lightning.report.labels import LabelReport


def summarise(
    rows: Sequence[Mapping[str, float | None]],
    report: LabelReport,
    held_out: Mapping[str, LabelReport],
    selected: Mapping[str, float],
    seconds: float,
) -> dict[str, Any]:
    """A run in a few numbers; None where one does not apply. The cleaner's are those of the final verdict.

    Args:
        rows: one mapping from metric name to value an epoch.
        report: the verdict on the training labels.
        held_out: that on the labels of each evaluation set, by name: "suspected_labels_test", ...
        selected: metrics of the networks that the set "val" selects; empty without one.
        seconds: that the run took.

    Accuracies of both networks together, in percent, are named after their set: "test_accuracy_best",
    "test_accuracy_top5_best", "ilsvrc12_accuracy_best", ... "test_accuracy_selected" is that of the networks that the
    set "val" selects; "test_prototype_accuracy_last", ... are those of class prototypes as classifiers.
    "ks_deviating_clean_1", ... are the shares of classes of Figure 1, at the end of the warm-up.
    """
    last = rows[-1]

    def column(name: str) -> list[float]:
        return [value for row in rows if (value := row.get(name)) is not None]

    measured = [name for name in last if name.endswith(("/accuracy", "/accuracy_top5", "/prototype_accuracy"))]
    return {
        **{
            f"{name.replace('/', '_')}_{key}": value
            for name in dict.fromkeys(("test/accuracy", *measured))
            for key, value in summarise_accuracy(column(name)).items()
        },
        "test_accuracy_selected": None,
        **{f"{name.replace('/', '_')}_selected": v for name, v in selected.items() if name[-2:] not in ("_1", "_2")},
        **{f"cleaner_{m}_{c}": last.get(f"{c}/{m}") for c in ("gmm", "cpc") for m in ("auc", "precision", "recall")},
        **{
            f"ks_deviating_{of}": next(iter(column(f"losses/ks_deviating_{of}")), None)
            for of in ("clean_1", "clean_2", "noisy_1", "noisy_2")
        },
        "noise_rate_nominal": last["noise/rate_nominal"],
        "noise_rate_actual": last["noise/rate_actual"],
        "looks_clean": report.looks_clean,
        "suspected_labels": _suspected(report),
        **{f"suspected_labels_{name}": _suspected(labels) for name, labels in held_out.items()},
        "training_samples": len(report.noisy_labels),
        "unlabeled_samples": int((report.noisy_labels < 0).sum()),
        "trusted_labels": 0 if report.trusted is None else int(report.trusted.sum()),
        "epochs": len(rows),
        "seconds": seconds,
    }


def _suspected(report: LabelReport) -> int | None:
    return None if report.suspected is None else int(report.suspected.sum())


def summarise_accuracy(history: Sequence[float]) -> dict[str, float | None]:
    """Best, last, and mean of the last 10 (or of all, if fewer) of an accuracy recorded each epoch; or None."""
    if not history:
        return dict.fromkeys(("best", "last", "last10"))
    last10 = history[-10:]
    return {"best": max(history), "last": history[-1], "last10": sum(last10) / len(last10)}


def write_summary(path: str | Path, summary: Mapping[str, object]) -> None:
    """Write `summary` as JSON, atomically; None becomes null."""
    with atomic_write(path) as file:
        file.write((json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())


def print_summary(summary: Mapping[str, Any], outputs: Mapping[str, str], console: Console | None = None) -> None:
    """Print what a person wants to know at the end of a run.

    Args:
        summary: as written to summary.json.
        outputs: what lies where: file name to explanation, after "folder".
        console: where to print; None: standard output.
    """
    console = console or Console()
    table = Table(title="Result", show_header=True, header_style="bold", title_justify="left")
    for name in ("", "best", "last", "mean of last 10"):
        table.add_column(name, justify="left" if not name else "right")
    for name in (key.removesuffix("_best") for key in summary if key.endswith("_best")):
        table.add_row(
            name.replace("_", " "), *(_percent(summary[f"{name}_{key}"]) for key in ("best", "last", "last10"))
        )
    console.print(table)
    if summary.get("test_accuracy_selected") is not None:
        console.print(f"networks selected on val: test accuracy {_percent(summary['test_accuracy_selected'])}")
    cleaners = [name for name in ("gmm", "cpc") if summary[f"cleaner_auc_{name}"] is not None]
    if cleaners:
        table = Table(title="Who found the wrong labels", header_style="bold", title_justify="left")
        for name in ("cleaner", "AUC", "precision", "recall"):
            table.add_column(name, justify="left" if name == "cleaner" else "right")
        for name in cleaners:
            values = (summary[f"cleaner_{key}_{name}"] for key in ("auc", "precision", "recall"))
            table.add_row(name.upper(), *("-" if value is None else f"{value:.3f}" for value in values))
        console.print(table)
    suspected, samples = summary["suspected_labels"], summary["training_samples"]
    rates = (
        f"noise rate: nominal {_share(summary['noise_rate_nominal'])}, actual {_share(summary['noise_rate_actual'])}"
    )
    without, trusted = summary.get("unlabeled_samples") or 0, summary.get("trusted_labels") or 0
    labels = samples - without
    found = "no cleaner, no verdict" if suspected is None else f"{suspected:,} of {labels:,} labels suspected"
    if summary.get("looks_clean"):
        found = f"the labels look clean: {suspected:,} of {labels:,} suspected"
    found += f", {trusted:,} trusted" if trusted else ""
    found += f"; {without:,} images have no label" if without else ""
    console.print(f"{found}; {rates}; {summary['seconds']:.0f} s", soft_wrap=True)
    console.print(f"[bold]{_plain(outputs['folder'])}[/bold]", soft_wrap=True)
    for name, meaning in outputs.items():
        if name != "folder":
            console.print(f"  {name:<15} {meaning}", soft_wrap=True)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def _plain(text: str) -> str:
    """`text` with rich's markup and control characters escaped."""
    return escape(one_line(text))
