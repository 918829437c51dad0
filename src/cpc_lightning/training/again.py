"""Evaluates images once more with a run's networks: probabilities, features and losses.

Shapes: n images, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cpc_lightning.errors import InputError, first_line, one_line
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.training.progress import counted


@dataclass(frozen=True)
class Seen:
    """What both networks say of n images, without augmentation.

    Attributes:
        probabilities: (n, K) float32 mean softmax of both networks.
        features: (n, 2 D) float16, those of network 1 and then those of network 2.
        losses: (2, n) float32 cross-entropy of the given label in nats, by network; of class 0 where there is none.
    """

    probabilities: Tensor
    features: Tensor
    losses: Tensor


def load_networks(module: CoTrainingModule, checkpoint: Mapping[str, Any]) -> None:
    """Give the module the networks, and the prototypes, of a checkpoint.

    Raises:
        InputError: named "run", if they are of another shape.
    """
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise InputError("run", "the checkpoint", f"holds other networks ({first_line(error)})") from error


def autocast_type(precision: str) -> torch.dtype | None:
    """What networks compute in under a precision of Lightning's trainer, such as "bf16-mixed"; None: float32."""
    return {"bf16": torch.bfloat16, "16": torch.float16}.get(precision.removesuffix("-mixed"))


@torch.no_grad()
def look_again(module: CoTrainingModule, datamodule: CoTrainingDataModule, name: str, precision: str) -> Seen:
    """One evaluation pass of this process alone.

    Args:
        module: the networks, on the device that is to compute.
        datamodule: serves the images.
        name: "train", or that of an evaluation set.
        precision: of the run's trainer, such as "bf16-mixed".
    """
    labels = datamodule.noisy_labels if name == "train" else datamodule.dataset.evaluation[name].labels
    loader = (
        datamodule.evidence_dataloader(torch.arange(len(labels)))
        if name == "train"
        else datamodule.evaluation_dataloader(name)
    )
    kind = autocast_type(precision)
    training, device = module.training, module.device
    module.eval()
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in counted(loader, f"looking at {one_line(name)}"):
        given = batch["labels"].clamp(min=0).to(device)
        with torch.autocast(device.type, dtype=kind, enabled=kind is not None):
            answers = module.features_and_logits(batch["images"].to(device))
        logits = [logits.float() for _, logits in answers]
        features = torch.cat([features.float() for features, _ in answers], dim=1)
        parts.append((
            torch.stack([row.softmax(dim=1) for row in logits]).mean(dim=0).cpu(),
            features.clamp(-HALF_MAX, HALF_MAX).half().cpu(),
            torch.stack([F.cross_entropy(row, given, reduction="none") for row in logits], dim=1).cpu(),
        ))  # fmt: skip
    module.train(training)
    datamodule.teardown("fit")  # the workers that fetched them
    probabilities, features, losses = (torch.cat(column) for column in zip(*parts, strict=True))
    return Seen(probabilities, features, losses.T.contiguous())


HALF_MAX = torch.finfo(torch.float16).max
