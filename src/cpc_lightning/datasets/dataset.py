"""The contract of a data set: images by position, given labels, and true labels where they are known.

Shapes: N samples, B batch, K classes, C channels, H x W pixels, V views, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cpc_lightning.errors import require

UNKNOWN = -1
"""Among true labels: nobody knows. The sample says nothing about noise or cleaners."""

NONE_OF_THE_CLASSES = -2
"""Among true labels: the image shows none of the classes (open-set noise). Whatever label it is given is wrong."""

UNLABELED = -1
"""Among the labels to train on: the image has none. It is learnt from without one, and gets a suggestion."""


class Images(Protocol):
    """Images that answer a whole list of positions at once."""

    def __len__(self) -> int:
        """The number of images."""

    def fetch(self, positions: Tensor) -> Tensor:
        """The images at `positions` (B,) int64 as they are evaluated and shown, (B, C, H, W) uint8."""

    def fetch_views(self, positions: Tensor, views: int, seed: int) -> Tensor:
        """The images at `positions` (B,) int64 to make that many views of, (V, B, C, H, W) uint8.

        V is `views` for images that have to be cropped, at random by `seed`, before they can form a batch; or 1 for
        images of one size, from which all views are made.
        """


@runtime_checkable
class Vectors(Images, Protocol):
    """Images of which there are only vectors: features of a pretrained network, or anybody's own.

    They are what `Images` are, but for shapes: `fetch` answers (B, D) float32, and `fetch_views` (V, B, D) float32, V
    always `views`, each drawn at random by `seed` among the views that are kept of an image (the image, its mirror
    image, crops).
    """

    @property
    def vectors(self) -> Tensor:
        """(N, D) float32 or float16, what `fetch` gives: the mean over the views that are kept. It may lie on disk."""

    @property
    def pictures(self) -> Images | None:
        """The images that the vectors were computed from, for people to look at; None where there are none."""


def pictures_of(images: Images) -> Images | None:
    """What people can look at: the images themselves, or what the vectors were computed from, if anything."""
    return images.pictures if isinstance(images, Vectors) else images


@dataclass(frozen=True)
class ArrayImages:
    """Images held in memory: one gather a batch.

    Attributes:
        pixels: (N, C, H, W) uint8, C = 1 (grayscale) or 3 (RGB).
    """

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def fetch(self, positions: Tensor) -> Tensor:
        """The images at `positions` (B,) int64, as (B, C, H, W) uint8."""
        return self.pixels[positions]

    def fetch_views(self, positions: Tensor, views: int, seed: int) -> Tensor:
        """The same as (1, B, C, H, W): every view is made from the one image."""
        return self.pixels[positions][None]


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        images: N images.
        labels: (N,) int64 in 0..K-1, the labels that come with the images; to train on also `UNLABELED`.
        true_labels: (N,) int64 in 0..K-1, or `UNKNOWN`, or `NONE_OF_THE_CLASSES`; None where nothing is known. For
            metrics only.
        paths: N file names, as the user's list writes them, or None for images that have none.
        rows: (N,) int64 line of the user's list that names each image, or None where there is no such list.
        trusted: (N,) bool, the labels that a person has confirmed: never suspected; None where none is.
    """

    images: Images
    labels: Tensor
    true_labels: Tensor | None = None
    paths: Sequence[str] | None = None
    rows: Tensor | None = None
    trusted: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class BadImage:
    """An image file that is left out because it cannot be read.

    Attributes:
        part: "train", or the name of the evaluation set that lists it.
        path: its name, as `Split.paths` would have it.
        reason: why it cannot be read.
    """

    part: str
    path: str
    reason: str


@dataclass(frozen=True)
class ImageDataset:
    """A data set, ready to be trained on.

    Attributes:
        name: short name, for outputs.
        class_names: K names; a class's number is its place here.
        train: the samples to train on and to judge.
        evaluation: the sets to evaluate on, by name: usually "test". Where there is "val", each network is selected on
            it. Empty where all there is is trained on: then nothing measures the networks.
        class_map: for asymmetric noise, the class that each listed class is mistaken for; None where there is none.
        left_out: images that the lists name and the sets leave out.
        remarks: lines that a run says once before it trains: what is not looked at, what looks wrong with the data.
        some_unlabeled: whether images to train on may have no label.
        test_at_end: whether "test" is looked at only once, with the networks that "val" selects.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    evaluation: Mapping[str, Split]
    class_map: Mapping[int, int] | None = None
    left_out: Sequence[BadImage] = ()
    remarks: Sequence[str] = ()
    some_unlabeled: bool = False
    test_at_end: bool = False

    def __post_init__(self) -> None:
        lowest = UNLABELED if self.some_unlabeled else 0
        check_labels("train", self.train, len(self.class_names), lowest)
        require(bool((self.train.labels >= 0).any()), "train", "no label", "at least one image needs one")
        for name, split in self.evaluation.items():
            check_labels(name, split, len(self.class_names))

    @property
    def watched(self) -> dict[str, Split]:
        """The sets to evaluate on after every epoch."""
        return {name: split for name, split in self.evaluation.items() if not (self.test_at_end and name == "test")}


def check_labels(name: str, split: Split, num_classes: int, lowest: int = 0) -> None:
    """Raise `InputError` unless the split has one label in lowest..K-1 for each image, and at least one image."""
    require(num_classes >= 2, "classes", num_classes, "at least 2 classes are needed")
    require(len(split.images) > 0, name, 0, "holds no images")
    require(
        len(split.images) == len(split.labels),
        name,
        f"{len(split.images)} images",
        f"comes with {len(split.labels)} labels; one label for each image is needed",
    )
    wrong = (split.labels < lowest) | (split.labels >= num_classes)
    if bool(wrong.any()):
        first = int(torch.nonzero(wrong)[0])
        require(
            False,
            name,
            f"label {int(split.labels[first])} of image {first}",
            f"labels must lie in 0..{num_classes - 1} ({int(wrong.sum())} do not)",
        )
