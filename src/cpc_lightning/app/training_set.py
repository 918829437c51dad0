"""Lays out what is given in Python as the data set of a run.

Shapes: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from cpc_lightning.app.given import Given
from cpc_lightning.app.options import quoted
from cpc_lightning.datasets.dataset import ImageDataset, Split
from cpc_lightning.datasets.embeddings import VECTORS
from cpc_lightning.datasets.image_arrays import IMAGES
from cpc_lightning.errors import InputError, require


@dataclass(frozen=True)
class TrainingSet:
    """Samples with their labels, where a run finds them.

    Attributes:
        overrides: what names them on the command line.
        classes: (K,) the classes, of the kind of the labels, in their order; empty for a folder.
        names: K texts that the run knows them by; empty for a folder, whose folders name them.
        dataset: the data set that is in memory; None where the run reads files.
    """

    overrides: list[str]
    classes: npt.NDArray[Any]
    names: list[str]
    dataset: ImageDataset | None

    def classes_as(self, names: Sequence[str]) -> npt.NDArray[Any]:
        """(K,) the classes in the order in which the run has their names: a table's are in an order of texts."""
        if self.dataset is not None:
            return self.classes
        given_as = dict(zip(self.names, self.classes.tolist(), strict=True))
        found = [given_as.get(name, name) for name in names]
        return np.array(found, dtype=self.classes.dtype if given_as else None)


def lay_out(given: Given, folder: Path, keep: bool) -> TrainingSet:
    """Have the samples where a run finds them.

    Args:
        given: a folder, or samples that have labels.
        folder: the run's, for the table that names files.
        keep: write what is in memory there too, so that every mode of the command line can look at it again.

    Raises:
        InputError: named "y", for labels that cannot be classes.
    """
    if given.folder is not None:
        return TrainingSet([f"dataset.root={quoted(given.folder)}"], np.array([]), [], None)
    assert given.labels is not None
    classes, numbers = classes_of(given.labels)
    names = names_of(classes, given.class_names or ())
    if given.files is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_table(given, names, numbers, folder / "samples.csv")
        file, root = str(folder / "samples.csv"), Path(given.files[0]).anchor
        return TrainingSet([f"dataset.file={quoted(file)}", f"dataset.root={quoted(root)}"], classes, names, None)
    dataset, file = in_memory(given, names, numbers), "(in memory)"
    if keep:
        folder.mkdir(parents=True, exist_ok=True)
        file = str(folder / "data.npz")
        write_arrays(given, names, numbers, file)
    return TrainingSet([f"dataset.file={quoted(file)}"], classes, names, dataset)


def classes_of(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The classes in their order, and the number of each sample's (N,).

    Raises:
        InputError: named "y", for fewer than two classes, missing labels, or numbers that are no classes.
    """
    if labels.dtype.kind == "f":
        require(bool(np.isfinite(labels).all()), "y", "NaN or infinite", "every sample needs a label")
        whole = bool((labels == np.rint(labels)).all())
        # The words that scikit-learn's estimators have for it.
        require(whole, "y", "continuous", "Unknown label type: continuous; classes are whole numbers or texts")
    if labels.dtype.kind == "O":
        missing = any(label is None or label != label for label in labels.tolist())
        require(not missing, "y", "None or NaN", "every sample needs a label")
    try:
        classes, numbers = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise InputError("y", "labels of different types", f"cannot be put in order ({error})") from None
    require(len(classes) >= 2, "y", f"{len(classes)} class", "at least 2 classes are needed")
    return classes, numbers.astype(np.int64)


def names_of(classes: npt.NDArray[Any], known: Sequence[str]) -> list[str]:
    """The classes as texts: those of `known` where they are its positions.

    Raises:
        InputError: named "y", where two classes have one text.
    """
    names = [str(name) for name in classes]
    if classes.dtype.kind in "iu" and int(classes[0]) >= 0 and int(classes[-1]) < len(known):
        names = [str(known[int(number)]) for number in classes]
    require(len({*names}) == len(names), "y", "labels", "that differ must also differ as texts")
    return names


def in_memory(given: Given, names: Sequence[str], numbers: npt.NDArray[np.int64]) -> ImageDataset:
    """All samples to train on, with labels as numbers of classes (N,); nothing to test on."""
    kind, held = (IMAGES, given.images) if given.images is not None else (VECTORS, given.vectors)
    assert held is not None
    return ImageDataset(kind.name, tuple(names), Split(kind.images(held), torch.from_numpy(numbers)), {})


def write_table(given: Given, names: Sequence[str], numbers: npt.NDArray[np.int64], file: Path) -> None:
    """Write the names of files and of their classes for `dataset=table`."""
    labels = [names[number] for number in numbers]
    pd.DataFrame({"path": given.files, "label": labels, **(given.columns or {})}).to_csv(file, index=False)


def write_arrays(given: Given, names: Sequence[str], numbers: npt.NDArray[np.int64], file: str) -> None:
    """Write images or vectors and the names of their classes for `dataset=arrays` or `dataset=embeddings`."""
    held = {"images": given.images, "features": given.vectors}
    arrays: dict[str, Any] = {name: value.numpy() for name, value in held.items() if value is not None}
    np.savez(file, **{**arrays, "labels": np.array(names)[numbers]})
