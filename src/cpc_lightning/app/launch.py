"""Starts and supervises the processes of a distributed run; recognises torchrun and srun.

`trainer=ddp` makes the process that a person or a sweep starts a supervisor that trains nothing itself. It starts
`trainer.devices` others on this job's own settings, and ends all when one ends badly. So a job of a sweep is trained by
processes of its own, whatever launches the jobs, and the next one finds nothing left over.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cpc_lightning.app.options import continuing
from cpc_lightning.errors import Stopped, require

GRACE = 5.0
"""Seconds that processes have to end by themselves once one has ended badly, or a signal has come."""


@dataclass(frozen=True)
class Ending:
    """How a process or a run ended before its time.

    Attributes:
        code: the exit code.
        line: the reason, for people.
        lost: whether it is only that another process is gone, which has a reason of its own.
    """

    code: int
    line: str
    lost: bool = False


class RunError(Exception):
    """The processes of a run have ended before their time.

    Attributes:
        ending: how.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.line)
        self.ending = ending


# Processes that others started ----------------------------------------------------------------------------------------


def starter() -> str | None:
    """What started this process as one of several: "torchrun", "srun", or None."""
    if "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ:
        return "torchrun"
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")  # as Lightning has it
    return "srun" if number_of("SLURM_NTASKS", 1) > 1 and not interactive else None


def process_number() -> int:
    """Of this process among all of its run, from 0."""
    name = {"torchrun": "RANK", "srun": "SLURM_PROCID", None: "LOCAL_RANK"}[starter()]
    return number_of(name, 0)


def number_of(name: str, otherwise: int) -> int:
    """The number in an environment variable; `otherwise` where there is none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else otherwise


def check_environment() -> None:
    """Raise `InputError` for an environment variable of torchrun or srun that is no number."""
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "RANK", "LOCAL_RANK"):
        text = os.environ.get(name, "0")
        require(text.isdecimal(), name, text, "must be a whole number (an environment variable of torchrun or srun)")


# Processes that this one starts -------------------------------------------------------------------------------------


def is_supervised(settings: Mapping[str, Any]) -> bool:
    """Whether this process is to start others to train, and none has started it."""
    return "strategy" in settings["trainer"] and starter() is None


def supervise(settings: Mapping[str, Any], overrides: Sequence[str], count: int) -> dict[str, Any]:
    """Train in `count` processes of their own. Arguments and answer as those of `run`.

    Raises:
        RunError: one of them ended before its time; by then all have ended.
        Stopped: a signal came, and was passed on.
    """
    with tempfile.TemporaryDirectory(prefix="cpc_lightning_") as folder:
        OmegaConf.save({"settings": settings, "overrides": list(overrides)}, Path(folder, "run.yaml"))
        again = f"the last checkpoint is unharmed (to continue: {continuing(str(settings['run_dir']))})"
        wait_for_workers(Path(folder), count, again)
    summary: dict[str, Any] = json.loads(Path(settings["run_dir"], "summary.json").read_text())
    return summary


def supervise_arguments(arguments: Sequence[str], count: int, again: str) -> None:
    """Have `count` processes of their own share what a mode does.

    Args:
        arguments: of the command line.
        count: of processes.
        again: how to go on where they end before their time, for people.

    Raises:
        RunError: one of them ended before its time; by then all have ended.
        Stopped: a signal came, and was passed on.
    """
    with tempfile.TemporaryDirectory(prefix="cpc_lightning_") as folder:
        OmegaConf.save({"arguments": list(arguments)}, Path(folder, "run.yaml"))
        wait_for_workers(Path(folder), count, again)


def wait_for_workers(folder: Path, count: int, again: str) -> None:
    """Start `count` processes of the run that `folder` describes, and wait until all have ended; raises as above."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(count):
            workers.append(start_worker(folder, rank, count, port))
        while any(worker.poll() is None for worker in workers):
            if any(worker.poll() for worker in workers):
                break
            time.sleep(0.1)
        if any(worker.poll() for worker in workers):
            dead = {rank: worker.returncode for rank, worker in enumerate(workers) if (worker.poll() or 0) < 0}
            end(workers)
            raise RunError(reason(folder, workers, dead, again))
    except Stopped as stop:
        for worker in workers:
            worker.send_signal(stop.signal)  # nothing where it has ended
        end(workers)
        raise
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def start_worker(folder: Path, rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    """Start one process; the end of its standard input will tell it that this one is gone."""
    environment = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),  # may be given
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        **os.environ,
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "SLURM_JOB_NAME": "interactive",  # which tells Lightning that srun has not started this process
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cpc_lightning.app.worker", str(folder)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=None if rank == 0 else subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C comes to this process alone, which passes it on
    )


def end(workers: list[subprocess.Popen[bytes]]) -> None:
    """Give all a moment to end by themselves, then kill the rest: checkpoints are whole at any moment."""
    until = time.monotonic() + GRACE
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.0, until - time.monotonic()))
    for worker in workers:
        worker.kill()
        worker.wait()


def reason(folder: Path, workers: list[subprocess.Popen[bytes]], dead: dict[int, int], again: str) -> Ending:
    """Why a run ended.

    A process that was killed; or else the first one with a reason of its own; or the one that a signal stopped, before
    those that only miss another.
    """
    for rank, code in dead.items():
        name = signal.Signals(-code).name
        line = f"error: process {rank} of {len(workers)} was killed by {name}, so the run ended"
        return Ending(1, f"{line}; {again}")
    files = [folder / f"ending_{rank}.json" for rank in range(len(workers))]
    endings = [Ending(**json.loads(file.read_text())) for file in files if file.exists()]
    for ending in sorted(endings, key=lambda ending: (ending.lost, ending.code <= 128)):  # 128 + a signal's number
        return ending
    codes = {rank: worker.returncode for rank, worker in enumerate(workers)}
    return Ending(1, f"error: processes of the run ended with these exit codes: {codes}")
