"""What the machine does to a run, in one line that names the setting to change."""

import pytest
import torch
import wandb
from tests.datasets.labeled import labeled

from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.failures import lost_worker, machine_failure


@pytest.fixture
def datamodule():
    return CoTrainingDataModule(
        labeled(torch.tensor([0, 1, 0, 1]), 2),
        64,
        seed=1,
        evaluation_batch_size=511,
        num_workers=3,
        warmup_epochs=2,
        warmup_batch_size=256,
    )


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "(Killed; often memory has run out)"),
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit.",
            "(Bus error; it wrote to shared memory that is full)",
        ),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "one ended unexpectedly"),
        ("mat1 and mat2 shapes cannot be multiplied", None),
        ("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):", None),
    ],
)
def test_a_worker_that_died(datamodule, message, found):
    line = machine_failure(RuntimeError(message), datamodule, 0)
    if found is None:
        assert line is lost_worker(message) is None
        return
    assert line.startswith("training.num_workers=3, processes that fetch batches: ")
    assert found in line
    assert "0 for none" in line
    assert "\n" not in line


def raised_in(name):
    """torch's error, raised in a function of that name."""
    space = {"torch": torch}
    exec(f"def {name}(): raise torch.OutOfMemoryError('CUDA out of memory.')", space)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        space[name]()
    return caught.value


@pytest.mark.parametrize(
    ("function", "epoch", "name", "size", "half"),
    [
        ("training_step", 1, "warmup_batch_size", 256, 128),
        ("training_step", 2, "batch_size", 64, 32),
        ("features_and_logits", 2, "evaluation_batch_size", 511, 255),
    ],
)
def test_a_gpu_whose_memory_runs_out(datamodule, function, epoch, name, size, half):
    assert machine_failure(raised_in(function), datamodule, epoch) == (
        f"training.{name}={size}: the GPU's memory ran out; training.{name}={half} takes about half of it, "
        "and mode=check estimates what fits; the last checkpoint is unharmed"
    )


def test_a_gpu_whose_memory_runs_out_between_batches(datamodule):
    line = machine_failure(raised_in("clean"), datamodule, 2)
    assert line.startswith("trainer.accelerator=gpu: its memory ran out; a smaller backbone")


def test_a_dashboard_that_cannot_log(datamodule):
    line = machine_failure(wandb.errors.CommError("no network\nat all"), datamodule, 0)
    assert line == "logger=wandb: no network; logger.wandb.offline=true needs neither key nor network"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback: [enforce fail at alloc_cpu] "
            "err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
        ),
    ],
)
def test_a_machine_whose_memory_runs_out(datamodule, error):
    assert machine_failure(error, datamodule, 2) == (
        "training.batch_size=64: this machine's memory ran out; a smaller one, or fewer training.num_workers, now 3; "
        "mode=check estimates what fits; the last checkpoint is unharmed"
    )


def test_what_is_a_defect_stays_one(datamodule):
    assert machine_failure(KeyError("logits"), datamodule, 0) is None
