"""Images of one's own in a folder for each class."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cpc_lightning.data.dataset import ImageDataset
from cpc_lightning.data.file_dataset import Listed, file_dataset
from cpc_lightning.data.image_files import Crop
from cpc_lightning.data.list_files import require_folder
from cpc_lightning.data.paths import PathList
from cpc_lightning.data.splits import held_out
from cpc_lightning.errors import InputError, require

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")


def image_folder(
    root: str,
    crop: Crop,
    test_root: str | None = None,
    test_share: float = 0.2,
    split_seed: int = 0,
    on_bad_image: str = "error",
) -> ImageDataset:
    """Images in a folder for each class, which names it; classes are numbered in the order of their names.

    * Where `root` holds train/, that is what is trained on, and test/ what is tested on. With val/ beside them the
      networks are selected on it; without test/, val/ is what is tested on.
    * Otherwise the folders of the classes lie in `root` itself.
    * Without any test folder a share of each class's images is set aside to test on. Their labels are then no better
      than the others.

    Images may lie in folders of their own within a class. Files that do not end like an image, and hidden ones, are not
    looked at.

    Args:
        root: see above.
        crop: makes views of one size.
        test_root: a folder to test on; None: see above.
        test_share: share of each class's images to set aside, in (0, 1).
        split_seed: decides which ones.
        on_bad_image: see `file_dataset`.

    Raises:
        InputError: if a folder is not there, holds fewer than two classes or a class without images; if a test folder
            holds a class that is not trained on.
    """
    folder = require_folder("root", root)
    parts = {part: folder / part for part in ("train", "val", "test") if subfolders(folder / part)}
    if "train" not in parts:
        parts = {"train": folder}
    if test_root is not None:
        parts["test"] = require_folder("test_root", test_root)
    if "test" not in parts and "val" in parts:
        parts["test"] = parts.pop("val")
    class_names = subfolders(parts["train"])
    what = "holds no folder; one for each class is needed"
    if class_names:
        what = f"holds one class only, {class_names[0]}; at least 2 are needed"
    require(len(class_names) >= 2, "root", str(parts["train"]), what)
    listed = {
        part: list_classes("test_root" if part == "test" and test_root else "root", place, class_names, part != "train")
        for part, place in parts.items()
    }
    if "test" not in parts:
        listed |= set_aside(listed["train"], len(class_names), test_share, split_seed)
    train = listed.pop("train")
    return file_dataset("imagefolder", class_names, train, listed, crop, on_bad_image)


def set_aside(train: Listed, num_classes: int, test_share: float, split_seed: int) -> dict[str, Listed]:
    """The parts train and test: test is a share of each class, train the rest."""
    chosen = held_out(train.labels, num_classes, test_share, split_seed)
    require(bool(chosen.any()), "test_share", test_share, "leaves nothing to test on: every class has one image")
    return {"train": train.take(torch.nonzero(~chosen).flatten()), "test": train.take(torch.nonzero(chosen).flatten())}


def list_classes(setting: str, folder: Path, class_names: list[str], some: bool = False) -> Listed:
    """The images in the folders of `class_names`, in that order.

    Args:
        setting: what names `folder`, for errors.
        folder: holds a folder for each class.
        class_names: K of them.
        some: whether classes may be absent; others than these must not be there either way.
    """
    number = {name: k for k, name in enumerate(class_names)}
    found = subfolders(folder)
    unknown = [name for name in found if name not in number]
    expected = f"holds a class that is not trained on: {', '.join(unknown[:3])}"
    require(not unknown, setting, str(folder), expected)
    labels = array("i")

    def names() -> Iterator[str]:
        for class_name in found if some else class_names:
            before = len(labels)
            for name in image_names(folder / class_name):
                labels.append(number[class_name])
                yield os.path.join(class_name, name)
            empty = f"its class {class_name} holds no images"
            require(some or len(labels) > before, setting, str(folder), empty)

    paths = PathList(names())
    require(len(paths) > 0, setting, str(folder), "holds no images")
    return Listed(str(folder), paths, torch.from_numpy(np.array(labels, dtype=np.int64)))


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, in their order, without hidden ones; none where it is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError("root", str(folder), f"cannot be read: {error.strerror or error}") from None


def image_names(folder: Path) -> Iterator[str]:
    """Names of the images in `folder` and in its folders, from `folder` on, in their order, without hidden ones."""
    for inner, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield os.path.relpath(os.path.join(inner, name), folder) if inner != str(folder) else name
