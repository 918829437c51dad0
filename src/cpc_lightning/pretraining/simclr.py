"""SimCLR: two views of an image are to be more alike than views of different images.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020. As a start before
labels are looked at: Zheltonozhskii et al., "Contrast to Divide", WACV 2022 (C2D). Head and loss are those of the
library lightly, an extra: `pip install 'cpc-lightning[pretrain]'`.

Shapes: B batch of one process, D features, d projection.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from cpc_lightning.errors import InputError, require, require_integer, require_number


class SimCLR(nn.Module):
    """A projection head, and the NT-Xent loss (Eq. 1) between the projections of two views.

    Every other view of the batch is a negative; where several processes train together, of all their batches.

    Attributes:
        epochs: how often all images are seen.
        batch_size: images a step and process.
        learning_rate: of SGD at its highest.
        weight_decay: of SGD.
        policy: what strong views add, as `Views` has it; None: as the run's own.
    """

    def __init__(
        self,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        weight_decay: float,
        temperature: float,
        projection_size: int,
        policy: str | None = None,
    ) -> None:
        """Take the settings.

        Args:
            epochs: at least 1.
            batch_size: images a step and process, at least 2: what else is in the batch is what an image is told from.
            learning_rate: above 0; it rises over the first tenth of the steps and falls by half a cosine to 0.
            weight_decay: at least 0.
            temperature: above 0, that similarities are divided by.
            projection_size: d, at least 1.
            policy: see above.

        Raises:
            InputError: a setting is out of its range, or lightly is not installed.
        """
        super().__init__()
        require_integer("epochs", epochs, 1)
        require_integer("batch_size", batch_size, 2)
        require_number("learning_rate", learning_rate, 0, open_ends=True)
        require_number("weight_decay", weight_decay, 0)
        require_number("temperature", temperature, 0, open_ends=True)
        require_integer("projection_size", projection_size, 1)
        require(policy is None or isinstance(policy, str), "policy", policy, "must be the name of a policy, or null")
        self.epochs, self.batch_size = epochs, batch_size
        self.learning_rate, self.weight_decay, self.policy = learning_rate, weight_decay, policy
        self._size = projection_size
        self._nt_xent = lightly("loss").NTXentLoss(temperature=temperature, gather_distributed=True)
        self.projection_head: nn.Module | None = None

    def begin(self, feature_size: int) -> None:
        """Make the projection head: D -> D -> d, with BatchNorm after both layers as in SimCLR's published code."""
        self.projection_head = lightly("models.modules").SimCLRProjectionHead(feature_size, feature_size, self._size)

    def forward(self, features: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            features: (2 B, D), of a view of each image, and then of another view of each.
        """
        assert self.projection_head is not None
        projections = self.projection_head(features).float()
        with torch.autocast(features.device.type, enabled=False):  # similarities are not to be rounded
            loss: Tensor = self._nt_xent(*projections.chunk(2))
        return loss


def lightly(module: str) -> Any:
    """A module of lightly; raises `InputError` where it is not installed."""
    try:
        return importlib.import_module(f"lightly.{module}")
    except ImportError as error:
        raise InputError("_target_", "SimCLR", "needs lightly: pip install 'cpc-lightning[pretrain]'") from error
