"""Small genuine trees of image files, in the layouts in which people have them on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((40, 30), (31, 47), (64, 32), (32, 32), (25, 90), (48, 36))
"""Width and height of the images, in turn."""


def picture(number: int, shade: int = 0, size: tuple[int, int] | None = None) -> Image.Image:
    """An image whose brightness tells its class, with some noise of its own."""
    width, height = size or SIZES[number % len(SIZES)]
    noise = np.random.RandomState(number).randint(0, 60, (height, width, 3))
    return Image.fromarray((noise + shade).astype(np.uint8))


def save_jpeg(path: Path, number: int, shade: int = 0) -> None:
    """Write one of those images, with the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number, shade).save(path, quality=90)


def save_text(path: Path, text: str) -> None:
    """Write a text file, with the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_folders(root: Path, counts: dict[str, int], first: int = 0) -> None:
    """A folder for each class, with so many images; each class has a brightness of its own."""
    number = first
    for place, (name, count) in enumerate(counts.items()):
        for _ in range(count):
            save_jpeg(root / name / f"{number}.jpg", number, shade=190 * place // max(len(counts) - 1, 1))
            number += 1


def write_table(root: Path, count: int = 24) -> Path:
    """labels.csv with two classes by name, a split, true labels, and a column of its own."""
    rows = ["path,label,split,true_label,photographer"]
    for number in range(count):
        true = number % 2
        given = 1 - true if number % 8 == 0 else true
        save_jpeg(root / "photos" / f"{number}.jpg", number, shade=190 * true)
        split = ("", "train", "train", "val", "test")[number % 5]
        rows.append(f"photos/{number}.jpg,{('dark', 'light')[given]},{split},{('dark', 'light')[true]},me")
    save_text(root / "labels.csv", "\n".join(rows) + "\n")
    return root / "labels.csv"


def write_clothing1m(root: Path, images: str = "images/", train: int = 42, clean: int = 14) -> None:
    """Clothing1M's files for a few images, which lie in images/0..9 or, with `images` empty, in 0..9."""
    keys = [f"images/{n % 10}/{n},{n}.jpg" for n in range(train + 2 * clean)]
    for number, key in enumerate(keys):
        save_jpeg(root / (images + key.removeprefix("images/")), number, shade=13 * (number % 14))
    parts = {"noisy_train": keys[:train], "clean_val": keys[train : train + clean], "clean_test": keys[train + clean :]}
    for name, listed in parts.items():
        save_text(root / f"{name}_key_list.txt", "".join(f"{key}\n" for key in listed))
    save_text(root / "clean_train_key_list.txt", f"{keys[0]}\n")
    labels = {key: n % 14 for n, key in enumerate(keys)}
    noisy = {**{key: (labels[key] + (n % 3 == 0)) % 14 for n, key in enumerate(keys[:train])}, "images/9/other.jpg": 3}
    clean_labels = {key: labels[key] for key in [keys[0], *keys[train:]]}
    for name, given in (("noisy", noisy), ("clean", clean_labels)):
        save_text(root / f"{name}_label_kv.txt", "".join(f"{key} {label}\n" for key, label in given.items()))


SYNSETS = ("n01440764 tench, Tinca tinca", "n01443537 goldfish", "n01484850 great white shark", "n01491361 tiger shark",
           "n01494475 hammerhead", "n01496331 electric ray", "n01498041 stingray", "n01514668 cock")  # fmt: skip


def write_webvision(root: Path, by_class: int = 4) -> Path:
    """WebVision's files for eight classes, and ILSVRC12's validation folders, whose root is the answer."""
    save_text(root / "info/synsets.txt", "".join(f"{line}\n" for line in SYNSETS))
    train, val = [], []
    for number in range(8 * by_class):
        label = number % 8
        train.append(f"google/q{label:04d}/{number}.jpg {label}")
        save_jpeg(root / f"google/q{label:04d}/{number}.jpg", number, shade=24 * label)
        if number < 16:
            val.append(f"val{number:06d}.jpg {label}")
            save_jpeg(root / f"val_images_256/val{number:06d}.jpg", number, shade=24 * label)
    save_text(root / "info/train_filelist_google.txt", "".join(f"{line}\n" for line in train))
    save_text(root / "info/val_filelist.txt", "".join(f"{line}\n" for line in val))
    ilsvrc = root / "ilsvrc12"
    for label, line in enumerate(SYNSETS):
        folder = line.split()[0] if label % 2 else str(label)  # either name is understood
        for copy in range(label % 3 + 1):
            save_jpeg(ilsvrc / folder / f"ILSVRC2012_val_{copy:08d}.JPEG", copy, shade=24 * label)
    return ilsvrc
