"""Open-set noise: images of none of the classes, under labels that name one.

Shapes: N samples, B batch, V views, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES, ImageDataset, Images, Split, Vectors
from cpc_lightning.errors import InputError, require, require_number
from cpc_lightning.noise.noise import choose, frozen_stream, relabeled


class OpenSetNoise:
    """A share of the training images, drawn without replacement, is replaced by images of another data set.

    The labels stay, and are wrong whatever they say: the true label becomes `NONE_OF_THE_CLASSES`. That the other set's
    classes do not occur in this one is for the user to see to.

    Args:
        rate: share of the images, in [0, 1]; exactly int(rate * N) of them are replaced.
        source: makes the other data set, whose training images are taken, in the size and the channels of this one's.
            Each is taken once; where there are too few, each is taken equally often, or once more.
    """

    def __init__(self, rate: float, source: Callable[[], ImageDataset]) -> None:
        require_number("rate", rate, 0, 1)
        self.nominal_rate: float | None = float(rate)
        self.rate, self.source = float(rate), source

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """The training split with foreign images; see `Noise`.

        Raises:
            InputError: if the source cannot be read, or is the data set itself, or the data set consists of vectors.
        """
        expected = "replaces images, and this data set consists of vectors: noise=symmetric, say"
        require(not isinstance(dataset.train.images, Vectors), "rate", self.rate, expected)
        try:
            source = self.source()
        except InputError as error:
            raise error.within("source") from None
        expected = "must be another data set: its images must show none of the classes"
        require(source.name != dataset.name, "source", source.name, expected)
        stream, split, available = frozen_stream(seed), dataset.train, len(source.train)
        chosen = choose(stream, len(split), self.rate)
        rounds = -(-len(chosen) // available)
        taken = [stream.permutation(available) for _ in range(rounds)]
        foreign = torch.cat([torch.empty(0, dtype=torch.int64), *map(torch.from_numpy, taken)])[: len(chosen)]

        origin = torch.full((len(split),), -1)
        origin[torch.from_numpy(chosen)] = foreign
        known = relabeled(split, split.labels)
        paths = split.paths
        if paths is not None:
            names = [str(k) for k in range(available)] if source.train.paths is None else source.train.paths
            paths = [
                path if other < 0 else f"{source.name}/{names[other]}"
                for path, other in zip(paths, origin.tolist(), strict=True)
            ]
        return replace(
            known,
            images=MixedImages(split.images, source.train.images, origin),
            true_labels=known.true_labels.where(origin < 0, NONE_OF_THE_CLASSES),  # type: ignore[union-attr]
            paths=paths,
        )


@dataclass(frozen=True)
class MixedImages:
    """A data set's images, some of which are another set's; see `Images`.

    Attributes:
        own: N images.
        other: the other set's, which are resized to the size of these and given as many channels.
        origin: (N,) int64 position among the other set's, -1 where the image is its own.
    """

    own: Images
    other: Images
    origin: Tensor

    def __len__(self) -> int:
        return len(self.origin)

    def fetch(self, positions: Tensor) -> Tensor:
        """The images at `positions` (B,) int64, as (B, C, H, W) uint8."""
        return self._mix(positions, lambda p: self.own.fetch(p)[None], lambda p: self.other.fetch(p)[None])[0]

    def fetch_views(self, positions: Tensor, views: int, seed: int) -> Tensor:
        """The images at `positions` (B,) int64 to make views of, (V, B, C, H, W) uint8."""
        own, other = (lambda p, i=images: i.fetch_views(p, views, seed) for images in (self.own, self.other))
        return self._mix(positions, own, other)

    def _mix(self, positions: Tensor, own: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> Tensor:
        origin = self.origin[positions]
        replaced = origin >= 0
        # Image files cannot stack zero images: one of its own, at least, tells the shape.
        sample = own(positions[~replaced]) if not bool(replaced.all()) else own(positions[:1])[:, :0]
        if not bool(replaced.any()):
            return sample
        foreign = alike(other(origin[replaced]), sample)
        mixed = sample.new_empty(len(sample), len(positions), *sample.shape[2:])
        mixed[:, ~replaced], mixed[:, replaced] = sample, foreign
        return mixed


def alike(images: Tensor, sample: Tensor) -> Tensor:
    """Images (V', B', C', H', W') uint8 in the number of views, the channels and the size of `sample` (V, B, C, H, W).

    Where several views are to become one, the first is taken; grayscale is repeated as red, green and blue, and colour
    becomes its luminance (ITU-R 601, as in PIL); sizes change by bilinear interpolation with antialiasing.
    """
    views, _, channels, height, width = sample.shape
    images = images[:views].expand(views, *images.shape[1:])
    if images.shape[2:] == sample.shape[2:]:
        return images
    levels = images.float()
    if channels < levels.shape[2]:
        levels = (levels * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=2, keepdim=True)
    if levels.shape[3:] != (height, width):
        flat = functional.interpolate(levels.flatten(0, 1), (height, width), mode="bilinear", antialias=True)
        levels = flat.view(*levels.shape[:3], height, width)
    return levels.round().clamp(0, 255).to(torch.uint8).expand(-1, -1, channels, -1, -1)
