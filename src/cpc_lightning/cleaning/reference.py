"""What cleaners are measured against: no cleaning at all, and cleaning that knows the truth."""

from __future__ import annotations

import torch

from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Estimate
from cpc_lightning.cleaning.partition import Partition, co_divide
from cpc_lightning.errors import InputError


class NoCleaner:
    """Believes every label: plain cross-entropy on all samples, without stage 1 or stage 2."""

    history_length = 1
    threshold = 0.5
    active = False

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Never to be called.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a cleaner that is not active divides no data: train on all samples instead")


class OracleCleaner:
    """Knows the true labels: what a perfect cleaner is worth. Clean probability 1 where the label is right, else 0."""

    history_length = 1
    threshold = 0.5
    active = True

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples by the truth, alike for both networks.

        Raises:
            InputError: the true label of a sample is unknown.
        """
        if bool((task.true_labels < 0).any()):
            raise InputError("cleaner", "oracle", "needs true labels, and this data set has none")
        clean_probability = (task.noisy_labels == task.true_labels).to(torch.float32)
        estimate = Estimate(clean_probability)
        partition = Partition.from_probability(task.index, clean_probability, self.threshold)
        return CleaningResult((estimate, estimate), co_divide(partition, partition), scalars={})
