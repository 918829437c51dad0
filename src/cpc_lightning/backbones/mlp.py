"""A small network for vectors, such as features of a pretrained network. Shapes: B batch, C numbers of a vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cpc_lightning.backbones.weights import load_weights
from cpc_lightning.errors import require, require_integer, require_number


class Mlp(nn.Module):
    """One hidden layer: a linear layer, ReLU, dropout.

    Args:
        in_channels: C.
        width: of the hidden layer, D.
        dropout: share of the hidden layer that is left out of a training step.

    Attributes:
        feature_size: D.
    """

    def __init__(self, in_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        require_integer("in_channels", in_channels, 1)
        require_integer("width", width, 2)
        require(width <= 2**16, "width", width, "must be at most 65536")
        require_number("dropout", dropout, 0.0)
        require(dropout < 1, "dropout", dropout, "must be below 1")
        self.hidden = nn.Linear(in_channels, width)
        self.dropout = nn.Dropout(dropout)
        self.feature_size = width

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (B, C) -> features (B, D).

        Raises:
            ValueError: for images.
        """
        if vectors.ndim != 2:
            raise ValueError("it takes vectors, and these are images: features=torchvision makes vectors of them")
        features: Tensor = self.dropout(torch.relu(self.hidden(vectors)))
        return features


def mlp(in_channels: int, width: int = 512, dropout: float = 0.5, weights: str | None = None) -> Mlp:
    """A network of one hidden layer (docs/features.md).

    Args:
        in_channels: numbers of a vector.
        width: of the hidden layer.
        dropout: share of it that is left out of a training step, in [0, 1).
        weights: a file to start from (see `load_weights`); None for a random start.
    """
    network = Mlp(in_channels, width, dropout)
    if weights is not None:
        load_weights(network, weights)
    return network
