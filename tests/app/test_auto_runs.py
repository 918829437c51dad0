"""Runs that choose for themselves: once, alike after a resume and on several processes; what is set by hand stays."""

import json
import re

import numpy as np
import pytest
import torch
from tests.app.test_small_sets import write_set
from tests.conftest import SMALL
from tests.runs import WITNESS, assert_same_run

from cpc_lightning.app.run import run
from cpc_lightning.noise.matrix import read_matrix

pytestmark = pytest.mark.long

SIX = (*SMALL, "training.epochs=6", "training.warmup_epochs=2", "cleaner=auto", "cleaner.steps=40")
VECTORS = (
    "dataset=embeddings", "training.epochs=3", "training.warmup_epochs=1", "optimizer.schedule.milestones=[2]",
    "callbacks=none", "trainer.precision=32-true", "backbone.width=16", "embedding_size=8", "report=true",
)  # fmt: skip


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def test_a_resumed_run_goes_on_with_what_was_chosen(compose, tmp_path):
    seen = tmp_path / "seen"
    straight = tmp_path / "straight"
    run(compose(*SIX, WITNESS % seen, folder=straight))
    folder = seen / "after_3"
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["StageOne"]
    chosen = summary_of(straight)["chosen"]
    assert chosen.startswith(f"{state['advice']['cleaner']}, lambda_u {state['advice']['lambda_u']:g}")
    assert (
        state["advice"]["lambda_u"] > 0
    )  # half of the labels are wrong: the unlabeled half counts, also after a resume
    run(compose(*SIX, WITNESS % (tmp_path / "again"), f"resume={folder}", folder=folder))
    assert_same_run(folder, straight)
    assert summary_of(folder)["chosen"] == chosen


def test_it_ends_as_the_run_that_is_told_the_choice_by_hand(compose, tmp_path):
    run(compose(*SIX, "cleaner.class_floor=0", folder=tmp_path / "auto"))
    cleaner, weight = re.match(r"(\w+), lambda_u (\d+)", summary_of(tmp_path / "auto")["chosen"]).groups()
    by_hand = [s for s in SIX if s != "cleaner=auto"]
    run(compose(*by_hand, f"cleaner={cleaner}", f"semisup.lambda_u={weight}", folder=tmp_path / "hand"))
    labels = [(tmp_path / name / "labels.csv").read_text() for name in ("auto", "hand")]
    chances = [[line.split(",")[3:6] for line in text.splitlines()] for text in labels]
    assert chances[0] == chances[1]


def test_a_weight_that_is_set_stays(command, tmp_path):
    code, out, err = command(*SIX, "training.epochs=3", "semisup.lambda_u=3", f"hydra.run.dir={tmp_path}/run")
    assert code == 0, err
    assert "(semisup.lambda_u=3 is set, and stays)" in out
    config = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["run"]["config"]
    assert config["semisup"]["lambda_u"] == 3


def test_no_other_cleaner_chooses_the_weight(command, tmp_path):
    for mode in ([], ["mode=check"]):
        code, out, err = command(*SMALL, "cleaner=gmm_agn", "semisup.lambda_u=null", *mode)
        assert code == 2
        assert "semisup.lambda_u=null: must be a number: only cleaner=auto chooses it" in " ".join((out + err).split())


def test_the_estimate_is_told_where_people_look(command, tmp_path):
    files = write_set(tmp_path, [60, 60, 60], wrong=0.3)
    folder = tmp_path / "run"
    code, out, err = command(*VECTORS, *files, "cleaner=auto", f"hydra.run.dir={folder}")
    assert code == 0, err
    summary = summary_of(folder)
    assert summary["noise_rate_low"] <= summary["noise_rate_estimated"] <= summary["noise_rate_high"]
    assert abs(summary["noise_rate_estimated"] - 0.3) < 0.05
    assert summary["chosen"].startswith("probe, lambda_u 0, threshold 0.5: ")
    assert out.count("chosen: probe") == 2  # when it is, and at the end
    assert re.search(r"actual 30.0 %, estimated [\d.]+ % \([\d.]+ % to [\d.]+ %\)", out)
    assert "Mistakes between classes that the features confuse cannot be seen" in out
    page = (folder / "report" / "index.html").read_text()
    assert "Mistakes between classes that the features confuse cannot be seen" in page
    assert "Chosen by the run itself: probe" in page
    matrix = read_matrix(str(folder / "transition_matrix.csv"), 3)
    np.testing.assert_allclose(np.diag(matrix), 0.7, atol=0.08)


def test_noise_that_follows_the_features_is_warned_of(command, tmp_path):
    """No label is wrong, but classes overlap: a quarter is predicted otherwise, and nobody can tell why."""
    stream = np.random.RandomState(0)
    true = np.repeat(np.arange(3), 60)
    features = 1.5 * np.eye(3, 16)[true] + stream.randn(180, 16)
    for name in ("train", "test"):
        np.savez(tmp_path / f"{name}.npz", features=features, labels=true)
    files = [f"dataset.file={tmp_path}/train.npz", f"dataset.test_file={tmp_path}/test.npz"]
    code, out, err = command(*VECTORS, *files, "cleaner=probe", "report=false", f"hydra.run.dir={tmp_path}/run")
    assert code == 0, err
    assert "may be far too low: a model that has not seen a label predicts another in" in out


@pytest.mark.ddp
def test_two_processes_choose_what_one_does(command, tmp_path):
    files = write_set(tmp_path, [60, 60, 60], wrong=0.3)
    shared = [*VECTORS, "report=false", *files, "cleaner=auto"]
    for name, more in (("one", []), ("two", ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"])):
        code, _, err = command(*shared, *more, f"hydra.run.dir={tmp_path}/{name}")
        assert code == 0, err
    one, two = (summary_of(tmp_path / name) for name in ("one", "two"))
    for key in ("chosen", "noise_rate_estimated", "noise_rate_low", "noise_rate_high"):
        assert one[key] == two[key]
