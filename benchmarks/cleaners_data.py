"""The image sets of `cleaners.py`: how they are trained on, and their files, made once from what the machine has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from letters import find_fonts, make_letters
from PIL import Image, UnidentifiedImageError
from sklearn.datasets import load_digits

from cpc_lightning.datasets.fashion_mnist import fashion_mnist

Arrays = dict[str, npt.NDArray[np.generic]]

CLIPART = Path("/usr/share/openclipart/png")


@dataclass(frozen=True)
class Set:
    """What to train on, and how.

    Attributes:
        settings: beside the files'.
        epochs: of a run.
        warmup_epochs: of them.
        noises: by name, the settings.
        pretraining: settings of mode=pretrain, where the set's strong views are weak ones.
    """

    settings: tuple[str, ...]
    epochs: int
    warmup_epochs: int
    noises: Mapping[str, tuple[str, ...]]
    pretraining: tuple[str, ...] = ()

    def schedule(self, times: int = 1, warms_up: bool = True) -> list[str]:
        """Settings of a run of that many times the epochs; the learning rate falls after two thirds of them."""
        epochs = times * self.epochs
        return [
            f"training.epochs={epochs}", *([f"training.warmup_epochs={self.warmup_epochs}"] if warms_up else []),
            f"optimizer.schedule.milestones=[{2 * epochs // 3}]",
        ]  # fmt: skip


def symmetric(rate: float) -> tuple[str, ...]:
    """Settings."""
    return "noise=symmetric", f"noise.rate={rate}"


def asymmetric(class_map: str) -> tuple[str, ...]:
    """Settings; 40 %."""
    return "noise=asymmetric", "noise.rate=0.4", f"noise.class_map={class_map}"


INSTANCE = ("noise=instance", "noise.rate=0.4")
SMALL = ("dataset=arrays", "backbone.width=16", "embedding_size=32")
SETS = {
    "letters": Set(
        (*SMALL, "views.policy=symbols"), 30, 10,
        {
            "symmetric 50 %": symmetric(0.5), "symmetric 80 %": symmetric(0.8), "symmetric 90 %": symmetric(0.9),
            "asymmetric 40 %": asymmetric("{" + ", ".join(f"{k}: {(k + 1) % 53}" for k in range(53)) + "}"),
            "instance 40 %": INSTANCE,
        },
    ),
    "fashion": Set(
        (*SMALL, "views.policy=cifar10", "views.flip=true"), 30, 8,
        {
            "symmetric 50 %": symmetric(0.5), "symmetric 80 %": symmetric(0.8), "instance 40 %": INSTANCE,
            "asymmetric 40 %": asymmetric("{0: 6, 2: 4, 5: 7, 7: 9}"),
        },
    ),
    "digits": Set(
        ("dataset=digits",), 48, 8,
        {"symmetric 80 %": symmetric(0.8), "asymmetric 40 %": asymmetric("{7: 1, 2: 7, 5: 6, 6: 5, 3: 8}")},
        ("pretraining.policy=symbols",),
    ),
    "clipart": Set(
        (*SMALL, "dataset.test_share=0.5", "views.policy=cifar10", "views.flip=true"), 24, 4,
        {"symmetric 40 %": symmetric(0.4)},
    ),
    **{
        f"{count} digits": Set(
            ("dataset=arrays", "backbone.width=8", "embedding_size=16"), 40, 8, {"symmetric 40 %": symmetric(0.4)}
        )
        for count in (100, 300)
    },
}  # fmt: skip


# Files ------------------------------------------------------------------------------------------------------------


def shrink(images: npt.NDArray[Any], size: int) -> npt.NDArray[np.uint8]:
    """(N, H, W) to (N, size, size), H and W multiples of it: the mean of what falls together."""
    factor = images.shape[1] // size
    together = images.reshape(len(images), size, factor, size, factor)
    return together.mean(axis=(2, 4)).round().astype(np.uint8)


def letters() -> Arrays:
    """The arrays of both parts, under the names of dataset=arrays, "test_" before those of the test set."""
    made = make_letters(find_fonts())
    return {
        "images": shrink(made["images"], 16), "labels": made["labels"],
        "test_images": shrink(made["test_images"], 16), "test_labels": made["test_labels"],
    }  # fmt: skip


def fashion() -> Arrays:
    """As `letters`, of Debian's package."""
    whole = fashion_mnist(None, False)
    found: Arrays = {}
    for prefix, split, count in (("", whole.train, 6000), ("test_", whole.evaluation["test"], 2000)):
        drawn = np.random.default_rng(0).permutation(len(split))[:count]
        images = split.images.fetch(torch.from_numpy(drawn)).numpy()[:, 0]
        found |= {f"{prefix}images": shrink(images, 14), f"{prefix}labels": split.labels.numpy()[drawn]}
    return found


def clipart(least: int = 30, side: int = 16, most: int = 20_000_000) -> Arrays:
    """Pictures on white, in the middle of a square; without those of more pixels than `most`."""
    images, labels, classes = [], [], 0
    for folder in sorted(path for path in CLIPART.iterdir() if path.is_dir()):
        files = sorted(folder.rglob("*.png"))
        if len(files) < least:
            continue
        for file in files:
            try:
                with Image.open(file) as picture:
                    if picture.width * picture.height > most:
                        continue
                    colour = picture.convert("RGBA")
            except (UnidentifiedImageError, Image.DecompressionBombError):
                continue
            colour.thumbnail((side, side))
            square = Image.new("RGB", (side, side), "white")
            square.paste(colour, ((side - colour.width) // 2, (side - colour.height) // 2), colour)
            images.append(np.asarray(square))
            labels.append(classes)
        classes += 1
    return {"images": np.stack(images), "labels": np.array(labels)}


def few_digits(count: int, tested: int = 497) -> Arrays:
    """As `letters`, of the library's digits: so many to train on."""
    digits = load_digits()
    drawn = np.random.default_rng(0).permutation(len(digits.target))
    learnt, judged = drawn[:count], drawn[-tested:]
    images = digits.images.astype(np.uint8) * 15
    return {
        "images": images[learnt], "labels": digits.target[learnt],
        "test_images": images[judged], "test_labels": digits.target[judged],
    }  # fmt: skip


MAKE: Mapping[str, Callable[[], Arrays]] = {
    "letters": letters, "fashion": fashion, "clipart": clipart,
    "100 digits": partial(few_digits, 100), "300 digits": partial(few_digits, 300),
}  # fmt: skip


def files_of(name: str, folder: Path) -> list[str]:
    """The settings that name a set's files, which are written where they are missing."""
    if name not in MAKE:
        return []
    train, test = (folder / f"{name.replace(' ', '_')}{part}.npz" for part in ("", "_test"))
    if not train.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = MAKE[name]()
        tested = {key.removeprefix("test_"): value for key, value in arrays.items() if key.startswith("test_")}
        if tested:
            np.savez(test, **tested)
        np.savez(train, **{key: value for key, value in arrays.items() if not key.startswith("test_")})
    return [f"dataset.file={train}", *([f"dataset.test_file={test}"] if test.exists() else [])]
