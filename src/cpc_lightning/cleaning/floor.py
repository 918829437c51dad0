"""Keeps a share of each class in training, whatever the cleaner says, so that no class loses all its labels.

A cleaner that judges by losses or by neighbours doubts rare classes first: they are learnt last. ProMix (Xiao et al.,
"ProMix: Combating Label Noise via Maximizing Clean Sample Utility", IJCAI 2023) takes a class's labels of smallest loss
whatever the others look like. A floor of 0.5 is "at least half of each class's smallest losses": with a mixture of
losses for all classes, clean probability falls with the loss, so that the highest ones are the smallest losses; with
other cleaners they are what the cleaner itself thinks best. It is about what is trained on: the verdict, which labels
are suspected, stays the cleaner's own.

ProMix's published code (github.com/Justherozen/ProMix, `eval_train` in Train_promix.py) differs in this: it takes
ceil(rho N / K) labels of each class, a share of the mean class's size and not of the class's own (the same where given
labels are balanced; all of a rare class where they are not), rho grows from 0.2 to 0.6 in 50 epochs, and what the floor
leaves out is trained on only where its label has a softmax above 0.99.

Shapes: n samples looked at.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cpc_lightning.cleaning.evidence import CleaningResult, Draw, Estimate
from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.errors import require_number


def check_floor(share: float) -> None:
    """Raise `InputError` for a `class_floor` that is no number in [0, 1]."""
    require_number("class_floor", share, 0, 1)


def keep_floor(result: CleaningResult, draws: tuple[Draw, Draw]) -> CleaningResult:
    """The cleaner's answer, with the share `result.class_floor` of each given class on the labeled side.

    These are the class's labels of highest clean probability, rounded up to at least one. The ones that the cleaner
    doubts, or leaves out of a partition of its own, get at least the threshold as their clean probability, or else
    their refined target would be a guess alone; where samples have targets of their own, their given label becomes the
    target.

    Args:
        result: the answer on `draws`.
        draws: what network 1 and network 2 train on next.
    """
    if result.class_floor == 0:
        return result
    first, second = (
        _keep(result.partitions[r], draws[r], result.estimates[1 - r], result) for r in (0, 1)
    )  # what network 2 says divides the data for network 1
    return replace(result, partitions=(first, second))


def _keep(partition: Partition, draw: Draw, by_peer: Estimate, result: CleaningResult) -> Partition:
    probability = by_peer.clean_probability.to(partition.clean.device)
    kept = best_of_each_class(probability, draw.noisy_labels.to(probability.device), result.class_floor)
    kept &= (probability <= result.threshold) | ~partition.clean
    if not bool(kept.any()):
        return partition
    sure = torch.where(kept, partition.clean_probability.clamp(min=result.threshold), partition.clean_probability)
    targets = partition.targets
    if targets is not None:
        given = F.one_hot(draw.noisy_labels.to(targets.device), targets.shape[1]).to(targets)
        targets = torch.where(kept[:, None], given, targets)
    return replace(partition, clean=partition.clean | kept, clean_probability=sure, targets=targets)


def best_of_each_class(probability: Tensor, labels: Tensor, share: float) -> Tensor:
    """(n,) bool, of each class the labels of highest clean probability: this share of them, rounded up.

    Of equals, the earlier ones.

    Args:
        probability: (n,).
        labels: (n,) int64 given classes.
        share: in [0, 1].
    """
    order = torch.argsort(probability, descending=True, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]  # class by class, the most probable first
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(labels), device=labels.device) - starts[labels[order]]
    wanted = torch.tensor([math.ceil(round(share * count, 9)) for count in counts.tolist()], device=labels.device)
    kept = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    kept[order] = place < wanted[labels[order]]
    return kept
