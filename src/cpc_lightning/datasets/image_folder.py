"""Data sets of your own images: a folder for each class."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.datasets.file_dataset import Listed, file_dataset
from cpc_lightning.datasets.reading.class_names import in_order, remarks_on
from cpc_lightning.datasets.reading.folders import BESIDE, counted, image_names, images_beside, subfolders
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.reading.list_files import require_folder
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.datasets.splits import held_out
from cpc_lightning.errors import InputError, require

SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
"""Names of folders that split the data, in any case, and which part each is."""
SPLIT_NAMES = (*SPLITS, "validation", "training", "testing")
"""What people call such folders; those that are not in `SPLITS` are an error rather than a class."""


def image_folder(
    root: str,
    crop: Crop,
    test_root: str | None = None,
    test_share: float = 0.2,
    split_seed: int = 0,
    on_bad_image: str = "error",
) -> ImageDataset:
    """Images in a folder for each class, which names it; classes are numbered in the order of their names.

    That is by number where all names are numbers, 2 before 10, and otherwise as texts.

    * Where `root` holds train/, that is what is trained on, and test/ what is tested on. With val/ (or valid/) beside
      them the networks are selected on it; without test/, val/ is what is tested on. Capitals do not matter.
    * Otherwise the folders of the classes lie in `root` itself.
    * Without any test folder a share of each class's images is set aside to test on. Their labels are then no better
      than the others.

    Images may lie in folders of their own within a class, links to folders included. Hidden files and what a NAS or a
    file manager adds are not looked at; nor are files that are no images, which the answer's `remarks` count.

    Args:
        root: see above.
        crop: makes views of one size.
        test_root: a folder to test on; None: see above.
        test_share: share of each class's images to set aside, in [0, 1): 0 trains on all, and nothing is tested.
        split_seed: decides which ones.
        on_bad_image: see `file_dataset`.

    Raises:
        InputError: if a folder is not there, holds fewer than two classes or a class without images; if a test folder
            holds a class that is not trained on, or images beside no class; if what should be classes looks like parts.
    """
    folder = require_folder("root", root)
    parts = parts_of(folder)
    if test_root is not None:
        parts["test"] = require_folder("test_root", test_root)
    if "test" not in parts and "val" in parts:
        parts["test"] = parts.pop("val")
    aside: Counter[str] = Counter()
    class_names = in_order(subfolders(parts["train"], aside))
    what = "holds no folder; one for each class is needed"
    if class_names:
        what = f"holds one class only, {class_names[0]}; at least 2 are needed"
    require(len(class_names) >= 2, "root", str(parts["train"]), what)
    require_classes(parts["train"], class_names)
    listed = {
        part: list_classes(
            "test_root" if part == "test" and test_root else "root", place, class_names, aside, part != "train"
        )
        for part, place in parts.items()
    }
    if "test" not in parts:
        listed |= set_aside(listed["train"], len(class_names), test_share, split_seed)
    train = listed.pop("train")
    remarks = remarks_on(class_names)
    if aside.total():
        other = "; other formats: convert them, to .jpg or .png say" if any(k.startswith(".") for k in aside) else ""
        remarks.append(f"not looked at among the images, {aside.total():,} in all: {counted(aside)}{other}")
    return file_dataset("imagefolder", class_names, train, listed, crop, on_bad_image, remarks=remarks)


def parts_of(folder: Path) -> dict[str, Path]:
    """The folders of the parts of a data set: "train", and "val" and "test" where they are there.

    Raises:
        InputError: where two folders would be the same part, or one holds images of no class.
    """
    named = [name for name in subfolders(folder) if name.lower() in SPLITS]
    found: dict[str, str] = {}
    for name in named:
        if subfolders(folder / name):
            part = SPLITS[name.lower()]
            both = f"holds {found.get(part)} and {name}: which one is {part}?"
            require(part not in found, "root", str(folder), both)
            found[part] = name
    if "train" not in found:
        return {"train": folder}
    for name in named:
        flat = name not in found.values() and images_beside(folder / name) > 0
        expected = f"its {name} holds images, but no folder for each class: their classes are not known"
        require(not flat, "root", str(folder), expected)
    return {part: folder / name for part, name in found.items()}


def require_classes(folder: Path, class_names: Sequence[str]) -> None:
    """Raise `InputError` where the folders in `folder` look like parts of a data set, rather than classes."""
    advice = "parts of a data set are called train, val and test"
    for name in class_names:
        if name.lower() in SPLIT_NAMES:
            others = set(class_names) - {name}
            inside = next((inner for inner in subfolders(folder / name) if inner in others), None)
            expected = f"is {name} a class? It holds a folder {inside}, and so does the folder around it; {advice}"
            require(inside is None, "root", str(folder), expected)
    first = subfolders(folder / class_names[0])
    if first and all(subfolders(folder / name) == first and images_beside(folder / name) == 0 for name in class_names):
        what = f"{', '.join(class_names[:3])} hold no images, but the same folders each ({', '.join(first[:3])})"
        raise InputError("root", str(folder), f"are these classes? {what}; {advice}")


def set_aside(train: Listed, num_classes: int, test_share: float, split_seed: int) -> dict[str, Listed]:
    """The parts train and test: test is a share of each class, train the rest; of a share of 0, train alone."""
    if test_share == 0:
        return {"train": train}
    labeled = torch.nonzero(train.labels >= 0).flatten()  # without a label there is nothing to test
    chosen = torch.zeros(len(train.labels), dtype=torch.bool)
    chosen[labeled] = held_out(train.labels[labeled], num_classes, test_share, split_seed)
    require(bool(chosen.any()), "test_share", test_share, "leaves nothing to test on: every class has one image")
    return {"train": train.take(torch.nonzero(~chosen).flatten()), "test": train.take(torch.nonzero(chosen).flatten())}


def list_classes(setting: str, folder: Path, class_names: list[str], aside: Counter[str], some: bool = False) -> Listed:
    """The images in the folders of `class_names`, in that order.

    Args:
        setting: what names `folder`, for errors.
        folder: holds a folder for each class.
        class_names: K of them.
        aside: counts what is not looked at, by its kind.
        some: whether classes may be absent; others than these must not be there either way.
    """
    number = {name: k for k, name in enumerate(class_names)}
    found = subfolders(folder, Counter() if setting == "root" and not some else aside, setting)
    unknown = [name for name in found if name not in number]
    expected = f"holds a class that is not trained on: {', '.join(unknown[:3])}"
    require(not unknown, setting, str(folder), expected)
    labels = array("i")

    def names() -> Iterator[str]:
        for class_name in found if some else class_names:
            before, others = len(labels), Counter[str]()
            for name in image_names(folder / class_name, others, setting):
                labels.append(number[class_name])
                yield os.path.join(class_name, name)
            empty = f"its class {class_name} holds no images" + besides(others)
            require(some or len(labels) > before, setting, str(folder), empty)
            aside.update(others)

    paths = PathList(names())
    require(len(paths) > 0, setting, str(folder), "holds no images" + besides(aside))
    aside[BESIDE] += images_beside(folder, setting)
    return Listed(str(folder), paths, torch.from_numpy(np.array(labels, dtype=np.int64)))


def besides(aside: Counter[str]) -> str:
    """What a folder without images does hold, for errors; "" where that is nothing."""
    return f" (but {counted(aside)}, which are not looked at)" if aside.total() else ""
