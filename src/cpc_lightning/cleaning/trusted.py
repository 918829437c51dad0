"""Labels that a person has confirmed are clean, whatever the cleaner says."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from cpc_lightning.cleaning.evidence import CleaningResult, Draw, Estimate
from cpc_lightning.cleaning.partition import Partition


def believe(result: CleaningResult, draws: tuple[Draw, Draw]) -> CleaningResult:
    """The cleaner's answer with a clean probability of 1 for trusted labels, which are always on the labeled side.

    What mixture and prototypes say by themselves (`gmm`, `cpc`) stays: it is what they are measured by.

    Args:
        result: the answer on `draws`.
        draws: what network 1 and network 2 train on next.
    """
    if all(draw.trusted is None or not bool(draw.trusted.any()) for draw in draws):
        return result
    first, second = (_estimate(result.estimates[r], draws[1 - r]) for r in (0, 1))  # a network judges its peer's draw
    for_first = _partition(result.partitions[0], draws[0], second, result.threshold)
    for_second = _partition(result.partitions[1], draws[1], first, result.threshold)
    return replace(result, estimates=(first, second), partitions=(for_first, for_second))


def _estimate(estimate: Estimate, judged: Draw) -> Estimate:
    if judged.trusted is None:
        return estimate
    probability = estimate.clean_probability
    return replace(estimate, clean_probability=probability.masked_fill(judged.trusted.to(probability.device), 1.0))


def _partition(partition: Partition, draw: Draw, by_peer: Estimate, threshold: float) -> Partition:
    if draw.trusted is None:
        return partition
    trusted = draw.trusted.to(partition.clean.device)
    if partition.fell_back:  # with what is trusted, there may be enough
        divided = Partition.from_probability(partition.index, by_peer.clean_probability, threshold)
        partition = replace(divided, targets=partition.targets, weights=partition.weights)
    targets = partition.targets
    if targets is not None:
        given = F.one_hot(draw.noisy_labels, targets.shape[1]).to(targets)
        targets = torch.where(trusted[:, None], given, targets)
    sure = partition.clean_probability.masked_fill(trusted, 1.0)
    return replace(partition, clean=partition.clean | trusted, clean_probability=sure, targets=targets)
