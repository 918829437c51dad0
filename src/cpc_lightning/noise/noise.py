"""The contract of label noise; symmetric, asymmetric and pair noise, labels from a file.

Draws come from numpy's RandomState, whose stream is frozen by numpy's policy (NEP 19): a seed gives the same labels on
any machine, with any version of numpy and torch. Shapes: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import UNLABELED, ImageDataset, Split
from cpc_lightning.datasets.reading.label_files import read_labels
from cpc_lightning.errors import InputError, require, require_integer, require_number


class Noise(Protocol):
    """Turns a training split with clean labels into one with noisy ones.

    Attributes:
        nominal_rate: share of the samples that are drawn for a new label, in [0, 1]; None where it is not known. The
            share of labels that end up different is smaller wherever a draw may leave a label alone: report both.
    """

    nominal_rate: float | None

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """The data set's training split with noisy labels, (N,) int64 in 0..K-1, in a new tensor.

        Args:
            dataset: the clean one; it stays as it is.
            seed: decides the draw, in 0..2**32-1.
        """


class NoNoise:
    """The labels as they come: a clean set, or one with noise of its own."""

    def __init__(self) -> None:
        self.nominal_rate: float | None = None

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """The training split as it is; see `Noise`."""
        return dataset.train


class SymmetricNoise:
    """A share of the samples, drawn without replacement, gets a label drawn uniformly.

    Args:
        rate: share of the samples, in [0, 1]; exactly int(rate * N) of them are drawn.
        include_true_class: True draws among all K classes (DivideMix's convention; the expected share of labels that
            change is then rate * (1 - 1/K)), False among the other K - 1 (all that are drawn change).
    """

    def __init__(self, rate: float, include_true_class: bool = True) -> None:
        require_number("rate", rate, 0, 1)
        self.nominal_rate: float | None = float(rate)
        self.rate = float(rate)
        self.include_true_class = include_true_class

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """Noisy labels; see `Noise`."""
        stream, num_classes = frozen_stream(seed), len(dataset.class_names)
        noisy = dataset.train.labels.numpy().copy()
        chosen = choose(stream, len(noisy), self.rate)
        if self.include_true_class:
            noisy[chosen] = stream.randint(num_classes, size=len(chosen), dtype=np.int64)
        else:
            other = stream.randint(num_classes - 1, size=len(chosen), dtype=np.int64)
            noisy[chosen] = other + (other >= noisy[chosen])  # skips the true class
        return relabeled(dataset.train, torch.from_numpy(noisy))


class AsymmetricNoise:
    """A share of the samples is drawn without replacement from all classes; those of a mistakable class get mistaken.

    Args:
        rate: share of the samples, in [0, 1]; exactly int(rate * N) of them are drawn. Those whose class is not in the
            map keep their label, so that the actual share of wrong labels is smaller.
        class_map: the class that each listed class is mistaken for; None takes the data set's own map.
    """

    def __init__(self, rate: float, class_map: Mapping[int, int] | None = None) -> None:
        require_number("rate", rate, 0, 1)
        self.nominal_rate: float | None = float(rate)
        self.rate = float(rate)
        self.class_map = class_map

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """Noisy labels; see `Noise`.

        Raises:
            InputError: if there is no map, or it is empty or names anything but classes.
        """
        class_map = self.class_map if self.class_map is not None else dataset.class_map
        mistaken_for = self._table(class_map, len(dataset.class_names))
        noisy = dataset.train.labels.numpy().copy()
        chosen = choose(frozen_stream(seed), len(noisy), self.rate)
        noisy[chosen] = mistaken_for[noisy[chosen]]
        return relabeled(dataset.train, torch.from_numpy(noisy))

    def _table(self, class_map: Mapping[int, int] | None, num_classes: int) -> npt.NDArray[np.int64]:
        """(K,) the class that each class becomes: itself where the map does not list it."""
        if class_map is None:
            expected = (
                "this data set does not say which classes are mistaken for which: give a map such as {0: 1, 2: 0}"
            )
            raise InputError("class_map", None, expected)
        is_map = isinstance(class_map, Mapping) and len(class_map) > 0
        require(is_map, "class_map", class_map, "must map classes to classes, such as {0: 1, 2: 0}")
        table = np.arange(num_classes)
        for source, target in class_map.items():
            for entry in (source, target):
                is_class = isinstance(entry, Integral) and not isinstance(entry, bool) and 0 <= entry < num_classes
                expected = f"maps {source!r} to {target!r}; classes are whole numbers in 0..{num_classes - 1}"
                require(is_class, "class_map", dict(class_map), expected)
            table[source] = target
        return table


class PairNoise:
    """A share of the samples, drawn without replacement, gets the label of the next class: k becomes k + 1, modulo K.

    The "pair flipping" of Co-teaching (Han et al. 2018, Section 4), whose code draws each sample's label by a
    transition matrix with 1 - rate on the diagonal; here exactly int(rate * N) samples are drawn, as everywhere else.

    Args:
        rate: share of the samples, in [0, 1]. All that are drawn change, so that the actual share of wrong labels is
            the same.
    """

    def __init__(self, rate: float) -> None:
        require_number("rate", rate, 0, 1)
        self.nominal_rate: float | None = float(rate)
        self.rate = float(rate)

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """Noisy labels; see `Noise`."""
        num_classes = len(dataset.class_names)
        following = {k: (k + 1) % num_classes for k in range(num_classes)}
        return AsymmetricNoise(self.rate, following).corrupt(dataset, seed)


class FileNoise:
    """The given labels are in a file; see `read_labels` for its formats.

    Args:
        path: the file, with one label for each training sample.
    """

    def __init__(self, path: str) -> None:
        self.nominal_rate: float | None = None
        self.path = path

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """The file's labels; see `Noise`.

        Raises:
            InputError: if the file cannot be used, or does not hold one label in 0..K-1 for each sample.
        """
        noisy, size, num_classes = read_labels(self.path), len(dataset.train), len(dataset.class_names)
        expected = f"holds {len(noisy)} labels, but there are {size} training samples"
        require(len(noisy) == size, "path", self.path, expected)
        wrong = torch.nonzero((noisy < 0) | (noisy >= num_classes)).flatten()
        if len(wrong) > 0:
            first = int(wrong[0])
            expected = f"label {int(noisy[first])} of sample {first} is outside 0..{num_classes - 1}"
            raise InputError("path", self.path, f"{expected} ({len(wrong)} are)")
        return replace(dataset.train, labels=noisy)


def relabeled(split: Split, noisy_labels: Tensor) -> Split:
    """`split` with synthetic noise: where nothing is known of the true labels, they are those before the noise."""
    true_labels = split.labels if split.true_labels is None else split.true_labels
    return replace(split, labels=noisy_labels, true_labels=true_labels)


def keep_certain(before: Split, after: Split) -> Split:
    """`after` some noise, with the labels of `before` where noise is to change none: trusted ones, and absent ones."""
    certain = before.labels == UNLABELED
    if before.trusted is not None:
        certain = certain | before.trusted
    return replace(after, labels=torch.where(certain, before.labels, after.labels)) if bool(certain.any()) else after


def frozen_stream(seed: int) -> np.random.RandomState:
    """The stream of draws that `seed` stands for; `InputError` where it is not in 0..2**32-1."""
    require_integer("seed", seed, 0)
    require(seed < 2**32, "seed", seed, "must be below 2**32")
    return np.random.RandomState(seed)


def choose(stream: np.random.RandomState, size: int, rate: float) -> npt.NDArray[np.int64]:
    """int(rate * size) of the positions 0..size-1, int64, without replacement."""
    # 0.29 * 100 is 28.999999999999996 in floating point: round-off must not cost a sample.
    count = int(round(rate * size, 6))
    return stream.permutation(size)[:count].astype(np.int64)
