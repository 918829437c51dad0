"""The cleaner of UNICON: from every class the same number of labels that agree best with both networks.

Karim et al., "UNICON: Combating Label Noise Through Uniform Selection and Contrastive Learning", CVPR 2022; what the
paper leaves open is taken from its published code (github.com/nazmul-karim170/UNICON-Noisy-Label, Train_cifar.py and
dataloader_cifar.py).

Shapes: n samples looked at, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cpc_lightning.cleaning.evidence import Basis, CleaningResult, CleaningTask, Draw, Estimate, Evidence
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.partition import MINIMUM_LABELED, Partition, co_divide, require_finite
from cpc_lightning.cleaning.prototypes import PrototypeHead

LOG_2 = math.log(2)
"""The largest Jensen-Shannon divergence, of a label that has probability 0."""

BELIEVED = 0.5
"""A divergence below it leaves a chosen label as it is: its weight in refinement is 1 (dataloader_cifar.py)."""

CONSTANT = 0.5
"""The threshold where all divergences are equal: they speak against no label."""


class UniformCleaner:
    """Divergence between given label and mean softmax of both networks; below the mean one a label looks clean.

    Of the clean labels' number each class gets an equal share, and fills it with its labels of smallest divergence; a
    class with fewer labels gives all. So a class may be trained on with labels that look wrong, and another without
    some that look clean: the verdict (`Estimate`) is the cut at the mean, the partition is uniform. A chosen label's
    weight in co-refinement is 1 below a divergence of 0.5, else 1 - d, as in the code.

    The paper lowers the cut where the mean divergence is above d_mu = 0.7. In natural logarithms no divergence is
    above log 2 = 0.69, and so the code never does that (its line would fail); neither does this.
    """

    active = True
    needs_true_labels = False
    needs_features = False
    history_length = 1

    def __init__(self, class_floor: float = 0.0) -> None:
        """Take the settings.

        Args:
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        check_floor(class_floor)
        self.class_floor = class_floor

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples for both networks; alike where both train on the whole set.

        Raises:
            ValueError: a probability is not finite; the message names the sample.
        """
        classes = len(task.heads[0].prototypes)
        estimates, partitions, thresholds = [], [], []
        for number in (0, 1):
            judged = task.draws[1 - number]  # network 1 judges what network 2 trains on
            both = (task.judging[number].given_probability + task.learning[1 - number].given_probability) / 2
            require_finite(both, "probability of the given label", judged.index)
            divergence = divergence_of_label(both)
            chance, threshold = clean_probability(divergence)
            estimates.append(Estimate(chance))
            partitions.append(divide(judged, divergence, chance, threshold, classes))
            thresholds.append(threshold)
        threshold = sum(thresholds) / 2  # equal, but for draws that differ
        first, second = estimates
        scalars = {"uniform/divergence": (1 - threshold) * LOG_2}
        return CleaningResult(
            (first, second), co_divide(*partitions), threshold, {}, scalars, class_floor=self.class_floor
        )

    def judge(self, evidence: Evidence, draw: Draw, basis: Basis, head: PrototypeHead) -> Tensor:
        """Clean probability (n,) of samples outside the training set, by one network alone."""
        chance: Tensor = 1 - divergence_of_label(evidence.given_probability) / LOG_2
        return chance


def divergence_of_label(probability: Tensor) -> Tensor:
    """Jensen-Shannon divergence of a softmax to the one-hot given label, (n,) float32 in [0, log 2].

    With m the mean of softmax and one-hot label, every other class k has m_k = p_k / 2, so that only the probability p
    of the given label matters: d = ((1 - p) log 2 + p log(2p / (1 + p)) + log(2 / (1 + p))) / 2.

    Args:
        probability: (n,) p in [0, 1].
    """
    p = probability.double()
    entropy = torch.special.xlogy(p, 2 * p / (1 + p))
    divergence: Tensor = ((1 - p) * LOG_2 + entropy + torch.log(2 / (1 + p))) / 2
    return divergence.clamp(0, LOG_2).float()


def clean_probability(divergence: Tensor) -> tuple[Tensor, float]:
    """Clean probability 1 - d / log 2 (n,), and the one of the mean divergence: above it a label looks clean.

    Args:
        divergence: (n,). Where all are equal, every probability is 1.
    """
    if len(divergence) == 0 or float(divergence.max() - divergence.min()) == 0:
        return torch.ones_like(divergence), CONSTANT
    return 1 - divergence / LOG_2, 1 - float(divergence.double().mean()) / LOG_2


def divide(draw: Draw, divergence: Tensor, chance: Tensor, threshold: float, classes: int) -> Partition:
    """The uniform partition of a draw: R / K labels of each class, R the number that look clean, rounded down.

    Where a class's share is below one label, or no more than one is chosen in all, the cut alone divides.

    Args:
        draw: n samples.
        divergence: (n,).
        chance: (n,) their clean probability.
        threshold: above it they look clean.
        classes: K.
    """
    labels = draw.noisy_labels.to(divergence.device)
    share = int((chance > threshold).sum()) // classes
    order = torch.argsort(divergence, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]  # class by class, the smallest first
    counts = torch.bincount(labels, minlength=classes)
    place = torch.arange(len(labels), device=order.device) - (counts.cumsum(0) - counts)[labels[order]]
    chosen = torch.zeros(len(labels), dtype=torch.bool, device=order.device)
    chosen[order] = place < share
    if bool((chance == 1).all()):
        chosen[:] = True
    if int(chosen.sum()) < MINIMUM_LABELED:
        return Partition.from_probability(draw.index, chance, threshold)
    weight = torch.where(divergence < BELIEVED, torch.ones_like(divergence), 1 - divergence)
    return Partition(draw.index, weight.to(draw.index.device), chosen.to(draw.index.device))
