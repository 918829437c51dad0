"""CIFAR-10N and CIFAR-100N: labels by crowd workers (Wei et al. 2022).

The published files hold a dict of label arrays in the order of the training set, as `torch.save` or numpy pickled it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import ImageDataset, Split
from cpc_lightning.datasets.reading.pickles import read_npy_object, read_torch
from cpc_lightning.datasets.reading.roots import roots
from cpc_lightning.errors import InputError, require, require_path

# Our words for the label sets, and the keys in the files.
CIFAR10N = {
    "clean": "clean_label",
    "aggre": "aggre_label",
    "rand1": "random_label1",
    "rand2": "random_label2",
    "rand3": "random_label3",
    "worst": "worse_label",
}
CIFAR100N = {"clean": "clean_label", "noisy": "noisy_label"}

_READERS = {".pt": read_torch, ".npy": read_npy_object}
_FOLDERS = ("", "CIFAR-N")  # the authors' archive unpacks into the second


class HumanLabels:
    """Labels by people, beside the ones that the data set came with.

    Args:
        labels: which of the file's label sets.
        keys: the file's key of each label set.
        stem: the published file's name without its ending.
        path: the file; None looks for it.
        root: the folder to look into; None: the one that the environment variable CPC_DATA names, and ./data.

    Raises:
        InputError: if there is no such label set.
    """

    def __init__(
        self, labels: str, keys: Mapping[str, str], stem: str, path: str | None = None, root: str | None = None
    ) -> None:
        require(labels in keys, "labels", labels, f"must be one of {', '.join(keys)}")
        self.nominal_rate: float | None = None
        self.key, self.stem, self.path, self.root = keys[labels], stem, path, root

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """The people's labels; see `Noise`. The data set's own are the true ones.

        Raises:
            InputError: if the file is not there or unusable, or does not belong to this training set in this order.
        """
        path = self._find()
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            raise InputError("path", str(path), f"must end in one of {', '.join(_READERS)}")
        content = reader(path, "path")
        is_dict = isinstance(content, dict)
        require(is_dict, "path", str(path), "must hold a dict of label arrays; noise=file reads a single array")
        clean, given = (_labels(content, key, path, dataset) for key in ("clean_label", self.key))
        differ = torch.nonzero(clean != dataset.train.labels).flatten()
        if len(differ) > 0:
            first = int(differ[0])
            expected = (
                f"its clean_label differs from the data set's labels ({len(differ)} do; the first is sample {first}: "
                f"{int(clean[first])}, not {int(dataset.train.labels[first])}): it is for another set or another order"
            )
            raise InputError("path", str(path), expected)
        return replace(dataset.train, labels=given, true_labels=clean)

    def _find(self) -> Path:
        if self.path is not None:
            require_path("path", self.path)
            return Path(self.path).expanduser()
        names = [f"{self.stem}{suffix}" for suffix in _READERS]
        candidates = [folder / inner / name for folder in roots(self.root) for inner in _FOLDERS for name in names]
        found = next((file for file in candidates if file.is_file()), None)
        if found is None:
            raise InputError("path", None, f"there is no {candidates[0]}: name the published file")
        return found


def cifar10n(labels: str = "worst", path: str | None = None, root: str | None = None) -> HumanLabels:
    """CIFAR-10N: labels is "clean", "aggre" (majority of three people), "rand1" to "rand3", or "worst"."""
    return HumanLabels(labels, CIFAR10N, "CIFAR-10_human", path, root)


def cifar100n(labels: str = "noisy", path: str | None = None, root: str | None = None) -> HumanLabels:
    """CIFAR-100N: labels is "noisy" (one person's) or "clean"; fine classes."""
    return HumanLabels(labels, CIFAR100N, "CIFAR-100_human", path, root)


def _labels(content: Mapping[str, Any], key: str, path: Path, dataset: ImageDataset) -> Tensor:
    """The file's labels (N,) int64 under `key`, or an `InputError` where they do not fit the training set."""
    require(key in content, "path", str(path), f"has no {key}, but {', '.join(sorted(map(str, content)))}")
    try:
        values = np.squeeze(np.asarray(content[key]))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError("path", str(path), f"{key} is no array of labels ({error})") from error
    whole = values.dtype.kind in "iu" and values.ndim == 1
    require(whole, "path", str(path), f"{key} is {values.dtype} {values.shape}; one whole number an image is needed")
    size, num_classes = len(dataset.train), len(dataset.class_names)
    expected = f"{key} holds {len(values)} labels, but there are {size} training samples"
    require(len(values) == size, "path", str(path), expected)
    low, high = int(values.min()), int(values.max())
    inside = low >= 0 and high < num_classes
    require(inside, "path", str(path), f"{key} runs from {low} to {high}; classes are 0..{num_classes - 1}")
    return torch.from_numpy(values.astype(np.int64))
