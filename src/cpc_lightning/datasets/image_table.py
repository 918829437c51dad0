"""Data sets of your own images: listed in a csv file."""

from __future__ import annotations

import csv
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.datasets.file_dataset import Listed, file_dataset, require_no_repeat
from cpc_lightning.datasets.image_folder import set_aside
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.reading.list_files import is_inside, require_folder
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, require

SPLITS = ("train", "val", "test")


def image_table(
    file: str,
    crop: Crop,
    root: str | None = None,
    test_share: float = 0.2,
    split_seed: int = 0,
    on_bad_image: str = "error",
) -> ImageDataset:
    """Images listed in a csv file with a column `path` and a column `label`; other columns than these are ignored.

    Where the header has blanks after its commas, those of all lines are left aside.

    * `label` is a class's name or its number. Where all are numbers, they run from 0 without gaps; names are numbered
      in alphabetical order.
    * `split`, optional: train, val or test; blank is train. Networks are selected on val where there is such a row.
      Without rows to test on, a share of each class is set aside for it.
    * `true_label`, optional: as `label`, blank where unknown. For metrics; and sets to evaluate on go by it.

    Args:
        file: its name.
        crop: makes views of one size.
        root: the folder that the paths start from; None: the file's. No path may lead out of it.
        test_share: share of each class's images to set aside, in (0, 1).
        split_seed: decides which ones.
        on_bad_image: see `file_dataset`.

    Raises:
        InputError: naming the line, if the file cannot be used or one of its lines does not parse.
    """
    require(isinstance(file, str) and file != "", "file", file, "must name a csv file")
    table = Path(file).expanduser()
    require(table.is_file(), "file", file, "is not a file" if table.exists() else "is not there")
    folder = require_folder("root", str(table.parent) if root is None else root)
    rows = Rows(table, os.path.abspath(folder))
    try:
        paths = PathList(rows)
    except OSError as error:
        raise InputError("file", file, f"cannot be read: {error.strerror or error}") from None
    require(len(paths) > 0, "file", file, "holds no rows")
    require_no_repeat("file", file, paths)
    class_names, number = rows.classes()
    labels, true_labels = number[_tensor(rows.labels)], number[_tensor(rows.true_labels)]
    splits = _tensor(rows.splits)
    known = bool((true_labels >= 0).any())
    everything = Listed(str(folder), paths, labels, true_labels if known else None)
    parts = {
        name: everything.take(torch.nonzero(splits == code).flatten())
        for code, name in enumerate(SPLITS)
        if name == "train" or bool((splits == code).any())
    }
    require(len(parts["train"].paths) > 0, "file", file, "holds no row to train on")
    if "test" not in parts:
        parts |= set_aside(parts["train"], len(class_names), test_share, split_seed)
    train = parts.pop("train")
    return file_dataset(
        "table", class_names, train, {k: by_truth(part) for k, part in parts.items()}, crop, on_bad_image
    )


def by_truth(part: Listed) -> Listed:
    """The part labeled by its true labels, where they are known."""
    if part.true_labels is None:
        return part
    return Listed(part.root, part.paths, torch.where(part.true_labels >= 0, part.true_labels, part.labels))


class Rows:
    """The rows of a table. Iterating gives their paths, and fills the other columns.

    Attributes:
        labels: of each row, a place in the list of different labels.
        true_labels: likewise; -1 where blank.
        splits: of each row, a place in `SPLITS`.
    """

    def __init__(self, table: Path, root: str) -> None:
        self.table, self.root = table, root
        self.labels, self.true_labels, self.splits = array("i"), array("i"), array("b")
        self._seen: dict[str, int] = {}

    def __iter__(self) -> Iterator[str]:
        # newline="": the csv module sees to line ends itself. strict: a stray quote is an error, not a guess.
        with open(self.table, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            spaced = ", " in lines.readline()
            lines.seek(0)
            reader = csv.DictReader(lines, strict=True, skipinitialspace=spaced)
            try:
                columns = [name.strip() for name in reader.fieldnames or []]
                reader.fieldnames = columns
                require(
                    {"path", "label"} <= set(columns), "file", str(self.table),
                    f"must have the columns path and label; it has: {', '.join(map(str, columns)) or 'none'}",
                )  # fmt: skip
                twice = next((name for name, times in Counter(columns).items() if name and times > 1), None)
                require(twice is None, "file", str(self.table), f"has two columns {twice}")
                for row in reader:
                    more = f"line {reader.line_num}: has more fields than the header; quote what holds a comma"
                    require(None not in row, "file", str(self.table), more)
                    yield self._path(row, reader.line_num)
            except csv.Error as error:
                raise InputError("file", str(self.table), f"line {reader.line_num} is no csv: {error}") from None

    def _path(self, row: dict[str, str | None], line: int) -> str:
        def wrong(expected: str) -> InputError:
            return InputError("file", str(self.table), f"line {line}: {expected}")

        path, label = row["path"], (row["label"] or "").strip()
        true_label, split = ((row.get(name) or "").strip() for name in ("true_label", "split"))
        if not path or not label:
            raise wrong("path and label must be given")
        if split not in ("", *SPLITS):
            raise wrong(f"split is {split[:40]!r}; it must be one of {', '.join(SPLITS)}")
        if path.startswith(self.root.rstrip("/") + "/"):
            path = path[len(self.root.rstrip("/")) + 1 :]
        if not is_inside(os.fsencode(path)):
            raise wrong(f"path {path[:80]!r} leads out of {self.root}")
        path = os.path.normpath(path)  # ./a.jpg is a.jpg
        self.labels.append(self._seen.setdefault(label, len(self._seen)))
        self.true_labels.append(self._seen.setdefault(true_label, len(self._seen)) if true_label else -1)
        self.splits.append(SPLITS.index(split or "train"))
        return path

    def classes(self) -> tuple[list[str], Tensor]:
        """The classes' names, and the class number of each different label, with -1 for the place -1.

        Raises:
            InputError: where numbers leave a gap, or there is one class only.
        """
        different = list(self._seen)
        if all(label.isascii() and label.isdigit() and len(label) < 10 for label in different):
            numbers = sorted({int(label) for label in different})
            gap = next((k for k, number in enumerate(numbers) if k != number), None)
            expected = (
                f"no label is {gap}, but one is {numbers[-1]}: numbers must run from 0 without gaps; or give names"
            )
            require(gap is None, "file", str(self.table), expected)
            names, of_each = [str(number) for number in numbers], [int(label) for label in different]
        else:
            names = sorted(different)
            place = {name: k for k, name in enumerate(names)}
            of_each = [place[label] for label in different]
        require(len(names) >= 2, "file", str(self.table), f"holds one class only, {names[0]}; at least 2 are needed")
        return names, torch.tensor([*of_each, -1])


def _tensor(values: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64))
