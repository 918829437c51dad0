"""Two real processes over gloo."""

import csv
import json
import subprocess
import sys

import pytest
import torch


@pytest.mark.ddp
def test_two_processes_finish_one_run(tmp_path, small):
    call = [sys.executable, "-m", "cpc_lightning", *small, "cleaner.steps=50", "trainer=ddp", "trainer.devices=2"]
    done = subprocess.run(
        [*call, "trainer.accelerator=cpu", "hydra.run.dir=here"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("labels suspected") == 1  # the first process alone reports
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    with (tmp_path / "here" / "metrics.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    with (tmp_path / "here" / "labels.csv").open(newline="") as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == list(range(1438))  # each sample exactly once
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["noise_rate_nominal"] == 0.5
    checkpoint = torch.load(tmp_path / "here" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values() if value.is_floating_point())
