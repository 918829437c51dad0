"""Real processes, real signals, a real disk that is full: what is left, and that the run goes on from there."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.runs import PHASES, SIX_EPOCHS, digest, finish, start, wait_for

from cpc_lightning.errors import TrainingError
from cpc_lightning.training.checkpoints import AtomicCheckpointIO


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("straight")
    assert finish([*SIX_EPOCHS, f"hydra.run.dir={folder / 'run'}"], folder / "log") == 0
    return folder / "run"


class Running:
    """A run in its own process, that says where it is."""

    def __init__(self, folder, *more, aside=None):
        """`aside`: a folder for what it says, in place of `folder`."""
        aside = aside or folder
        self.folder, self.log, self.phase = folder / "run", aside / "log", aside / "phase"
        arguments = [*SIX_EPOCHS, PHASES % self.phase, f"hydra.run.dir={self.folder}", *more]
        self.process = start(arguments, self.log)

    def reaches(self, *moment):
        wait_for(lambda: self.phase.exists() and self.phase.read_text() == " ".join(map(str, moment)), self.process)

    def writes_a_checkpoint(self):
        wait_for(lambda: any((self.folder / "checkpoints").glob(".*.tmp")), self.process)

    def send(self, number, group=False):
        (os.killpg if group else os.kill)(self.process.pid, number)
        self.process.join(60)
        return self.process.exitcode


def continues(run, straight):
    assert finish([f"resume={run.folder}", "~callbacks.phases"], run.log) == 0, run.log.read_text()
    assert digest(run.folder) == digest(straight)
    assert not [path for path in run.folder.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.long
@pytest.mark.parametrize("moment", ["training", "stage 1", "writing"])
def test_a_killed_run_goes_on_from_its_last_whole_checkpoint(tmp_path, straight, moment):
    run = Running(tmp_path)
    run.reaches(4, "saving" if moment == "writing" else moment)
    if moment == "writing":
        run.writes_a_checkpoint()
    assert run.send(signal.SIGKILL) == -signal.SIGKILL
    last = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 2  # the third
    continues(run, straight)


@pytest.mark.long
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_ends_a_run_in_one_line_that_says_how_to_continue(tmp_path, straight, name):
    number = signal.Signals[name]
    more = ["training.num_workers=2"] if name == "SIGINT" else []  # Ctrl-C reaches workers, too
    run = Running(tmp_path, *more)
    run.reaches(3, "training" if name == "SIGINT" else "stage 1")
    begin = time.monotonic()
    assert run.send(number, group=name == "SIGINT") == 128 + number
    assert time.monotonic() - begin < 20
    assert (
        run.log.read_text()
        == f"stopped by {name}; to continue: cd {Path.cwd()} && python -m cpc_lightning resume={run.folder}\n"
    )
    assert not [path for path in run.folder.rglob("*") if path.name.endswith(".tmp")]
    continues(run, straight)


@pytest.mark.long
def test_ctrl_c_before_the_run_begins(tmp_path):
    """While torch is still being imported, as a person types it."""
    call = [sys.executable, "-m", "cpc_lightning"]
    process = subprocess.Popen(call, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)  # a signal before our first line would be Python's own affair
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "stopped by SIGINT before the run began\n")
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def disk(folder, size):
    """A file system of that size."""
    folder.mkdir()
    call = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    mounted = subprocess.run(call, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    with disk(tmp_path / "disk", "2m") as folder:
        yield folder


@pytest.mark.long
@pytest.mark.parametrize("size", ["4k", "8k", "12k", "32k"])
def test_a_disk_without_room_for_the_first_files_is_refused(command, tmp_path, size):
    with disk(tmp_path / "disk", size) as folder:
        code, out, err = command(*SIX_EPOCHS, f"hydra.run.dir={folder / 'run'}")
        assert (code, out) == (2, "")
        assert err == f"error: hydra.run.dir={folder / 'run'}: cannot be written (No space left on device)\n"
        assert list(folder.iterdir()) == []


def test_a_full_disk_leaves_the_former_checkpoint(small_disk):
    path = small_disk / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weights": torch.ones(50_000)}, path)
    with pytest.raises(
        TrainingError, match=r"last.ckpt could not be saved \(No space left on device\); the former one"
    ):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(500_000)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(50_000))
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.long
def test_a_run_on_a_disk_that_fills_up_stops_in_one_line_and_goes_on_when_there_is_room(small_disk, tmp_path, straight):
    run = Running(small_disk, aside=tmp_path)
    run.reaches(3, "training")
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    run.process.join(60)
    assert run.process.exitcode == 1
    log = run.log.read_text()
    assert log.startswith("error: "), log
    assert "No space left on device" in log
    assert log.count("\n") == 1
    ballast.unlink()
    assert torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] >= 1
    continues(run, straight)
