"""From lists of image files to a data set, and what to do about files that cannot be read.

Shapes: N images, K classes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from cpc_lightning.data.dataset import BadImage, ImageDataset, Split
from cpc_lightning.data.image_files import Crop, ImageFiles
from cpc_lightning.data.loading import usable_cores
from cpc_lightning.data.paths import PathList
from cpc_lightning.errors import InputError, require

LOOKED_AT_FIRST = 5_000
"""Sets of up to so many images are looked at before training even where bad images are an error."""
BLOCK = 64
POLICIES = ("error", "skip")


@dataclass(frozen=True)
class Listed:
    """One part of a data set as its list names it.

    Attributes:
        root: the folder that the names start from.
        paths: N names.
        labels: (N,) int64 in 0..K-1.
        true_labels: (N,) int64, -1 where unknown; None where nothing is known.
    """

    root: str
    paths: PathList
    labels: Tensor
    true_labels: Tensor | None = None

    def take(self, places: Tensor) -> Listed:
        """The images at `places` (n,) int64, in that order."""
        true_labels = None if self.true_labels is None else self.true_labels[places]
        return Listed(self.root, self.paths.take(places.tolist()), self.labels[places], true_labels)


def file_dataset(
    name: str,
    class_names: Sequence[str],
    train: Listed,
    evaluation: Mapping[str, Listed],
    crop: Crop,
    on_bad_image: str,
    test_at_end: bool = False,
) -> ImageDataset:
    """A data set of image files.

    Files are opened when they are needed, so that a million of them cost nothing in advance. What cannot be read then
    ends the run with one line. To know before:

    * `on_bad_image` "error" looks at the headers of all files of sets with up to `LOOKED_AT_FIRST` images.
    * "skip" decodes every file of every set once, in threads, and leaves out those that cannot be read.

    Raises:
        InputError: naming the first few files and their number, for "error" with files that cannot be used.
    """
    require(on_bad_image in POLICIES, "on_bad_image", on_bad_image, f"must be one of {', '.join(POLICIES)}")
    left_out: list[BadImage] = []
    parts = {}
    for part, listed in (("train", train), *evaluation.items()):
        bad = find_bad(ImageFiles(listed.root, listed.paths, crop), whole=on_bad_image == "skip")
        if bad and on_bad_image == "error":
            shown = ", ".join(f"{listed.paths[place]} ({why})" for place, why in bad[:3])
            more = ", ..." if len(bad) > 3 else ""
            found = f"{len(bad)} of {len(listed.paths)} files of the set {part} cannot be read: {shown}{more}"
            raise InputError("on_bad_image", "error", f"{found}; skip leaves them out")
        if bad:
            kept = torch.ones(len(listed.paths), dtype=torch.bool)
            kept[[place for place, _ in bad]] = False
            left_out += [BadImage(part, listed.paths[place], why) for place, why in bad]
            listed = listed.take(torch.nonzero(kept).flatten())
        images = ImageFiles(listed.root, listed.paths, crop)
        parts[part] = Split(images, listed.labels, listed.true_labels, listed.paths)
    return ImageDataset(
        name, tuple(class_names), parts["train"], {part: parts[part] for part in evaluation},
        left_out=tuple(left_out), test_at_end=test_at_end,
    )  # fmt: skip


def find_bad(images: ImageFiles, whole: bool) -> list[tuple[int, str]]:
    """Position and reason of the images that cannot be used.

    Args:
        images: to look at.
        whole: decode them all, which shows a progress bar on a terminal; else look at the headers, and only where there
            are at most `LOOKED_AT_FIRST` images.
    """
    if not whole and len(images) > LOOKED_AT_FIRST:
        return []
    blocks: Sequence[range] = [range(at, min(at + BLOCK, len(images))) for at in range(0, len(images), BLOCK)]

    def look(block: range) -> list[tuple[int, str]]:
        looked = ((position, images.look(position, whole)) for position in block)
        return [(position, why) for position, why in looked if why is not None]

    with ThreadPoolExecutor(usable_cores() + 4) as threads:
        found: Iterable[list[tuple[int, str]]] = threads.map(look, blocks)
        if whole:
            console = Console(file=sys.stderr)
            found = track(found, f"Decoding {len(images):,} images", len(blocks), console=console, transient=True)
        return [bad for block in found for bad in block]


def require_no_repeat(setting: str, value: str, paths: PathList) -> None:
    """Raise `InputError` where an image is listed twice."""
    repeat = paths.first_repeat()
    if repeat is not None:
        first, second = (place + 1 for place in repeat)
        raise InputError(setting, value, f"{paths[repeat[0]]} is there twice, as images {first} and {second}")
