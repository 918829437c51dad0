"""Methods that remember targets, averages and steps: a run that was interrupted ends like one that was not."""

import pytest
from tests.runs import WITNESS, assert_same, checkpoint_without_seconds, table_without_seconds

from cpc_lightning.app.run import run

FOUR_EPOCHS = (
    "noise=symmetric", "noise.rate=0.5", "training.epochs=4", "training.warmup_epochs=1", "training.limit_batches=2",
    "training.batch_size=64", "optimizer.schedule.milestones=[2]", "backbone.width=8", "embedding_size=16",
    "callbacks=none", "report=false", "trainer.precision=32-true",
)  # fmt: skip
METHODS = {
    "elr": (["method=elr"], {"targets": 128}),
    "elr_plus": (["method=elr_plus", "method.average_rampup_steps=8"], {"targets.0": 128, "targets.1": 128}),
    "ncr": (["method=ncr", "method.start_epoch=1", "method.lambda_elr=3"], {"targets": 128}),
}


@pytest.mark.parametrize(("settings", "remembered"), METHODS.values(), ids=METHODS)
def test_a_resumed_run_ends_like_one_that_was_not_interrupted(compose, tmp_path, settings, remembered):
    straight, seen = tmp_path / "straight", tmp_path / "seen"
    run(compose(*FOUR_EPOCHS, *settings, WITNESS % seen, folder=straight))
    folder, again = seen / "after_2", tmp_path / "again"
    run(compose(*FOUR_EPOCHS, *settings, WITNESS % again, f"resume={folder}", folder=folder))
    for name in ("labels.csv", "labels_test.csv"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes(), name
    assert table_without_seconds(folder / "metrics.csv") == table_without_seconds(straight / "metrics.csv")
    resumed, whole = (checkpoint_without_seconds(place, "last") for place in (folder, straight))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_same(resumed[part], whole[part], part)
    assert_same(*(last["callbacks"]["StageOne"] for last in (resumed, whole)), "StageOne")
    for name, fewest in remembered.items():
        rows = whole["state_dict"][f"method.{name}._extra_state"]["rows"]
        assert int((rows.sum(dim=1) > 0).sum()) >= fewest  # the samples of an epoch at least have a target
