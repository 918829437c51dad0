"""The command line: Hydra composes, mistakes get one line and exit code 2, everything else is `train.run`."""

from __future__ import annotations

import io
import logging
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cpc_lightning.app.doctor import examine
from cpc_lightning.app.launch import GRACE, Ending, RunError, agree_on_folder, start
from cpc_lightning.app.options import continuing, plain, quoted, shows
from cpc_lightning.app.overrides import CONFIG_MODULE, check_overrides, check_writable, check_written, parse, read
from cpc_lightning.app.settings import check_kinds
from cpc_lightning.app.stopping import stop_on_signals
from cpc_lightning.checkup.findings import exit_code, print_findings
from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import InputError, Stopped, TrainingError, one_line, print_anything, require
from cpc_lightning.training.checkpoints import RECORD, find_checkpoint, read_checkpoint, read_overrides, run_folder
from cpc_lightning.training.distributed import lost_process, process_number, starter

MISTAKE = 2  # exit codes; a run that a signal stops ends with 128 + its number
FAILURE = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    quieten()
    if shows(arguments):
        return show(arguments)
    try:
        arguments = plain(arguments)
        multirun = is_multirun(arguments)
        check_starter(multirun)
        arguments = continued(arguments, multirun)
        if "mode=check" in arguments and not multirun:
            return report(arguments)
        dataset = check_overrides(arguments, multirun)
        agree_on_folder()
        if process_number() > 0:
            arguments += ["hydra.output_subdir=null", "hydra/job_logging=disabled"]  # the first one writes
        with stop_on_signals(end_workers=False) if multirun else nullcontext():  # one run asks for them itself
            call_hydra(arguments, job if dataset is None else lambda config: job(config, dataset))
    except InputError as error:
        say(Ending(MISTAKE, f"error: {error}"))
        return MISTAKE
    except Stopped as stop:
        end_jobs()
        print(f"stopped by {stop.signal.name}; to continue its jobs, one by one: resume=FOLDER/JOB", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("stopped by SIGINT before the run began", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def end_jobs() -> None:
    """End the processes of the joblib launcher, if it has started any: nobody waits for their jobs any more."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = getattr(loky, "_executor", None)  # `get_reusable_executor` would start one
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)


def call_hydra(arguments: Sequence[str], task: Callable[[DictConfig], object]) -> None:
    """Have Hydra compose, and call `task` with each job's config."""
    sys.argv[1:] = arguments
    hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="config")(task)()


def show(arguments: Sequence[str]) -> int:
    """Print what an option such as --help asks for; nothing runs. A reader that goes away is not Hydra's to report."""
    said, code = io.StringIO(), 0
    try:
        with redirect_stdout(said):
            call_hydra(arguments, job)
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else FAILURE if exit.code else 0
    print(said.getvalue(), end="", flush=True)
    return code


def job(config: DictConfig, dataset: ImageDataset | None = None) -> float | None:
    """One job of Hydra's; what ends it early leaves it as an exit, which Hydra does not dress up with a traceback.

    Args:
        config: the job's.
        dataset: its data set, noise included, where it is open already.

    Returns:
        The summary's number that `objective` names, for a search; None without one.
    """
    quieten()  # a launcher may have started this process for the job
    try:
        with stop_on_signals():
            summary = start(config, list(HydraConfig.get().overrides.task), dataset)
        return None if config.objective is None else objective_of(summary, config.objective)
    except BaseException as error:
        ending = ending_of(error, config)
        if ending is None:
            raise
    say(ending)
    raise SystemExit(ending.code)


def objective_of(summary: dict[str, Any], name: str) -> float:
    """The number `name` of the summary; raises `InputError` where this run has none."""
    require(summary[name] is not None, "objective", name, "is unknown with this cleaner or without true labels")
    return float(summary[name])


def ending_of(error: BaseException, config: DictConfig) -> Ending | None:
    """What `error` is to people; None for a defect, whose traceback is worth seeing."""
    if isinstance(error, RunError):
        return error.ending
    if isinstance(error, InputError):
        return Ending(MISTAKE, f"error: {error}")
    if isinstance(error, TrainingError):
        return Ending(FAILURE, f"error: {one_line(str(error))}")
    if isinstance(error, OSError):
        return Ending(FAILURE, f"error: {one_line(f'{error.filename}: {error.strerror or error}')}")
    again = f"to continue: {continuing(str(config.run_dir))}"
    if isinstance(error, Stopped):
        return Ending(error.exit_code, f"stopped by {error.signal.name}; {again}", lost=process_number() > 0)
    if lost_process(error):
        why = one_line(str(error).rsplit("] ", 1)[-1][:200])
        return Ending(FAILURE, f"error: another process of this run is gone or silent ({why}); {again}", lost=True)
    return None


def say(ending: Ending) -> None:
    """Print the line, unless another process says it or a better one: then torchrun or srun ends this one meanwhile."""
    if starter() is not None and (ending.lost or process_number() > 0):
        time.sleep(GRACE)
    print(ending.line, file=sys.stderr)


def report(arguments: Sequence[str]) -> int:
    """Print what is found out about the run that the arguments describe; 2 if it would fail. Hydra starts no job.

    Raises:
        InputError: the arguments describe no run, so that there is nothing to look at.
    """
    asked = read(arguments, multirun=False)
    config, written = asked.config, asked.config.copy()
    written.run_dir = "."  # which folder it is, `examine` finds out
    given = check_written(written, asked.reference)
    findings = examine(
        config, lambda: check_writable("hydra.run.dir", config), lambda: check_kinds(given, asked.reference)
    )
    if process_number() == 0:
        print_findings(findings)
    return exit_code(findings)


def quieten() -> None:
    """Silence what Lightning says about itself and not about the run."""
    print_anything()
    for name in ("utilities.rank_zero", "utilities.seed", "utilities.distributed"):
        for package in ("pytorch_lightning", "lightning_fabric"):
            logging.getLogger(f"{package}.{name}").setLevel(logging.WARNING)
    if process_number() > 0:
        warnings.filterwarnings("ignore")  # the first process says them
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # What is logged, is logged once an epoch.
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # Stage 1 is broadcast: its metrics are the same on every process.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning calls what newer torch deprecates
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")


def is_multirun(arguments: Sequence[str]) -> bool:
    """Whether there may be several jobs: a sweep, or a search unless `hydra.mode` says otherwise."""
    if any(argument in ("-m", "--multirun") for argument in arguments):
        return True
    given = {argument.split("=", 1)[0]: argument for argument in arguments if "=" in argument}
    mode, search = (parse(given[name]).value() if name in given else None for name in ("hydra.mode", "hparams_search"))
    return search is not None if mode is None else str(mode).upper() == "MULTIRUN"


def check_starter(multirun: bool) -> None:
    """Raise `InputError` for a sweep inside torchrun or srun: each process would go through it by itself."""
    require(
        not multirun or starter() is None,
        "-m", starter(), "starts one run; a sweep starts processes for each job itself, with trainer=ddp",
    )  # fmt: skip


# Resume -------------------------------------------------------------------------------------------------------------


def continued(arguments: list[str], multirun: bool) -> list[str]:
    """With `resume=PATH`, the arguments of the run to be continued, with the given ones in place of its own.

    It goes on in its own folder unless hydra.run.dir is given. A job of a search goes on alone.
    """
    given = {argument.split("=", 1)[0].lstrip("+~"): argument for argument in arguments if "=" in argument}
    path: Any = parse(given["resume"]).value() if "resume" in given else None
    if path is None:
        return arguments
    require(not multirun, "resume", path, "continues one run; resume the jobs of a sweep one by one, without -m")
    checkpoint = find_checkpoint(path)
    folder = run_folder(path, checkpoint)
    saved = read_overrides(path) if checkpoint is None else read_checkpoint(checkpoint)[RECORD]["overrides"]
    own = [text for text in saved if text.split("=", 1)[0].lstrip("+~") not in {*given, "resume"}]
    own.append("hydra.mode=RUN")  # a search's file says MULTIRUN
    if folder is not None and "hydra.run.dir" not in given:
        own.append(f"hydra.run.dir={quoted(str(folder))}")
    return [*own, *arguments]
