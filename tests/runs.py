"""What tests of interrupted runs share: real processes to stop, where they are, and when two runs ended alike."""

import csv
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch.multiprocessing.spawn import start_processes

WITNESS = "+callbacks.witness={_target_: tests.runs.Witness, folder: %s}"
PHASES = "+callbacks.phases={_target_: tests.runs.Phases, file: %s}"

# Six epochs: 1 and 2 are network warm-up, 3 and 4 CPC warm-up (a third of them), 5 and 6 come after.
SIX_EPOCHS = (
    "noise=symmetric", "noise.rate=0.5", "training.epochs=6", "training.warmup_epochs=2", "training.limit_batches=2",
    "training.warmup_batch_size=1438", "optimizer.schedule.milestones=[3]", "backbone.width=8", "embedding_size=16",
    "callbacks=none", "report=false",
    "cleaner.warmup_share=0.34", "cleaner.steps=40",
)  # fmt: skip

processes = multiprocessing.get_context("forkserver")  # imports torch once, before any of its threads exist
processes.set_forkserver_preload(
    ["cpc_lightning.app.command_line", "cpc_lightning.app.pretrain", "cpc_lightning.app.run", "tests.runs"]
)


def start(arguments, log):
    """The command line in a process of its own, its streams in the file `log`."""
    process = processes.Process(target=_command_line, args=(list(arguments), str(log)))
    process.start()
    return process


def _command_line(arguments, log):
    from cpc_lightning.app.command_line import main

    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of workers, as in a process that a person starts
    os.setpgid(0, 0)  # a group, as a shell gives a command: Ctrl-C reaches its workers too
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.exit(main(arguments))


def spawn(work, arguments, count):
    """Call `work(rank, *arguments)` in each of so many processes; raises what one of them does."""
    start_processes(work, arguments, nprocs=count, start_method="forkserver")


def finish(arguments, log):
    """Run to the end; the exit code."""
    process = start(arguments, log)
    process.join(240)
    return process.exitcode


def wait_for(ready, process, seconds=120):
    """Wait until `ready()`; fails if the process ends before."""
    end = time.monotonic() + seconds
    while not ready():
        assert process.is_alive(), "the run ended before it was stopped"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.0005)


class Phases(pl.Callback):
    """Says in a file where the run is: an epoch from 1, and "training", "stage 1" or "saving"."""

    def __init__(self, file):
        self.file = Path(file)

    def say(self, trainer, phase):
        self.file.write_text(f"{trainer.current_epoch + 1} {phase}")

    def on_train_epoch_start(self, trainer, pl_module):
        self.say(trainer, "training")

    def on_validation_end(self, trainer, pl_module):
        self.say(trainer, "stage 1")

    def on_train_epoch_end(self, trainer, pl_module):
        self.say(trainer, "saving")


class Witness(pl.Callback):
    """Copies the run's folder before each epoch but the first, as a kill at that moment would leave it.

    At the end it keeps the random states.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch:
            shutil.copytree(trainer.default_root_dir, self.folder / f"after_{trainer.current_epoch}")

    def on_train_end(self, trainer, pl_module):
        states = {
            "torch": torch.get_rng_state(),
            "numpy": repr(np.random.get_state()),  # noqa: NPY002
            "python": repr(random.getstate()),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(states, self.folder / "random_states")


def table_without_seconds(path):
    with Path(path).open(newline="") as file:
        return [{name: v for name, v in row.items() if "seconds" not in name} for row in csv.DictReader(file)]


def checkpoint_without_seconds(folder, name, *others):
    """The whole checkpoint, but for clocks, the folders and what names the callbacks and the run's folder.

    The best may be from before the run was stopped, and then it names the folder of that time.
    """
    checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    for row in checkpoint["callbacks"]["EpochTable"]["rows"]:
        for key in [key for key in row if "seconds" in key]:
            del row[key]
    for state in checkpoint["callbacks"].values():
        state.pop("current_score", None)  # Lightning saves that of the last best epoch, and does not load it
    for key in ("run_dir", "resume", "callbacks", "trainer", "logger"):
        checkpoint["run"]["config"].pop(key)
    checkpoint["run"].pop("overrides")
    for place in (folder, *others):
        checkpoint = relative(checkpoint, str(place.resolve()))
    return checkpoint


def relative(value, folder):
    if isinstance(value, dict):
        return {relative(key, folder): relative(inner, folder) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [relative(inner, folder) for inner in value]
    return value.replace(folder, "RUN") if isinstance(value, str) else value


def assert_same(ours, theirs, where=""):
    """Nested containers agree bit for bit; says where they do not."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert list(ours) == list(theirs), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for place, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(our, their, f"{where}/{place}")
    elif isinstance(ours, torch.Tensor) and ours.is_floating_point():
        assert torch.equal(ours.nan_to_num(-9), theirs.nan_to_num(-9)), where
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(torch.nan_to_num(ours), torch.nan_to_num(theirs)), where
        assert torch.equal(ours != ours, theirs != theirs), where
    else:
        assert ours == theirs or ours != ours, where


def assert_same_run(ours, theirs):
    """Two finished runs agree bit for bit in all they leave behind, seconds aside."""
    for name in ("labels.csv", "labels_test.csv", "warmup_losses.npz"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert table_without_seconds(ours / "metrics.csv") == table_without_seconds(theirs / "metrics.csv")
    for name in ("best", "last"):
        assert_same(*(checkpoint_without_seconds(folder, name, ours, theirs) for folder in (ours, theirs)), name)
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in (ours, theirs))
    for summary in (first, second):
        del summary["seconds"], summary["overrides"]
    assert first == second


def digest(folder):
    """sha256 over weights, labels.csv and metrics.csv without seconds."""
    weights = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    hashed = hashlib.sha256()
    for name, value in sorted(weights.items()):
        hashed.update(name.encode() + value.numpy().tobytes())
    hashed.update((folder / "labels.csv").read_bytes())
    hashed.update(json.dumps(table_without_seconds(folder / "metrics.csv")).encode())
    return hashed.hexdigest()
