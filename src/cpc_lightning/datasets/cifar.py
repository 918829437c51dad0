"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour images of 32 x 32 pixels (Krizhevsky 2009).

Read from the published Python batches, in the folders in which torchvision puts them: pickled dicts whose "data" is
(n, 3072) uint8, all red levels of an image row by row, then green, then blue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import calculate_md5

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.datasets.reading.folders import is_folder
from cpc_lightning.datasets.reading.pickles import read_pickle
from cpc_lightning.datasets.reading.roots import is_there, own_root, roots
from cpc_lightning.datasets.splits import held_out
from cpc_lightning.errors import InputError, require

SIDE, CHANNELS = 32, 3

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Truck to automobile, bird to airplane, deer to horse, cat and dog to each other (Patrini et al. 2017).
CIFAR10_MAP = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}

# The 20 published superclasses of CIFAR-100, each with its five classes in the order of their numbers.
SUPERCLASSES: Mapping[str, tuple[str, ...]] = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
# Classes are numbered by their names in alphabetical order.
CIFAR100_NAMES = tuple(sorted(name for members in SUPERCLASSES.values() for name in members))


def next_in_group(groups: Sequence[Sequence[str]], class_names: Sequence[str]) -> dict[int, int]:
    """The class map that takes each class to the next one of its group, and the last one to the first."""
    number = {name: k for k, name in enumerate(class_names)}
    return {
        number[name]: number[following]
        for members in groups
        for name, following in zip(members, (*members[1:], members[0]), strict=True)
    }


CIFAR100_MAP = next_in_group(tuple(SUPERCLASSES.values()), CIFAR100_NAMES)


def cifar10(
    root: str | None = None,
    download: bool = False,
    verify: bool = True,
    validation_share: float = 0.0,
    split_seed: int = 0,
) -> ImageDataset:
    """CIFAR-10, (N, 3, 32, 32) uint8; asymmetric noise takes 9 -> 1, 2 -> 0, 4 -> 7, 3 <-> 5.

    Args:
        root: folder that holds cifar-10-batches-py/, or the batches themselves. None looks into the folder that the
            environment variable CPC_DATA names and into ./data.
        download: fetch the files if they are not there, with torchvision, into `root` (None: the folder that CPC_DATA
            names, else ./data).
        verify: compare every file's md5 with the published one. False takes copies that were changed on purpose.
        validation_share: in [0, 1), the share of each class's training images to set aside as "val", with their true
            labels: noise comes later, and only into "train" (the "small validation set with clean data" of A.2.2, whose
            size is not published). Networks are then selected on it. 0: there is none.
        split_seed: decides which ones.

    Raises:
        InputError: if a folder or file is not there, unusable or not the published one, the download fails, or a share
            or seed is out of its range.
    """
    dataset = _read_dataset(datasets.CIFAR10, "cifar10", "labels", CIFAR10_NAMES, CIFAR10_MAP, root, download, verify)
    return _with_validation(dataset, validation_share, split_seed)


def cifar100(
    root: str | None = None,
    download: bool = False,
    verify: bool = True,
    validation_share: float = 0.0,
    split_seed: int = 0,
) -> ImageDataset:
    """CIFAR-100 with its 100 fine classes; asymmetric noise takes each to the next within its superclass, circularly.

    Arguments and errors as for `cifar10`; the folder is cifar-100-python/.
    """
    source = datasets.CIFAR100
    dataset = _read_dataset(source, "cifar100", "fine_labels", CIFAR100_NAMES, CIFAR100_MAP, root, download, verify)
    return _with_validation(dataset, validation_share, split_seed)


def _with_validation(dataset: ImageDataset, share: float, seed: int) -> ImageDataset:
    """The data set with a share of each class's training images in "val" instead; as it is where the share is 0."""
    if share == 0:
        return dataset
    chosen = held_out(dataset.train.labels, len(dataset.class_names), share, seed, "validation_share")
    train, val = (_part(dataset.train, kept) for kept in (~chosen, chosen))
    return replace(dataset, train=train, evaluation={"val": val, **dataset.evaluation})


def _part(split: Split, kept: Tensor) -> Split:
    """Those images and labels of the split that are kept (N,) bool."""
    labels = split.labels[kept]
    return Split(ArrayImages(split.images.fetch(kept.nonzero().flatten())), labels, true_labels=labels)


def _read_dataset(
    source: type[Any],
    name: str,
    key: str,
    class_names: tuple[str, ...],
    class_map: Mapping[int, int],
    root: str | None,
    download: bool,
    verify: bool,
) -> ImageDataset:
    """The data set in the files that torchvision's class `source` lists, with their md5s."""
    meta = (source.meta["filename"], source.meta["md5"])
    files = dict([*source.train_list, *source.test_list, meta])
    folder = _find(root, source.base_folder, meta[0])
    if folder is None and download:
        _download(source, own_root(root))
        folder = _find(root, source.base_folder, meta[0])
    if folder is None:
        require(root is None or is_folder("root", Path(root).expanduser()), "root", root, "is not a folder")
        missing = roots(root)[-1] / source.base_folder / meta[0]
        raise InputError("root", root, f"there is no {missing}: set download=true, or name the folder that holds it")
    for file, md5 in files.items():
        _check_file(folder / file, md5 if verify else None)

    names = read_pickle(folder / meta[0], "root")
    found = names.get(source.meta["key"]) if isinstance(names, dict) else None
    expected = f"must name the {len(class_names)} classes {class_names[0]} to {class_names[-1]}, in order"
    require(found == list(class_names), "root", str(folder / meta[0]), expected)
    train = _split([folder / file for file, _ in source.train_list], key)
    test = _split([folder / file for file, _ in source.test_list], key)
    return ImageDataset(name, class_names, train, {"test": test}, class_map)


def _find(root: str | None, base: str, file: str) -> Path | None:
    """The first folder to hold `file`, among those to look into and, in each, its folder `base`."""
    candidates = [folder for outer in roots(root) for folder in (outer / base, outer)]
    return next((folder for folder in candidates if is_there(folder / file)), None)


def _download(source: type[Any], root: str) -> None:
    try:
        source(root, download=True)
    except (RuntimeError, OSError, ValueError) as error:  # URLError is an OSError; RuntimeError: md5 differs
        raise InputError("download", True, f"failed, into {root}: {error}") from error


def _check_file(path: Path, md5: str | None) -> None:
    """Raise `InputError` unless the file is there and, if an md5 is given, has it."""
    require(path.is_file(), "root", str(path), "is not there; download the data set again (download=true)")
    if md5 is None:
        return
    try:
        found = calculate_md5(path)
    except OSError as error:
        raise InputError("root", str(path), f"cannot be read: {error.strerror or error}") from error
    expected = f"is not the published file (md5 {found}, not {md5}); download it again, or set verify=false"
    require(found == md5, "root", str(path), f"{expected} for a copy that was changed on purpose")


def _split(files: Sequence[Path], key: str) -> Split:
    """The images and labels of some batches, in order."""
    batches = [_batch(file, key) for file in files]
    pixels = torch.from_numpy(np.concatenate([data for data, _ in batches])).view(-1, CHANNELS, SIDE, SIDE)
    labels = torch.from_numpy(np.concatenate([labels for _, labels in batches]))
    return Split(ArrayImages(pixels), labels, true_labels=labels)


def _batch(path: Path, key: str) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Pixels (n, 3072) and labels (n,) of one batch."""
    content = read_pickle(path, "root")
    is_batch = isinstance(content, dict) and "data" in content and key in content
    require(is_batch, "root", str(path), f'must hold a dict with "data" and "{key}"')
    try:
        data, labels = np.asarray(content["data"]), np.asarray(content[key])
    except ValueError as error:  # lists of lists of different lengths
        raise InputError("root", str(path), f"data or {key} is no array ({error})") from error
    size = CHANNELS * SIDE * SIDE
    shaped = data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == size
    require(shaped, "root", str(path), f"data is {data.dtype} {data.shape}; uint8 (n, {size}) is needed")
    numbered = labels.dtype.kind in "iu" and labels.shape == data.shape[:1]
    require(numbered, "root", str(path), f"must hold one whole number a label for each of its {len(data)} images")
    return data, labels.astype(np.int64)
