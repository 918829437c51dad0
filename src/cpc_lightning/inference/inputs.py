"""Lists what to predict on: a folder of images, one image, a list of images, or vectors."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from cpc_lightning.datasets.embeddings import FEATURES
from cpc_lightning.datasets.labeled_arrays import IDS, texts
from cpc_lightning.datasets.own_labels import recorded_root
from cpc_lightning.datasets.reading.arrays import ENDINGS as ARRAYS
from cpc_lightning.datasets.reading.arrays import read_arrays
from cpc_lightning.datasets.reading.folders import counted, image_names
from cpc_lightning.datasets.reading.list_files import lines_of
from cpc_lightning.datasets.reading.table_rows import rows_of
from cpc_lightning.datasets.vectors import require_finite
from cpc_lightning.errors import InputError, require

LISTS = (".txt", ".csv")
BLOCK = 256
"""Images that are kept together: what a stop costs at most, and what processes share out."""


class Input(Protocol):
    """What to predict on.

    Attributes:
        text: as the user named it.
    """

    text: str

    def names(self) -> Iterator[str]:
        """Names, in the order of the output; each time from the beginning."""

    def file(self, name: str) -> str:
        """The full name of the file of that name."""

    def vectors(self, start: int, count: int) -> Tensor | None:
        """(n, D) the vectors from `start` on; None for images."""

    def left_aside(self) -> str:
        """What is not looked at, in words; "" for nothing. Known once the names have been through."""


@dataclass
class FolderInput:
    """The images in a folder and in its folders; see `Input`."""

    text: str
    folder: Path
    _aside: Counter[str] = field(default_factory=Counter)

    def names(self) -> Iterator[str]:
        """From the folder on: of each folder its files by name, then its folders."""
        self._aside = Counter()
        return image_names(self.folder, self._aside, "input")

    def file(self, name: str) -> str:
        """In the folder."""
        return os.path.join(self.folder, name)

    def vectors(self, start: int, count: int) -> Tensor | None:
        """None."""
        return None

    def left_aside(self) -> str:
        """Files that are no images, what a NAS has added, and the like."""
        return counted(self._aside)


@dataclass
class ListInput:
    """The images that a list names, one a line, or in the column `path` of a csv file; see `Input`.

    Relative paths start from the list's folder; in a run's own labels.csv, from where the run's images lie.
    """

    text: str
    list: Path

    def __post_init__(self) -> None:
        self._root = recorded_root(self.list.parent) or self.list.parent

    def names(self) -> Iterator[str]:
        """In the list's order, as it writes them."""
        try:
            if self.list.suffix.lower() == ".txt":
                for _, line in lines_of(self.list.parent, self.list.name):
                    yield os.fsdecode(line)
            else:
                for _, row in rows_of(self.list, None, self._check):
                    yield row["path"].strip()
        except InputError as error:
            expected = error.expected.partition("; dataset.encoding=")[0]  # which no list to predict on has
            raise InputError("input", error.value, expected) from None

    def _check(self, columns: Sequence[str]) -> None:
        require("path" in columns, "input", self.text, f"has no column path; it has {', '.join(columns) or 'none'}")

    def file(self, name: str) -> str:
        """Absolute, or from the list's folder on."""
        return os.path.join(self._root, name)

    def vectors(self, start: int, count: int) -> Tensor | None:
        """None."""
        return None

    def left_aside(self) -> str:
        """Nothing."""
        return ""


@dataclass
class FileInput:
    """One image; see `Input`."""

    text: str

    def names(self) -> Iterator[str]:
        """The file's."""
        return iter([self.text])

    def file(self, name: str) -> str:
        """The same."""
        return os.path.expanduser(name)

    def vectors(self, start: int, count: int) -> Tensor | None:
        """None."""
        return None

    def left_aside(self) -> str:
        """Nothing."""
        return ""


class VectorInput:
    """Vectors in a file; see `Input`. They are in memory, those of a .npy file mapped into it.

    Args:
        text: the file's name: arrays as for dataset=embeddings, of which only `features` and `ids` are looked at.
        numbers: D.
    """

    def __init__(self, text: str, numbers: int) -> None:
        self.text = text
        arrays = read_arrays("input", text, (FEATURES, IDS))
        there = ", ".join(arrays) or "none of those that are looked for"
        require(FEATURES in arrays, "input", text, f"has no array {FEATURES}; it has {there}")
        features = arrays[FEATURES]
        shape = tuple(features.shape)
        fine = features.ndim in (2, 3) and features.dtype.kind in "fiu" and shape[-1] == numbers
        expected = (
            f"features must be numbers, (N, {numbers}) or (N, views, {numbers}), and are {features.dtype} {shape}"
        )
        require(fine, "input", text, expected)
        self._features = torch.from_numpy(features)
        require_finite("input", text, self._features, "features")
        self._ids = texts(arrays[IDS]) if IDS in arrays else None
        whole = self._ids is None or len(self._ids) == len(features)
        require(whole, "input", text, f"has {len(self._ids or ())} ids for {len(features)} vectors")

    def names(self) -> Iterator[str]:
        """The ids, or else the numbers of the rows."""
        return iter(self._ids) if self._ids is not None else map(str, range(len(self._features)))

    def file(self, name: str) -> str:
        """There is none."""
        return ""

    def vectors(self, start: int, count: int) -> Tensor | None:
        """(n, D) float32, the mean over the views where there are several."""
        rows = self._features[start : start + count].float()
        return rows.mean(dim=1) if rows.ndim == 3 else rows

    def left_aside(self) -> str:
        """Nothing."""
        return ""


def open_input(text: str, numbers: int | None) -> Input:
    """What `text` names.

    Args:
        text: a folder, an image, a list (.txt, .csv), or a file of vectors (.npz, .npy, .parquet).
        numbers: D, for a model that takes vectors; None for one that takes images.

    Raises:
        InputError: named "input", where it is not there, cannot be read, or is of the other kind.
    """
    path = Path(text).expanduser()
    try:
        require(os.path.lexists(path), "input", text, "is not there")
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("input", text, "cannot be read") from error
    is_vectors = not is_folder and path.suffix.lower() in ARRAYS
    if numbers is not None:
        expected = f"is no file of vectors ({', '.join(ARRAYS)}), which this run was trained on"
        require(is_vectors, "input", text, expected)
        return VectorInput(text, numbers)
    require(not is_vectors, "input", text, "is a file of vectors, and this run was trained on images")
    if is_folder:
        return FolderInput(text, path)
    return ListInput(text, path) if path.suffix.lower() in LISTS else FileInput(text)


def blocks(given: Input) -> Iterator[list[str]]:
    """The names, `BLOCK` at a time."""
    names = given.names()
    while block := list(islice(names, BLOCK)):
        yield block


def count_of_names(given: Input) -> int:
    """How many there are; raises `InputError` named "input" where there is none."""
    count = sum(1 for _ in given.names())
    aside = given.left_aside()
    require(count > 0, "input", given.text, "holds no images" + (f", but {aside}" if aside else ""))
    return count
