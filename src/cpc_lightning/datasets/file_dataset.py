"""Makes a data set of lists of image files; reports files that cannot be read.

Shapes: N images, K classes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from cpc_lightning.datasets.dataset import BadImage, ImageDataset, Split
from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, require
from cpc_lightning.files import usable_cores

LOOKED_AT_FIRST = 5_000
"""Sets of up to so many images are decoded before training even where bad images are an error."""
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
    ends the run with one line. To know before, in threads:

    * `on_bad_image` "error" decodes the files of sets with up to `LOOKED_AT_FIRST` images. Of a larger set that is
      tested at the end, after all the training, it looks at the headers. Other larger sets are not looked at.
    * "skip" decodes every file of every set once, and leaves out those that cannot be read.

    Raises:
        InputError: naming the first few files and their number over all sets, for "error" with files that cannot be
            used.
    """
    require(on_bad_image in POLICIES, "on_bad_image", on_bad_image, f"must be one of {', '.join(POLICIES)}")
    left_out: list[BadImage] = []
    parts = {}
    for part, listed in (("train", train), *evaluation.items()):
        bad: list[tuple[int, str]] = []
        images = ImageFiles(listed.root, listed.paths, crop)
        if on_bad_image == "skip" or len(images) <= LOOKED_AT_FIRST:
            bad = find_bad(images, whole=True)
        elif part == "test" and test_at_end:
            bad = find_bad(images, whole=False)
        if bad:
            kept = torch.ones(len(listed.paths), dtype=torch.bool)
            kept[[place for place, _ in bad]] = False
            left_out += [BadImage(part, listed.paths[place], why) for place, why in bad]
            listed = listed.take(torch.nonzero(kept).flatten())
        images = ImageFiles(listed.root, listed.paths, crop)
        parts[part] = Split(images, listed.labels, listed.true_labels, listed.paths)
    if left_out and on_bad_image == "error":
        sizes = {"train": len(train.paths)} | {part: len(listed.paths) for part, listed in evaluation.items()}
        raise InputError("on_bad_image", "error", f"{described(left_out, sizes)}; skip leaves them out")
    return ImageDataset(
        name, tuple(class_names), parts["train"], {part: parts[part] for part in evaluation},
        left_out=tuple(left_out), test_at_end=test_at_end,
    )  # fmt: skip


def described(bad: Sequence[BadImage], sizes: Mapping[str, int]) -> str:
    """How many files of which sets cannot be read, and the first few of them.

    Args:
        bad: of all sets, at least one.
        sizes: how many files each set lists.
    """
    counts = Counter(image.part for image in bad)
    of_each = ", ".join(f"{counts[part]:,} of {size:,} in {part}" for part, size in sizes.items() if counts[part])
    shown = ", ".join(f"{image.path} ({image.reason})" for image in bad[:3]) + (", ..." if len(bad) > 3 else "")
    files = "1 file" if len(bad) == 1 else f"{len(bad):,} files"
    return f"{files} cannot be read ({of_each}): {shown}"


def find_bad(images: ImageFiles, whole: bool) -> list[tuple[int, str]]:
    """Position and reason of the images that cannot be used.

    Args:
        images: to look at, all of them.
        whole: decode them, which shows a progress bar on a terminal; else look at the headers.
    """
    blocks: Sequence[range] = [range(at, min(at + BLOCK, len(images))) for at in range(0, len(images), BLOCK)]

    def look(block: range) -> list[tuple[int, str]]:
        looked = ((position, images.look(position, whole)) for position in block)
        return [(position, why) for position, why in looked if why is not None]

    with ThreadPoolExecutor(usable_cores() + 4) as threads:
        found: Iterable[list[tuple[int, str]]] = threads.map(look, blocks)
        if whole:
            console = Console(file=sys.stderr)
            found = track(
                found, f"Decoding {len(images):,} images", len(blocks), console=console, transient=True,
                disable=not console.is_terminal,
            )  # fmt: skip
        return [bad for block in found for bad in block]


def require_no_repeat(setting: str, value: str, paths: PathList) -> None:
    """Raise `InputError` where an image is listed twice."""
    repeat = paths.first_repeat()
    if repeat is not None:
        first, second = (place + 1 for place in repeat)
        raise InputError(setting, value, f"{paths[repeat[0]]} is there twice, as images {first} and {second}")
