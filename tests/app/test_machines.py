"""Machines that are not as ours: little shared memory, killed workers, fewer signals, no user, other devices."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.conftest import SMALL
from tests.runs import PHASES, start, wait_for

from cpc_lightning.app.stopping import stop_on_signals
from cpc_lightning.app.trainer import check_devices, choose_accelerator, choose_precision, uses_gpu
from cpc_lightning.errors import InputError, Stopped

# Worker processes -----------------------------------------------------------------------------------------------------

EACH = r"""
import json, sys
from cpc_lightning.app.command_line import main
for call in json.loads(sys.argv[1]):
    print("", main(call), "", sep="\n---\n", end="", flush=True)
    print("\n---", file=sys.stderr, flush=True)
"""


@pytest.fixture
def with_little_shared_memory():
    """Run command lines one after the other, in one process, where /dev/shm has a megabyte, as in a container.

    Answers exit code, standard output and standard error of each.
    """
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")

    def run(*calls):
        all_of_them = [sys.executable, "-c", EACH, json.dumps(calls)]
        call = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *all_of_them]
        done = subprocess.run(call, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        out, err = (text.split("\n---\n")[:-1] for text in (done.stdout, done.stderr))
        return list(zip(map(int, out[1::2]), out[::2], err, strict=True))

    return run


@pytest.mark.long
def test_too_little_shared_memory_is_one_line_and_no_wait(with_little_shared_memory, tmp_path):
    run = tmp_path / "run"
    large = [
        *SMALL,
        "training.num_workers=2",
        "training.warmup_batch_size=20000",
        f"hydra.run.dir={run}",
    ]  # of 64 bytes
    check = [*large, "mode=check"]
    ended, checked, alone = with_little_shared_memory(large, check, [*check, "training.num_workers=0"])
    code, _, err = ended
    assert code == 1
    assert "Traceback" not in err
    line = err.splitlines()[-1]
    assert line.startswith("error: training.num_workers=2, processes that fetch batches: the shared memory (/dev/shm) ")
    assert "(No space left on device (28))" in line
    code, out, _ = checked
    assert code == 2
    assert "up to 7.68 MB in batches of 1.28 MB" in out
    code, out, _ = alone
    assert (code, "shared memory" in out) == (0, False)


def children(pid):
    """Processes that a process has forked: they have its command line."""
    ours = Path(f"/proc/{pid}/cmdline").read_bytes()
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if Path(f"/proc/{child}/cmdline").read_bytes() == ours]


@pytest.mark.long
@pytest.mark.parametrize("moment", ["training", "stage 1"])
def test_a_worker_that_is_killed_ends_the_run_with_the_reason(tmp_path, moment):
    """As when memory runs out."""
    phase, log = tmp_path / "phase", tmp_path / "log"
    process = start(
        [*SMALL, PHASES % phase, "training.num_workers=2", "cleaner=gmm_agn", f"hydra.run.dir={tmp_path / 'run'}"], log
    )
    wait_for(lambda: phase.exists() and phase.read_text() == f"2 {moment}", process)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    process.join(60)
    assert process.exitcode == 1
    line = log.read_text().splitlines()[-1]
    assert line.startswith("error: training.num_workers=2, processes that fetch batches: one ")
    assert "Traceback" not in log.read_text()
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["epoch"] == 0


@pytest.mark.long
def test_a_gpu_whose_memory_runs_out_ends_the_run_with_the_batch_size(monkeypatch, command, small, tmp_path):
    """No GPU is needed: torch's error is raised where a step would meet it."""

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("cpc_lightning.methods.codivide.CoDivide.vicinal_losses", fail)
    code, _, error = command(*small, "training.batch_size=48", "cleaner=gmm_agn", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 1
    last = error.splitlines()[-1]
    assert last.startswith("error: training.batch_size=48: the GPU's memory ran out; training.batch_size=24 ")
    assert "Traceback" not in error


# Windows and macOS ----------------------------------------------------------------------------------------------------

ELSEWHERE = """
import os, signal, sys, types
import joblib, multiprocessing.util, pytorch_lightning, sklearn, torch  # which know such systems
from pytorch_lightning.trainer.connectors import signal_connector
signal_connector.signal = types.ModuleType("signal")  # it asks for the system's name, not for the signal
vars(signal_connector.signal).update(vars(signal))
for name in ("SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGALRM", "SIGPIPE", "SIGHUP", "setitimer", "ITIMER_REAL"):
    delattr(signal, name)
del os.sysconf, os.sysconf_names, os.sched_getaffinity
opened = os.open
def refuse(path, flags, *more, **others):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)  # Windows opens no folders
    return opened(path, flags, *more, **others)
os.open = refuse
from cpc_lightning.__main__ import main
own = sys.argv[1:]
sys.argv[1:] = [*own, "mode=check"]
assert main() == 0
assert not os.path.exists("run")
sys.argv[1:] = own
sys.exit(main())
"""


@pytest.mark.long
def test_a_check_and_a_first_run_with_fewer_signals_and_without_sysconf(tmp_path):
    arguments = [*SMALL, "cleaner=gmm_agn", "hydra.run.dir=run"]
    ended = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *arguments], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert "of an amount that this system does not tell" in " ".join(ended.stdout.split())
    assert (tmp_path / "run" / "labels.csv").exists()


def test_a_signal_that_python_loses_in_a_destructor_comes_again_without_an_alarm(monkeypatch):
    for name in ("SIGALRM", "SIGCHLD"):
        monkeypatch.delattr(signal, name)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # what it changes is changed back
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    class Last:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    begin = time.monotonic()

    def lose_one():
        last = Last()
        del last
        while time.monotonic() < begin + 20:
            time.sleep(0.001)

    with pytest.raises(Stopped), stop_on_signals(end_workers=False):
        lose_one()
    assert time.monotonic() < begin + 10


TRAINER = {"accelerator": "mps", "devices": 1, "sync_batchnorm": False}


def test_an_apple_gpu_where_there_is_none():
    with pytest.raises(
        InputError, match=r"^trainer.accelerator=mps: no GPU of Apple's \(MPS\).*trainer=cpu needs none"
    ):
        check_devices(TRAINER)


def test_an_apple_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_devices(TRAINER)
    assert not uses_gpu(TRAINER)  # its memory is the main one
    assert choose_precision("auto", "mps") == "32-true"
    assert choose_accelerator("auto", together=False) == "mps"
    assert choose_accelerator("auto", together=True) == "cpu"  # which DDP cannot use
    assert choose_accelerator("gpu", together=True) == "gpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_accelerator("auto", together=False) == "gpu"
    assert not uses_gpu(TRAINER)
