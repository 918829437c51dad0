"""Reads what is passed to the Python interface: arrays, tables, folders, data sets of other libraries.

Everything becomes one of three: an array of images, an array of vectors, or names of image files. Images of different
sizes are brought to one.

Shapes: N samples, C channels, H x W pixels, D features.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from scipy.sparse import issparse
from torch import Tensor

from cpc_lightning.datasets.embeddings import check_features
from cpc_lightning.datasets.image_arrays import check_images
from cpc_lightning.datasets.reading.folders import image_names
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.errors import InputError, require

LARGEST = 224
"""Images in memory of different sizes are scaled to their median shorter side, but to no more than this."""


@dataclass(frozen=True)
class Given:
    """Samples, and what comes with them. One of the first four is not None.

    Attributes:
        images: (N, C, H, W) uint8.
        vectors: (N, D) float32.
        files: N names of image files.
        folder: with a folder of images for each class.
        labels: N of any kind, or None where nobody has said.
        class_names: of labels that are numbers, where the source knows them.
        columns: further columns of a table of files, by name (`true_label`, `trusted`, `split`).
    """

    images: Tensor | None = None
    vectors: Tensor | None = None
    files: list[str] | None = None
    folder: str | None = None
    labels: npt.NDArray[Any] | None = None
    class_names: Sequence[str] | None = None
    columns: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        held = next((held for held in (self.images, self.vectors, self.files) if held is not None), ())
        return len(held)


def take(X: Any, y: Any = None) -> Given:  # noqa: N803, scikit-learn's name
    """Look at what was given.

    Args:
        X: (N, H, W) or (N, H, W, C) images, or a list of images of any size; (N, D) features; the name of a folder with
            a folder for each class; N names of image files; a data frame with a column `path`, perhaps also `label`, or
            of numbers alone; a data set of torchvision or of Hugging Face.
        y: N labels of any kind; None where X has them, or they are not wanted.

    Raises:
        InputError: named "X" or "y", where it cannot be used.
    """
    found = _take(X)
    if y is None:
        return found
    require(found.folder is None, "y", _short(y), "goes without: a folder's classes are its folders")
    labels = np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)
    require(labels.ndim == 1, "y", f"of shape {labels.shape}", "must hold one label for each sample")
    require(len(labels) == len(found), "y", f"{len(labels)} labels", f"must be as many as samples, {len(found)}")
    return Given(found.images, found.vectors, found.files, None, labels, None, found.columns)


def is_table_of_numbers(X: Any) -> bool:  # noqa: N803
    """Whether X is, or ought to have been, features (N, D), whose mistakes scikit-learn has words for."""
    if issparse(X):
        return True
    if isinstance(X, pd.DataFrame):
        return "path" not in X.columns
    if isinstance(X, (str, os.PathLike, torch.utils.data.Dataset)) or hasattr(X, "column_names"):
        return False
    if isinstance(X, Sequence) and len(X) and isinstance(X[0], (str, os.PathLike, Image.Image)):
        return False
    try:
        array = np.asarray(X)
    except ValueError:
        return False
    return array.ndim <= 2 and (array.dtype.kind in "biufc" or (array.dtype.kind == "O" and not _all_texts(array)))


def _take(X: Any) -> Given:  # noqa: N803
    if isinstance(X, (str, os.PathLike)):
        require(Path(X).expanduser().is_dir(), "X", str(X), "is no folder of images")
        return Given(folder=str(Path(X).expanduser().absolute()))
    if isinstance(X, pd.DataFrame):
        return _of_frame(X)
    if hasattr(X, "column_names") and hasattr(X, "features"):
        return _of_hugging_face(X)
    if isinstance(X, torch.utils.data.Dataset):
        return _of_torchvision(X)
    if isinstance(X, pd.Series):
        X = X.tolist()  # noqa: N806
    if isinstance(X, Tensor):
        X = X.detach().cpu().numpy()  # noqa: N806
    if isinstance(X, Sequence) and len(X) and isinstance(X[0], (str, os.PathLike)):
        return _of_names(X)
    if isinstance(X, Sequence) and len(X) and isinstance(X[0], Image.Image):
        return Given(images=_of_pictures(X))
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise InputError("X", _short(X), f"is no array ({error})") from None
    return _of_array(array)


def _of_array(array: npt.NDArray[Any]) -> Given:
    if array.dtype.kind in "US" or (array.dtype.kind == "O" and _all_texts(array)):
        return _of_names(array.tolist())
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError("X", f"of {array.dtype}", f"holds what is no number ({error})") from None
    if array.ndim in (3, 4):
        return Given(images=check_images("X", f"of shape {array.shape}", array))
    expected = "must be images (N, H, W[, C]), features (N, D), or names of files"
    require(array.ndim == 2, "X", f"of shape {array.shape}", expected)
    return Given(vectors=check_features("X", f"of shape {array.shape}", array))


def _all_texts(array: npt.NDArray[Any]) -> bool:
    return array.ndim == 1 and len(array) > 0 and all(isinstance(item, (str, os.PathLike)) for item in array)


def _of_names(names: Sequence[Any]) -> Given:
    odd = next((name for name in names if not isinstance(name, (str, os.PathLike))), "")
    require(odd == "", "X", odd, "is no name of a file")
    return Given(files=[os.path.abspath(os.path.expanduser(os.fspath(name))) for name in names])


def _of_frame(frame: pd.DataFrame) -> Given:
    if "path" not in frame.columns:
        numbers = all(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes)
        shown = ", ".join(map(str, frame.columns[:5]))
        require(numbers, "X", f"a data frame of {shown}", "has no column path, and holds what is no number")
        return _of_array(frame.to_numpy())
    labels = frame["label"].to_numpy() if "label" in frame.columns else None
    columns = {name: frame[name].tolist() for name in ("true_label", "trusted", "split") if name in frame.columns}
    return Given(files=_of_names(frame["path"].tolist()).files, labels=labels, columns=columns)


def _of_hugging_face(data: Any) -> Given:
    kinds = {name: type(kind).__name__ for name, kind in data.features.items()}
    image = next((name for name, kind in kinds.items() if kind == "Image"), None)
    require(image is not None, "X", f"a data set of {', '.join(kinds)}", "has no column of images")
    label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), "label" if "label" in kinds else None)
    names = getattr(data.features[label], "names", None) if label else None
    labels = None if label is None else np.asarray(data[label][:])
    return Given(images=_of_pictures([row[image] for row in data]), labels=labels, class_names=names)


def _of_torchvision(data: Any) -> Given:
    """A torch data set of images and labels; where possible what lies beneath it, before its random transforms."""
    names = getattr(data, "classes", None)
    if hasattr(data, "samples"):  # ImageFolder
        files, numbers = zip(*data.samples, strict=True)
        return Given(files=_of_names(files).files, labels=np.asarray(numbers), class_names=names)
    labels: Any = getattr(data, "targets", getattr(data, "labels", None))
    if hasattr(data, "data") and labels is not None:  # CIFAR, MNIST, SVHN
        pixels = data.data.numpy() if isinstance(data.data, Tensor) else np.asarray(data.data)
        images = check_images("X", f"of shape {pixels.shape}", pixels)
        return Given(images=images, labels=_plain(labels), class_names=names)
    try:
        pairs = [data[number] for number in range(len(data))]
        pictures, labels = zip(*((pair[0], pair[1]) for pair in pairs), strict=True)
    except (TypeError, IndexError, KeyError, ValueError) as error:
        raise InputError("X", type(data).__name__, f"is no data set of images and labels ({error})") from error
    if isinstance(pictures[0], Image.Image):
        return Given(images=_of_pictures(pictures), labels=_plain(labels), class_names=names)
    shapes = {tuple(np.shape(picture)) for picture in pictures}
    require(len(shapes) == 1, "X", type(data).__name__, f"holds images of different shapes: {sorted(shapes)[:3]}")
    found = _of_array(np.stack([np.asarray(picture) for picture in pictures]))
    return Given(found.images, found.vectors, labels=_plain(labels), class_names=names)


def _plain(labels: Any) -> npt.NDArray[Any]:
    return labels.numpy() if isinstance(labels, Tensor) else np.asarray(labels)


def _of_pictures(pictures: Sequence[Image.Image]) -> Tensor:
    """(N, C, S, S) uint8 of Pillow's images; (N, C, H, W) where all have one size. Gray where all are."""
    gray = all(picture.mode in ("1", "L") for picture in pictures)
    converted = [picture.convert("L" if gray else "RGB") for picture in pictures]
    if len({picture.size for picture in converted}) > 1:
        side = int(min(LARGEST, np.median([min(picture.size) for picture in converted])))
        crop = Crop(side, side)
        converted = [crop.centre(crop.scaled(picture)) for picture in converted]
    return check_images("X", "images", np.stack([np.asarray(picture) for picture in converted]))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def files_in(folder: str) -> list[str]:
    """The images in a folder and in its folders, each folder's files by name, then its folders."""
    found = [str(Path(folder, name)) for name in image_names(Path(folder), Counter(), "X")]
    require(bool(found), "X", folder, "holds no images")
    return found
