"""Fixtures of the tests of the Lightning layer: small, real runs."""

from __future__ import annotations

import os

# Matrices this small are faster on one thread, the more so beside other work, and no result may depend on how many
# there are. Before anything imports torch; processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib
import signal
import sys
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from cpc_lightning.app.command_line import main

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests press Ctrl-C, in processes that they start too

SMALL = (
    "noise=symmetric",
    "noise.rate=0.5",
    "training.epochs=3",
    "training.warmup_epochs=1",
    "training.limit_batches=2",
    "training.warmup_batch_size=512",  # warm-up is not cut: three steps see all 1,438 digits
    "optimizer.schedule.milestones=[2]",
    "backbone.width=8",
    "embedding_size=16",
    "callbacks=none",
    "trainer.precision=32-true",  # the same on every machine
    "report=false",  # tests of the page ask for it
)


@pytest.fixture
def compose():
    """Compose conf/ with overrides, for a run folder."""

    def compose(*overrides: str, folder: object = "unused") -> DictConfig:
        with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):
            return hydra.compose("config", [f"run_dir={folder}", *overrides])

    return compose


@pytest.fixture
def command(capsys):
    """Run the command line in this process; answers exit code, standard output and standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(list(arguments))
        except SystemExit as exit:
            code = exit.code
        output = capsys.readouterr()
        return code, output.out, output.err

    return command


@pytest.fixture
def small():
    """Overrides that make a run of three epochs take a second or two."""
    return list(SMALL)


@pytest.fixture(scope="module")
def benchmarks():
    """A function that imports one of benchmarks/, its neighbours found as when it is run."""
    pytest.importorskip("fontTools")
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)
