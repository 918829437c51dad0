"""Chooses a backbone by the size of the views, where the settings name none."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from cpc_lightning.backbones.preact_resnet import small_resnet
from cpc_lightning.backbones.torchvision_backbone import torchvision_backbone
from cpc_lightning.errors import require

SMALL_VIEWS = 56
"""Views of up to so many pixels would be a map of 2 x 2 at the end of a network for photos, which halves them five
times."""
WIDTH = 48
"""Of the network for small views: it costs a ninth of ResNet-18 on views of 224, where these have 56 pixels."""


def fitting_backbone(
    size: int | Sequence[int], name: str | None = None, weights: str | None = None, in_channels: int = 3
) -> nn.Module:
    """A small residual network without pooling in its stem for views of up to `SMALL_VIEWS` pixels, else ResNet-18.

    Args:
        size: of the views, in pixels; the larger side counts.
        name: a torchvision classifier to take whatever the size.
        weights: to start from, of torchvision's (see `torchvision_backbone`), which are for photos: then it is
            ResNet-18, or `name`, whatever the size.
        in_channels: of the images.

    Raises:
        InputError: as `torchvision_backbone` does, or where the size is not known.
    """
    require(size is not None, "size", size, "must be the size of the views")
    if name is None and weights is None and is_small(size):
        return small_resnet(in_channels, WIDTH)
    return torchvision_backbone("resnet18" if name is None else name, weights, in_channels)


def is_small(size: int | Sequence[int]) -> bool:
    """Whether views of this size are small."""
    return (max(size) if isinstance(size, Sequence) else size) <= SMALL_VIEWS


def described_for(size: int | Sequence[int]) -> str:
    """What `fitting_backbone` takes for views of this size, for people."""
    return "a small residual network without pooling in its stem" if is_small(size) else "ResNet-18"
