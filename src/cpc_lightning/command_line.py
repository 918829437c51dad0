"""The command line: Hydra composes, mistakes get one line and exit code 2, everything else is `train.run`."""

from __future__ import annotations

import importlib.resources
import itertools
import logging
import os
import re
import shlex
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cpc_lightning.building import make_method
from cpc_lightning.checkpoints import RECORD, find_checkpoint, read_checkpoint, run_folder
from cpc_lightning.checkup.findings import exit_code, print_findings
from cpc_lightning.data.dataset import ImageDataset
from cpc_lightning.distributed import lost_process, process_number, starter
from cpc_lightning.doctor import examine
from cpc_lightning.errors import InputError, TrainingError, one_line, require
from cpc_lightning.launch import GRACE, Ending, RunError, agree_on_folder, start
from cpc_lightning.report.sweep import METRICS
from cpc_lightning.settings import check_kinds, check_known, check_switches, near, resolved, settings, value_text
from cpc_lightning.stopping import Stopped, stop_on_signals
from cpc_lightning.train import prepare

if TYPE_CHECKING:
    from importlib.abc import Traversable  # moves to importlib.resources.abc in Python 3.14

CONFIG_MODULE = "cpc_lightning.conf"
MISTAKE = 2  # exit codes; a run that a signal stops ends with 128 + its number
FAILURE = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    quieten()
    dataset = None
    try:
        if not any(argument.startswith("-") and argument not in ("-m", "--multirun") for argument in arguments):
            arguments.sort(key=lambda argument: not argument.startswith("-"))  # -m may stand anywhere
            multirun = is_multirun(arguments)
            check_starter(multirun)
            arguments = continued(arguments, multirun)
            if "mode=check" in arguments and not multirun:
                return report(arguments)
            dataset = check_overrides(arguments, multirun)
            agree_on_folder()
        if process_number() > 0:
            arguments += ["hydra.output_subdir=null", "hydra/job_logging=disabled"]  # the first one writes
        sys.argv[1:] = arguments
        hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="config")(
            job if dataset is None else lambda config: job(config, dataset)
        )()
    except InputError as error:
        say(Ending(MISTAKE, f"error: {error}"))
        return MISTAKE
    except KeyboardInterrupt:
        print("stopped by SIGINT before the run began", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


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
    again = f"to continue: python -m cpc_lightning resume={shlex.quote(str(config.run_dir))}"
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
    """Print what is found out about the run that the arguments describe; 2 if it would fail. Hydra starts no job."""
    config = compose([values[0] for values in choices_of(arguments, multirun=False)])
    findings = examine(config, lambda: check_writable("hydra.run.dir", config))
    if process_number() == 0:
        print_findings(findings)
    return exit_code(findings)


def quieten() -> None:
    """Silence what Lightning says about itself and not about the run."""
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
    """Whether there may be several jobs: a sweep, or a search, whose file says so."""
    return any(a in ("-m", "--multirun") or a.startswith(("hparams_search=", "hydra.mode=")) for a in arguments)


def check_starter(multirun: bool) -> None:
    """Raise `InputError` for a sweep inside torchrun or srun: each process would go through it by itself."""
    require(
        not multirun or starter() is None,
        "-m", starter(), "starts one run; a sweep starts processes for each job itself, with trainer=ddp",
    )  # fmt: skip


# Resume -------------------------------------------------------------------------------------------------------------


def continued(arguments: list[str], multirun: bool) -> list[str]:
    """With `resume=PATH`, the arguments of the run to be continued, with the given ones in place of its own.

    It goes on in its own folder unless hydra.run.dir is given.
    """
    given = {argument.split("=", 1)[0].lstrip("+~"): argument for argument in arguments if "=" in argument}
    path: Any = parse(given["resume"]).value() if "resume" in given else None
    if path is None:
        return arguments
    require(not multirun, "resume", path, "continues one run; resume the jobs of a sweep one by one, without -m")
    checkpoint = find_checkpoint(path)
    folder = run_folder(path, checkpoint)
    if checkpoint is not None:
        saved = read_checkpoint(checkpoint)[RECORD]["overrides"]
    else:
        saved = OmegaConf.to_container(OmegaConf.load(Path(path, ".hydra", "overrides.yaml")))
    own = [text for text in saved if text.split("=", 1)[0].lstrip("+~") not in {*given, "resume"}]
    if folder is not None and "hydra.run.dir" not in given:
        own.append(f"hydra.run.dir={quoted(str(folder))}")
    return [*own, *arguments]


def quoted(text: str) -> str:
    """`text` as Hydra's grammar quotes it."""
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + match[2].replace("'", r"\'"), text)
    return f"'{escaped}'"


# Checks before Hydra ------------------------------------------------------------------------------------------------


def check_overrides(arguments: Sequence[str], multirun: bool) -> ImageDataset | None:
    """Raise `InputError` for what can be found out before there is a run folder.

    That is an override that Hydra cannot apply, a setting that a part of the method objects to, a folder that cannot be
    written. In a sweep each value of each setting is tried once, with the other settings at their first values.
    Everything up to training is tried, and nothing written.

    Returns:
        The data set, noise included, so that a single run need not open it again; None for a sweep.
    """
    overrides, groups = [parse(argument) for argument in arguments if not argument.startswith("-")], config_groups()
    for override in overrides:
        require(
            override.key_or_group != "run_dir", "run_dir", value_text(override), "follows hydra.run.dir: set that one"
        )
    choices = choices_of(arguments, multirun)
    first = [values[0] for values in choices]
    config = compose(first)
    check_objective(config)
    reference = compose([text for o, text in zip(overrides, first, strict=True) if o.key_or_group in groups])
    for override in overrides:
        check_known(override, reference)
    config.run_dir = str(check_writable("hydra.sweep.dir" if multirun else "hydra.run.dir", config))
    given = resolved(config)
    check_switches(given, reference)
    make_method(config)  # before the other kinds: our own parts know their ranges
    check_kinds(given, reference)
    dataset = prepare(config).datamodule.dataset
    for place, values in enumerate(choices):
        for value in values[1:]:
            make_method(compose([*first[:place], value, *first[place + 1 :]]))
    return None if multirun else dataset


def choices_of(arguments: Sequence[str], multirun: bool) -> list[list[str]]:
    """Each override once for each of its values; raises `InputError` for what is no override or no group's choice."""
    overrides = [parse(argument) for argument in arguments if not argument.startswith("-")]
    groups = config_groups()
    for override in overrides:
        check_group(override, groups)
    return [values_of(override, multirun) for override in overrides]


def check_objective(config: DictConfig) -> None:
    """Raise `InputError` where a search is to maximise what no run tells."""
    name = config.objective
    require(name is None or name in METRICS, "objective", name, f"must be one of {', '.join(METRICS)}")


def parse(argument: str) -> Override:
    """One override of the command line."""
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        raise InputError(argument.split("=")[0], argument, "is not of the form SETTING=VALUE") from None


def values_of(override: Override, multirun: bool) -> list[str]:
    """The override once for each of a sweep's values; as it stands where it is none."""
    text = override.input_line or ""
    if not override.is_sweep_override() or override.get_key_element().startswith("hydra."):
        return [text]
    key = override.get_key_element()
    require(multirun, key, text.split("=", 1)[1], "several values need -m (a sweep); a list is written [a,b]")
    if not override.is_discrete_sweep():
        return []
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def check_group(override: Override, groups: dict[str, list[str]]) -> None:
    """Raise `InputError` where a group is given a choice that it does not have."""
    name = override.key_or_group
    if name not in groups or override.is_delete():
        return
    value = override.value()
    given: Iterable[Any]
    if override.is_sweep_override():
        given = list(override.sweep_iterator()) if override.is_discrete_sweep() else []
    else:
        given = [value]
    for choice in itertools.chain.from_iterable(c if isinstance(c, list) else [c] for c in given):
        text = "null" if choice is None else str(choice)
        require(
            text in groups[name] or (choice is None and name in ("experiment", "hparams_search")),
            name,
            text,
            f"is no choice of this group{near(text, groups[name])}; there are: {', '.join(groups[name])}",
        )


def config_groups() -> dict[str, list[str]]:
    """Choices of each group in conf/, and of the groups within ("noise/source")."""
    groups: dict[str, list[str]] = {}

    def walk(folder: Traversable, name: str) -> None:
        leaves = [leaf.name for leaf in folder.iterdir() if leaf.name.endswith(".yaml")]
        if name and leaves:
            groups[name] = sorted(leaf.removesuffix(".yaml") for leaf in leaves)
        for inner in folder.iterdir():
            if inner.is_dir() and not inner.name.startswith("__"):
                walk(inner, f"{name}/{inner.name}".lstrip("/"))

    walk(importlib.resources.files(CONFIG_MODULE), "")
    return groups


def compose(overrides: list[str]) -> DictConfig:
    """The config that Hydra will compose, or an `InputError` that names the override that it cannot apply."""
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3", job_name="cpc_lightning"):
        try:
            return hydra.compose("config", overrides, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(overrides, error) from None


def explain(overrides: list[str], error: Exception) -> InputError:
    """Which override Hydra could not apply, and which setting may have been meant."""
    groups = config_groups()
    parsed = [parse(text) for text in overrides]
    if absent := re.search(r"Could not (?:find|load) '(hydra/\w+)/([^']*)'", str(error)):
        return InputError(absent[1], absent[2], "is not installed (launchers and Optuna: the extra `sweeps`)")
    choices = [o.input_line or "" for o in parsed if o.key_or_group in groups]
    try:
        config = hydra.compose("config", choices, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException):
        return InputError("config", " ".join(overrides), str(error).splitlines()[0])
    known = settings(config)
    for override in parsed:
        key = override.key_or_group
        if key not in groups and not override.is_add() and key not in known:
            return InputError(key, value_text(override), f"is no setting{near(key, [*known, *groups])}")
    return InputError("config", " ".join(overrides), str(error).splitlines()[0])


def check_writable(setting: str, config: DictConfig) -> Path:
    """The run's folder, not yet made; raises `InputError` where it cannot be made or written to."""
    HydraConfig.instance().set_config(config)  # the folder's name may hold ${hydra:...}
    folder = Path(str(OmegaConf.select(config, setting)))
    present = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    try:
        if not present.is_dir():
            raise NotADirectoryError(f"{present} is not a folder")
        with tempfile.TemporaryFile(dir=present) as file:
            file.write(bytes(4096))  # a full disk still takes an empty file
            file.flush()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(setting, str(folder), f"cannot be written ({reason})") from None
    return folder
