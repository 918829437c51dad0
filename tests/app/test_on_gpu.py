"""Whole runs on a CUDA device: they compute what a run on the CPU does, wait for nothing, resume, and share it."""

import csv
import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.device import DEVICE
from tests.runs import WITNESS

from cpc_lightning.app.run import run

pytestmark = pytest.mark.gpu

# Two epochs, in warm-up and after it; float32, and views whose arithmetic is of whole numbers, the same on any device.
EPOCHS = (
    "dataset=digits", "noise=symmetric", "noise.rate=0.5", "training.epochs=2", "training.warmup_epochs=1",
    "optimizer.schedule.milestones=[1]", "backbone.width=16", "embedding_size=16", "callbacks=none",
    "trainer.enable_progress_bar=false", "trainer.precision=32-true", "report=false",
)  # fmt: skip
# In a rehearsal the other way to compute is another order of memory, which sums in another order.
GPU = ["trainer=gpu"] if DEVICE == "cuda" else ["trainer=cpu", "training.channels_last=false"]
PRECISION = "trainer.precision=bf16-mixed" if DEVICE == "cuda" else "trainer.precision=32-true"
# Training multiplies what rounding does: between two orders of memory on a CPU, an epoch at 0.05 ends with losses of
# samples that are 0.02 apart, one at 0.01 with 0.001, one at 0.002 with 0.00003.
SLOW = "optimizer.network.lr=0.001"
LOSSES = ("train/loss_1", "train/loss_2")


@pytest.fixture
def whole_float32(monkeypatch):
    """Factors of 24 bits: by default runs on a GPU multiply with 11 (TF32), in float32 too."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    monkeypatch.undo()
    torch.set_float32_matmul_precision(before)


def metrics(folder: Path) -> list[dict[str, float]]:
    """What each epoch of a run has measured."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def clean_probability(folder: Path) -> np.ndarray:
    """(2, N), by the last verdict of network 1 and of network 2."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[f"clean_probability_{r}"]) for row in rows] for r in (1, 2)])


def assert_same_partition(ours: np.ndarray, theirs: np.ndarray, threshold: float = 0.5) -> None:
    """Each sample is on the same side, but for those within 1e-4 of the threshold."""
    clear = np.minimum(np.abs(ours - threshold), np.abs(theirs - threshold)) > 1e-4
    other = clear & ((ours > threshold) != (theirs > threshold))
    assert clear.mean() > 0.9
    assert not other.any(), (ours[other], theirs[other])


@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_an_epoch_from_equal_weights_is_the_cpus(compose, tmp_path, whole_float32, preset):
    """One of warm-up from the first weights, and one of co-training from the checkpoint that the CPU's run left."""
    cpu, seen, gpu = tmp_path / "cpu", tmp_path / "seen", tmp_path / "gpu"
    run(compose(*EPOCHS, SLOW, f"preset={preset}", WITNESS % seen, folder=cpu))
    run(compose(*EPOCHS, SLOW, f"preset={preset}", *GPU, folder=gpu))
    expected, found = metrics(cpu), metrics(gpu)
    for name in LOSSES:
        assert found[0][name] == pytest.approx(expected[0][name], abs=1e-4)
    ours, theirs = (np.load(folder / "warmup_losses.npz") for folder in (gpu, cpu))
    for name in ("losses_1", "losses_2"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-4, rtol=0)
    for name in ("partition/labeled_1", "partition/labeled_2"):  # a sample at the threshold may change sides
        assert found[0][name] == pytest.approx(expected[0][name], abs=2)

    again = seen / "after_1"
    run(compose(*EPOCHS, SLOW, f"preset={preset}", *GPU, f"resume={again}", folder=again))
    assert [row["epoch"] for row in metrics(again)] == [0, 1]
    for name in LOSSES:
        assert metrics(again)[1][name] == pytest.approx(expected[1][name], abs=1e-4)
    assert_same_partition(clean_probability(again), clean_probability(cpu))


def test_no_step_of_a_run_waits_for_the_device(compose, tmp_path):
    """Losses are looked at once in 50 steps and at the end of an epoch; these epochs have fewer for each look."""
    file = tmp_path / "waits.json"
    listen = f"+callbacks.waits={{_target_: tests.device.Waits, file: {file}}}"
    run(compose(*EPOCHS, *GPU, PRECISION, listen, folder=tmp_path / "run"))
    found = json.loads(file.read_text())
    assert found["steps"] > 40
    assert found["places"] == []


def test_a_run_resumed_on_the_device_goes_on_as_it_would_have(compose, tmp_path):
    """Kernels of a GPU add in any order, so not bit for bit."""
    straight, seen = tmp_path / "straight", tmp_path / "seen"
    more = [*EPOCHS, SLOW, *GPU, "training.epochs=3"]
    run(compose(*more, WITNESS % seen, folder=straight))
    again = seen / "after_2"
    run(compose(*more, f"resume={again}", folder=again))
    expected, found = metrics(straight), metrics(again)
    assert [row["epoch"] for row in found] == [0, 1, 2]
    assert found[:2] == expected[:2]
    for name in (*LOSSES, "train/learning_rate_1"):
        assert found[2][name] == pytest.approx(expected[2][name], abs=1e-4)
    assert_same_partition(clean_probability(again), clean_probability(straight))


def test_two_processes_share_one_device_over_gloo(tmp_path):
    """As two machines with one GPU each, that are the same one: NCCL refuses such a pair."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = ["--master-addr", "127.0.0.1", "--master-port", str(free.getsockname()[1])]
    accelerator = "gpu" if DEVICE == "cuda" else "cpu"
    arguments = [
        *EPOCHS, "trainer=ddp", f"trainer.accelerator={accelerator}", "+trainer.strategy.process_group_backend=gloo",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    nodes = []
    for rank in ("0", "1"):
        torchrun = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", rank, *address]
        call = [sys.executable, "-m", *torchrun, "-m", "cpc_lightning", *arguments]
        log = (tmp_path / f"log_{rank}").open("w")
        nodes.append(subprocess.Popen(call, cwd=tmp_path, stdout=log, stderr=log))
    try:
        codes = [node.wait(timeout=120) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert codes == [0, 0], (tmp_path / "log_0").read_text()[-3000:] + (tmp_path / "log_1").read_text()[-3000:]
    assert len(metrics(tmp_path / "run")) == 2
    assert np.isfinite(clean_probability(tmp_path / "run")).all()
    one = tmp_path / "alone"
    device = ["trainer=gpu"] if DEVICE == "cuda" else []
    alone = [*EPOCHS, *device, "training.batch_size=128", f"hydra.run.dir={one}"]
    subprocess.run([sys.executable, "-m", "cpc_lightning", *alone], cwd=tmp_path, check=True, capture_output=True)
    # The same global batches, of which BatchNorm sees halves: losses 0.001 and 0.003 apart on a CPU, accuracies 0.3
    # points. A run with batches of 64, which takes twice as many steps, is 0.015 and 0.021 away, and 33 points.
    (both, *_), (expected, *_) = metrics(tmp_path / "run"), metrics(one)
    for name in LOSSES:
        assert both[name] == pytest.approx(expected[name], abs=6e-3)
    assert both["test/accuracy"] == pytest.approx(expected["test/accuracy"], abs=6)
