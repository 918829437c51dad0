"""Pre-activation residual networks (He et al. 2016) for small images.

A backbone maps images (B, C, H, W) to features (B, D) and says D in `feature_size`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cpc_lightning.backbones.weights import load_weights
from cpc_lightning.errors import require, require_integer


class PreActBlock(nn.Module):
    """BN, ReLU, 3x3 convolution, twice, around a shortcut.

    Where shapes change, the shortcut is taken from relu(bn(x)), through a 1x1 convolution without BN; else it is x.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        activated = torch.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        out = self.conv2(torch.relu(self.bn2(self.conv1(activated))))
        total: Tensor = out + shortcut
        return total


class PreActResNet(nn.Module):
    """A 3x3 stem with BN and ReLU, stages of blocks that halve the image from the second on, and an average pool.

    As in DivideMix's code, and unlike He et al., nothing follows the last block but the pool.

    Args:
        widths: channels of each stage; the last is the number of features.
        blocks: blocks of each stage; 0 in the first leaves the stem alone there.
        in_channels: of the images.

    Attributes:
        feature_size: D.
        blocks: as given.
    """

    feature_size: int

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], in_channels: int) -> None:
        super().__init__()
        require_integer("in_channels", in_channels, 1)
        require(len(widths) == len(blocks) > 0, "blocks", list(blocks), "must have one entry for each width")
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        require(min(blocks[1:], default=1) >= 1 and blocks[0] >= 0, "blocks", list(blocks), "only the first may be 0")
        layers: list[nn.Module] = []
        channels = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(depth):
                layers.append(PreActBlock(channels, width, stride=2 if block == 0 and stage > 0 else 1))
                channels = width
        self.stages = nn.Sequential(*layers)
        self.feature_size = channels
        self.blocks = tuple(blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> features (B, D)."""
        maps: Tensor = self.stages(self.stem(images))
        return maps.mean(dim=(2, 3))


def preact_resnet18(in_channels: int = 3, weights: str | None = None) -> PreActResNet:
    """PreAct ResNet-18 for 32x32 images, 512 features: the paper's backbone on CIFAR-10/100.

    Args:
        in_channels: of the images.
        weights: a file to start from (see `load_weights`); None for a random start.
    """
    return started(PreActResNet((64, 128, 256, 512), (2, 2, 2, 2), in_channels), weights)


def small_resnet(in_channels: int = 1, width: int = 32, weights: str | None = None) -> PreActResNet:
    """A stem of `width` channels and blocks of 2 and 4 `width`; 4 `width` features. For 8x8 to 32x32 images on a CPU.

    No block works at full resolution, where it would cost the most: that is a third off the time of a step, with the
    same accuracy on the 8x8 digits. The last feature map of an 8x8 image is 2x2.
    """
    require_integer("width", width, 1)
    require(width <= 1024, "width", width, "must be at most 1024: this network is for tiny images")
    return started(PreActResNet((width, 2 * width, 4 * width), (0, 1, 1), in_channels), weights)


def started(network: PreActResNet, weights: str | None) -> PreActResNet:
    """`network`, with the weights in a file if one is given."""
    if weights is not None:
        load_weights(network, weights, other_names=common_names(network))
    return network


def common_names(network: PreActResNet) -> dict[str, str]:
    """Each key of the network's state_dict as DivideMix's code and its descendants have it: "layer2.0.conv1.weight"."""
    places = [(stage, block) for stage, depth in enumerate(network.blocks, start=1) for block in range(depth)]
    names = {}
    for key in network.state_dict():
        name = key.replace("stem.0.", "conv1.").replace("stem.1.", "bn1.").replace(".shortcut.", ".shortcut.0.")
        if name.startswith("stages."):
            _, number, rest = name.split(".", 2)
            stage, block = places[int(number)]
            name = f"layer{stage}.{block}.{rest}"
        names[key] = name
    return names
