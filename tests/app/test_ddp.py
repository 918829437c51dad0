"""Real processes over gloo, started in every way that a person may; some of them are killed."""

import contextlib
import csv
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.runs import digest

from cpc_lightning.app.endings import Ending
from cpc_lightning.app.launch import reason
from cpc_lightning.app.settings import plain
from cpc_lightning.app.trainer import process_count

PYTHON = [sys.executable, "-m", "cpc_lightning"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "cpc_lightning"]
PROCESSES = ["trainer=ddp", "trainer.accelerator=cpu", "cleaner.steps=50"]

pytestmark = pytest.mark.ddp


def run(call, folder, **more):
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=240, **more)


def slurm(tmp_path, arguments):
    """The two tasks of a job on one node, as srun --kill-on-bad-exit would start and end them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "JOB_ID": 4321,
        "STEP_ID": 7,
        "NTASKS": 2,
        "NTASKS_PER_NODE": 2,
        "NNODES": 1,
        "NODEID": 0,
        "NODELIST": "127.0.0.1",
    }
    tasks = []
    for rank in range(2):
        names = {**job, "PROCID": rank, "LOCALID": rank}
        environment = {**os.environ, "MASTER_PORT": str(port), **{f"SLURM_{n}": str(v) for n, v in names.items()}}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        tasks.append(subprocess.Popen([*PYTHON, *arguments], cwd=tmp_path, env=environment, **pipes))
    if tasks[0].wait(timeout=240):
        tasks[1].terminate()
    ends = [task.communicate(timeout=60) for task in tasks]
    return [task.returncode for task in tasks], [out for out, _ in ends], [err for _, err in ends]


def check_run(folder):
    """One run, written once: each epoch, each sample."""
    with (folder / "metrics.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    with (folder / "labels.csv").open(newline="") as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == list(range(1438))
    with (folder / "labels_test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(359))
    assert all(row["clean_probability_1"] and row["clean_probability_2"] for row in rows)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values() if value.is_floating_point())


def test_two_processes_finish_one_run(tmp_path, small):
    done = run([*PYTHON, *small, *PROCESSES, "cleaner.steps=10", "hydra.run.dir=here"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("labels suspected") == 1  # the first process alone reports
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["noise_rate_nominal"] == 0.5
    check_run(tmp_path / "here")


@pytest.mark.slow
def test_torchrun_starts_one_run(tmp_path, small):
    done = run([*TORCHRUN, *small, *PROCESSES], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("labels suspected") == 1
    (folder,) = (tmp_path / "runs" / "digits_symmetric_cpc_awr").iterdir()  # both processes name it alike
    check_run(folder)


@pytest.mark.slow
def test_torchrun_says_a_mistake_in_one_line_of_ours(tmp_path, small):
    done = run([*TORCHRUN, *small, *PROCESSES, "seed=-1"], tmp_path)
    assert done.returncode == 1  # torchrun's own, after its own report
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [
        "error: seed=-1: must be a whole number of at least 0"
    ]
    assert "exitcode  : 2" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_slurm_starts_one_run(tmp_path, small):
    codes, (out, silent), errors = slurm(tmp_path, [*small, *PROCESSES])
    assert codes == [0, 0], errors
    assert out.count("labels suspected") == 1
    assert silent == ""
    folder = tmp_path / "runs" / "digits_symmetric_cpc_awr" / "job_4321.7"
    assert list(folder.parent.iterdir()) == [folder]
    check_run(folder)


@pytest.mark.slow
def test_slurm_says_a_mistake_in_one_line(tmp_path, small):
    codes, out, errors = slurm(tmp_path, [*small, *PROCESSES, "seed=-1"])
    assert codes[0] == 2
    assert out == ["", ""]
    assert errors == ["error: seed=-1: must be a whole number of at least 0\n", ""]


MISTAKES = [
    (["trainer.devices=2"], "trainer.devices=2: several processes need trainer=ddp"),
    (["trainer=ddp", "trainer.devices=0"], "trainer.devices=0: must be a whole number of at least 1"),
    (["trainer=ddp", "trainer.num_nodes=2"], "trainer.num_nodes=2: several machines need torchrun or srun"),
    (
        ["trainer=ddp", "trainer.accelerator=cpu", "trainer.sync_batchnorm=true"],
        "trainer.sync_batchnorm=true: works on GPUs",
    ),
    (["trainer=ddp", "seed=-1"], "seed=-1: must be"),
]


@pytest.mark.long
@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_gives_one_line_before_any_process_starts(command, tmp_path, monkeypatch, arguments, says):
    monkeypatch.setattr("cpc_lightning.app.launch.start_worker", None)
    code, out, err = command(*arguments, f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"error: {says}")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "error: trainer=torchrun: has started several"),
        (["-m", "trainer=ddp", "seed=1,2"], "error: -m=torchrun: starts"),
    ],
)
def test_what_torchrun_cannot_start(command, tmp_path, monkeypatch, arguments, says):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "0")
    code, out, err = command(*arguments, f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(says)


@pytest.mark.parametrize(("devices", "count"), [("3", 3), ("auto", 1), ("[0,2]", 2), ("-1", 1)])
@pytest.mark.skipif(torch.cuda.is_available(), reason="counts the devices of a machine without a GPU")
def test_how_many_processes_are_asked_for(compose, devices, count):
    assert process_count(plain(compose("trainer=ddp", f"trainer.devices={devices}"))["trainer"]) == count


def test_the_reason_is_what_explains_most(tmp_path):
    """A process that was killed; else a process's own reason, before that another one is gone; else the exit codes."""
    workers = [SimpleNamespace(returncode=1), SimpleNamespace(returncode=2)]
    assert reason(tmp_path, workers, {}, "here").line.endswith("exit codes: {0: 1, 1: 2}")
    lost, own = Ending(1, "error: another is gone", lost=True), Ending(2, "error: seed=x: wrong")
    (tmp_path / "ending_0.json").write_text(json.dumps(dataclasses.asdict(lost)))
    assert reason(tmp_path, workers, {}, "here") == lost
    stopped = Ending(143, "stopped by SIGTERM", lost=True)
    (tmp_path / "ending_1.json").write_text(json.dumps(dataclasses.asdict(stopped)))
    assert reason(tmp_path, workers, {}, "here") == stopped
    (tmp_path / "ending_1.json").write_text(json.dumps(dataclasses.asdict(own)))
    assert reason(tmp_path, workers, {}, "here") == own
    killed = reason(tmp_path, workers, {1: -9}, "here")
    assert killed.code == 1
    assert killed.line.startswith("error: process 1 of 2 was killed by SIGKILL")
    assert killed.line.endswith("; here")


# Death ----------------------------------------------------------------------------------------------------------------


def ranks_below(process):
    """Process ids by rank, of the processes of a run that `process` has started."""
    found = {}
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            found |= {int(pair.split(b"=")[1]): int(child) for pair in environment if pair.startswith(b"LOCAL_RANK=")}
    return found


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.05)


LONG = ["training.epochs=400", "training.warmup_epochs=399"]  # trains for minutes
FITTING = ["cleaner.steps=10000000", "cleaner.tolerance=0", "optimizer.head.lr=1e-9"]  # one stage 1 takes hours


@pytest.mark.slow
@pytest.mark.parametrize("call", [PYTHON, TORCHRUN], ids=["trainer=ddp", "torchrun"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("settings", "epochs"), [(LONG, 2), (FITTING, 0)], ids=["training", "stage 1"])
def test_a_killed_process_ends_all_within_a_minute(tmp_path, small, call, rank, settings, epochs):
    arguments = [*small, *PROCESSES, *settings, "hydra.run.dir=here"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*call, *arguments], cwd=tmp_path, **pipes)
    wait_for(lambda: (tmp_path / "here" / "config.yaml").exists())
    table = tmp_path / "here" / "metrics.csv"
    wait_for(lambda: epochs == 0 or (table.exists() and len(table.read_text().splitlines()) > epochs))
    time.sleep(8 if epochs == 0 else 0)  # the warm-up epoch is over by then
    ranks = ranks_below(process)
    assert set(ranks) == {0, 1}
    os.kill(ranks[rank], signal.SIGKILL)
    killed = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert process.returncode == 1, (out, err)
    assert not [pid for pid in ranks.values() if Path(f"/proc/{pid}").exists()]
    if call is PYTHON:
        assert err.count("\n") == 1, err
        assert err.startswith(f"error: process {rank} of 2 was killed by SIGKILL")
        assert [path.name for path in tmp_path.iterdir()] == ["here"]
    else:
        assert f"Signal 9 (SIGKILL) received by PID {ranks[rank]}" in err
        assert err.count("error: ") <= 1, err
    if epochs:
        torch.load(tmp_path / "here" / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow
def test_a_silent_process_is_given_up_after_the_timeout(tmp_path, small):
    arguments = [*small, *PROCESSES, *LONG, "trainer.strategy.timeout.minutes=0.1", "hydra.run.dir=here"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*PYTHON, *arguments], cwd=tmp_path, **pipes)
    table = tmp_path / "here" / "metrics.csv"
    wait_for(lambda: table.exists() and len(table.read_text().splitlines()) > 2)
    os.kill(ranks_below(process)[1], signal.SIGSTOP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count("\n") == 1, err
    assert err.startswith("error: another process of this run is gone or silent")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_supervisor_ends_all(tmp_path, small, number, code):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*PYTHON, *small, *PROCESSES, *LONG, "hydra.run.dir=here"], cwd=tmp_path, **pipes)
    table = tmp_path / "here" / "metrics.csv"
    wait_for(lambda: table.exists() and len(table.read_text().splitlines()) > 2)
    ranks = ranks_below(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.count("\n") == 1, err
    assert err.startswith(f"stopped by {signal.Signals(number).name}")
    assert not [pid for pid in ranks.values() if Path(f"/proc/{pid}").exists()]
    torch.load(tmp_path / "here" / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow
def test_a_killed_run_of_two_processes_goes_on_as_if_it_had_not_been(tmp_path, small):
    """Killed after the second of six epochs; weights, labels and table as of the unbroken run."""
    arguments = [*small, *PROCESSES, "training.epochs=6"]
    done = run([*PYTHON, *arguments, "hydra.run.dir=straight"], tmp_path)
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen([*PYTHON, *arguments, "hydra.run.dir=here"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    checkpoint = tmp_path / "here" / "checkpoints" / "last.ckpt"
    table = tmp_path / "here" / "metrics.csv"
    wait_for(lambda: checkpoint.exists() and table.exists() and len(table.read_text().splitlines()) > 2)
    ranks = ranks_below(process)
    os.kill(ranks[1], signal.SIGKILL)
    assert process.wait(60) == 1
    assert torch.load(checkpoint, weights_only=True)["epoch"] < 5
    done = run([*PYTHON, "resume=here"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert digest(tmp_path / "here") == digest(tmp_path / "straight")


@pytest.mark.slow
def test_processes_end_with_a_supervisor_that_is_killed(tmp_path, small):
    process = subprocess.Popen([*PYTHON, *small, *PROCESSES, *LONG, "hydra.run.dir=here"], cwd=tmp_path)
    wait_for(lambda: (tmp_path / "here" / "metrics.csv").exists())
    ranks = ranks_below(process)
    process.kill()
    process.wait()
    wait_for(lambda: not [pid for pid in ranks.values() if Path(f"/proc/{pid}").exists()], seconds=30)
    assert set(ranks) == {0, 1}
