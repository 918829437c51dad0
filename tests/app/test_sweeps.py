"""Sweeps and searches by every launcher, alone and with processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cpc_lightning.app.command_line import is_multirun

PROCESSES = ["trainer=ddp", "trainer.accelerator=cpu"]


def sweep(folder, *arguments):
    call = [sys.executable, "-m", "cpc_lightning", *arguments, "hydra.sweep.dir=sweep"]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("arguments", "several"),
    [
        (["-m"], True),
        (["hparams_search=optuna"], True),
        (["hparams_search=null"], False),
        (["hydra.mode=MULTIRUN"], True),
        (["hydra.mode=RUN"], False),
        (["hparams_search=optuna", "hydra.mode=RUN"], False),
        (["seed=1"], False),
    ],
)
def test_what_may_have_several_jobs(arguments, several):
    assert is_multirun(arguments) is several


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-m", "hydra/launcher=jobliv", "seed=1,2"], "error: hydra/launcher=jobliv: is not installed"),
        (["objective=luck"], "error: objective=luck: must be one of test_accuracy_best"),
        (["seed=1,2"], "error: seed=1,2: several values need -m"),
    ],
)
def test_a_mistake_before_the_first_job(command, tmp_path, arguments, says):
    code, out, err = command(*arguments, f"hydra.sweep.dir={tmp_path / 'sweep'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(says)
    assert not list(tmp_path.iterdir())


LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local"],
}


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("processes", [[], PROCESSES], ids=["alone", "two processes"])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_trains_every_job_once_on_its_own_settings(tmp_path, small, launcher, processes):
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    done = sweep(tmp_path, *small, "cleaner=none", *processes, "seed=1,2", *LAUNCHERS[launcher], "-m")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]
    assert sorted(path.parent.name for path in tmp_path.rglob("summary.json")) == ["0", "1"]
    scores = []
    for job, seed in (("0", 1), ("1", 2)):
        assert OmegaConf.load(tmp_path / "sweep" / job / "config.yaml").seed == seed
        summary = json.loads((tmp_path / "sweep" / job / "summary.json").read_text())
        assert summary["epochs"] == 3
        scores.append(summary["test_accuracy_best"])
    assert scores[0] != scores[1]


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("processes", [[], PROCESSES], ids=["alone", "two processes"])
def test_a_search_finds_the_best_of_its_jobs(tmp_path, small, processes):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    arguments = ["hparams_search=optuna", "hydra.sweeper.n_trials=3", "objective=test_accuracy_best"]
    done = sweep(tmp_path, *small, *processes, *arguments)
    assert done.returncode == 0, done.stderr
    found = OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml")
    scores, rates = {}, set()
    for job in ("0", "1", "2"):
        config = OmegaConf.load(tmp_path / "sweep" / job / "config.yaml")
        assert 0.3 <= config.cleaner.threshold <= 0.7
        rates.add(config.optimizer.network.lr)
        score = json.loads((tmp_path / "sweep" / job / "summary.json").read_text())["test_accuracy_best"]
        scores[score] = config.cleaner.threshold
    assert len(rates) == 3
    assert found.best_value == max(scores)
    assert found.best_params["cleaner.threshold"] == scores[max(scores)]


@pytest.mark.slow
@pytest.mark.ddp
def test_a_job_that_fails_ends_the_sweep_in_one_line(tmp_path, small):
    done = sweep(tmp_path, *small, "cleaner=none", *PROCESSES, "optimizer.network.lr=1e20", "seed=1,2", "-m")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: the loss became")
    assert not (tmp_path / "sweep" / "1").exists()


@pytest.mark.long
def test_a_job_of_a_search_is_resumed_alone(command, tmp_path, small):
    """Its settings hold those of the search, but not the wish to search again."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    folder = tmp_path / "job"
    settings = [*small, "cleaner=none", "hparams_search=optuna", "hydra.mode=RUN"]
    assert command(*settings, f"hydra.run.dir={folder}")[0] == 0
    before = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").unlink()
    code, _, err = command(f"resume={folder}", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert (code, err) == (0, "")
    after = json.loads((folder / "summary.json").read_text())
    assert {**before, "seconds": 0} == {**after, "seconds": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def processes_with(text):
    """Process ids whose command line or environment holds `text`."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            content = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        except OSError:  # it has ended
            continue
        if text.encode() in content:
            found.append(int(place.name))
    return found


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_ends_a_parallel_sweep_and_its_jobs(tmp_path, small, number, code):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    long = ["training.epochs=400", "training.warmup_epochs=399"]
    arguments = [*small, *long, "cleaner=none", "seed=1,2", *LAUNCHERS["joblib"], "-m", "hydra.sweep.dir=sweep"]
    environment = {**os.environ, "SWEEP_OF_THIS_TEST": str(tmp_path)}
    call = [sys.executable, "-m", "cpc_lightning", *arguments]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(call, cwd=tmp_path, env=environment, **pipes)
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    assert len(processes_with(str(tmp_path))) > 2
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.count("\n") == 1, err
    assert err.startswith(f"stopped by {number.name}; to continue its jobs")
    until = time.monotonic() + 20
    while processes_with(str(tmp_path)):
        assert time.monotonic() < until, "a job goes on"
        time.sleep(0.1)
