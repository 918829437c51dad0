"""Features of a pretrained network, computed once for a set of images and kept on disk.

Shapes: N images, W views of each, D features.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from cpc_lightning.datasets.dataset import ImageDataset, Images, Split, Vectors
from cpc_lightning.datasets.vectors import ArrayVectors
from cpc_lightning.errors import InputError, first_line, require, require_integer, require_number
from cpc_lightning.features.extractor import MOST_VIEWS, Extractor
from cpc_lightning.features.features import Preview
from cpc_lightning.features.identity import identity_of
from cpc_lightning.features.progress import Progress, spoken
from cpc_lightning.features.store import Claims, Store
from cpc_lightning.features.workers import OnCores, OnDevice

FORMAT = 1
"""Changes with what is computed of an image, so that nobody gets the features of an older version."""

SEED = 0
"""Of the weights that a network draws: without a file they are random, and the same in every run."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PLENTY = 8
"""Blocks that are left to other processes: of the last ones, each takes one at a time."""

PAUSE = 0.2
"""Seconds between two looks at what other processes compute."""


class PretrainedFeatures:
    """Vectors of a pretrained network in the place of images.

    They are computed block by block, by all processes that want them, and kept in a folder of their own, which depends
    on the images, the network's weights and what is done to an image before it. A second run reads them; one that was
    stopped goes on.

    Args:
        make_network: makes the network.
        name: what it is called, for people.
        views: W: the image, its mirror image, then five crops of it, each followed by its mirror image.
        size: side that the images are scaled to; None: as the data set crops them.
        mean: of each channel, of levels scaled to [0, 1], that the network expects.
        std: likewise.
        batch_size: images a pass.
        folder: to keep features in; None: cpc_lightning/features in the user's folder for what programs keep.
        method: of the network, that answers the features.

    Raises:
        InputError: if a setting is out of its range.
    """

    active = True

    def __init__(
        self,
        make_network: Callable[[], nn.Module],
        name: str,
        views: int = 2,
        size: int | None = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        batch_size: int = 16,
        folder: str | None = None,
        method: str = "forward",
    ) -> None:
        require_integer("views", views, 1)
        require(views <= MOST_VIEWS, "views", views, f"must be at most {MOST_VIEWS}")
        if size is not None:
            require_integer("size", size, 1)
        require_integer("batch_size", batch_size, 1)
        for setting, values, low in (("mean", mean, float("-inf")), ("std", std, 0.0)):
            numbers = isinstance(values, Sequence) and not isinstance(values, str)
            require(
                numbers and len(values) in (1, 3), setting, values, "must hold 1 or 3 numbers, one for each channel"
            )
            for value in values:
                require_number(setting, value, low, open_ends=True)
        require(folder is None or (isinstance(folder, str) and folder != ""), "folder", folder, "must name a folder")
        self.name, self.views, self.size, self.mean, self.std = name, views, size, tuple(mean), tuple(std)
        self.batch_size, self.method, self._make = batch_size, method, make_network
        self.folder = own_folder() if folder is None else Path(folder).expanduser()

    def prepare(self) -> None:
        """Make the network; see `Features`."""
        _ = self.extractor

    def extract(self, dataset: ImageDataset, device: str = "cpu", quiet: bool = False) -> ImageDataset:
        """The data set with vectors in the place of its images; see `Features`.

        Raises:
            InputError: where the network cannot be made or does not take the images, an image cannot be read, or the
                folder cannot be written to.
        """

        def of(part: str, split: Split) -> Split:
            images = self._images(split)
            store = self._store(images)
            if not store.complete:
                self._compute(store, images, device, Progress(part, len(images), quiet))
            return self._with_vectors(split, store)

        made = of_all_parts(dataset, of)
        self.extractor.network.to("cpu")
        return made

    def stand_in(self, dataset: ImageDataset) -> ImageDataset:
        """The data set with zeros in the place of its features; see `Features`, and `extract` for errors."""
        first = self._images(dataset.train).fetch(torch.tensor([0]))
        _, views, numbers = self.extractor(first).shape

        def of(part: str, split: Split) -> Split:
            zeros = torch.zeros(1, views, numbers).expand(len(split), -1, -1)
            return replace(split, images=ArrayVectors(zeros, zeros[:, 0], split.images, self.extractor.digest))

        return of_all_parts(dataset, of)

    def preview(self, dataset: ImageDataset) -> Preview:
        """What `extract` would give, and what there is to compute; see `Features` for both, `extract` for errors."""
        splits = {"train": dataset.train, **dataset.evaluation}
        stores = {part: self._store(self._images(split)) for part, split in splits.items()}
        absent = sum(len(store.positions(block)) for store in stores.values() for block in store.missing())
        if all(store.complete for store in stores.values()):
            there = of_all_parts(dataset, lambda part, split: self._with_vectors(split, stores[part]))
            return Preview(there, f"those of {self.name} are there, in {self.folder}", 0.0)
        zeros = self.stand_in(dataset)  # which also warms up
        seconds = absent * self._seconds(self._images(dataset.train))
        count = f"{absent:,} images in {self.views} views each" if self.views > 1 else f"{absent:,} images"
        found = f"{self.name} is to see {count} first, about {spoken(seconds)}; kept in {self.folder}"
        return Preview(zeros, found, seconds)

    def _seconds(self, images: Images) -> float:
        """What an image takes, decoded and in all its views."""
        some = torch.linspace(0, len(images) - 1, min(len(images), 8)).long()
        extractor = self.extractor.folded(images)
        begin = time.perf_counter()
        extractor(images.fetch(some))
        return (time.perf_counter() - begin) / len(some)

    @cached_property
    def extractor(self) -> Extractor:
        """The network, made when it is first needed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            try:
                network = self._make()
            except InputError:
                raise
            except Exception as error:  # any function of anybody's
                raise InputError("network", self.name, f"cannot be made: {first_line(error)}") from error
        is_network = isinstance(network, nn.Module) and hasattr(network, self.method)
        expected = f"must make a network (torch.nn.Module) that has {self.method}"
        require(is_network, "network", type(network).__name__, expected)
        return Extractor(network.eval(), self.views, self.size, self.mean, self.std, self.method)

    def _images(self, split: Split) -> Images:
        expected = "are computed of images, and this data set consists of vectors: features=none"
        require(not isinstance(split.images, Vectors), "features", self.name, expected)
        return self.extractor.sized(split.images)

    def _store(self, images: Images) -> Store:
        key = hashlib.sha256(f"{FORMAT} {self.extractor.digest} {identity_of(images)}".encode()).hexdigest()
        return Store(self.folder / key[:32], len(images))

    def _with_vectors(self, split: Split, store: Store) -> Split:
        return replace(split, images=ArrayVectors(*store.read(), split.images, self.extractor.digest))

    def _compute(self, store: Store, images: Images, device: str, progress: Progress) -> None:
        """Compute what is missing, together with other processes; return when all is there."""
        start = os.getpid() % store.blocks  # processes begin at different places
        with Claims(store) as claims, self._worker(images, device) as worker, progress:
            while not store.complete:
                missing = sorted(store.missing(), key=lambda block: (block - start) % store.blocks)
                progress.show(store.samples - sum(len(store.positions(block)) for block in missing))
                mine = next(filter(claims.take, missing or [store.blocks]), None)
                if mine is None:
                    time.sleep(PAUSE)
                    continue
                if mine in store.missing():
                    follows = next(filter(claims.take, missing[missing.index(mine) + 1 : -PLENTY]), None)
                    ahead = None if follows is None else store.positions(follows)
                    store.write(mine, worker.vectors(store.positions(mine), ahead))
                elif not missing and not store.complete:
                    store.put_together({"features": self.name, "network": self.extractor.digest})
                claims.release(mine)

    def _worker(self, images: Images, device: str) -> OnCores | OnDevice:
        if device == "cpu":
            return OnCores(self.extractor, images, self.batch_size)
        return OnDevice(self.extractor, images, self.batch_size, device)


def of_all_parts(dataset: ImageDataset, make: Callable[[str, Split], Split]) -> ImageDataset:
    """The data set with what `make` gives of the name and the split of each of its parts."""
    evaluation = {name: make(name, split) for name, split in dataset.evaluation.items()}
    return replace(dataset, train=make("train", dataset.train), evaluation=evaluation)


def own_folder() -> Path:
    """Where features are kept if nobody says where: in the user's folder for what programs can make again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home, "cpc_lightning", "features")
