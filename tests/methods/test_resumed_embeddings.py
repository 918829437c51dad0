"""Runs of methods with queues, averaged networks and cleaners that keep something go on as if nothing had happened."""

import pytest
from tests.runs import WITNESS, digest

from cpc_lightning.app.run import run

FOUR_EPOCHS = (
    "noise=symmetric", "noise.rate=0.5", "training.epochs=4", "training.warmup_epochs=2", "training.batch_size=256",
    "optimizer.schedule.milestones=[3]", "backbone.width=8", "embedding_size=16", "callbacks=none", "report=false",
)  # fmt: skip
METHODS = {
    "mopro": ("method=mopro", "method.uncleaned_share=0.5"),
    "protomix": ("method=protomix", "cleaner.neighbours=20", "cleaner.learn_above=0.3"),
    "ngc": ("method=ngc", "cleaner.neighbours=10", "cleaner.learn_above=0.2"),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_resumed_run_ends_like_one_that_was_not_interrupted(compose, tmp_path, method):
    """Stopped after one epoch, in warm-up, and after three, in divided data."""
    settings = [*FOUR_EPOCHS, *method]
    straight, seen = tmp_path / "straight", tmp_path / "seen"
    run(compose(*settings, WITNESS % seen, folder=straight))
    for epoch in (1, 3):
        folder = seen / f"after_{epoch}"
        run(compose(*settings, WITNESS % (tmp_path / f"again_{epoch}"), f"resume={folder}", folder=folder))
        assert digest(folder) == digest(straight), epoch
