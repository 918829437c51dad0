"""A trained model as one network that can be exported: from 8-bit images of any size to probabilities.

Everything is written as sums and products of tensors, resizing too, because exported formats either have no resizing
like Pillow's or each its own.

Shapes: N images, H x W pixels as given, C channels, S the side of what the run's networks see, D numbers, K classes.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from cpc_lightning.datasets.reading.image_files import MAX_ASPECT
from cpc_lightning.features.extractor import CORNERS, CROP, Extractor
from cpc_lightning.inference.model import TrainedModel
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views


class Deployed(nn.Module):
    """Preprocessing, one network or both, and the mean of their softmax.

    Args:
        model: on the CPU; it shares its weights.
        chosen: numbers of the networks, of 0 and 1.
        half: whether networks compute in half precision; preprocessing and softmax stay in float32.
    """

    def __init__(self, model: TrainedModel, chosen: tuple[int, ...] = (0, 1), half: bool = False) -> None:
        super().__init__()
        self.networks = nn.ModuleList([model.networks[number] for number in chosen])
        self.before: nn.Module
        if model.crop is None:
            self.before = Standardised(cast(VectorViews, model.views))
        elif model.extractor is None:
            views = cast(Views, model.views)
            _, height, width = model.stored or (model.channels, model.crop.size, model.crop.size)
            self.before = nn.Sequential(
                Resized(model.crop.resize, model.crop.size),
                Normalised(views.mean, views.std, views.height or height, views.width or width),
            )
        else:
            self.before = nn.Sequential(
                Resized(model.crop.resize, model.crop.size), Extracted(model.extractor, model.crop.size, half),
                Standardised(cast(VectorViews, model.views)),
            )  # fmt: skip
        self.kind = torch.float16 if half else torch.float32
        if half:
            self.networks.half()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, H, W, C) uint8, or vectors (N, D) float32 -> probabilities (N, K) float32."""
        inputs = self.before(images).to(self.kind)
        chances = [network(inputs).float().softmax(dim=1) for network in self.networks]
        return torch.stack(chances).mean(dim=0)


class Resized(nn.Module):
    """`Crop.scaled` and `Crop.centre`: (N, H, W, C) uint8 -> (N, C, S, S) float32 levels, whole numbers in 0..255.

    As Pillow's, first along the rows, then along the columns, each time rounded to a level.
    """

    def __init__(self, resize: int, size: int) -> None:
        super().__init__()
        self.resize, self.size = resize, size

    def forward(self, images: Tensor) -> Tensor:
        """See above."""
        rows, columns = torch.arange(images.shape[1]), torch.arange(images.shape[2])
        height, width = rows.max() + 1, columns.max() + 1
        shorter = torch.minimum(height, width)
        down, right = self._weights(rows, height, shorter), self._weights(columns, width, shorter)
        levels = images.permute(0, 3, 1, 2).float()
        across = torch.matmul(levels, right.t()).round()
        return torch.matmul(down, across).round()

    def _weights(self, positions: Tensor, length: Tensor, shorter: Tensor) -> Tensor:
        """(S, n) how much each pixel counts for each of the result, along an axis of n pixels at `positions`."""
        cut = torch.clamp(torch.div(length - MAX_ASPECT * shorter, 2, rounding_mode="floor"), min=0)
        kept = length - 2 * cut  # of a very long side only the middle
        scaled = torch.div(self.resize * kept, shorter, rounding_mode="floor")
        start = torch.round((scaled - self.size).float() / 2)
        return triangle(positions - cut, kept, scaled, start, self.size)


def triangle(positions: Tensor, length: Tensor, scaled: Tensor, start: Tensor, size: int) -> Tensor:
    """(size, n) the weights of antialiased bilinear scaling, as Pillow has them.

    Args:
        positions: (n,) of the pixels; those outside of 0..length-1 count nothing.
        length: of the axis, in pixels.
        scaled: what it becomes.
        start: the first pixel of the result that is wanted.
        size: how many are wanted.
    """
    step = length.float() / scaled.float()
    reach = torch.clamp(step, min=1.0)
    centres = (start + torch.arange(size) + 0.5) * step
    distance = (positions.float()[None] + 0.5 - centres[:, None]).abs() / reach
    inside = ((positions >= 0) & (positions < length)).float()
    weights = torch.clamp(1.0 - distance, min=0.0) * inside
    return weights / weights.sum(dim=1, keepdim=True)


class Normalised(nn.Module):
    """`Views.evaluation` and `Views.normalise`: (N, C, S, S) levels -> (N, C, h, w)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.height, self.width = height, width

    def forward(self, levels: Tensor) -> Tensor:
        """See above."""
        top, left = (round((levels.shape[2 + a] - side) / 2) for a, side in enumerate((self.height, self.width)))
        cut = levels[:, :, top : top + self.height, left : left + self.width]
        return (cut / 255.0 - self.mean) / self.std


class Standardised(nn.Module):
    """`VectorViews.normalise`: (N, D) -> (N, D)."""

    mean: Tensor
    std: Tensor

    def __init__(self, views: VectorViews) -> None:
        super().__init__()
        self.register_buffer("mean", views.mean.clone())
        self.register_buffer("std", views.std.clone())

    def forward(self, vectors: Tensor) -> Tensor:
        """See above."""
        return (vectors.float() - self.mean) / self.std if len(self.mean) else vectors.float()


class Extracted(nn.Module):
    """What `Extractor` makes of square images, the mean over its views: (N, C, S, S) levels -> (N, D)."""

    mean: Tensor
    std: Tensor

    def __init__(self, extractor: Extractor, stored: int, half: bool) -> None:
        super().__init__()
        self.network, self.method, self.half_precision = extractor.network, extractor.method, half
        if half:
            self.network.half()
        self.register_buffer("mean", torch.tensor(extractor.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(extractor.std).view(1, -1, 1, 1))
        size = extractor.size or stored
        self.scales = size != stored
        self.register_buffer("scale", _square(stored, size, 0, stored))
        self.views = extractor.views
        side = max(1, round(CROP * size))
        for place in range(1, (extractor.views + 1) // 2):
            for axis, share in zip(("down", "right"), CORNERS[place - 1], strict=True):
                self.register_buffer(f"{axis}_{place}", _square(side, size, round(share * (size - side)), size))

    def forward(self, levels: Tensor) -> Tensor:
        """See above."""
        inputs = levels / 255.0
        if self.scales:
            scale = cast(Tensor, self.scale)
            inputs = torch.matmul(scale, torch.matmul(inputs, scale.t()))
        inputs = (inputs.expand(-1, 3, -1, -1) - self.mean) / self.std
        answers = [self._answer(self._view(inputs, number)) for number in range(self.views)]
        return torch.stack(answers).mean(dim=0)

    def _view(self, inputs: Tensor, number: int) -> Tensor:
        place, mirrored = divmod(number, 2)
        if place:
            down, right = (cast(Tensor, getattr(self, f"{axis}_{place}")) for axis in ("down", "right"))
            inputs = torch.matmul(down, torch.matmul(inputs, right.t()))
        return inputs.flip(-1) if mirrored else inputs

    def _answer(self, inputs: Tensor) -> Tensor:
        answer = getattr(self.network, self.method)(inputs.half() if self.half_precision else inputs).float()
        if answer.ndim == 2:
            return cast(Tensor, answer)
        return cast(Tensor, answer.mean(dim=(2, 3)) if answer.ndim == 4 else answer.mean(dim=1))


def _square(length: int, size: int, offset: int, whole: int) -> Tensor:
    """(size, whole) the weights that scale the `length` pixels from `offset` on, of `whole` ones, to `size`."""
    positions = torch.arange(whole) - offset
    return triangle(positions, torch.tensor(length), torch.tensor(size), torch.tensor(0.0), size)
