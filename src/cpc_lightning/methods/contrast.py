"""What methods share: losses between embeddings, means over a part of a batch, mixup within it.

Shapes: B batch, K classes, D features, d embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cpc_lightning.backbones.network import Network
from cpc_lightning.methods.method import Step


def embed(network: Network, features: Tensor) -> Tensor:
    """(B, d) float32 embeddings of length 1, by the projector of the network's head; gradients reach the backbone."""
    return F.normalize(network.head.projector(features).float(), dim=1)


def similarities(first: Tensor, second: Tensor) -> Tensor:
    """(B, C) float32 products of rows of first (B, d) with rows of second (C, d), not rounded in autocast."""
    with torch.autocast(first.device.type, enabled=False):
        return first.float() @ second.float().t()


def pair_logits(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Similarities of the first views to all other views of a batch, (B, 2 B); -inf, to a view itself.

    Columns 0..B-1 are the second views, in which column i is the other view of sample i; columns B..2B-1 are the first.

    Args:
        first: (B, d) embeddings of the first views.
        second: (B, d) of the second ones.
        temperature: that similarities are divided by.
    """
    own = torch.eye(len(first), dtype=torch.bool, device=first.device)
    among = similarities(first, first).masked_fill(own, -torch.inf)
    return torch.cat([similarities(first, second), among], dim=1) / temperature


def instance_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean over i of -log exp(z_i z'_i / t) / (sum_j exp(z_i z'_j / t) + sum_{j != i} exp(z_i z_j / t)).

    The first views alone are anchors, as in the published code of RRL and NGC.

    Args:
        first: (B, d) z.
        second: (B, d) z'.
        temperature: t.
    """
    logits = pair_logits(first, second, temperature)
    return F.cross_entropy(logits, torch.arange(len(first), device=first.device))


def mean_over(chosen: Tensor, values: Tensor) -> Tensor:
    """The mean of values (B,) over the rows that are chosen (B,) bool; 0 without any."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,) of -sum_k target_k log softmax_k, in float32."""
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1)


def targets_of(step: Step, num_classes: int) -> tuple[Tensor, Tensor]:
    """What a step of a method that `mixes_sides` learns: targets (B, K) float32, and of which samples, (B,) bool."""
    if step.warmup:
        return F.one_hot(step.labels, num_classes).float(), torch.ones_like(step.labels, dtype=torch.bool)
    targets = F.one_hot(step.labels, num_classes).float() if step.targets is None else step.targets
    return targets, step.clean_probability > 0


def mix_within(inputs: Tensor, targets: Tensor, chosen: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Mixup of the chosen rows with each other, l x + (1 - l) x', and of the others with each other.

    Partners are a random permutation of each of the two groups. How many rows are chosen need not be known on the host.

    Args:
        inputs: (B, ...).
        targets: (B, K).
        chosen: (B,) bool.
        share: l in [0, 1], of a row itself.

    Returns:
        Mixed inputs and targets, of the same shapes.
    """
    others = (~chosen).long()
    keys = torch.rand(len(inputs), dtype=torch.float64).to(chosen.device) + others  # the chosen ones' are below 1
    partners = torch.empty_like(others)
    partners[torch.argsort(others, stable=True)] = torch.argsort(keys)
    return share * inputs + (1 - share) * inputs[partners], share * targets + (1 - share) * targets[partners]
