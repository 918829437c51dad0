"""LongReMix: DivideMix twice, the second time with what the first was sure of, and round after round of it.

Cordeiro et al., "LongReMix: Robust Learning with High Confidence Samples in a Noisy Label Environment", Pattern
Recognition 2023, and its published code (github.com/filipe-research/LongReMix, Train_cifar_longremix_stage1.py and
_stage2.py), from which the constants are. What differs between the stages in who is clean, says the cleaner
`high_confidence`; all losses are those of `CoDivide`.

The code's two scripts are one run here: the first stage of `first_share` of the epochs, then new networks, their own
warm-up, and epochs as long as all samples fill, in which the labeled ones go round. As in the code, both stages begin
with the same weights (it seeds both alike). The second warm-up has the batches of stage 2 (the code: twice as large).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from cpc_lightning.cleaning.evidence import Cleaner
from cpc_lightning.cleaning.high_confidence import HighConfidenceCleaner, first_stage
from cpc_lightning.errors import InputError, require
from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.methods.method import Beginning, Step


class LongReMix(CoDivide):
    """Two stages of warm-up and empirical vicinal risk; lambda_u grows anew in the second."""

    needs_cleaner = True
    may_wait = False  # its stages have lengths of their own

    def __init__(self, first_share: float = 0.5) -> None:
        """Take the setting.

        Args:
            first_share: of all epochs, those of the first stage.

        Raises:
            InputError: it is not in (0, 1).
        """
        super().__init__()
        first_stage(1, first_share)
        self.first_share = first_share
        self.restart: int | None = None

    def check_cleaner(self, cleaner: Cleaner) -> None:
        """Require the cleaner that keeps the high-confidence set, with the same stages."""
        name, expected = type(cleaner).__name__, "must be high_confidence, which method=longremix brings: leave it out"
        if not isinstance(cleaner, HighConfidenceCleaner):
            raise InputError("cleaner", name, expected)
        same = f"must be method.first_share={self.first_share}"
        require(cleaner.first_share == self.first_share, "cleaner.first_share", cleaner.first_share, same)

    def begin(self, beginning: Beginning) -> None:
        """Keep the networks' weights, which the second stage begins with.

        Raises:
            InputError: a stage has no epoch after its warm-up.
        """
        super().begin(beginning)
        epochs, warmup_epochs = beginning.epochs, beginning.warmup_epochs
        self.restart = first_stage(epochs, self.first_share)
        shorter = min(self.restart, epochs - self.restart)
        expected = (
            f"must be more: each of two stages warms up for {warmup_epochs}, and the shorter has {shorter} in all"
        )
        require(shorter > warmup_epochs, "epochs", epochs, expected)
        # No buffers: they are what the run's seed makes, or files of weights, and so the same where it is resumed. They
        # stay in the main memory, where networks are until they train.
        self.networks = beginning.networks
        self.first_weights = [copy.deepcopy(dict(network.state_dict())) for network in beginning.networks]

    def begin_epoch(self, epoch: int) -> bool:
        """Give both networks their first weights where the second stage begins."""
        if epoch != self.restart:
            return False
        with torch.no_grad():
            for network, weights in zip(self.networks, self.first_weights, strict=True):
                network.load_state_dict(weights)
        return True

    def whole_epoch(self, epoch: int) -> bool:
        """In the second stage labeled samples go round until all samples would have been seen."""
        return self.restart is not None and epoch >= self.restart

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Those of `CoDivide`, whose clock begins anew with the second stage."""
        if self.restart is None or step.warmup or step.epoch < self.restart:
            return super().losses(step)
        step = replace(step, epoch=step.epoch - self.restart)
        return self.warmup_losses(step) if step.epoch < self.warmup_epochs else self.vicinal_losses(step)
