"""The rows of a table of images: paths, and labels that become numbers of classes. Shapes: N rows."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES, UNKNOWN
from cpc_lightning.datasets.reading.class_names import in_order, says_nothing, stray_numbers, whole_number
from cpc_lightning.datasets.reading.folders import lies_in_added
from cpc_lightning.datasets.reading.inside import Inside
from cpc_lightning.datasets.reading.table_rows import rows_of
from cpc_lightning.errors import InputError, count_of, require

SPLITS = ("train", "val", "test")
LABEL, OWN_LABEL = "label", "noisy_class"
TRUTHS = ("true_class", "true_label")
TRUSTED = "trusted"
WORDS = dict.fromkeys(("true", "yes", "1", "1.0"), True) | dict.fromkeys(("", "nan", "false", "no", "0", "0.0"), False)
NO_CLASS = "none"
"""The true label of an image that shows none of the classes, as labels.csv writes it."""


class Rows:
    """The rows of a table. Iterating gives their paths as written, and fills the other columns.

    Attributes:
        lines: of each row, the line that it ends in.
        splits: of each row, a place in `SPLITS`.
        rewritten: whether any path from the root on differs from what is written.
    """

    def __init__(self, table: Path, inside: Inside, encoding: str | None) -> None:
        self.table, self.inside, self.encoding = table, inside, encoding
        self.lines, self.splits, self.rewritten = array("i"), array("b"), False
        self._columns: dict[str, array[int]] = {}  # of each row, a place among the different texts; -1 where blank
        self._seen: dict[str, int] = {}
        self._added: list[str] = []
        self._trusted: array[int] | None = None

    def __iter__(self) -> Iterator[str]:
        for line, row in rows_of(self.table, self.encoding, self._take_columns):
            path, split = row["path"], row.get("split", "").strip()
            if not path:
                raise self._wrong(line, "path must be given")
            if split not in ("", *SPLITS):
                raise self._wrong(line, f"split is {split[:40]!r}; it must be one of {', '.join(SPLITS)}")
            try:
                within = self.inside.path(path)
            except ValueError as error:
                raise self._wrong(line, str(error)) from None
            if lies_in_added(within):
                self._added.append(path)
                continue
            self.rewritten |= within != path
            for name, places in self._columns.items():
                text = row[name].strip()
                places.append(self._seen.setdefault(text, len(self._seen)) if text else -1)
            if self._trusted is not None:
                self._trusted.append(self._confirmed(row[TRUSTED].strip(), line))
            self.splits.append(SPLITS.index(split or "train"))
            self.lines.append(line)
            yield path

    def _take_columns(self, columns: Sequence[str]) -> None:
        label = LABEL if LABEL in columns else OWN_LABEL
        there = ", ".join(map(str, columns)) or "none"
        between = " (what separates columns is a comma)" if len(columns) == 1 and re.search("[;\t|]", there) else ""
        expected = f"must have the columns path and label; it has: {there}{between}"
        require("path" in columns and label in columns, "file", str(self.table), expected)
        self._trusted = array("b") if TRUSTED in columns else None
        self._columns = {name: array("i") for name in (label, *TRUTHS) if name in columns}

    def _confirmed(self, text: str, line: int) -> bool:
        word = WORDS.get(text.lower())
        if word is None:
            raise self._wrong(line, f"{TRUSTED} is {text[:40]!r}; it must be true, false or blank")
        return word

    def trusted(self, labels: Tensor) -> Tensor | None:
        """Which labels (N,) a person has confirmed, (N,) bool; None without such a column.

        Raises:
            InputError: where that is said of a row without a label.
        """
        if self._trusted is None:
            return None
        confirmed = tensor_of(self._trusted).bool()
        empty = torch.nonzero(confirmed & (labels < 0)).flatten().tolist()
        if empty:
            raise self._wrong(self.lines[empty[0]], f"{TRUSTED} is true, and there is no label")
        return confirmed

    def require_something_to_test(self, labels: Tensor) -> None:
        """Raise `InputError` where a row of val or test has no label (N,), true or given: it is -1."""
        empty = torch.nonzero((labels < 0) & (tensor_of(self.splits) > 0)).flatten().tolist()
        if empty:
            split = SPLITS[self.splits[empty[0]]]
            raise self._wrong(self.lines[empty[0]], f"split is {split}, and there is neither a label nor a true one")

    def classes(self, use_unlabeled: bool = False) -> tuple[list[str], Tensor, Tensor | None]:
        """The classes' names, each row's label, and each row's true label if any is known; (N,) int64 as in `Split`.

        Args:
            use_unlabeled: whether rows may have no label.

        Raises:
            InputError: where a row has no label, numbers leave a gap, one class goes by two names or is the only one.
        """
        own = LABEL not in self._columns
        (label, places), *truths = self._columns.items()
        # Of a run's own classes every name is one: a folder may be called -1.
        meant = {text: place for text, place in self._seen.items() if own or not says_nothing(text)}
        if not use_unlabeled:
            self._require_labels(tensor_of(places), label, meant)
        given = self._texts(places, meant)
        truth = self._truth(given, [(name, self._texts(column, meant), column) for name, column in truths], label)
        known = self._texts(truth, meant) - ({NO_CLASS} - given)
        names, number = self._numbered(given | known, own)
        of_each = torch.full((len(self._seen) + 1,), UNKNOWN)
        for text in given | known:
            of_each[self._seen[text]] = number[text]
        if NO_CLASS in self._seen and NO_CLASS not in number:
            of_each[self._seen[NO_CLASS]] = NONE_OF_THE_CLASSES
        labels, true_labels = of_each[tensor_of(places)], of_each[tensor_of(truth)]  # the place -1 is the last
        return names, labels, true_labels if bool((true_labels != UNKNOWN).any()) else None

    def remarks(self) -> list[str]:
        """What the table names and the data set leaves out."""
        if not self._added:
            return []
        first = self._added[0]
        return [
            f"left out: {count_of(len(self._added), 'row')} of what a NAS or a file manager added; the first: {first}"
        ]

    def _require_labels(self, places: Tensor, label: str, meant: dict[str, int]) -> None:
        """Raise `InputError` where a row has no label."""
        is_label = torch.zeros(len(self._seen) + 1, dtype=torch.bool)
        is_label[list(meant.values())] = True
        without = torch.nonzero(~is_label[places]).flatten().tolist()
        if without:
            text = next((text for text, place in self._seen.items() if place == int(places[without[0]])), "")
            what = f"is {text!r}, which says 'not labeled'" if text else "is blank"
            advice = "dataset.unlabeled=use takes their images without one"
            raise self._wrong(self.lines[without[0]], f"{label} {what} (in {count_of(len(without), 'row')}): {advice}")

    def _texts(self, places: Sequence[int], meant: dict[str, int]) -> set[str]:
        """The different labels of a column."""
        there = set(places)
        return {text for text, place in meant.items() if place in there}

    def _truth(self, given: set[str], columns: Sequence[tuple[str, set[str], array[int]]], label: str) -> Sequence[int]:
        """The column of true labels that names classes as `given` does; `InputError` where there are only others."""
        some = [(name, texts - ({NO_CLASS} - given), places) for name, texts, places in columns]
        some = [(name, texts, places) for name, texts, places in some if texts]
        if not some:
            return columns[0][2] if columns else array("i", [-1]) * len(self.lines)
        for fits in (set.issuperset, _overlap):
            for _, texts, places in some:
                if fits(_plain(given), _plain(texts)):
                    return places
        name, texts, _ = some[-1]
        shown = [", ".join(in_order(of)[:3]) for of in (given, texts)]
        names = f"{label} says {shown[0]} where {name} says {shown[1]}: is that one class by two names?"
        raise InputError("file", str(self.table), f"{names} Give both by the same ones; labels.csv has true_class")

    def _numbered(self, texts: set[str], own: bool) -> tuple[list[str], dict[str, int]]:
        """The classes' names in their order, and the class number of each different label."""
        require(bool(texts), "file", str(self.table), "holds no label")
        for text in stray_numbers(texts) if not own else ():
            name, line = self._first_of(text)
            raise self._wrong(
                line, f"{name} is {text[:40]!r}, where the others are numbers of classes: those run from 0"
            )
        whole = {text: whole_number(text) for text in texts}
        if own or None in whole.values():
            names = in_order(texts)
            number = {name: k for k, name in enumerate(names)}
        else:
            number = {text: int(k) for text, k in whole.items() if k is not None}
            numbers = sorted(set(number.values()))
            gap = next((k for k, found in enumerate(numbers) if k != found), None)
            expected = (
                f"no label is {gap}, but one is {numbers[-1]}: numbers must run from 0 without gaps; or give names"
            )
            require(gap is None, "file", str(self.table), expected)
            names = [str(k) for k in numbers]
        require(len(names) >= 2, "file", str(self.table), f"holds one class only, {names[0]}; at least 2 are needed")
        return names, number

    def _first_of(self, text: str) -> tuple[str, int]:
        """The first column that holds `text`, and the line where."""
        place = self._seen[text]
        name, places = next((name, places) for name, places in self._columns.items() if place in places)
        return name, self.lines[places.index(place)]

    def _wrong(self, line: int, expected: str) -> InputError:
        return InputError("file", str(self.table), f"line {line}: {expected}")


def _plain(texts: set[str]) -> set[object]:
    """The labels, whole numbers by what they are rather than how they are written; for comparison."""
    numbers = {text: whole_number(text) for text in texts}
    return {text if numbers[text] is None else numbers[text] for text in texts}


def _overlap(given: set[object], true: set[object]) -> bool:
    """Whether both name the same classes; a single true label may be one that nothing is labeled."""
    alike = {isinstance(name, int) for name in given} == {isinstance(name, int) for name in true}
    return bool(given & true) or (alike and len(true) == 1)


def tensor_of(values: Sequence[int]) -> Tensor:
    """The numbers as int64."""
    return torch.from_numpy(np.array(values, dtype=np.int64))
