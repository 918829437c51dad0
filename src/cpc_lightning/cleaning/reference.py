"""Reference cleaners: none, and the oracle that knows the true labels."""

from __future__ import annotations

import torch
from torch import Tensor

from cpc_lightning.cleaning.evidence import Basis, CleaningResult, CleaningTask, Draw, Estimate, Evidence
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import InputError

HALF = 0.5
"""The oracle's threshold; any other in [0, 1) divides the same."""


class NoCleaner:
    """Believes every label: plain cross-entropy on all samples, without stage 1 or stage 2."""

    history_length = 1
    active = False
    needs_true_labels = False
    needs_features = False

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Never to be called.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a cleaner that is not active divides no data: train on all samples instead")


class OracleCleaner:
    """Knows the true labels: what a perfect cleaner is worth. Clean probability 1 where the label is right, else 0."""

    history_length = 1
    active = True
    needs_true_labels = True
    needs_features = False

    def __init__(self, class_floor: float = 0.0) -> None:
        """Take the settings.

        Args:
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`); above 0, this is no
                upper bound any more.

        Raises:
            InputError: the setting cannot be used.
        """
        check_floor(class_floor)
        self.class_floor = class_floor

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples by the truth, alike for both networks.

        Raises:
            InputError: the true label of a sample is unknown.
        """
        estimates = []
        for judged in reversed(task.draws):  # network 1 judges network 2's draw
            if bool((judged.true_labels == -1).any()):  # -2, none of the classes, is known to be wrong
                raise InputError("cleaner", "oracle", "needs true labels, and this data set has none")
            estimates.append(Estimate((judged.noisy_labels == judged.true_labels).to(torch.float32)))
        first, second = estimates
        partitions = task.divide((first, second), HALF)
        return CleaningResult((first, second), partitions, HALF, {}, {}, self.class_floor)

    def judge(self, evidence: Evidence, draw: Draw, basis: Basis, head: PrototypeHead) -> Tensor:
        """1 where the label is right, 0 where it is wrong, NaN where the truth is unknown; (n,)."""
        right = (draw.noisy_labels == draw.true_labels).to(torch.float32)
        return right.masked_fill(draw.true_labels == -1, torch.nan)
