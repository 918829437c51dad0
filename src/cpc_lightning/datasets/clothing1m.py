"""Clothing1M: a million images of 14 kinds of clothes, labeled by the text around them (Xiao et al. 2015).

Files, as published: `noisy_label_kv.txt` and `clean_label_kv.txt` (lines `images/0/NAME.jpg LABEL`), the key lists
`noisy_train_key_list.txt`, `clean_val_key_list.txt` and `clean_test_key_list.txt` (lines `images/0/NAME.jpg`), and the
images, in `images/0` to `images/9` or in `0` to `9`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.datasets.file_dataset import Listed, file_dataset, require_no_repeat
from cpc_lightning.datasets.reading.folders import is_folder
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.reading.list_files import labeled_lines, lines_of, require_folder, wrong_line
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, require_switch

CLASS_NAMES = (
    "T-Shirt", "Shirt", "Knitwear", "Chiffon", "Sweater", "Hoodie", "Windbreaker", "Jacket", "Downcoat", "Suit",
    "Shawl", "Dress", "Vest", "Underwear",
)  # fmt: skip
PREFIX = b"images/"


def clothing1m(root: str, crop: Crop, on_bad_image: str = "error", trust_clean: bool = False) -> ImageDataset:
    """Clothing1M: the images with noisy labels to train on, clean ones to select ("val") and to test with ("test").

    "test" is looked at once, with the networks that "val" selects. Where an image to train on also has a clean label,
    that is its true one.

    Args:
        root: the folder with the files.
        crop: makes views of one size; the paper's scales the shorter side to 256 and crops 224.
        on_bad_image: see `file_dataset`.
        trust_clean: whether to train on the clean labels of `clean_train_key_list.txt` too, which are trusted: they
            take the place of noisy ones, and are never suspected.

    Raises:
        InputError: if a file is not there, a line does not parse, a label lies outside 0..13, or an image is listed
            twice, has no label or two different ones.
    """
    folder = require_folder("root", root)
    prefix = image_prefix(folder)
    clean, noisy = (labels_of(folder, f"{kind}_label_kv.txt") for kind in ("clean", "noisy"))
    require_switch("trust_clean", trust_clean)
    train = listed(folder, "noisy_train_key_list.txt", "noisy_label_kv.txt", noisy, prefix, clean)
    if trust_clean:
        train = with_trusted(train, listed(folder, "clean_train_key_list.txt", "clean_label_kv.txt", clean, prefix))
    del noisy
    evaluation = {
        part: listed(folder, f"clean_{part}_key_list.txt", "clean_label_kv.txt", clean, prefix)
        for part in ("val", "test")
    }
    return file_dataset("clothing1m", CLASS_NAMES, train, evaluation, crop, on_bad_image, test_at_end=True)


def with_trusted(noisy: Listed, clean: Listed) -> Listed:
    """The images of both, with the clean label where there is one, which is trusted and the true one."""
    given = {clean.paths.encoded(k): label for k, label in enumerate(clean.labels.tolist())}
    labels, count = noisy.labels.clone(), len(noisy.paths)
    trusted = torch.zeros(count, dtype=torch.bool)
    for k in range(count):
        label = given.pop(noisy.paths.encoded(k), None)
        if label is not None:
            labels[k], trusted[k] = label, True
    more = torch.tensor(list(given.values()), dtype=torch.int64)
    paths = PathList([*(noisy.paths.encoded(k) for k in range(count)), *given])
    before = torch.full_like(labels, -1) if noisy.true_labels is None else noisy.true_labels
    true_labels = torch.cat([torch.where(trusted, labels, before), more])
    everything = torch.cat([trusted, torch.ones(len(more), dtype=torch.bool)])
    return Listed(noisy.root, paths, torch.cat([labels, more]), true_labels, trusted=everything)


def labels_of(folder: Path, name: str) -> dict[bytes, int]:
    """The label of each key in a file of lines `KEY LABEL`."""
    labels: dict[bytes, int] = {}
    for key, label in labeled_lines(folder, name, len(CLASS_NAMES)):
        if labels.setdefault(key, label) != label:
            shown = key[:80].decode(errors="replace")
            raise InputError("root", str(folder / name), f"{shown!r} has two labels, {labels[key]} and {label}")
    return labels


def image_prefix(folder: Path) -> bytes:
    """What the names of images start with under `folder`: "images/", or nothing where 0/ to 9/ lie there."""
    for prefix in (PREFIX, b""):
        if any(is_folder("root", folder / prefix.decode() / str(digit)) for digit in range(10)):
            return prefix
    raise InputError("root", str(folder), "holds neither folders images/0/ to images/9/ nor 0/ to 9/")


def listed(
    folder: Path,
    keys: str,
    label_file: str,
    labels: Mapping[bytes, int],
    prefix: bytes,
    true_labels: Mapping[bytes, int] | None = None,
) -> Listed:
    """The images of a key list with their labels, and their true ones where those are given.

    Args:
        folder: the data set's.
        keys: name of the key list.
        label_file: where `labels` come from, for errors.
        labels: by key.
        prefix: see `image_prefix`.
        true_labels: by key, for some of the keys.
    """
    given, true = array("b"), array("b")

    def names() -> Iterator[bytes]:
        for number, key in lines_of(folder, keys):
            label = labels.get(key)
            if label is None:
                raise wrong_line(folder, keys, number, key, f"has no label in {label_file}")
            if not key.startswith(PREFIX):
                raise wrong_line(folder, keys, number, key, "must start with images/")
            given.append(label)
            true.append(-1 if true_labels is None else true_labels.get(key, -1))
            yield prefix + key[len(PREFIX) :]

    paths = PathList(names())
    require_no_repeat("root", str(folder / keys), paths)
    of_each = (torch.from_numpy(np.array(values, dtype=np.int64)) for values in (given, true))
    as_given, as_true = of_each
    return Listed(str(folder), paths, as_given, None if true_labels is None else as_true)
