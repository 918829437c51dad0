"""Checks of the data set: sizes, classes, labels, a sample of images. Shapes: N samples, K classes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cpc_lightning.checkup.findings import Finding
from cpc_lightning.datasets.dataset import UNKNOWN, UNLABELED, ArrayImages, ImageDataset, Split, Vectors, pictures_of
from cpc_lightning.datasets.reading.formats import open_image
from cpc_lightning.datasets.reading.image_files import ImageFiles
from cpc_lightning.errors import InputError, count_of
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import VIEWS, Views

SAMPLE = 64
"""Images that are decoded, out of each set."""

ENOUGH = 10
"""Images of a class whose true label is known, to say how they are labeled."""


def size_findings(dataset: ImageDataset, minimum: int | None, folds: int | None = None) -> list[Finding]:
    """Sizes of the sets and of the classes.

    Args:
        dataset: noise included: a class's size is how often its label is given.
        minimum: what a class needs to be judged by a mixture of its own; None where that is not asked for.
        folds: parts of the set that take turns in being judged; None where the cleaner has none.
    """
    parts = ", ".join(f"{len(split):,} in {name}" for name, split in dataset.evaluation.items()) or "none to test on"
    found = f"{dataset.name}: {len(dataset.train):,} images to train on, {parts}"
    findings = [Finding("data set", "ok", found)]
    if dataset.left_out:
        first = dataset.left_out[0]
        found = f"left out: {count_of(len(dataset.left_out), 'image')}; the first: {first.path} ({first.reason})"
        findings.append(Finding("data set", "warning", found))
    findings += [Finding("data set", "warning", line) for line in dataset.remarks]
    num_classes = len(dataset.class_names)
    given = dataset.train.labels
    counts = torch.bincount(given[given != UNLABELED], minlength=num_classes)
    smallest, largest = int(counts.argmin()), int(counts.argmax())
    found = f"{count_of(int(counts[smallest]), 'image')} ({dataset.class_names[smallest]})"
    found += f" to {int(counts[largest]):,} ({dataset.class_names[largest]})"
    if counts[smallest] == counts[largest]:
        found = f"{count_of(int(counts[smallest]), 'image')} each"
    findings.append(Finding("classes", "ok", f"{num_classes}, of {found}, by the labels to train on"))
    small = torch.nonzero(counts < (minimum or 1)).flatten().tolist()
    if small:
        names = listed([f"{dataset.class_names[k]} ({int(counts[k])})" for k in small])
        if minimum is None:
            findings.append(Finding("classes", "warning", f"never given to an image to train on: {names}"))
        else:
            found = f"fewer than {minimum} images: {names}; the mixture of all classes judges them"
            findings.append(Finding("classes", "warning", found, "cleaner=cpc_agn or gmm_agn, or more images"))
    few = torch.nonzero((counts > 0) & (counts < (folds or 0))).flatten().tolist()
    if few:
        names = listed([f"{dataset.class_names[k]} ({int(counts[k])})" for k in few])
        found = f"fewer images than cleaner.folds={folds}: {names}; few others tell what they look like"
        found += ", and a label that no other image has is believed" if bool((counts == 1).any()) else ""
        findings.append(Finding("classes", "warning", found, "more images, or a look at each of them"))
    for name, split in dataset.evaluation.items():
        absent = torch.nonzero(torch.bincount(split.labels, minlength=num_classes) == 0).flatten().tolist()
        if absent:
            found = f"{len(absent)} of {num_classes} have no image in {name}: "
            findings.append(Finding("classes", "warning", found + listed([dataset.class_names[k] for k in absent])))
    return findings


def label_findings(split: Split, nominal_rate: float | None, class_names: Sequence[str]) -> list[Finding]:
    """What is known of the true labels, how many are wrong, and the classes whose images mostly have another's label.

    Args:
        split: to train on, noise included.
        nominal_rate: the noise's.
        class_names: K names.
    """
    true_labels = split.true_labels
    known = torch.zeros(len(split), dtype=torch.bool) if true_labels is None else true_labels != UNKNOWN
    known &= split.labels != UNLABELED
    if true_labels is None or not bool(known.any()):
        found = "the true labels are not known: no rate of wrong ones, no AUC of the cleaner"
        return [Finding("labels", "ok", found)]
    given, true = split.labels[known], true_labels[known]
    rates = f"{percent((given != true).double().mean().item())} are wrong"
    nominal = "" if nominal_rate is None else f" (nominal rate {percent(nominal_rate)})"
    of = "all" if bool(known.all()) else f"{int(known.sum()):,} of {len(split):,}"
    findings = [Finding("labels", "ok", f"the true labels of {of} are known; {rates}{nominal}")]
    lost = lost_classes(given, true, len(class_names))
    if lost:
        pairs = [f"{class_names[a]} (as {class_names[b]})" for a, b in lost]
        found = f"most often labeled as another class: {listed(pairs)}; wrong labels then look like the right ones"
        findings.append(Finding("labels", "warning", found, "less noise (noise.rate), or other labels"))
    return findings


def lost_classes(given: Tensor, true: Tensor, num_classes: int) -> list[tuple[int, int]]:
    """The classes of whose images another class's label is the most frequent, with that class.

    Classes with fewer than `ENOUGH` images are left aside: there it is chance.

    Args:
        given: (n,) int64 in 0..K-1.
        true: (n,) int64 in 0..K-1; negative ones, of images that show no class, are left aside.
        num_classes: K.
    """
    shows = true >= 0
    cells = torch.bincount(true[shows] * num_classes + given[shows], minlength=num_classes * num_classes)
    table = cells.view(num_classes, num_classes)  # true, given
    most = table.argmax(dim=1)
    lost = ((table.amax(dim=1) > table.diagonal()) & (table.sum(dim=1) >= ENOUGH)).nonzero().flatten()
    return [(int(k), int(most[k])) for k in lost]


def image_findings(
    dataset: ImageDataset, seed: int, workers: int, skips: bool = False, views: int = 2 * VIEWS
) -> list[Finding]:
    """A sample of the images of each set, those to train on decoded as in training; of vectors what they are.

    Args:
        dataset: to take them from.
        seed: draws the sample.
        workers: processes that will decode, at least 1.
        skips: whether the run leaves out images that cannot be read.
        views: of each image in stage 2.
    """
    of_vectors = isinstance(dataset.train.images, Vectors)
    if isinstance(dataset.train.images, Vectors):
        if dataset.train.images.pictures is None:
            return vector_findings(dataset.train.images)
        dataset = with_pictures(dataset)
    images, count = dataset.train.images, min(SAMPLE, len(dataset.train))
    draw = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    begin = time.perf_counter()
    seen: list[tuple[int, bytes]] = []
    bad: list[str] = []
    for position in draw.sort().values.tolist():
        try:
            pixels = images.fetch_views(torch.tensor([position]), views, seed)
            seen.append((position, images.fetch(torch.tensor([position])).numpy().tobytes()))
        except InputError as error:
            bad.append(str(error.value))
    seconds = (time.perf_counter() - begin) / count
    findings = unreadable("train", bad, count, skips)
    for name, split in dataset.evaluation.items():
        findings += unreadable(name, *unreadable_sample(split, seed), skips)
    if seen:
        channels, height, width = pixels.shape[-3:]
        found = f"{len(seen)} drawn at random are fine: {count_of(channels, 'channel')} of {height} x {width} pixels"
        if isinstance(images, ImageFiles):
            found += f" once cropped; about {workers / seconds:,.0f} images a second"
            found += f" with {count_of(workers, 'process')}"
        findings.append(Finding("images", "ok", found))
    findings += sameness(seen, dataset.train.paths or ()) + shared_images(dataset)
    if isinstance(images, ImageFiles) and not of_vectors:  # which may see them in another size
        findings += enlarged(images, [position for position, _ in seen])
    return findings


def vector_findings(images: Vectors) -> list[Finding]:
    """What vectors there are, and those of their numbers that tell nothing."""
    count, numbers = images.vectors.shape
    same = (images.vectors == images.vectors[:1]).all(dim=0)
    findings = [Finding("vectors", "ok", f"{count:,} of {count_of(numbers, 'number')} each, all finite")]
    if bool(same.any()):
        found = f"{int(same.sum()):,} of their {numbers:,} numbers are the same in all"
        findings.append(Finding("vectors", "error" if bool(same.all()) else "warning", found))
    return findings


def with_pictures(dataset: ImageDataset) -> ImageDataset:
    """The data set with the images that its vectors were computed from in their place, where there are any."""
    train = pictures_of(dataset.train.images)
    if train is None:
        return dataset
    evaluation = {
        name: replace(split, images=pictures_of(split.images) or split.images)
        for name, split in dataset.evaluation.items()
    }
    return replace(dataset, train=replace(dataset.train, images=train), evaluation=evaluation)


def unreadable_sample(split: Split, seed: int) -> tuple[list[str], int]:
    """The names of the files of a sample that cannot be read as in evaluation, and the size of the sample."""
    count = min(SAMPLE, len(split))
    bad: list[str] = []
    for position in torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count].sort().values:
        try:
            split.images.fetch(position[None])
        except InputError as error:
            bad.append(str(error.value))
    return bad, count


def unreadable(part: str, bad: Sequence[str], count: int, skips: bool) -> list[Finding]:
    """The row on those of `count` images of the set `part` that cannot be read; none where all can."""
    if not bad:
        return []
    found = f"{len(bad)} of {count} drawn at random from {part} cannot be read: {listed(bad)}"
    advice = "" if skips else "dataset.on_bad_image=skip leaves such files out"
    return [Finding("images", "warning" if skips else "error", found, advice)]


def sameness(seen: Sequence[tuple[int, bytes]], paths: Sequence[str]) -> list[Finding]:
    """Warnings for images of which there are two, or which show nothing but one level.

    Args:
        seen: positions of images, and what they hold.
        paths: names of all images by position; empty where they have none.
    """
    findings = []
    times = Counter(pixels for _, pixels in seen)
    for found, wrong in (
        ("there more than once", [position for position, pixels in seen if times[pixels] > 1]),
        ("of a single level", [position for position, pixels in seen if len(set(pixels)) == 1]),
    ):
        if wrong:
            names = listed([paths[position] if paths else f"image {position}" for position in wrong])
            findings.append(Finding("images", "warning", f"{len(wrong)} of {len(seen)} are {found}: {names}"))
    return findings


def shared_images(dataset: ImageDataset) -> list[Finding]:
    """A warning for each set to evaluate on some of whose image files are trained on too."""
    findings = []
    for name, split in dataset.evaluation.items():
        train, images = dataset.train.images, split.images
        if isinstance(train, ImageFiles) and isinstance(images, ImageFiles) and train.root == images.root:
            both = sorted(set(images.paths).intersection(train.paths))
            if both:
                found = f"{len(both):,} of {len(images):,} images of {name} are trained on too: {listed(both)}"
                findings.append(Finding("images", "warning", found))
    return findings


def enlarged(images: ImageFiles, positions: Sequence[int]) -> list[Finding]:
    """A warning where most images are smaller than the size that they are scaled to."""
    sides = []
    for position in positions:
        with open_image(images.file(position)) as image:
            sides.append(min(image.size))
    small = sum(side < images.crop.resize for side in sides)
    if 2 * small <= len(sides):
        return []
    found = (
        f"{small} of {len(sides)} have a shorter side below dataset.crop.resize={images.crop.resize} "
        f"(the median is {sorted(sides)[len(sides) // 2]}): enlarged images cost time and tell nothing more"
    )
    return [Finding("images", "warning", found, "smaller views.size and dataset.crop.resize")]


def two_views(views: Views | VectorViews, dataset: ImageDataset) -> Tensor:
    """Two strong views of the first image, (2, C, h, w), as a network reads them; and a try at evaluation's view.

    Of vectors (2, D).

    Raises:
        InputError: where the views do not fit the images.
    """
    first = torch.tensor([0])
    images = dataset.train.images.fetch_views(first, 1, 0)[0]
    try:
        views.evaluation(dataset.train.images.fetch(first))
        return views.normalise(views.strong(images.expand(2, *images.shape[1:])))
    except InputError as error:
        raise error.within("views") from None


def stand_in(views: Views) -> ImageDataset:
    """Black images of the views' size, for a backbone to look at where there is no data set."""
    pixels = torch.zeros(2, len(views.mean), views.height or 32, views.width or 32, dtype=torch.uint8)
    split = Split(ArrayImages(pixels), torch.tensor([0, 1]))
    return ImageDataset("stand-in", ("0", "1"), split, {"test": split})


def listed(names: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def percent(share: float) -> str:
    """0.8 as 80 %, 0.7211 as 72.1 %."""
    return f"{round(100 * share, 1):g} %"
