"""Trains one backbone on images alone: Lightning's module, and the data without labels.

Shapes: N samples, V views, B batch of one process, D features.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from cpc_lightning.backbones.layout import match_layout, may_be_channels_last
from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import InputError, TrainingError
from cpc_lightning.methods.method import Method
from cpc_lightning.pretraining.simclr import SimCLR
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.module import require_compiler, seed_epoch
from cpc_lightning.views.views import VIEWS, Views

RISING = 0.1
"""The share of the steps in which the learning rate rises."""


class PretrainingModule(pl.LightningModule):
    """Descends on the objective of two strong views of each image.

    Attributes:
        backbone: images (B, C, h, w) -> features (B, D).
        objective: features of two views -> loss; it has begun.
        steps: of the whole training.
    """

    def __init__(
        self,
        backbone: nn.Module,
        objective: SimCLR,
        views: Views,
        steps: int,
        seed: int = 0,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        """Take the parts.

        Args:
            backbone: see above.
            objective: see above; it says how to descend, too.
            views: makes strong views of uint8 images.
            steps: see above.
            seed: every epoch re-seeds from (seed, epoch, process), so that a resumed run draws what this one would.
            channels_last: as of `CoTrainingModule`.
            compile: likewise.
        """
        super().__init__()
        self.backbone, self.objective, self.views = backbone, objective, views
        self.steps, self.seed = steps, seed
        self._losses: list[Tensor] = []
        if channels_last and may_be_channels_last(backbone):
            backbone.to(memory_format=torch.channels_last)
        if compile:
            require_compiler()
            backbone.compile(dynamic=False)

    def on_train_start(self) -> None:
        """Give what was loaded from a checkpoint the memory layout of the parameters it belongs to."""
        for optimizer in self.trainer.optimizers:
            match_layout(optimizer)

    def on_train_epoch_start(self) -> None:
        """Re-seed, so that an epoch's draws do not depend on how the run got there; log its first learning rate."""
        seed_epoch(self.seed, self.current_epoch, self.global_rank)
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of one batch; its labels are not looked at."""
        images: Tensor = batch["labeled_images"]  # (V, B, C, H, W), V = 1 where all views are made of one image
        images = images.expand(VIEWS, *images.shape[1:]).flatten(0, 1)
        loss: Tensor = self.objective(self.backbone(self.views.normalise(self.views.strong(images))))
        self._losses.append(loss.detach())
        self.log(
            "train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch["index"]), prog_bar=True,
            sync_dist=True,
        )  # fmt: skip
        return loss

    def on_train_epoch_end(self) -> None:
        """Stop at a loss that is not finite, before there is a checkpoint of it."""
        losses = torch.stack(self._losses)
        self._losses.clear()
        if not bool(torch.isfinite(losses).all()):
            raise TrainingError(
                f"the loss became infinite or NaN in epoch {self.current_epoch}; the last checkpoint is unharmed. A "
                "smaller learning rate (pretraining.learning_rate) often helps"
            )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD with momentum, and its learning rate in steps."""
        optimizer = torch.optim.SGD(
            self.parameters(), self.objective.learning_rate, momentum=0.9, weight_decay=self.objective.weight_decay
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, self.rate), "interval": "step"},
        }

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0, as a share of its highest: a line up, then half a cosine to 0."""
        rising = math.ceil(RISING * self.steps)
        if step < rising:
            return (step + 1) / rising
        return (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, self.steps - rising)))) / 2


class TwoViews(Method):
    """What the data module is to serve: batches of one network, with two views of each image."""

    trains_one = True
    many_views = True


def without_labels(dataset: ImageDataset) -> ImageDataset:
    """The images to train on: all of the training set, each with label 0, and nothing to evaluate."""
    train = dataset.train
    blank = torch.zeros(len(train), dtype=torch.int64)
    unlabeled = replace(train, labels=blank, true_labels=None, trusted=None)
    return replace(dataset, train=unlabeled, evaluation={}, class_map=None, some_unlabeled=False)


def pretraining_data(
    dataset: ImageDataset, batch_size: int, processes: int, seed: int, num_workers: int | None = 0
) -> CoTrainingDataModule:
    """Serves the images in batches that are full, without those that would fill no further one.

    No image is then in a batch twice, where it would be told from itself.

    Args:
        dataset: as `without_labels` gives it.
        batch_size: images a step and process.
        processes: that train together.
        seed: of the batches' order.
        num_workers: as of `CoTrainingDataModule`.

    Raises:
        InputError: if there are fewer images than a step needs, or a setting is out of its range.
    """
    steps = len(dataset.train) // (batch_size * processes)
    if steps == 0:
        of = f" in each of {processes} processes" if processes > 1 else ""
        few = f"are more images a step{of} than the {len(dataset.train)} there are"
        raise InputError("batch_size", batch_size, few)
    return CoTrainingDataModule(
        dataset, batch_size, seed, limit_batches=steps, num_workers=num_workers, views=VIEWS, method=TwoViews()
    )
