"""The network that is co-trained: backbone, classifier, and projector with prototypes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import require_integer


class Headless(nn.Module):
    """A backbone made of another library's classifier, whose last layer is gone.

    Args:
        model: images (B, C, H, W) -> features (B, D).
        feature_size: D.

    Attributes:
        feature_size: D.
    """

    def __init__(self, model: nn.Module, feature_size: int) -> None:
        super().__init__()
        self.model = model
        self.feature_size = feature_size

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> features (B, D)."""
        features: Tensor = self.model(images)
        return features


class Network(nn.Module):
    """Backbone, classifier, and projector with prototypes.

    Args:
        backbone: images (B, C, H, W) -> features (B, D), with D in its attribute `feature_size`.
        num_classes: K.
        embedding_size: d, of the prototypes.

    Attributes:
        backbone: as given.
        classifier: features (B, D) -> logits (B, K).
        head: the projector and the class prototypes. No part of `forward`: it trains on stored features in stage 1.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, embedding_size: int) -> None:
        super().__init__()
        feature_size: Any = getattr(backbone, "feature_size", None)
        require_integer("backbone.feature_size", feature_size, 1)
        require_integer("num_classes", num_classes, 2)
        self.backbone = backbone
        self.classifier = nn.Linear(feature_size, num_classes)
        self.head = PrototypeHead(feature_size, embedding_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, K)."""
        return self.features_and_logits(images)[1]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> features (B, D) and logits (B, K), from one pass."""
        features: Tensor = self.backbone(images)
        return features, self.classifier(features)
