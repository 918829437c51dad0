"""The contract of features, and features=none."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from cpc_lightning.datasets.dataset import ImageDataset


class Preview(NamedTuple):
    """What features there are, and what there is to compute.

    Attributes:
        dataset: what `extract` would give; vectors that are not there yet are zeros.
        found: that in a sentence for people.
        seconds: that computing them takes here; 0 where they are there.
    """

    dataset: ImageDataset
    found: str
    seconds: float


class Features(Protocol):
    """Turns a data set of images into one of vectors.

    Attributes:
        active: whether it does; if not, images are trained on as they are.
    """

    active: bool

    def prepare(self) -> None:
        """Make the network, so that its mistakes are told before images are decoded."""

    def extract(self, dataset: ImageDataset, device: str = "cpu", quiet: bool = False) -> ImageDataset:
        """The data set with vectors in the place of its images, which stay reachable as their `pictures`.

        Args:
            dataset: of images, noise included: of images that are replaced on purpose features are computed too.
            device: where the network computes.
            quiet: say nothing about the progress; for all processes but one.
        """

    def stand_in(self, dataset: ImageDataset) -> ImageDataset:
        """The data set with zeros in the place of what `extract` would give, to try out what is to learn from it."""

    def preview(self, dataset: ImageDataset) -> Preview:
        """What `extract` would give, without computing it, and what there is to compute."""


class NoFeatures:
    """Images are trained on as they are."""

    active = False

    def prepare(self) -> None:
        """Nothing; see `Features`."""

    def extract(self, dataset: ImageDataset, device: str = "cpu", quiet: bool = False) -> ImageDataset:
        """The data set itself; see `Features`."""
        return dataset

    def stand_in(self, dataset: ImageDataset) -> ImageDataset:
        """The data set itself; see `Features`."""
        return dataset

    def preview(self, dataset: ImageDataset) -> Preview:
        """The data set itself; see `Features`."""
        return Preview(dataset, "", 0.0)
