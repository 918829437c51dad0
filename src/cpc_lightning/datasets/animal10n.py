"""ANIMAL-10N: 55,000 photos of five pairs of animals that are mistaken for each other, labeled by people.

Song et al., "SELFIE: Refurbishing Unclean Samples for Robust Deep Learning", ICML 2019, Appendix B. About 8 % of the
labels to train on are wrong; which ones nobody knows. The test set's labels are those on which people and the search
agreed. Published in two forms, documented at dm.kaist.ac.kr/datasets/animal-10n and in the README of
github.com/kaist-dmlab/SELFIE, whose reader has the binary form's byte order:

* images: `training/` and `testing/` with files named LABEL_NUMBER.jpg, of 64 x 64 pixels;
* binary: `data_batch_1.bin`, `data_batch_2.bin`, ... and `test_batch.bin`: for each image an id (4 bytes), a label (4
  bytes, the highest first) and 3 x 64 x 64 bytes, red, green, blue.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.datasets.file_dataset import Listed, file_dataset
from cpc_lightning.datasets.reading.folders import image_names, is_folder
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.reading.list_files import require_folder
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, require

CLASS_NAMES = (
    "cat", "lynx", "wolf", "coyote", "cheetah", "jaguar", "chimpanzee", "orangutan", "hamster", "guinea pig",
)  # fmt: skip
SIDE = 64
HEADER = 8  # bytes of id and label before an image's pixels
TEST = "test_batch.bin"


def animal10n(root: str, crop: Crop, on_bad_image: str = "error") -> ImageDataset:
    """ANIMAL-10N, with "test" to evaluate on; from its images where there is a folder training/, else its binary files.

    Args:
        root: the folder with training/ and testing/, or with the binary files.
        crop: makes views of one size of the images; the binary form's are taken as they are, 64 x 64.
        on_bad_image: see `file_dataset`; of the binary form, a damaged file is always an error.

    Raises:
        InputError: if there are files of neither form, a file's name or a record has no label in 0..9, a class has no
            image, or a binary file is cut off.
    """
    folder = require_folder("root", root)
    if is_folder("root", folder / "training"):
        train, test = (listed(folder / part) for part in ("training", "testing"))
        return file_dataset("animal10n", CLASS_NAMES, train, {"test": test}, crop, on_bad_image)
    batches = sorted(folder.glob("data_batch_*.bin"), key=lambda path: (len(path.name), path.name))
    neither = f"holds neither a folder training/ nor files data_batch_1.bin, ... and {TEST}"
    require(len(batches) > 0, "root", root, neither)
    return ImageDataset("animal10n", CLASS_NAMES, records(folder, batches), {"test": records(folder, [folder / TEST])})


def listed(folder: Path) -> Listed:
    """The images in a folder, by name, with the labels that their names begin with."""
    require(is_folder("root", folder), "root", str(folder), "is not there")
    labels = array("b")

    def names() -> Iterator[str]:
        for name in image_names(folder):
            label = re.match(r"([0-9])_", name)
            expected = f"holds {name!r}: names must begin with a label in 0..9, as 3_00042.jpg does"
            require(label is not None, "root", str(folder), expected)
            labels.append(int(label[1]) if label else -1)
            yield name

    paths = PathList(names())
    return Listed(str(folder), paths, with_all_classes(folder, torch.from_numpy(np.array(labels, dtype=np.int64))))


def records(folder: Path, files: list[Path]) -> Split:
    """The images in binary files, one after the other."""
    size = HEADER + 3 * SIDE * SIDE
    parts = []
    for file in files:
        try:
            content = np.fromfile(file, dtype=np.uint8)
        except FileNotFoundError:
            raise InputError("root", str(folder), f"there is no {file.name}") from None
        except OSError as error:
            raise InputError("root", str(file), f"cannot be read: {error.strerror or error}") from None
        whole = f"must hold records of {size:,} bytes, and has {len(content):,}: it is cut off, or another file"
        require(len(content) > 0 and len(content) % size == 0, "root", str(file), whole)
        rows = content.reshape(-1, size)
        labels = rows[:, HEADER // 2 : HEADER].copy().view(">u4").ravel()
        wrong = np.flatnonzero(labels >= len(CLASS_NAMES))
        if len(wrong) > 0:
            raise InputError("root", str(file), f"record {wrong[0] + 1} has label {labels[wrong[0]]}, not one in 0..9")
        parts.append((labels.astype(np.int64), rows[:, HEADER:].reshape(-1, 3, SIDE, SIDE)))
    labels, pixels = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))
    return Split(ArrayImages(pixels), with_all_classes(folder, labels))


def with_all_classes(folder: Path, labels: Tensor) -> Tensor:
    """The labels, or `InputError` where a class has no image."""
    counts = torch.bincount(labels, minlength=len(CLASS_NAMES))
    empty = [name for name, count in zip(CLASS_NAMES, counts.tolist(), strict=True) if count == 0]
    require(not empty, "root", str(folder), f"holds no image of class {', '.join(empty[:3])}")
    return labels
