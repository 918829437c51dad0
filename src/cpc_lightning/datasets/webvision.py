"""WebVision 1.0: images found by search engines for the 1,000 classes of ILSVRC12 (Li et al. 2017).

Files, as published: `info/train_filelist_google.txt` and `info/val_filelist.txt` (lines `PATH LABEL`),
`info/synsets.txt` (a line a class: WordNet id and name), images to train on under the root and validation images in
`val_images_256`. The ILSVRC12 validation images come in a folder for each class, named by class number or WordNet id.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.datasets.file_dataset import Listed, file_dataset, require_no_repeat
from cpc_lightning.datasets.reading.folders import image_names, is_folder, subfolders
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.reading.list_files import labeled_lines, lines_of, require_folder
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, require, require_integer

SYNSETS, TRAIN, VALIDATION = "info/synsets.txt", "info/train_filelist_google.txt", "info/val_filelist.txt"
VALIDATION_IMAGES = "val_images_256"


def webvision(
    root: str, crop: Crop, num_classes: int = 50, ilsvrc_root: str | None = None, on_bad_image: str = "error"
) -> ImageDataset:
    """The first classes of WebVision. "test" is its own validation set, "ilsvrc12" that of ILSVRC12.

    Args:
        root: the folder with the files.
        crop: makes views of one size.
        num_classes: K, how many of the classes, in the order of synsets.txt.
        ilsvrc_root: the folder with the ILSVRC12 validation images, or one that holds it as val/; None: only WebVision.
        on_bad_image: see `file_dataset`.

    Raises:
        InputError: if a file is not there, a line does not parse, a label lies outside the classes of synsets.txt, or
            an image is listed twice; if a folder of `ilsvrc_root` is no class, or a class has no folder or no image.
    """
    folder = require_folder("root", root)
    require_integer("num_classes", num_classes, 2)
    synsets = [line.decode(errors="replace").split(maxsplit=1) for _, line in lines_of(folder, SYNSETS)]
    held = f"must not exceed the {len(synsets)} classes of {SYNSETS}"
    require(num_classes <= len(synsets), "num_classes", num_classes, held)
    ids, names = [synset[0] for synset in synsets], [synset[-1] for synset in synsets[:num_classes]]
    train = listed(folder, TRAIN, "", len(ids), num_classes)
    evaluation = {"test": listed(folder, VALIDATION, VALIDATION_IMAGES, len(ids), num_classes)}
    if ilsvrc_root is not None:
        evaluation["ilsvrc12"] = ilsvrc12(require_folder("ilsvrc_root", ilsvrc_root), ids, num_classes)
    return file_dataset("webvision", names, train, evaluation, crop, on_bad_image)


def listed(folder: Path, name: str, images: str, num_labels: int, num_classes: int) -> Listed:
    """The images of a list whose label is below `num_classes`; they lie in `images` under `folder`."""
    labels = array("i")

    def names() -> Iterator[bytes]:
        for path, label in labeled_lines(folder, name, num_labels):
            if label < num_classes:
                labels.append(label)
                yield path

    paths = PathList(names())
    held = f"{folder / name} lists no image of the first {num_classes} classes"
    require(len(paths) > 0, "root", str(folder), held)
    require_no_repeat("root", str(folder / name), paths)
    return Listed(str(folder / images), paths, torch.from_numpy(np.array(labels, dtype=np.int64)))


def ilsvrc12(folder: Path, ids: list[str], num_classes: int) -> Listed:
    """The images of the first classes, from a folder for each class.

    Args:
        folder: holds those folders, or holds val/, which does. Folders of the other classes may be there too.
        ids: WordNet ids of all classes, in their order.
        num_classes: how many of them to take.
    """
    folder = folder / "val" if is_folder("ilsvrc_root", folder / "val") else folder
    number = {name: k for k, name in enumerate(ids)} | {str(k): k for k in range(len(ids))}
    by_class: dict[int, str] = {}
    unknown = []
    for name in subfolders(folder, setting="ilsvrc_root"):
        known = number.get(name.lstrip("0") or "0" if name.isdigit() else name)
        if known is None:
            unknown.append(name)
        elif known in by_class:
            raise InputError("ilsvrc_root", str(folder), f"{by_class[known]} and {name} are folders of one class")
        else:
            by_class[known] = name
    if unknown:
        shown = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        expected = f"{len(unknown)} folders are neither a class number nor a WordNet id of {SYNSETS}: {shown}"
        raise InputError("ilsvrc_root", str(folder), expected)
    labels = array("i")

    def names() -> Iterator[str]:
        for k in range(num_classes):
            before = len(labels)
            for name in image_names(folder / by_class[k], setting="ilsvrc_root") if k in by_class else ():
                labels.append(k)
                yield os.path.join(by_class[k], name)
            missing = f"holds no image of class {k} ({ids[k]})"
            require(len(labels) > before, "ilsvrc_root", str(folder), missing)

    paths = PathList(names())
    return Listed(str(folder), paths, torch.from_numpy(np.array(labels, dtype=np.int64)))
