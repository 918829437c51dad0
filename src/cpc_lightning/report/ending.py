"""What a run prints when it ends: where its page is, the labels that look most wrong, its numbers, its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cpc_lightning.errors import count_of, one_line
from cpc_lightning.report.duration import spoken
from cpc_lightning.report.findings import Z95, by_class, emptied, unseen
from cpc_lightning.report.labels import LabelReport, inert
from cpc_lightning.report.summary import SOURCES

SHOWN = 10
"""How many labels are printed: the page and labels.csv have all of them."""

LONGEST = 40
"""Columns of a file's name or a class's; of a longer one the end, or the beginning, is printed."""


def print_findings(report: LabelReport, page: Path | None, console: Console | None = None) -> None:
    """Print where the page is, and the suspected labels that look most wrong.

    Args:
        report: the verdict on the training labels.
        page: the file that shows it; None where there is none.
        console: where to print; None: standard output.
    """
    console = console or Console()
    if page is not None:  # as one piece, which terminals make a link of
        print_plain(console, Text.assemble("See which labels are wrong: ", (page.absolute().as_uri(), "bold")))
    suspected, order = report.suspected, report.most_suspicious(len(report.noisy_labels))
    worst = order[:0] if suspected is None else order[suspected[order]][:SHOWN]
    if not len(worst):
        return
    names = [shortened(one_line(name)) for name in report.class_names]
    table = Table(title="Most suspicious labels", title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("image" if report.paths is None else "file", overflow="fold")
    table.add_column("label -> suggestion", overflow="fold")
    table.add_column("confidence", justify="right", no_wrap=True, max_width=10)
    for index in worst.tolist():
        name = str(index) if report.paths is None else shortened(inert(report.paths[index]), from_end=True)
        given, suggested = names[int(report.noisy_labels[index])], names[int(report.suggested[index])]
        what = f"{given} -> {suggested}" if given != suggested else f"{given} -> (no other)"
        table.add_row(Text(name), Text(what), f"{100 * float(report.confidence[index]):.0f} %")
    console.print(table)


def warnings_of(report: LabelReport) -> Iterator[str]:
    """What one must know of the verdict: what its estimate cannot see, and classes that lose most of their labels.

    Args:
        report: the verdict on the training labels.
    """
    if report.noise is not None:
        yield unseen(report.noise.rate, report.noise.out_of_fold_error)
    suspected, clean = report.suspected, report.clean_probability
    if suspected is None or clean is None:
        return
    counts = by_class(
        report.noisy_labels.numpy(), report.suggested.numpy(), suspected.numpy(), clean.numpy(), len(report.class_names)
    )
    lost = emptied(counts)
    if lost:
        first = lost[0]
        name = shortened(one_line(report.class_names[first.label]))
        more = f", and {count_of(len(lost) - 1, 'other class')} likewise" if len(lost) > 1 else ""
        yield (
            f"Class {name} would lose {first.suspected:,} of its {first.labels:,} labels{more}: look at them before "
            "you drop any; a rare class looks like mistakes of a frequent one."
        )


def lost_by_dividing(summary: Mapping[str, Any]) -> str | None:
    """What to say where the networks were better before the data were divided than they are at the end; None elsewhere.

    That is, where the mean accuracy of the last ten epochs, or, where fewer followed the division, the last one, lies
    below the best of warm-up by more than the 95 % interval of a difference between two accuracies on so many images.

    Args:
        summary: as written to summary.json.
    """
    since = summary["epochs"] - (summary["divided_after"] or 0)
    last = "accuracy_last10" if since >= 10 else "accuracy_last"
    before, now, samples = (summary[f"test_{name}"] for name in ("accuracy_warmup", last, "samples"))
    if before is None or now is None or not samples:
        return None
    variance = sum(share * (1 - share) for share in (before / 100, now / 100)) / samples
    if before - now <= 100 * Z95 * variance**0.5:
        return None
    return (
        f"Accuracy was {before:.1f} % before the labels were divided, and is {now:.1f} % in the last epochs: "
        "these networks learn more from all labels than from those that look clean. cleaner=none trains on all; "
        "small networks and few epochs are helped by semisup=unmixed training.full_epochs=true views.policy=weak "
        "training.divide_when=paying."
    )


def shortened(text: str, from_end: bool = False) -> str:
    """`text`, or its beginning or its end with three dots."""
    if len(text) <= LONGEST:
        return text
    return f"...{text[3 - LONGEST :]}" if from_end else f"{text[: LONGEST - 3]}..."


def print_plain(console: Console, text: Text) -> None:
    """Print `text` on one line, however narrow the terminal is: it wraps it, and a link stays whole."""
    console.print(text, soft_wrap=True, highlight=False)


def print_summary(
    summary: Mapping[str, Any],
    outputs: Mapping[str, str],
    console: Console | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Print what a person wants to know at the end of a run.

    Args:
        summary: as written to summary.json.
        outputs: what lies where: file name to explanation, after "folder".
        console: where to print; None: standard output.
        warnings: what one must know of the verdict, a sentence each.
    """
    console = console or Console()
    table = Table(title="Result", show_header=True, header_style="bold", title_justify="left")
    for name in ("", "best", "last", "mean of last 10"):
        table.add_column(name, justify="left" if not name else "right")
    for name in (key.removesuffix("_best") for key in summary if key.endswith("_best")):
        row = [summary[f"{name}_{key}"] for key in ("best", "last", "last10")]
        if row != [None] * 3:
            table.add_row(name.replace("_", " "), *map(_percent, row))
    console.print(table if table.row_count else "nothing was held out to test on")
    if summary.get("test_accuracy_selected") is not None:
        console.print(f"networks selected on val: test accuracy {_percent(summary['test_accuracy_selected'])}")
    cleaners = [name for name in SOURCES if summary.get(f"cleaner_auc_{name}") is not None]
    if cleaners:
        table = Table(title="Who found the wrong labels", header_style="bold", title_justify="left")
        for name in ("cleaner", "AUC", "precision", "recall"):
            table.add_column(name, justify="left" if name == "cleaner" else "right")
        for name in cleaners:
            values = (summary[f"cleaner_{key}_{name}"] for key in ("auc", "precision", "recall"))
            table.add_row(name.upper(), *("-" if value is None else f"{value:.3f}" for value in values))
        console.print(table)
    suspected, samples = summary["suspected_labels"], summary["training_samples"]
    known = ((name, summary[f"noise_rate_{name}"]) for name in ("nominal", "actual"))
    rates = [f"{name} {_share(rate)}" for name, rate in known if rate is not None]
    if summary.get("out_of_fold_error") is not None:  # the mean of a mixture's own doubts is no estimate to announce
        estimated, low, high = (_share(summary[f"noise_rate_{end}"]) for end in ("estimated", "low", "high"))
        rates.append(f"estimated {estimated} ({low} to {high})")
    without, trusted = summary.get("unlabeled_samples") or 0, summary.get("trusted_labels") or 0
    labels = samples - without
    found = "no cleaner, so no verdict" if suspected is None else f"{suspected:,} of {labels:,} labels suspected"
    if summary.get("looks_clean"):
        found = f"the labels look clean: {suspected:,} of {labels:,} suspected"
    found += f", {trusted:,} trusted" if trusted else ""
    found += f"; {count_of(without, 'image')} without a label" if without else ""
    found += f"; noise rate: {', '.join(rates)}" if rates else ""
    console.print(f"{found}; {spoken(summary['seconds'])}", soft_wrap=True)
    if summary.get("chosen"):
        console.print(f"chosen: {_plain(summary['chosen'])}", soft_wrap=True, highlight=False)
    for line in warnings:
        console.print(_plain(line), soft_wrap=True, highlight=False)
    lines = [f"[bold]{_plain(outputs['folder'])}[/bold]"]
    lines += [f"  {name:<15} {meaning}" for name, meaning in outputs.items() if name != "folder"]
    console.print("\n".join(lines), soft_wrap=True)  # as one: a notebook sets what is printed at once apart


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _plain(text: str) -> str:
    """`text` with rich's markup and control characters escaped."""
    return escape(one_line(text))
