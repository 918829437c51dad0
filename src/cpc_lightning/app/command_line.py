"""The command line: starts a run, a sweep, a resumed run, a check or figures."""

from __future__ import annotations

import io
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cpc_lightning.app.compose import (
    CONFIG_MODULE,
    Asked,
    Composed,
    compose,
    help_text,
    parse,
    read,
    with_own_cleaner,
)
from cpc_lightning.app.endings import FAILURE, MISTAKE, ending_of, quieten, say
from cpc_lightning.app.folders import agree_on_folder, check_subfolders, check_writable
from cpc_lightning.app.guest import as_found
from cpc_lightning.app.launch import (
    Ending,
    RunError,
    check_environment,
    is_supervised,
    process_number,
    starter,
    supervise,
)
from cpc_lightning.app.modes import refuse_mode_settings, with_pretraining
from cpc_lightning.app.options import SHOWS, plain_options, quoted, shows
from cpc_lightning.app.settings import plain
from cpc_lightning.app.stopping import stop_on_signals
from cpc_lightning.errors import InputError, Stopped, TrainingError, one_line, require

if TYPE_CHECKING:
    from cpc_lightning.app.parts import Parts

JOBS = "CPC_LIGHTNING_JOBS"
"""The variable that tells the jobs of a sweep, wherever they run, how many there are."""

# What builds and trains is imported where it is used: --help, and a mistyped name, are answered without torch.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with as_found():
        quieten()
        return answer(arguments)


def answer(arguments: list[str]) -> int:
    """`main`, without what protects the caller's process."""
    try:
        check_environment()
        if shows(arguments):
            return show(arguments)
        arguments = plain_options(arguments)
        mode = given(arguments, "mode")
        if mode == "figures":
            from cpc_lightning.app.figures import figures

            return figures(arguments)
        if mode == "labels":
            from cpc_lightning.app.labels import labels

            return labels(arguments)
        if mode == "apply":
            from cpc_lightning.app.apply import apply

            return apply(arguments)
        if mode == "report":
            from cpc_lightning.app.report import report

            return report(arguments)
        if mode == "predict":
            from cpc_lightning.app.predict import predictions

            return ended_well(lambda: predictions(arguments))
        if mode == "evaluate":
            from cpc_lightning.app.evaluate import evaluation

            return ended_well(lambda: evaluation(arguments))
        if mode == "export":
            from cpc_lightning.app.export import export

            return ended_well(lambda: export(arguments))
        multirun = is_multirun(arguments)
        several = "starts one run; a sweep starts processes for each job itself, with trainer=ddp"
        require(not multirun or starter() is None, "-m", starter(), several)
        arguments = with_own_cleaner(with_pretraining(continued(arguments, multirun)))
        refuse_mode_settings(arguments, str(given(arguments, "mode")))
        agree_on_folder()
        asked = read(arguments, multirun)
        composed = asked.compose(asked.first)
        if composed.config.mode == "check" and not multirun:
            return check(composed)
        if multirun:
            return sweep(arguments, asked, composed)
        return single(arguments, composed)
    except InputError as error:
        say(Ending(MISTAKE, f"error: {error}"))
        return MISTAKE
    except KeyboardInterrupt:
        print("stopped by SIGINT before the run began", file=sys.stderr)
        return 128 + signal.SIGINT
    except SystemExit as exit:  # of a job, which has said why, or of Hydra
        return exit.code if isinstance(exit.code, int) else FAILURE if exit.code else 0


def ended_well(task: Callable[[], int]) -> int:
    """The exit code of a mode that may take hours; what ends it early is one line that says how to go on."""
    try:
        return task()
    except Stopped as stop:
        print(f"stopped by {stop.signal.name}; the same command goes on from there", file=sys.stderr)
        return stop.exit_code
    except (RunError, TrainingError, OSError) as error:
        ending = ending_of(error, "")
        if ending is None:
            raise
    say(ending)
    return ending.code


def call_hydra(arguments: Sequence[str], task: Callable[[DictConfig], object]) -> None:
    """Have Hydra compose, and call `task` with each job's config."""
    sys.argv[1:] = arguments
    hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="config")(task)()


def show(arguments: Sequence[str]) -> int:
    """Print what an option such as --help asks for; nothing runs. A reader that goes away is not Hydra's to report."""
    arguments = with_pretraining(arguments)
    if "--version" in arguments:
        print(f"cpc-lightning {version('cpc-lightning')}")
        return 0
    if "--help" in arguments or "-h" in arguments:
        print(help_text(plain_options([text for text in arguments if text not in SHOWS])), flush=True)
        return 0
    asked = read([text for text in arguments if "=" in text and not text.startswith("-")], multirun=True)
    asked.compose(asked.first)  # whose mistakes have one line, Hydra's several
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            call_hydra(with_own_cleaner(arguments), lambda config: None)
    finally:
        print(said.getvalue(), end="", flush=True)
    return 0


# One run --------------------------------------------------------------------------------------------------------------


def single(arguments: list[str], composed: Composed) -> int:
    """Build all parts, so that every mistake is told before there is a run folder; then have Hydra start the run."""
    from cpc_lightning.app.parts import Parts
    from cpc_lightning.app.pretrain import MODE, PretrainingParts

    folder = str(check_writable("hydra.run.dir", composed.config))
    overrides = typed(composed.config.hydra)
    kind = PretrainingParts if composed.config.mode == MODE else Parts
    parts: list[Parts] = [kind(composed.settings(folder), overrides, composed.usual).ready()]
    arguments = [text for text in arguments if not text.startswith("hydra.run.dir=")]
    arguments.append(f"hydra.run.dir={quoted(folder)}")  # or a second would make it another folder
    if process_number() > 0:
        arguments += ["hydra.output_subdir=null", "hydra/job_logging=disabled"]  # the first one writes
    call_hydra(arguments, lambda config: job(parts.pop))
    return 0


def typed(hydra: Any) -> list[str]:
    """The overrides of Hydra's config as they were typed; an interpolation in one of them stays."""
    return cast(list[str], OmegaConf.to_container(hydra.overrides.task, resolve=False))


def job(make_parts: Callable[[], Parts]) -> float | None:
    """One job of Hydra's; what ends it early leaves it as an exit, which Hydra does not dress up with a traceback.

    Args:
        make_parts: answers the parts of the job, ready.

    Returns:
        The summary's number that `objective` names, for a search; None without one.
    """
    from cpc_lightning.app.pretrain import PretrainingParts, pretrain_parts
    from cpc_lightning.app.run import run_parts
    from cpc_lightning.app.trainer import process_count

    quieten()  # a launcher may have started this process for the job
    run_dir = HydraConfig.get().runtime.output_dir
    try:
        with stop_on_signals():
            parts = make_parts()
            settings, overrides = parts.settings, parts.overrides
            if is_supervised(settings):
                if parts.choice:
                    print(one_line(parts.choice), file=sys.stderr)
                del parts  # and with it the data, which the other processes open themselves
                summary = supervise(settings, overrides, process_count(settings["trainer"]))
            elif isinstance(parts, PretrainingParts):
                summary = pretrain_parts(parts)
            else:
                summary = run_parts(parts)
        name = settings["objective"]
        unknown = "is unknown with this cleaner or without true labels"
        require(name is None or summary.get(name) is not None, "objective", name, unknown)
        return None if name is None else float(summary[name])
    except BaseException as error:
        ending = ending_of(error, run_dir)
        if ending is None:
            raise
    say(ending)
    raise SystemExit(ending.code)


def check(composed: Composed) -> int:
    """`mode=check`: print what is found out about the run; 2 if it would fail. Hydra starts no job.

    Raises:
        InputError: the command line describes no run, so that there is nothing to look at.
    """
    from cpc_lightning.app.rehearsal import rehearse
    from cpc_lightning.checkup.findings import exit_code, print_findings

    findings = rehearse(composed)
    if process_number() == 0:
        print_findings(findings)
    return exit_code(findings)


# A sweep --------------------------------------------------------------------------------------------------------------


def sweep(arguments: list[str], asked: Asked, composed: Composed) -> int:
    """Check every value of every setting, then have Hydra start the jobs."""
    try:
        check_sweep(asked, composed)
        trials = OmegaConf.select(composed.config, "hydra.sweeper.n_trials")  # of a search
        os.environ[JOBS] = str(trials or math.prod(map(len, asked.choices)))
        with stop_on_signals(end_workers=False):
            call_hydra(arguments, sweep_job)
        return 0
    except Stopped as stop:
        end_jobs()
        print(f"stopped by {stop.signal.name}; to continue its jobs, one by one: resume=FOLDER/JOB", file=sys.stderr)
        return stop.exit_code


def check_sweep(asked: Asked, composed: Composed) -> None:
    """Raise `InputError` where a job would: each value is tried once, with the other settings at their first values."""
    from cpc_lightning.app.parts import Parts

    check_subfolders(composed.config, math.prod(map(len, asked.choices)))
    folder = str(check_writable("hydra.sweep.dir", composed.config))
    first = Parts(composed.settings(folder), asked.first, composed.usual).ready()
    for place, values in enumerate(asked.choices):
        override = asked.overrides[place]
        for value in values[1:]:
            texts = [*asked.first[:place], value, *asked.first[place + 1 :]]
            composed = asked.compose(texts)
            parts = Parts(composed.settings(folder), texts, composed.usual)
            data = override.key_or_group.split(".")[0] in ("dataset", "experiment", "features", "seed", "noise_seed")
            parts.check_method()
            if not data:
                parts.share_data(first)  # which are not opened anew, nor is the noise added
                parts.ready()


def sweep_job(config: DictConfig) -> float | None:
    """One job of a sweep, in this process or in one that a launcher has started."""
    from cpc_lightning.app.parts import Parts
    from cpc_lightning.training.progress import JOB

    number, count = HydraConfig.get().job.num + 1, os.environ.get(JOBS)
    os.environ[JOB] = f"job {number} of {count}" if count else f"job {number}"  # as processes that it starts know too
    asked = typed(HydraConfig.get())
    texts = with_own_cleaner(asked)
    if texts != asked:  # as the same command alone; Hydra gives all jobs the experiment's cleaner
        config = compose(texts)
    return job(lambda: Parts(plain(config), texts).ready())


def end_jobs() -> None:
    """End the processes of the joblib launcher, if it has started any: nobody waits for their jobs any more."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = getattr(loky, "_executor", None)  # `get_reusable_executor` would start one
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)


def is_multirun(arguments: Sequence[str]) -> bool:
    """Whether there may be several jobs: a sweep, or a search unless `hydra.mode` says otherwise."""
    if any(argument in ("-m", "--multirun") for argument in arguments):
        return True
    mode, search = (given(arguments, name) for name in ("hydra.mode", "hparams_search"))
    return search is not None if mode is None else str(mode).upper() == "MULTIRUN"


def given(arguments: Sequence[str], name: str) -> Any:
    """The value that the arguments give the setting; None without one. The last of several counts."""
    texts = [text for text in arguments if text.partition("=")[0].lstrip("+~") == name and "=" in text]
    return parse(texts[-1]).value() if texts else None


# Resume -------------------------------------------------------------------------------------------------------------


def continued(arguments: list[str], multirun: bool) -> list[str]:
    """With `resume=PATH`, the arguments of the run to be continued, with the given ones in place of its own.

    It goes on in its own folder unless hydra.run.dir is given. A job of a search goes on alone.
    """
    path = given(arguments, "resume")
    if path is None:
        return arguments
    from cpc_lightning.training.checkpoints import RECORD, find_checkpoint, read_checkpoint, read_overrides, run_folder
    from cpc_lightning.training.same_run import renamed

    require(not multirun, "resume", path, "continues one run; resume the jobs of a sweep one by one, without -m")
    checkpoint = find_checkpoint(path)
    folder = run_folder(path, checkpoint)
    saved = read_overrides(path) if checkpoint is None else read_checkpoint(checkpoint)[RECORD]["overrides"]
    names = {argument.split("=", 1)[0].lstrip("+~") for argument in arguments if "=" in argument}
    own = [text for text in map(renamed, saved) if text.split("=", 1)[0].lstrip("+~") not in {*names, "resume"}]
    own.append("hydra.mode=RUN")  # a search's file says MULTIRUN
    if folder is not None and "hydra.run.dir" not in names:
        own.append(f"hydra.run.dir={quoted(str(folder))}")
    return [*own, *arguments]
