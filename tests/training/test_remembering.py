"""A cleaner that remembers sees every epoch from the first one on, and goes on after a resume bit for bit."""

import pytest
import torch
from tests.conftest import SMALL
from tests.runs import WITNESS, assert_same_run

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.run import run, run_parts
from cpc_lightning.app.settings import plain

pytestmark = pytest.mark.long

SIX = (*SMALL, "training.epochs=6", "training.warmup_epochs=3", "cleaner=wrong_events", "cleaner.class_aware=false")


def memory_of(folder):
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint["callbacks"]["StageOne"]["cleaner"]


def test_every_epoch_is_remembered_and_a_resumed_run_forgets_none(compose, tmp_path):
    """Stopped after 1 epoch, within the warm-up, and after 4, when the data is divided."""
    straight, seen = tmp_path / "straight", tmp_path / "seen"
    run(compose(*SIX, WITNESS % seen, folder=straight))
    for epoch in (1, 2, 4):
        memory = memory_of(seen / f"after_{epoch}")
        assert memory["looks"].tolist() == [epoch] * 1438
        assert memory["events"].shape == (2, 1438)
        assert 0 < int(memory["events"].sum()) < 2 * 1438 * epoch
    assert memory_of(straight)["looks"].tolist() == [6] * 1438
    for epoch in (1, 4):
        folder = seen / f"after_{epoch}"
        run(compose(*SIX, WITNESS % (tmp_path / f"again_{epoch}"), f"resume={folder}", folder=folder))
        assert_same_run(folder, straight)


def test_of_draws_only_what_was_looked_at_is_remembered(compose, tmp_path):
    """In the warm-up all labels are looked at, afterwards those that one of the networks trains on."""
    settings = [s for s in SIX if not s.startswith(("training.epochs", "training.limit"))]
    run(compose(*settings, "training.epochs=5", "training.balanced_batches=2", folder=tmp_path / "run"))
    looks = memory_of(tmp_path / "run")["looks"]
    assert int(looks.min()) == 3  # two in the warm-up, and the last verdict, on every label
    assert int(looks.max()) == 5


def test_a_run_that_ends_early_does_not_count_its_last_epoch_twice(compose, tmp_path):
    """An accuracy that is to stay below zero stops the run in its warm-up; the verdict then looks once more."""
    below_zero = "monitor: test/accuracy, divergence_threshold: 0.0"
    stop = f"+callbacks.stop={{_target_: pytorch_lightning.callbacks.EarlyStopping, {below_zero}}}"
    parts = Parts(plain(compose(*SIX, stop, folder=tmp_path / "run"))).ready()
    assert run_parts(parts, show=False)["epochs"] == 1
    assert parts.stage_one.cleaner.state_dict()["looks"].tolist() == [1] * 1438
