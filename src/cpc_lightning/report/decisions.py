"""Decisions on labels, by a person in a csv file or by the verdict alone, and the labels that they lead to.

Shapes: N samples.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.datasets.reading.class_names import whole_number
from cpc_lightning.errors import InputError, one_line, require, require_number
from cpc_lightning.report.verdicts import Verdicts

COLUMNS = ("index", "path", "decision", "label")
KEEP, RELABEL, DROP = "keep", "relabel", "drop"
POLICIES = (RELABEL, DROP)
SEPARATORS = (",", ";", "\t")  # Excel writes the others where a comma is the decimal point, and as "Unicode text"


@dataclass(frozen=True)
class Decisions:
    """What is to become of N labels; nothing happens to those that none of the arrays names.

    Attributes:
        kept: (N,) bool, the given label is right.
        dropped: (N,) bool, the sample is to go.
        relabeled: (N,) int64 the class that it is to get, -1 where it gets none.
        by_person: whether a person has decided, whose word is trusted.
    """

    kept: NDArray[np.bool_]
    dropped: NDArray[np.bool_]
    relabeled: NDArray[np.int64]
    by_person: bool


@dataclass(frozen=True)
class Cleaned:
    """N labels after decisions.

    Attributes:
        labels: (N,) int64, -1 where there is none.
        trusted: (N,) bool, those that a person has confirmed, before or now.
        dropped: (N,) bool, the samples that are no longer part of the set.
    """

    labels: NDArray[np.int64]
    trusted: NDArray[np.bool_]
    dropped: NDArray[np.bool_]


def apply(verdicts: Verdicts, decisions: Decisions) -> Cleaned:
    """The labels after the decisions. What a person kept or relabeled is trusted, but for what has no label to keep."""
    labels = np.where(decisions.relabeled >= 0, decisions.relabeled, verdicts.noisy_label)
    decided = decisions.kept | (decisions.relabeled >= 0)
    trusted = verdicts.trusted | (decided if decisions.by_person else np.zeros_like(decided))
    return Cleaned(labels, trusted & (labels >= 0), decisions.dropped)


def automatic(verdicts: Verdicts, policy: str = RELABEL, confidence: float = 0.9) -> Decisions:
    """Decisions by the verdict alone: on labels that are suspected, while both networks see another class.

    Args:
        verdicts: of the run.
        policy: "relabel", to the suggested class, or "drop".
        confidence: the mean softmax of the suggested class must be above it; in [0, 1].

    Raises:
        InputError: for another policy, a confidence out of range, or a run that has judged no label.
    """
    require(policy in POLICIES, "policy", policy, f"must be one of {', '.join(POLICIES)}")
    require_number("confidence", confidence, 0.0, 1.0)
    none = "needs a verdict on the labels, and this run has none (it has no cleaner)"
    require(verdicts.judged, "decisions", "auto", none)
    other = (verdicts.suggested_label >= 0) & (verdicts.suggested_label != verdicts.noisy_label)
    chosen = verdicts.suspected & other & (verdicts.confidence > confidence) & ~verdicts.trusted
    nobody = np.zeros(len(verdicts), dtype=np.bool_)
    if policy == DROP:
        return Decisions(nobody, chosen, np.full(len(verdicts), -1, dtype=np.int64), by_person=False)
    return Decisions(nobody, nobody, np.where(chosen, verdicts.suggested_label, -1), by_person=False)


def read_decisions(path: str, verdicts: Verdicts, class_names: Sequence[str]) -> Decisions:
    """The decisions in a csv file with the columns `index`, `path`, `decision` and `label`.

    `index` and `path` are those of labels.csv and name one sample together; `decision` is keep, relabel or drop;
    `label` is the name of the class that a relabeled sample gets, blank for the others. Excel may have saved the file:
    with a mark at its beginning, Windows' line ends, semicolons or tabs for commas, blank rows at its end.

    Args:
        path: of the file.
        verdicts: of the run that is decided about.
        class_names: K names of that run's classes.

    Raises:
        InputError: named "decisions", if the file cannot be read; if a row names no sample of the run or another one, a
            class that there is not, or no decision; if two rows contradict each other; if there is no row.
    """
    count = len(verdicts)
    decisions = Decisions(np.zeros(count, np.bool_), np.zeros(count, np.bool_), np.full(count, -1, np.int64), True)
    number = _numbers(class_names)
    seen: dict[int, tuple[int, tuple[str, int]]] = {}
    for line, row in _rows(path):
        index = _sample(path, line, row, verdicts)
        word, label = _decision(path, line, row, number)
        before, said = seen.setdefault(index, (line, (word, label)))
        contradicts = f"line {line} contradicts line {before} about sample {index}: keep one of them"
        require(said == (word, label), "decisions", path, contradicts)
        decisions.kept[index], decisions.dropped[index] = word == KEEP, word == DROP
        decisions.relabeled[index] = label
    require(bool(seen), "decisions", path, "holds no decision")
    return decisions


def _numbers(class_names: Sequence[str]) -> Mapping[str, int | None]:
    """Each class's number by its name as tables write it; None where two classes are written alike."""
    names = [one_line(name) for name in class_names]
    number = {name: k if names.count(name) == 1 else None for k, name in enumerate(names)}
    return {name: k for k, name in enumerate(class_names)} | number  # as they are, too


def _sample(path: str, line: int, row: Mapping[str, str], verdicts: Verdicts) -> int:
    """The index that the row names, which must be a sample of the run with the same path."""
    text, last = row["index"].strip(), len(verdicts) - 1
    index = whole_number(text)
    if index is None or not 0 <= index <= last:
        raise _wrong(path, line, f"index {text[:40]!r} names no sample of this run, which has 0 to {last}")
    named, own = row["path"].strip(), verdicts.path[index].strip()
    if named != own:
        shown = f"path {named[-80:]!r}" if named else "a blank path"
        raise _wrong(path, line, f"{shown} is not that of sample {index} ({own or 'blank'}): decisions of another run?")
    return index


def _decision(path: str, line: int, row: Mapping[str, str], number: Mapping[str, int | None]) -> tuple[str, int]:
    """The decision, and the class of a relabeled sample, else -1."""
    word, name = row["decision"].strip().lower(), row["label"]
    if word not in (KEEP, RELABEL, DROP):
        raise _wrong(path, line, f"decision is {word[:40]!r}; it must be {KEEP}, {RELABEL} or {DROP}")
    if word != RELABEL:
        if name.strip():
            raise _wrong(path, line, f"label is {name.strip()[:40]!r}, and the decision is {word}: which one counts?")
        return word, -1
    found = number.get(name, number.get(name.strip(), -1))
    if found is None:
        raise _wrong(path, line, f"label {name[:40]!r} is the name of two classes")
    if found < 0:
        some = ", ".join(list(number)[:10]) + (", ..." if len(number) > 10 else "")
        what = f"label is {name.strip()[:40]!r}, which is no class" if name.strip() else "label must be given"
        raise _wrong(path, line, f"{what}; there are: {some}")
    return word, found


def _rows(path: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and content of each row that is not blank."""
    text = _text(path)
    first = next(iter(text.splitlines()), "")
    columns, separator = [], ","
    for separator in SEPARATORS:
        columns = [name.strip().lower() for name in next(csv.reader([first], delimiter=separator), [])]
        if {*COLUMNS} <= {*columns}:
            break
    else:
        there = ", ".join(name for name in next(csv.reader([first]), []) if name)[:80] or "none"
        raise InputError("decisions", path, f"must have the columns {', '.join(COLUMNS)}; it has: {there}")
    twice = next((name for name in COLUMNS if columns.count(name) > 1), None)
    require(twice is None, "decisions", path, f"has two columns {twice}")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in lines:
            if lines.line_num == 1 or not any(cell.strip() for cell in cells):
                continue
            if any(cell.strip() for cell in cells[len(columns) :]):
                raise _wrong(path, lines.line_num, "has more fields than the header; quote what holds a separator")
            blank = [""] * (len(columns) - len(cells))
            yield lines.line_num, dict(zip(columns, [*cells[: len(columns)], *blank], strict=True))
    except csv.Error as error:
        raise _wrong(path, lines.line_num, f"is no csv: {error}") from None


def _text(path: str) -> str:
    """The file's text, which is UTF-8, or UTF-16 with a mark at its beginning."""
    require(path != "", "decisions", path, "must name a csv file, or be auto")
    try:
        content = Path(path).expanduser().read_bytes()
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return content.decode(encoding)
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = content[:start].count(b"\n") + 1
        raise _wrong(path, line, "is not UTF-8: Excel saves it so as 'CSV UTF-8'") from None
    except FileNotFoundError:
        raise InputError("decisions", path, "is not there") from None
    except (OSError, ValueError, RuntimeError) as error:  # a null character; ~ of nobody
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError("decisions", path, f"cannot be read: {reason}") from None


def _wrong(path: str, line: int, expected: str) -> InputError:
    return InputError("decisions", path, f"line {line}: {expected}")
