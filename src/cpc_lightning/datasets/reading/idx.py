"""Reads the idx format of MNIST and similar sets: four files, each a header and the bytes, possibly gzipped.

Source: http://yann.lecun.com/exdb/mnist: two zero bytes, the type of the values (8 for unsigned bytes), the number of
dimensions, each dimension as a big-endian 32-bit integer, the values.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.datasets.reading.roots import is_there
from cpc_lightning.errors import InputError, require

_UNSIGNED_BYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of unsigned bytes in an idx file, gzipped or not, whatever its name.

    Args:
        path: the file.
        dimensions: how many the array must have: 3 for images (N, H, W), 1 for labels (N,).

    Raises:
        InputError: named "root", if the file is not there, cannot be read, or does not hold exactly such an array.
    """
    content = _content(path)
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        found = f"0x{content[:4].hex()}" if content else "an empty file"
        what = f"an idx file of unsigned bytes in {dimensions} dimension{'s' if dimensions > 1 else ''}"
        raise InputError("root", str(path), f"is not {what}: expected 0x{magic.hex()} first, found {found}")
    header = 4 + 4 * dimensions
    require(len(content) >= header, "root", str(path), f"expected a header of {header} bytes, found {len(content)}")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    expected = header + math.prod(shape)
    require(
        len(content) == expected,
        "root",
        str(path),
        f"expected {expected} bytes for an array of {' x '.join(map(str, shape))}, found {len(content)}",
    )
    # A copy, because torch wants memory that may be written to.
    values: npt.NDArray[np.uint8] = np.frombuffer(content, dtype=np.uint8, offset=header).copy()
    return values.reshape(shape)


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked if they are gzipped."""
    try:
        require(path.is_file(), "root", str(path), "is not a file" if path.exists() else "is not there")
        content = path.read_bytes()
    except OSError as error:
        raise InputError("root", str(path), f"cannot be read: {error.strerror}") from error
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("root", str(path), f"is a broken gzip file: {error}") from error


def find_idx_files(folders: Sequence[Path]) -> tuple[Path, Path, Path, Path] | None:
    """Images and labels for training, images and labels for testing, from the first folder that holds all four.

    Names are as published or with a dot for the second hyphen, with or without ".gz": "train-images-idx3-ubyte",
    "train-images.idx3-ubyte.gz".
    """
    for folder in folders:
        train_images, train_labels, test_images, test_labels = (_find(folder, name) for name in _FILES)
        if train_images and train_labels and test_images and test_labels:
            return train_images, train_labels, test_images, test_labels
    return None


def first_missing(folders: Sequence[Path]) -> Path:
    """The first file to ask for, in the first folder that holds some of the four, else in the last folder."""
    for folder in folders:
        missing = [name for name in _FILES if _find(folder, name) is None]
        if 0 < len(missing) < len(_FILES):
            return folder / f"{missing[0]}-ubyte.gz"
    return folders[-1] / f"{_FILES[0]}-ubyte.gz"


def _find(folder: Path, name: str) -> Path | None:
    for stem in (name, name.replace("-idx", ".idx")):
        for suffix in ("-ubyte", "-ubyte.gz"):
            candidate = folder / f"{stem}{suffix}"
            if is_there(candidate):
                return candidate
    return None


def idx_dataset(
    files: tuple[Path, Path, Path, Path],
    name: str,
    class_names: tuple[str, ...],
    class_map: Mapping[int, int] | None = None,
) -> ImageDataset:
    """The data set in four idx files, in the order of `find_idx_files`: (N, 1, H, W) uint8 images.

    Raises:
        InputError: if a file is unusable, there is not one label for each image, or a label is no class's number.
    """
    train, test = _split(files[0], files[1]), _split(files[2], files[3])
    return ImageDataset(name, class_names, train, {"test": test}, class_map)


def _split(images: Path, labels: Path) -> Split:
    pixels = torch.from_numpy(read_idx(images, 3)).unsqueeze(1)
    truth = torch.from_numpy(read_idx(labels, 1).astype(np.int64))
    expected = f"holds {len(truth)} labels, but {images.name} beside it holds {len(pixels)} images"
    require(len(truth) == len(pixels), "root", str(labels), expected)
    return Split(ArrayImages(pixels), truth, true_labels=truth)
