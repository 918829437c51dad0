"""Networks that features come from: those of torchvision and timm by name, and any that can be imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from cpc_lightning.backbones.timm_backbone import timm_backbone
from cpc_lightning.backbones.torchvision_backbone import torchvision_backbone
from cpc_lightning.backbones.weights import load_weights
from cpc_lightning.errors import require
from cpc_lightning.features.pretrained import IMAGENET_MEAN, IMAGENET_STD, PretrainedFeatures


def torchvision_features(
    name: str,
    weights: str | None = "DEFAULT",
    size: int | None = 224,
    views: int = 2,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    batch_size: int = 16,
    folder: str | None = None,
) -> PretrainedFeatures:
    """Features of a torchvision classifier: what its last layer sees.

    Args:
        name: as in torchvision.models.
        weights: as for `torchvision_backbone`; None: random ones, the same in every run.
        size: see `PretrainedFeatures`, as for all that follow.
        views: likewise.
        mean: likewise.
        std: likewise.
        batch_size: likewise.
        folder: likewise.
    """
    title = f"torchvision's {name} ({weights or 'random weights'})"
    make = partial(torchvision_backbone, name, weights)
    return PretrainedFeatures(make, title, views, size, mean, std, batch_size, folder)


def timm_features(
    name: str,
    weights: str | None = "DEFAULT",
    size: int | None = 224,
    views: int = 2,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    batch_size: int = 16,
    folder: str | None = None,
) -> PretrainedFeatures:
    """Features of a model of timm, pooled: what its classifier sees.

    Args:
        name: as in `timm.list_models()`.
        weights: as for `timm_backbone`; None: random ones, the same in every run.
        size: see `PretrainedFeatures`, as for all that follow.
        views: likewise.
        mean: likewise; not all of timm's models expect ImageNet's.
        std: likewise.
        batch_size: likewise.
        folder: likewise.
    """
    title = f"timm's {name} ({weights or 'random weights'})"
    make = partial(timm_backbone, name, weights)
    return PretrainedFeatures(make, title, views, size, mean, std, batch_size, folder)


def module_features(
    network: Callable[[], nn.Module],
    weights: str | None = None,
    method: str = "forward",
    size: int | None = 224,
    views: int = 2,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    batch_size: int = 16,
    folder: str | None = None,
) -> PretrainedFeatures:
    """Features of any network: a class or a function that makes one.

    Args:
        network: makes it; it takes images (B, 3, S, S) and answers features (B, D), or maps of them (B, D, h, w) or
            tokens (B, T, D), whose mean over all positions is taken.
        weights: a file of them (see `load_weights`); None: those that it is made with.
        method: of the network, that answers.
        size: see `PretrainedFeatures`, as for all that follow.
        views: likewise.
        mean: likewise.
        std: likewise.
        batch_size: likewise.
        folder: likewise.
    """
    require(callable(network) and not isinstance(network, nn.Module), "network._partial_", False, "must be true")

    def make() -> nn.Module:
        made = network()
        if weights is not None and isinstance(made, nn.Module):
            load_weights(made, weights)
        return made

    target = getattr(network, "func", network)
    title = str(getattr(target, "__qualname__", target))
    return PretrainedFeatures(make, title, views, size, mean, std, batch_size, folder, method)
