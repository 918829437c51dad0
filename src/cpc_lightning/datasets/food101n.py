"""Food-101N: 310,009 photos of 101 dishes, labeled by the search that found them (Lee et al. 2018, CleanNet).

Files, as the README of the release says (kuanghuei.github.io/Food-101N): `images/CLASS/KEY.jpg`, `meta/classes.txt` (a
line a class) and `meta/imagelist.tsv` (lines `CLASS/KEY.jpg`). Lines `CLASS/KEY.jpg LABEL`, with a tab between, of
`meta/verified_train.tsv` and `meta/verified_val.tsv` say of some of these images whether a person found the class right
(1) or wrong (0). Each file begins with a line of column names. It is tested on the test set of Food-101 (Bossard et al.
2014), whose files are `meta/test.txt` (lines `CLASS/NUMBER`) and `images/CLASS/NUMBER.jpg`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES, UNKNOWN, ImageDataset
from cpc_lightning.datasets.file_dataset import Listed, file_dataset, require_no_repeat
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.reading.list_files import is_inside, lines_of, require_folder, wrong_line
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import require

CLASSES, TRAIN, TEST = "meta/classes.txt", "meta/imagelist.tsv", "meta/test.txt"
VERIFIED = ("meta/verified_train.tsv", "meta/verified_val.tsv")


def food101n(root: str, test_root: str, crop: Crop, on_bad_image: str = "error") -> ImageDataset:
    """All listed images of Food-101N to train on, with the test set of Food-101 as "test".

    The verification labels are used for metrics only: the true label of an image whose class was found right is that
    class. Of one whose class was found wrong nobody says what it shows: its true label is `NONE_OF_THE_CLASSES`, so
    that it counts as labeled wrongly; tables show "none" there, though it may be another of the dishes.

    Args:
        root: the folder with images/ and meta/.
        test_root: that of Food-101, likewise.
        crop: makes views of one size.
        on_bad_image: see `file_dataset`.

    Raises:
        InputError: if a file is not there, a line does not parse or names no class of classes.txt, an image is listed
            twice or has two verification labels, or a class has no image to train on or to test.
    """
    folder, test_folder = require_folder("root", root), require_folder("test_root", test_root)
    class_names = [name.decode(errors="replace") for _, name in rows_of(folder, CLASSES)]
    require_no_repeat("root", str(folder / CLASSES), PathList(class_names))
    verified = verifications(folder)
    train = listed("root", folder, TRAIN, b"", class_names, verified)
    test = listed("test_root", test_folder, TEST, b".jpg", class_names)
    wrong = len(verified) - sum(verified.values())
    said = f"{wrong:,} of {len(verified):,} verified labels are wrong; true classes of these are not known"
    remarks = [f"{said}, and shown as none"] if wrong else []
    return file_dataset("food101n", class_names, train, {"test": test}, crop, on_bad_image, remarks=remarks)


def rows_of(folder: Path, name: str, setting: str = "root") -> Iterator[tuple[int, bytes]]:
    """Number and content of a list's lines, without the line of column names."""
    for number, line in lines_of(folder, name, setting):
        if not (number == 1 and line.startswith(b"class_name")):
            yield number, line


def verifications(folder: Path) -> dict[bytes, bool]:
    """Of each image that a person looked at, whether its class is right."""
    found: dict[bytes, bool] = {}
    for name in VERIFIED:
        for number, line in rows_of(folder, name):
            key, _, label = line.rpartition(b"\t")
            if not key or label not in (b"0", b"1"):
                raise wrong_line(folder, name, number, line, "must be a path, a tab, and 0 or 1")
            if found.setdefault(key, label == b"1") != (label == b"1"):
                raise wrong_line(folder, name, number, line, "says otherwise than a line before")
    return found


def listed(
    setting: str,
    folder: Path,
    name: str,
    ending: bytes,
    class_names: list[str],
    verified: Mapping[bytes, bool] | None = None,
) -> Listed:
    """The images of a list, whose lines begin with their class.

    Args:
        setting: what names `folder`, for errors.
        folder: holds images/.
        name: of the list.
        ending: what the list's lines lack of the files' names.
        class_names: K names.
        verified: of some images whether the class is right; None: no true labels.
    """
    number_of = {class_name.encode(): k for k, class_name in enumerate(class_names)}
    given, true = array("h"), array("h")

    def names() -> Iterator[bytes]:
        for number, line in rows_of(folder, name, setting):
            class_name, slash, _ = line.partition(b"/")
            label = number_of.get(class_name, UNKNOWN)
            if not slash or label == UNKNOWN:
                expected = f"must begin with a class of {CLASSES} and /"
                raise wrong_line(folder, name, number, line, expected, setting)
            if not is_inside(line):
                raise wrong_line(folder, name, number, line, "must not lead out of the folder", setting)
            right = None if verified is None else verified.get(line)
            given.append(label)
            true.append(UNKNOWN if right is None else label if right else NONE_OF_THE_CLASSES)
            yield line + ending

    paths = PathList(names())
    require_no_repeat(setting, str(folder / name), paths)
    labels, true_labels = (torch.from_numpy(np.array(values, dtype=np.int64)) for values in (given, true))
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    empty = [class_name for class_name, count in zip(class_names, counts, strict=True) if count == 0]
    require(not empty, setting, str(folder / name), f"lists no image of class {', '.join(empty[:3])}")
    return Listed(str(folder / "images"), paths, labels, None if verified is None else true_labels)
