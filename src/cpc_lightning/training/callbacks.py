"""Writes metrics.csv, one row an epoch."""

from __future__ import annotations

import csv
import io
import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from cpc_lightning.errors import require
from cpc_lightning.files import atomic_write


class EpochTable(pl.Callback):
    """Keeps metrics.csv: one row an epoch, a column for each metric, rewritten as a whole and atomically.

    Every metric that was logged up to then has a column, whatever its name: none may vanish without a word. (Lightning
    adds its duplicates NAME_step and NAME_epoch only for what is logged both ways, which this library does not do.)

    The rows are part of the checkpoint, and the file follows them: after a resume no row is lost or comes twice,
    whatever the file holds.

    Attributes:
        rows: one mapping from metric name to value an epoch.
        seconds_before: how long the epochs took that a former part of this run has trained.
    """

    def __init__(self, path: str | Path, constants: dict[str, float | None]) -> None:
        """Take the file, and what every row repeats (such as the noise rates)."""
        self.path, self.constants = Path(path), constants
        self.rows: list[dict[str, float | None]] = []
        self.seconds_before = 0.0
        self._begin = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock, and forget what the last one measured: this one may not measure all of it."""
        self._begin = time.monotonic()
        trainer.callback_metrics.clear()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row. Listed after stage 1, whose metrics it holds too.

        Raises:
            InputError: a metric has the name of a column that is the table's own.
        """
        # Sorted: Lightning's order depends on what was logged before, which a resumed run has forgotten.
        measured = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        own = {"epoch": trainer.current_epoch, **self.constants}
        for name in (*own, "seconds"):
            require(name not in measured, "callbacks", name, "is logged by one of them, and metrics.csv's own column")
        self.rows.append({**own, **measured, "seconds": time.monotonic() - self._begin})
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        """Write the file."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in self.rows)
        with atomic_write(self.path) as file:
            file.write(text.getvalue().encode())

    def state_dict(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.rows = list(state_dict["rows"])
        self.seconds_before = sum(row["seconds"] or 0.0 for row in self.rows)


def _cell(value: float | None) -> float | str:
    return "" if value is None or math.isnan(value) else value
