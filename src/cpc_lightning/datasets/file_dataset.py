"""Makes a data set of lists of image files; reports files that cannot be read.

Shapes: N images, K classes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from cpc_lightning.datasets.dataset import UNLABELED, BadImage, ImageDataset, Split
from cpc_lightning.datasets.reading.copies import Looked, file_digests, remarks_on_copies
from cpc_lightning.datasets.reading.formats import NEEDS_HEIF, lacks_decoder
from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles, Seen
from cpc_lightning.datasets.reading.levels import TOPS, top_level
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, count_of, one_line, require
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
        written: N names as the list writes them; None where they are the same.
        rows: (N,) int64 line of the list that names each image; None where there is no such list.
        trusted: (N,) bool, labels that a person has confirmed; None where none is.
    """

    root: str
    paths: PathList
    labels: Tensor
    true_labels: Tensor | None = None
    written: PathList | None = None
    rows: Tensor | None = None
    trusted: Tensor | None = None

    def take(self, places: Tensor) -> Listed:
        """The images at `places` (n,) int64, in that order."""
        return Listed(
            self.root,
            self.paths.take(places.tolist()),
            self.labels[places],
            None if self.true_labels is None else self.true_labels[places],
            None if self.written is None else self.written.take(places.tolist()),
            None if self.rows is None else self.rows[places],
            None if self.trusted is None else self.trusted[places],
        )

    @property
    def names(self) -> PathList:
        """The N names as people know them."""
        return self.paths if self.written is None else self.written


def file_dataset(
    name: str,
    class_names: Sequence[str],
    train: Listed,
    evaluation: Mapping[str, Listed],
    crop: Crop,
    on_bad_image: str,
    test_at_end: bool = False,
    remarks: Sequence[str] = (),
) -> ImageDataset:
    """A data set of image files.

    Files are opened when they are needed, so that a million of them cost nothing in advance. What cannot be read then
    ends the run with one line. To know before, in threads:

    * `on_bad_image` "error" decodes the files of sets with up to `LOOKED_AT_FIRST` images. Of a larger set that is
      tested at the end, after all the training, it looks at the headers. Other larger sets are not looked at, but for
      names that say that no decoder is installed.
    * "skip" decodes every file of every set once, and leaves out those that cannot be read.

    The answer's `remarks` are the given ones, and what the files show: copies, and grayscale with more than 8 bits.

    Raises:
        InputError: naming the first few files and their number over all sets, for "error" with files that cannot be
            used.
    """
    require(on_bad_image in POLICIES, "on_bad_image", on_bad_image, f"must be one of {', '.join(POLICIES)}")
    left_out: list[BadImage] = []
    kept: dict[str, Listed] = {}
    seen: dict[str, list[Seen]] = {}
    for part, listed in (("train", train), *evaluation.items()):
        images = ImageFiles(listed.root, listed.paths, crop)
        if on_bad_image == "skip" or len(images) <= LOOKED_AT_FIRST:
            looked = look_at(images, whole=True)
        elif part == "test" and test_at_end:
            looked = look_at(images, whole=False)
        else:
            fine, heif = Seen(), Seen(NEEDS_HEIF)
            looked = [heif if lacks_decoder(path) else fine for path in listed.paths]
        bad = [place for place, one in enumerate(looked) if one.reason is not None]
        left_out += [BadImage(part, listed.names[place], str(looked[place].reason)) for place in bad]
        if bad:
            good = [place for place, one in enumerate(looked) if one.reason is None]
            listed, looked = listed.take(torch.tensor(good, dtype=torch.int64)), [looked[place] for place in good]
        kept[part], seen[part] = listed, looked
    if left_out and on_bad_image == "error":
        sizes = {"train": len(train.paths)} | {part: len(listed.paths) for part, listed in evaluation.items()}
        raise InputError("on_bad_image", "error", f"{described(left_out, sizes)}; skip leaves them out")
    files = {part: ImageFiles(listed.root, listed.paths, crop) for part, listed in kept.items()}
    top, levels = range_of_levels(files, seen)
    parts = {
        part: Split(
            replace(files[part], top=top), listed.labels, listed.true_labels, listed.names, listed.rows, listed.trusted
        )
        for part, listed in kept.items()
    }
    said = (*remarks, *remarks_on_names(kept.values()), *levels, *copies_among(parts, files, seen))
    return ImageDataset(
        name, tuple(class_names), parts["train"], {part: parts[part] for part in evaluation},
        left_out=tuple(left_out), remarks=said, test_at_end=test_at_end,
        some_unlabeled=bool((train.labels == UNLABELED).any()),
    )  # fmt: skip


def remarks_on_names(sets: Iterable[Listed]) -> list[str]:
    """A line on the images of all `sets` whose names do not stand in labels.csv as they are."""
    names = [name for listed in sets for name in listed.names.escaped()]
    if not names:
        return []
    what = "control characters, or bytes that are no UTF-8"
    images = count_of(len(names), "image")
    return [f"{what}, in the names of {images}: labels.csv has them escaped, as {one_line(names[0])}"]


def range_of_levels(files: Mapping[str, ImageFiles], seen: Mapping[str, Sequence[Seen]]) -> tuple[int, list[str]]:
    """The level of grayscale images with more than 8 bits that becomes 255, one for all sets, and a line that says so.

    Args:
        files: of each set.
        seen: of each set, what a look at its images told; of sets that were not decoded, a sample is.
    """
    levels: list[int] = []
    for part, images in files.items():
        looked = seen[part]
        if not any(one.digest for one in looked):
            places = torch.linspace(0, len(images) - 1, min(BLOCK, len(images)), dtype=torch.float64).long().tolist()
            looked = [images.look(place, whole=True) for place in places]
        levels += [one.level for one in looked if one.level]
    if not levels:
        return TOPS[-1], []
    top = top_level(max(levels))
    bits = top.bit_length()
    return top, [f"grayscale images of up to {bits} bits ({len(levels):,} seen): 0..{top} is scaled to 0..255"]


def copies_among(
    parts: Mapping[str, Split], files: Mapping[str, ImageFiles], seen: Mapping[str, Sequence[Seen]]
) -> list[str]:
    """Lines on copies: by pixels where all sets were decoded, else by the files' contents."""
    if all(one.digest for looked in seen.values() for one in looked):
        found = {part: ([one.digest for one in looked], len(looked)) for part, looked in seen.items()}
    else:
        found = file_digests({part: (len(images), images.file) for part, images in files.items()})
    if not found:
        return []
    looked = {
        part: Looked(*found[part], split.paths or (), split.labels.tolist())
        for part, split in parts.items()
    }  # fmt: skip
    return remarks_on_copies(looked.pop("train"), looked)


def described(bad: Sequence[BadImage], sizes: Mapping[str, int]) -> str:
    """How many files of which sets cannot be read, and the first few of them.

    Args:
        bad: of all sets, at least one.
        sizes: how many files each set lists.
    """
    counts = Counter(image.part for image in bad)
    of_each = ", ".join(f"{counts[part]:,} of {size:,} in {part}" for part, size in sizes.items() if counts[part])
    shown = ", ".join(f"{image.path} ({image.reason})" for image in bad[:3]) + (", ..." if len(bad) > 3 else "")
    windows = "; \\ in their names is no separator here: write /" if all("\\" in image.path for image in bad) else ""
    return f"{count_of(len(bad), 'file')} cannot be read ({of_each}): {shown}{windows}"


def look_at(images: ImageFiles, whole: bool) -> list[Seen]:
    """What a look at each image tells.

    Args:
        images: to look at, all of them.
        whole: decode them, which shows a progress bar on a terminal; else look at the headers.
    """
    blocks: Sequence[range] = [range(at, min(at + BLOCK, len(images))) for at in range(0, len(images), BLOCK)]
    with ThreadPoolExecutor(usable_cores() + 4) as threads:
        found: Iterable[list[Seen]] = threads.map(lambda block: [images.look(k, whole) for k in block], blocks)
        if whole:
            console = Console(file=sys.stderr)
            found = track(
                found, f"Decoding {len(images):,} images", len(blocks), console=console, transient=True,
                disable=not console.is_terminal,
            )  # fmt: skip
        return [seen for block in found for seen in block]


def require_no_repeat(setting: str, value: str, paths: PathList, lines: Sequence[int] | None = None) -> None:
    """Raise `InputError` where an image is listed twice; `lines` says where each stands in the user's file."""
    repeat = paths.first_repeat()
    if repeat is not None:
        first, second = (place + 1 if lines is None else lines[place] for place in repeat)
        what = "images" if lines is None else "lines"
        raise InputError(setting, value, f"{paths[repeat[0]]} is there twice, as {what} {first} and {second}")
