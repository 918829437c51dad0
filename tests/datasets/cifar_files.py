"""Writes small data sets in CIFAR's published format: Python 2's pickles, in torchvision's folders."""

import pickle
import struct
from pathlib import Path

import numpy as np

from cpc_lightning.datasets.cifar import CIFAR10_NAMES, CIFAR100_NAMES


class Python2Pickler(pickle._Pickler):
    """Pickles texts and bytes as Python 2 did its strings, which the published files hold."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        head = pickle.SHORT_BINSTRING + bytes([len(data)]) if len(data) < 256 else b""
        self.write((head or pickle.BINSTRING + struct.pack("<i", len(data))) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def write_pickle(path: Path, content: object) -> None:
    with open(path, "wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    # The files name numpy 1's module; the name ends its own line, so that its length is free.
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def batch(count: int, num_classes: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """Images whose brightness tells the class, so that something can be learnt, and their labels."""
    stream = np.random.RandomState(seed)
    labels = (np.arange(count) + seed) % num_classes
    levels = 40 + labels[:, None] * (160 // num_classes) + stream.randint(0, 40, size=(count, 3072))
    return levels.astype(np.uint8), labels.tolist()


def write_cifar10(root: Path, per_batch: int = 20, test: int = 20) -> Path:
    """cifar-10-batches-py/ below `root`: five training batches and a test batch."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for seed, name in enumerate(names):
        data, labels = batch(test if name == "test_batch" else per_batch, 10, seed)
        files = [f"image_s_{k:06d}.png" for k in range(len(labels))]
        content = {"batch_label": name.replace("_", " "), "labels": labels, "data": data, "filenames": files}
        write_pickle(folder / name, content)
    meta = {"num_cases_per_batch": per_batch, "label_names": list(CIFAR10_NAMES), "num_vis": 3072}
    write_pickle(folder / "batches.meta", meta)
    return folder


def write_cifar100(root: Path, train: int = 200, test: int = 100) -> Path:
    """cifar-100-python/ below `root`: one training and one test batch."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for seed, (name, count) in enumerate((("train", train), ("test", test))):
        data, labels = batch(count, 100, seed)
        coarse = [label % 20 for label in labels]
        content = {"batch_label": f"{name} batch 1 of 1", "fine_labels": labels, "coarse_labels": coarse, "data": data}
        write_pickle(folder / name, content | {"filenames": [f"image_s_{k:06d}.png" for k in range(count)]})
    meta = {"fine_label_names": list(CIFAR100_NAMES), "coarse_label_names": [f"group_{k}" for k in range(20)]}
    write_pickle(folder / "meta", meta)
    return folder
