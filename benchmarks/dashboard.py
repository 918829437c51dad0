"""What the W&B dashboard costs: its share of a run's training time, offline.

    python benchmarks/dashboard.py [OVERRIDE ...]

By default the digits, whose epochs take about a second: on any larger set the share is smaller. Counted is the time
inside W&B's logger and the dashboard's hooks, against the time of the whole run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import hydra
from measure import report

from cpc_lightning.app.run import run
from cpc_lightning.training.dashboard import Dashboard
from cpc_lightning.training.weights_and_biases import EpochWandb

SPENT: dict[str, float] = {}


def timed(owner: Any, name: str) -> None:
    """Add the time spent in `owner.name` to `SPENT`."""
    inner: Callable[..., Any] = getattr(owner, name)
    label = f"{owner.__name__}.{name}"

    def outer(*arguments: Any, **options: Any) -> Any:
        begin = time.perf_counter()
        try:
            return inner(*arguments, **options)
        finally:
            SPENT[label] = SPENT.get(label, 0.0) + time.perf_counter() - begin

    setattr(owner, name, outer)


def main(overrides: list[str]) -> None:
    """Run once, and report."""
    timed(EpochWandb, "log_metrics")
    timed(Dashboard, "on_train_epoch_end")
    timed(Dashboard, "on_fit_end")
    with (
        tempfile.TemporaryDirectory() as folder,
        hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"),
    ):
        settings = ["noise=symmetric", "noise.rate=0.8", "logger=wandb", "callbacks=none", *overrides]
        config = hydra.compose("config", [f"run_dir={folder}", *settings])
        begin = time.perf_counter()
        summary = run(config)
        whole = time.perf_counter() - begin
    rows = [
        [label, seconds, 1000 * seconds / summary["epochs"], f"{100 * seconds / whole:.2f} %"]
        for label, seconds in SPENT.items()
    ]
    columns = ["part", "s in all", "ms an epoch", "share of the run"]
    notes = [f"{summary['epochs']} epochs in {whole:.0f} s, n = 1; not counted: start and end of W&B's own process"]
    report("dashboard", "Cost of the W&B dashboard, offline", columns, rows, notes)


if __name__ == "__main__":
    main(sys.argv[1:])
