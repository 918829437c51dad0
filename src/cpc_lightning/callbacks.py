"""A run's records: the table of epochs, and checkpoints that are whole."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from cpc_lightning.files import atomic_write


class EpochTable(pl.Callback):
    """Keeps metrics.csv: one row an epoch, a column for each metric, rewritten as a whole and atomically.

    After a resume the rows of epochs that are trained again are dropped, so that no row is lost or comes twice.

    Attributes:
        rows: one mapping from metric name to value an epoch.
    """

    def __init__(self, path: str | Path, constants: dict[str, float | None]) -> None:
        """Take the file, and what every row repeats (such as the noise rates)."""
        self.path, self.constants = Path(path), constants
        self.rows: list[dict[str, float | None]] = []
        self._begin = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the rows of epochs that a former part of this run has finished."""
        if trainer.current_epoch and self.path.exists():
            with self.path.open(newline="") as file:
                read = [row for row in csv.DictReader(file) if int(row["epoch"]) < trainer.current_epoch]
            self.rows = [
                {**{name: float(v) if v else None for name, v in row.items()}, "epoch": int(row["epoch"])}
                for row in read
            ]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._begin = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row. Listed after stage 1, whose metrics it holds too."""
        measured = {name: value.item() for name, value in trainer.callback_metrics.items() if "/" in name}
        row = {"epoch": trainer.current_epoch, **self.constants, **measured, "seconds": time.monotonic() - self._begin}
        self.rows.append(row)
        if trainer.is_global_zero:
            columns = list(dict.fromkeys(name for row in self.rows for name in row))
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _cell(value) for name, value in row.items()} for row in self.rows)
            with atomic_write(self.path) as file:
                file.write(text.getvalue().encode())

    def column(self, name: str) -> Sequence[float]:
        """The values of one metric in the order of epochs, without the epochs that have none."""
        return [value for row in self.rows if (value := row.get(name)) is not None]


def _cell(value: float | None) -> float | str:
    return "" if value is None or math.isnan(value) else value


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`; a former file there stays until the new one is whole."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            torch.save(checkpoint, file)
