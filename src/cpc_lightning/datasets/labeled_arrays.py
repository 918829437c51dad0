"""Data sets in a file of arrays: samples, labels, and perhaps true labels and names.

Shapes: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import UNKNOWN, ImageDataset, Images, Split
from cpc_lightning.datasets.reading.arrays import read_arrays
from cpc_lightning.datasets.reading.class_names import in_order, remarks_on
from cpc_lightning.datasets.splits import held_out
from cpc_lightning.errors import InputError, require

LABELS, TRUE_LABELS, IDS = "labels", "true_labels", "ids"


@dataclass(frozen=True)
class Kind:
    """What the samples of such data sets are.

    Attributes:
        name: of the data set, for outputs.
        array: the name of the array that holds them, "features" say.
        check: makes of that array what the data set keeps, (N, ...), or raises `InputError`. It is given the setting
            that names the file, and the file's name, for errors.
        images: makes of what is kept, or of some of its rows, what the data set serves.
        shape: what all samples have in common, in words, of what is kept.
    """

    name: str
    array: str
    check: Callable[[str, str, npt.NDArray[Any]], Tensor]
    images: Callable[[Tensor], Images]
    shape: Callable[[Tensor], str]


@dataclass(frozen=True)
class Table:
    """The arrays of one file.

    Attributes:
        kind: of the samples.
        setting: what names the file.
        file: its name.
        samples: (N, ...), as `kind` has checked them.
        labels: N, whole numbers or texts.
        true_labels: likewise; a negative number or an empty text where unknown. None where nothing is known.
        ids: N texts, or None.
    """

    kind: Kind
    setting: str
    file: str
    samples: Tensor
    labels: npt.NDArray[Any]
    true_labels: npt.NDArray[Any] | None
    ids: list[str] | None

    def error(self, expected: str) -> InputError:
        """What is wrong with the file."""
        return InputError(self.setting, self.file, expected)

    def take(self, chosen: Tensor, labels: Tensor, true_labels: Tensor | None) -> Split:
        """The samples `chosen` (N,) bool, with these labels (N,) as numbers of classes."""
        places = torch.nonzero(chosen).flatten()
        whole = len(places) == len(self.labels)  # what is mapped into memory stays so
        return Split(
            self.kind.images(self.samples if whole else self.samples[places]),
            labels[places],
            None if true_labels is None else true_labels[places],
            None if self.ids is None else [self.ids[place] for place in places.tolist()],
        )


def labeled_arrays(
    kind: Kind, file: str, test_file: str | None = None, test_share: float = 0.2, split_seed: int = 0
) -> ImageDataset:
    """Samples with labels.

    A file (see `read_arrays`) has an array of samples, and

    * `labels`: (N,), whole numbers from 0 without gaps, or texts, which are numbered in alphabetical order.
    * `true_labels`, optional: likewise; -1 or an empty text where unknown. For metrics, and to test by.
    * `ids`, optional: (N,) numbers or texts that name the samples in labels.csv.

    Args:
        kind: of the samples.
        file: to train on.
        test_file: to test on; None: a share of each class is set aside.
        test_share: that share, in [0, 1): 0 trains on all, and nothing is tested.
        split_seed: decides which ones.

    Raises:
        InputError: if a file cannot be read, an array is absent or of another length than the others, samples are not
            of their kind, or what is tested on has other classes or shapes than what is trained on.
    """
    table = read_table(kind, "file", file)
    tables = [table] if test_file is None else [table, read_table(kind, "test_file", test_file)]
    names = class_names(tables)
    labels, true_labels = (as_numbers(table, names, column) for column in (table.labels, table.true_labels))
    assert labels is not None
    remarks = remarks_on(names)
    if test_file is None:
        chosen = torch.zeros(len(labels), dtype=torch.bool)
        evaluation = {}
        if test_share != 0:
            chosen = held_out(labels, len(names), test_share, split_seed)
            some = bool(chosen.any())
            require(some, "test_share", test_share, "leaves nothing to test on: every class has one sample")
            evaluation = {"test": table.take(chosen, by_truth(labels, true_labels), None)}
        train = table.take(~chosen, labels, true_labels)
    else:
        other = tables[1]
        shapes = [kind.shape(each.samples) for each in tables]
        if shapes[0] != shapes[1]:
            raise other.error(f"has {shapes[1]}, where those to train on have {shapes[0]}")
        given, true = (as_numbers(other, names, column) for column in (other.labels, other.true_labels))
        assert given is not None
        everything = torch.ones(len(given), dtype=torch.bool)
        evaluation = {"test": other.take(everything, by_truth(given, true), None)}
        train = table.take(torch.ones(len(labels), dtype=torch.bool), labels, true_labels)
    return ImageDataset(kind.name, tuple(names), train, evaluation, remarks=tuple(remarks))


def read_table(kind: Kind, setting: str, file: str) -> Table:
    """The arrays of one file, checked for themselves; errors as for `labeled_arrays`."""
    arrays = read_arrays(setting, file, (kind.array, LABELS, TRUE_LABELS, IDS))
    for name in (kind.array, LABELS):
        there = ", ".join(arrays) or "none of those that are looked for"
        require(name in arrays, setting, file, f"has no array {name}; it has {there}")
    samples = kind.check(setting, file, arrays[kind.array])
    for name in arrays.keys() - {kind.array}:
        expected = f"{name} are {tuple(arrays[name].shape)}, where {kind.array} are of {len(samples):,} samples"
        require(arrays[name].shape == (len(samples),), setting, file, expected)
        kinds = "iubSU" + ("f" if name == IDS else "")
        expected = f"{name} must be whole numbers or texts, and are {arrays[name].dtype}"
        require(arrays[name].dtype.kind in kinds, setting, file, expected)
    ids = None if IDS not in arrays else texts(arrays[IDS])
    return Table(kind, setting, file, samples, arrays[LABELS], arrays.get(TRUE_LABELS), ids)


def texts(values: npt.NDArray[Any]) -> list[str]:
    """Numbers or texts as texts."""
    return list(np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values.astype(str))


def class_names(tables: Sequence[Table]) -> list[str]:
    """The classes' names, in the order of their numbers: those that the first table, to train on, has.

    Raises:
        InputError: where numbers leave a gap, there is one class only, or tables do not name classes alike.
    """
    train = tables[0]
    by_number = is_number(train.labels)
    for table in tables:
        columns = {LABELS: table.labels, TRUE_LABELS: table.true_labels}
        for name, column in columns.items():
            if column is not None and is_number(column) != by_number:
                kinds = ("texts", "numbers") if by_number else ("numbers", "texts")
                raise table.error(f"{name} are {kinds[0]}, where the labels to train on are {kinds[1]}")
        lowest = np.nonzero(table.labels < 0 if by_number else np.array(texts(table.labels)) == "")[0]
        if len(lowest):
            raise table.error(f"sample {int(lowest[0])} has no label ({len(lowest):,} have none): leave them out")
    given = [column for column in (train.labels, train.true_labels) if column is not None]
    if by_number:
        known = sorted({int(value) for column in given for value in np.unique(column) if value >= 0})
        gap = next((k for k, found in enumerate(known) if k != found), None)
        if gap is not None:
            raise train.error(
                f"no label is {gap}, but one is {known[-1]}: numbers run from 0 without gaps; or give texts"
            )
        names = [str(number) for number in known]
    else:
        names = in_order({text for column in given for text in texts(np.unique(column))} - {""})
    if len(names) < 2:
        raise train.error(f"holds one class only, {names[0]}; at least 2 are needed")
    return names


def is_number(column: npt.NDArray[Any]) -> bool:
    """Whether labels are numbers, and no texts."""
    return column.dtype.kind in "iub"


def as_numbers(table: Table, names: Sequence[str], column: npt.NDArray[Any] | None) -> Tensor | None:
    """Labels as numbers of classes, (N,) int64, `UNKNOWN` where they are negative or empty; None for None.

    Raises:
        InputError: where one is of none of the classes.
    """
    if column is None:
        return None
    different, places = np.unique(column, return_inverse=True)
    numbers = {name: k for k, name in enumerate(names)}
    unknown = "" if not is_number(column) else None
    found = texts(different.astype(np.int64) if is_number(column) else different)
    of_each = np.full(len(found), UNKNOWN)
    for place, text in enumerate(found):
        if text == unknown or (unknown is None and text.startswith("-")):
            continue
        if text not in numbers:
            raise table.error(f"has a class that is not trained on: {text}")
        of_each[place] = numbers[text]
    return torch.from_numpy(of_each[places].astype(np.int64))


def by_truth(labels: Tensor, true_labels: Tensor | None) -> Tensor:
    """What to test by: the true label where it is known, else the given one."""
    return labels if true_labels is None else torch.where(true_labels >= 0, true_labels, labels)
