"""Writes a cleaned set: a table that `dataset=table` reads, or folders of images with such a table beside them.

Shapes: N samples to train on, K classes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES, ImageDataset, Split
from cpc_lightning.datasets.labeled_rows import LABEL, NO_CLASS, OWN_LABEL, SPLITS
from cpc_lightning.datasets.reading.class_names import says_nothing, whole_number
from cpc_lightning.datasets.reading.folders import is_added
from cpc_lightning.errors import one_line, require, written
from cpc_lightning.files import atomic_write
from cpc_lightning.report.decisions import Cleaned
from cpc_lightning.report.folder_names import Names, folder_names, plain_name
from cpc_lightning.report.labels import inert
from cpc_lightning.report.pictures import Pictures, file_of, roots_of
from cpc_lightning.report.verdicts import Verdicts

TABLE = "cleaned.csv"
UNLABELED_FOLDER = "unlabeled"
COLUMNS = ("path", "split", "true_class", "trusted", "index", "source")
"""Beside that of the labels."""


@dataclass(frozen=True)
class CleanedSet:
    """A data set with cleaned training labels.

    Attributes:
        dataset: as the run had it.
        verdicts: on its N samples.
        cleaned: their labels, and which of them are dropped.
    """

    dataset: ImageDataset
    verdicts: Verdicts
    cleaned: Cleaned
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", [one_line(name) for name in self.dataset.class_names])
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        require(twice is None, "run", str(twice), "is how a table writes two of the classes")
        left = np.unique(self.kept_labels)
        left = left[left >= 0]
        few = f"only one class ({self.names[left[0]]}) keeps" if len(left) else "no class keeps"
        require(len(left) > 1, "decisions", "all of them", f"{few} images to train on; at least 2 are needed")

    @property
    def kept_labels(self) -> NDArray[np.int64]:
        """The labels of the samples that are not dropped, int64, -1 where there is none."""
        return self.cleaned.labels[~self.cleaned.dropped]

    @property
    def parts(self) -> dict[str, Split]:
        """The parts that a table can name: "train", and "val" and "test" where they are there."""
        return {"train": self.dataset.train} | {
            name: split for name, split in self.dataset.evaluation.items() if name in SPLITS[1:]
        }

    @property
    def remarks(self) -> list[str]:
        """What the cleaned set lacks."""
        lines = [
            f"the set {name} is left out: a table has train, val and test alone"
            for name in self.dataset.evaluation
            if name not in SPLITS
        ]
        gone = sorted({*self.verdicts.noisy_label.tolist()} - {*self.kept_labels.tolist(), -1})
        if gone:
            lines.append(f"no image to train on is left of {len(gone)} classes: {_some([self.names[k] for k in gone])}")
        return lines

    @property
    def unlabeled(self) -> bool:
        """Whether any sample to train on has no label."""
        return bool((self.kept_labels < 0).any())

    @property
    def label_column(self) -> str:
        """The column of labels: "label", or where that takes a class's name for a number or for none, "noisy_class"."""
        numbers = [whole_number(name) for name in self.names]
        gaps = None not in numbers and numbers != list(range(len(numbers)))
        return OWN_LABEL if gaps or any(says_nothing(name) for name in self.names) else LABEL

    def root(self) -> str:
        """The absolute name of the folder that holds all image files.

        Raises:
            InputError: named "output", where images lie in no files.
        """
        splits = list(self.parts.values())
        in_files = all(file_of(split.images, k) is not None for split in splits for k in range(len(split)))
        none = "the images of this data set lie in no files, which a table could name: output=FOLDER writes them"
        require(in_files, "output", "a csv file", none)
        return os.path.commonpath([root for split in splits for root in roots_of(split.images)])

    def write_table(self, path: Path, root: str) -> None:
        """Write the table, atomically, and the folder that it is to lie in; its paths start from `root`.

        Raises:
            InputError: named "output", where a path holds what a table cannot, or the file cannot be written.
        """

        def place(split: Split, _: str, position: int, __: int) -> str:
            name = os.path.relpath(str(file_of(split.images, position)), root)
            advice = "holds signs that no table can hold safely; output=FOLDER gives the image another name"
            require(one_line(name) == name, "output", str(path), f"{one_line(name)} {advice}")
            return inert(name)

        with written("output", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, place)

    def write_folders(self, folder: Path, copy: bool) -> list[str]:
        """Fill a folder with train/CLASS/IMAGE, test/CLASS/IMAGE, ... and cleaned.csv, whose paths start there.

        Images without a label go to unlabeled/.

        Args:
            folder: to fill, empty.
            copy: copy files rather than link to them.

        Returns:
            What is otherwise than one might expect.

        Raises:
            InputError: where an image is not there, or links cannot be made.
            OSError: where files cannot be written.
        """
        folders = folder_names(self.names)
        given: dict[str, Names] = {}

        def place(split: Split, part: str, position: int, label: int) -> str:
            inside = f"{part}/{folders[label]}" if label >= 0 else UNLABELED_FOLDER
            if inside not in given:
                (folder / inside).mkdir(parents=True)
                given[inside] = Names()
            pictures = Pictures(split.images, copy)
            own = os.path.basename(split.paths[position]) if split.paths is not None else f"{position:06}"
            name = plain_name(os.path.splitext(own)[0]) + pictures.ending(position)
            name = given[inside].free(f"_{name}" if is_added(name) else name, f"_{position}")
            pictures.put(position, folder / inside / name)
            return inert(f"{inside}/{name}")

        self._write(folder / TABLE, place)
        changed = [f"{name} in {own}/" for name, own in zip(self.names, folders, strict=True) if name != own]
        return [f"classes whose names are not those of their folders: {_some(changed)}"] if changed else []

    def _write(self, path: Path, place: Callable[[Split, str, int, int], str]) -> None:
        with atomic_write(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow((COLUMNS[0], self.label_column, *COLUMNS[1:]))
            writer.writerows(self._rows(place))
            text.flush()
            text.detach()  # or it would close the file, which is not its own

    def _rows(self, place: Callable[[Split, str, int, int], str]) -> Iterator[tuple[object, ...]]:
        """Path, label, split, true class, trusted, index and path in the run's labels.csv."""
        train, cleaned, verdicts = self.dataset.train, self.cleaned, self.verdicts
        for k in np.flatnonzero(~cleaned.dropped).tolist():
            label, true = int(cleaned.labels[k]), int(verdicts.true_label[k])
            trusted = "true" if cleaned.trusted[k] else "false"
            where = place(train, "train", k, label)
            yield where, self._name(label), "train", self._name(true), trusted, k, verdicts.path[k]
        for part, split in self.parts.items():
            if part == "train":
                continue
            for k, (label, true) in enumerate(zip(split.labels.tolist(), _true_labels(split), strict=True)):
                yield place(split, part, k, label), self._name(label), part, self._name(true), "", "", ""

    def _name(self, label: int) -> str:
        """How the table writes a label, or a true one; blank where it cannot."""
        if label == NONE_OF_THE_CLASSES:
            return "" if NO_CLASS in self.names else NO_CLASS
        return self.names[label] if label >= 0 else ""


def _true_labels(split: Split) -> Sequence[int]:
    known: Tensor | None = split.true_labels
    return [-1] * len(split) if known is None else known.tolist()


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
