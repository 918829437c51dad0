"""Data sets of your own vectors: features, labels, and perhaps true labels and names, in a file of arrays.

Shapes: N samples, V views, D numbers of a vector, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import UNKNOWN, ImageDataset, Split
from cpc_lightning.datasets.reading.arrays import read_arrays
from cpc_lightning.datasets.reading.class_names import in_order, remarks_on
from cpc_lightning.datasets.splits import held_out
from cpc_lightning.datasets.vectors import require_finite, without_views
from cpc_lightning.errors import InputError, require

FEATURES, LABELS, TRUE_LABELS, IDS = "features", "labels", "true_labels", "ids"
NAMES = (FEATURES, LABELS, TRUE_LABELS, IDS)


@dataclass(frozen=True)
class Table:
    """The arrays of one file.

    Attributes:
        setting: what names the file.
        file: its name.
        features: (N, D) or (N, V, D) float32.
        labels: N, whole numbers or texts.
        true_labels: likewise; a negative number or an empty text where unknown. None where nothing is known.
        ids: N texts, or None.
    """

    setting: str
    file: str
    features: Tensor
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
            without_views(self.features if whole else self.features[places]),
            labels[places],
            None if true_labels is None else true_labels[places],
            None if self.ids is None else [self.ids[place] for place in places.tolist()],
        )


def embeddings(file: str, test_file: str | None = None, test_share: float = 0.2, split_seed: int = 0) -> ImageDataset:
    """Vectors with labels, as anybody's own network or table has them.

    A file (see `read_arrays`) has the arrays

    * `features`: (N, D), or (N, V, D) with several views of each sample, such as those of an image and of its mirror
      image.
    * `labels`: (N,), whole numbers from 0 without gaps, or texts, which are numbered in alphabetical order.
    * `true_labels`, optional: likewise; -1 or an empty text where unknown. For metrics, and to test by.
    * `ids`, optional: (N,) numbers or texts that name the samples in labels.csv.

    Args:
        file: to train on.
        test_file: to test on; None: a share of each class is set aside.
        test_share: that share, in [0, 1): 0 trains on all, and nothing is tested.
        split_seed: decides which ones.

    Raises:
        InputError: if a file cannot be read, an array is absent or of another length than the others, features hold NaN
            or infinite numbers, or what is tested on has other classes or vectors than what is trained on.
    """
    table = read_table("file", file)
    tables = [table] if test_file is None else [table, read_table("test_file", test_file)]
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
        numbers, expected = table.features.shape[-1], "numbers a vector, where those to train on have"
        if other.features.shape[-1] != numbers:
            raise other.error(f"has {other.features.shape[-1]} {expected} {numbers}")
        given, true = (as_numbers(other, names, column) for column in (other.labels, other.true_labels))
        assert given is not None
        everything = torch.ones(len(given), dtype=torch.bool)
        evaluation = {"test": other.take(everything, by_truth(given, true), None)}
        train = table.take(torch.ones(len(labels), dtype=torch.bool), labels, true_labels)
    return ImageDataset("embeddings", tuple(names), train, evaluation, remarks=tuple(remarks))


def read_table(setting: str, file: str) -> Table:
    """The arrays of one file, checked for themselves; errors as for `embeddings`."""
    arrays = read_arrays(setting, file, NAMES)
    for name in (FEATURES, LABELS):
        there = ", ".join(arrays) or "none of those that are looked for"
        require(name in arrays, setting, file, f"has no array {name}; it has {there}")
    features = arrays[FEATURES]
    shape, kind = tuple(features.shape), features.dtype
    require(features.ndim in (2, 3), setting, file, f"features must be (N, D) or (N, views, D), and are {shape}")
    require(kind.kind in "fiu", setting, file, f"features must be numbers, and are {kind}")
    require(len(features) > 0 and shape[1] > 0, setting, file, f"features hold nothing: they are {shape}")
    require(shape[-1] >= 2, setting, file, f"a vector needs at least 2 numbers, and features are {shape}")
    for name in arrays.keys() - {FEATURES}:
        expected = f"{name} are {tuple(arrays[name].shape)}, where features are of {len(features):,} samples"
        require(arrays[name].shape == (len(features),), setting, file, expected)
        kinds = "iubSU" + ("f" if name == IDS else "")
        expected = f"{name} must be whole numbers or texts, and are {arrays[name].dtype}"
        require(arrays[name].dtype.kind in kinds, setting, file, expected)
    vectors = torch.from_numpy(features if kind == np.float32 else features.astype(np.float32))
    require_finite(setting, file, vectors, "features")
    ids = None if IDS not in arrays else texts(arrays[IDS])
    return Table(setting, file, vectors, arrays[LABELS], arrays.get(TRUE_LABELS), ids)


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
