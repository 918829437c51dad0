"""What changed between a run and a second one, on the set that was cleaned after the first.

Shapes: N, M samples of the first and the second run, n samples of both.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.errors import InputError, one_line
from cpc_lightning.report.run_folder import RunFolder
from cpc_lightning.report.verdicts import LABELS, Verdicts, read_verdicts

ACCURACIES = ("accuracy_best", "accuracy_last", "accuracy_selected")  # in summary.json, each after the name of a set


@dataclass(frozen=True)
class Before:
    """A number of both runs; None where a run does not have it."""

    name: str
    first: float | None
    second: float | None


@dataclass(frozen=True)
class Comparison:
    """What changed from a first run to a second.

    Attributes:
        numbers: labels, suspected labels, estimated noise rate, accuracies; rates and accuracies in percent.
        pairs: (n, 2) int64 the same sample's index in the first run and in the second.
        dropped: how many samples of the first run the second does not have.
        added: how many samples of the second run the first does not have.
        relabeled: (n,) bool, the given label is another class.
        trusted: (n,) bool, trusted in the second run and not in the first.
        settled: (n,) bool, suspected in the first run and not in the second.
        still: (n,) bool, suspected in both.
        new: (n,) bool, suspected in the second run alone.
    """

    numbers: list[Before]
    pairs: NDArray[np.int64]
    dropped: int
    added: int
    relabeled: NDArray[np.bool_]
    trusted: NDArray[np.bool_]
    settled: NDArray[np.bool_]
    still: NDArray[np.bool_]
    new: NDArray[np.bool_]

    @property
    def sentences(self) -> list[str]:
        """The same in words, for people."""
        both = len(self.pairs)
        lines = [
            f"{both:,} samples are in both runs; {self.dropped:,} of the first are gone, {self.added:,} are new.",
            f"{int(self.relabeled.sum()):,} have another label than before, {int(self.trusted.sum()):,} are newly "
            "trusted.",
            f"Of the labels suspected before, {int(self.settled.sum()):,} no longer are and {int(self.still.sum()):,} "
            f"still are; {int(self.new.sum()):,} are suspected for the first time.",
        ]
        again = int((self.relabeled & (self.still | self.new)).sum())
        if again:
            lines.append(f"{again:,} of the labels that were changed are suspected now: look at them again.")
        return lines


def compare(first: RunFolder, second: RunFolder) -> Comparison:
    """What changed from the first run to the second.

    A table or folder that mode=apply wrote says which sample is which; without one, images of one path are the same.

    Raises:
        InputError: named "compare", where the runs have no sample in common; or "run", for a file that cannot be read.
    """
    before, after = (read_verdicts(run.path / LABELS, len(run.class_names) or None) for run in (first, second))
    pairs = _pairs(before, after, second.settings)
    if len(pairs) == 0:
        raise InputError("compare", str(first.path), "has no sample in common with this run")
    one, other = pairs.T
    number = {one_line(name): k for k, name in enumerate(second.class_names)}
    same = np.arange(before.noisy_label.max() + 1)  # where the first run does not name its classes
    moved = np.array([number.get(one_line(name), -2) for name in first.class_names], dtype=np.int64)
    moved = moved if len(moved) else same
    given = np.where(before.noisy_label[one] >= 0, moved[before.noisy_label[one]], -1)
    suspected, suspected_now = before.suspected[one], after.suspected[other]
    return Comparison(
        numbers=_numbers(before, after, first.summary or {}, second.summary or {}),
        pairs=pairs,
        dropped=len(before) - len(pairs),
        added=len(after) - len(pairs),
        relabeled=given != after.noisy_label[other],
        trusted=after.trusted[other] & ~before.trusted[one],
        settled=suspected & ~suspected_now,
        still=suspected & suspected_now,
        new=suspected_now & ~suspected,
    )


def _numbers(before: Verdicts, after: Verdicts, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Before]:
    """The numbers to put side by side."""

    def row(name: str, of: Any) -> Before:
        return Before(name, of(before), of(after))

    numbers = [
        row("labels", lambda verdicts: int((verdicts.noisy_label >= 0).sum())),
        row("suspected labels", lambda verdicts: int(verdicts.suspected.sum()) if verdicts.judged else None),
        row("estimated noise rate", _noise_rate),
    ]
    names = [name for name in {**first, **second} if name.endswith(ACCURACIES) and "prototype" not in name]
    return numbers + [
        Before(name.replace("_", " "), first.get(name), second.get(name))
        for name in names
        if first.get(name) is not None or second.get(name) is not None
    ]


def _noise_rate(verdicts: Verdicts) -> float | None:
    """The mean of 1 - clean probability over the judged labels, in percent."""
    judged = verdicts.clean_probability[np.isfinite(verdicts.clean_probability)]
    return 100 * float(1 - judged.mean()) if len(judged) else None


def _pairs(before: Verdicts, after: Verdicts, settings: Mapping[str, Any]) -> NDArray[np.int64]:
    """(n, 2) the same sample's index in both."""
    sources = _sources(settings)
    found: list[tuple[int, int]] = []
    if sources:
        for other, line in enumerate(after.row.tolist()):
            index, path = sources.get(line, (-1, ""))
            if 0 <= index < len(before) and before.path[index] == path:
                found.append((index, other))
    else:
        place = {path: k for k, path in enumerate(before.path) if path}
        found = [(place[path], other) for other, path in enumerate(after.path) if path in place]
        if not place and not any(after.path) and len(before) == len(after):
            found = [(k, k) for k in range(len(before))]  # one set of arrays, looked at twice
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _sources(settings: Mapping[str, Any]) -> dict[int, tuple[int, str]]:
    """Of a table that mode=apply wrote: index and path in the first run by line; empty for any other data set."""
    data = settings.get("dataset")
    file = data.get("file") if isinstance(data, Mapping) else None
    if not isinstance(file, str):
        return {}
    try:
        with Path(file).expanduser().open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines)
            if not {"index", "source"} <= {*(table.fieldnames or ())}:
                return {}
            found = {}
            for row in table:
                if row["index"]:
                    found[table.line_num] = int(row["index"]), row["source"]
            return found
    except (OSError, ValueError, TypeError, csv.Error):  # gone, or changed: paths may still tell
        return {}


def columns(numbers: Sequence[Before]) -> list[tuple[str, str, str]]:
    """Name, first and second number of each row as people read them; blank where there is none."""
    return [(row.name, _shown(row.first), _shown(row.second)) for row in numbers]


def for_page(found: Comparison, first: RunFolder) -> dict[str, Any]:
    """What the page's part on changes shows: "about", "header" and "rows"."""
    about = " ".join([f"Against the run in {one_line(str(first.path))}.", *found.sentences])
    return {"about": about, "header": ("", "before", "now"), "rows": columns(found.numbers)}


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
