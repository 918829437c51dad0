"""Keeps warmup_losses.npz in the run's folder, for Figure 1."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytorch_lightning as pl

from cpc_lightning.files import atomic_write
from cpc_lightning.report.warmup_losses import WARMUP_LOSSES, WarmupLosses, write_warmup_losses
from cpc_lightning.training.stage_one import StageOne


class KeepWarmupLosses(pl.Callback):
    """Writes the losses of the stage 1 that ends the warm-up, once. Listed after stage 1, and before any checkpoint.

    So every checkpoint from the first division on has the file two folders above it, and needs not hold it. Without
    an active cleaner nothing is divided, no warm-up ends, and there is no file.
    """

    def __init__(self, folder: str | Path, stage_one: StageOne) -> None:
        """Take the run's folder, and who observes the losses."""
        self.folder, self.stage_one = Path(folder), stage_one

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file at the end of the last epoch of the warm-up, on the first process alone."""
        trained, verdict = trainer.current_epoch + 1, self.stage_one.verdict
        if verdict is None or verdict.epoch != trained or not verdict.ends_warmup or not trainer.is_global_zero:
            return
        first, second = (
            WarmupLosses(evidence.losses.cpu().numpy(), draw.noisy_labels.numpy(), draw.true_labels.numpy())
            for evidence, draw in zip(verdict.judging, reversed(verdict.draws), strict=True)  # each judges its peer's
        )
        write_warmup_losses(self.folder / WARMUP_LOSSES, (first, second), trained)


def bring_warmup_losses(checkpoint: Path, folder: Path) -> None:
    """Copy the file of the run whose `checkpoint` is continued into `folder`, whole or not at all.

    There is none where that run was still in its warm-up, or where the checkpoint lies apart from its run.
    """
    source, target = checkpoint.absolute().parent.parent / WARMUP_LOSSES, folder / WARMUP_LOSSES
    if source.is_file() and not target.exists():
        with source.open("rb") as file, atomic_write(target) as copy:
            shutil.copyfileobj(file, copy)
