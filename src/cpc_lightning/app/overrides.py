"""The overrides of a command line: what Hydra will make of them, and whether it can, before there is a run folder."""

from __future__ import annotations

import copy
import importlib.resources
import itertools
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cpc_lightning.app.building import make_method
from cpc_lightning.app.settings import (
    check_groups,
    check_kinds,
    check_known,
    check_needed,
    check_switches,
    near,
    resolved,
    settings,
    value_text,
)
from cpc_lightning.app.train import prepare
from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import InputError, first_line, require
from cpc_lightning.report.sweep import METRICS

if TYPE_CHECKING:
    from importlib.abc import Traversable  # moves to importlib.resources.abc in Python 3.14

CONFIG_MODULE = "cpc_lightning.conf"
LISTS = ("logger", "callbacks", "experiment")  # groups of which several choices go together


@dataclass(frozen=True)
class Asked:
    """What a command line asks for, as far as that can be told from its words and conf/ alone.

    Attributes:
        overrides: of the command line, without what a search draws from a range, which has no first value.
        choices: each of them once for each of its values in a sweep.
        groups: names of the groups of conf/, with the choices of each.
        config: composed of the first values.
        reference: the same without the settings that are given one by one.
    """

    overrides: list[Override]
    choices: list[list[str]]
    groups: Mapping[str, Sequence[str]]
    config: DictConfig
    reference: DictConfig

    @property
    def first(self) -> list[str]:
        """The first value of each override."""
        return [values[0] for values in self.choices]

    def reference_of(self, texts: Sequence[str]) -> DictConfig:
        """What the overrides among `texts` that choose files of settings compose by themselves."""
        return compose([text for o, text in zip(self.overrides, texts, strict=True) if brings(o, self.groups)])


def read(arguments: Sequence[str], multirun: bool) -> Asked:
    """Parse and compose; raises `InputError` for an override that Hydra cannot apply, or that nothing would read."""
    overrides = [parse(argument) for argument in arguments if not argument.startswith("-")]
    groups = config_groups(added_folders(overrides))
    for override in overrides:
        require(
            override.key_or_group != "run_dir", "run_dir", value_text(override), "follows hydra.run.dir: set that one"
        )
    sweep = [(o, values) for o, values in zip(overrides, choices_of(arguments, multirun), strict=True) if values]
    overrides, choices = [override for override, _ in sweep], [values for _, values in sweep]
    config = compose([values[0] for values in choices])
    asked = Asked(overrides, choices, groups, config, DictConfig({}))
    asked = replace(asked, reference=asked.reference_of(asked.first))
    for override in overrides:
        check_known(override, asked.reference)
    check_groups(config, asked.reference)
    return asked


def check_overrides(arguments: Sequence[str], multirun: bool) -> ImageDataset | None:
    """Raise `InputError` for what can be found out before there is a run folder.

    That is an override that Hydra cannot apply, a setting that a part of the method objects to, a folder that cannot be
    written. In a sweep each value of each setting is tried once, with the other settings at their first values.
    Everything up to training is tried, and nothing written.

    Returns:
        The data set, noise included, so that a single run need not open it again; None for a sweep.
    """
    asked = read(arguments, multirun)
    config, reference, first = asked.config, asked.reference, asked.first
    if multirun:
        check_subfolders(config, math.prod(map(len, asked.choices)))
    config.run_dir = folder = str(check_writable("hydra.sweep.dir" if multirun else "hydra.run.dir", config))
    check_values(config, reference)
    dataset = prepare(config).datamodule.dataset
    for place, values in enumerate(asked.choices):
        override = asked.overrides[place]
        for value in values[1:]:
            texts = [*first[:place], value, *first[place + 1 :]]
            config = compose(texts)
            config.run_dir = folder
            check_values(config, asked.reference_of(texts) if brings(override, asked.groups) else reference)
            if override.key_or_group.split(".")[0] not in ("dataset", "experiment", "seed", "noise_seed"):
                prepare(config, dataset=dataset)  # noise is not added anew
    return None if multirun else dataset


def brings(override: Override, groups: Mapping[str, Sequence[str]]) -> bool:
    """Whether the override chooses files of settings, and so says which settings there are."""
    return override.key_or_group in groups or override.key_or_group == "hydra.searchpath"


def check_values(config: DictConfig, reference: DictConfig) -> None:
    """Raise `InputError` for a value that its setting cannot take, before anything looks at the data."""
    given = check_written(config, reference)
    make_method(config)  # before the other kinds: our own parts know their ranges
    check_kinds(given, reference)


def check_written(config: DictConfig, reference: DictConfig) -> dict[str, Any]:
    """All settings by full name; raises `InputError` for what must be mended before anything is built of them."""
    check_groups(config, reference)
    given = resolved(config)
    check_objective(config)
    check_switches(given, reference)
    check_needed(given)
    return given


def check_subfolders(config: DictConfig, jobs: int) -> None:
    """Raise `InputError` where the jobs of a sweep have no folder each."""
    trial = copy.deepcopy(config)
    OmegaConf.set_readonly(trial.hydra, False)
    trial.hydra.job.num, trial.hydra.job.id = 0, "0"
    written = OmegaConf.to_container(trial.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
    folder_name("hydra.sweep.subdir", trial)
    several = jobs > 1 or OmegaConf.select(trial, "hydra.sweeper.n_trials", default=1) > 1
    expected = "must name a folder for each job, as ${hydra.job.num} does"
    require(not several or "${" in written, "hydra.sweep.subdir", written, expected)


def folder_name(setting: str, config: DictConfig) -> str:
    """The value of a setting that names a folder; raises `InputError` where it names none."""
    try:
        HydraConfig.instance().set_config(config)  # the folder's name may hold ${hydra:...}
        name = OmegaConf.select(config, setting)
    except OmegaConfBaseException as error:
        raise InputError(setting, "(an interpolation)", first_line(error)) from None
    require(isinstance(name, str) and name.strip() != "", setting, name, "must be a folder's name")
    return str(name)


def added_folders(overrides: Iterable[Override]) -> list[Path]:
    """Folders that hold choices beside those of conf/; raises `InputError` for what is no folder."""
    given = next((override.value() for override in overrides if override.key_or_group == "hydra.searchpath"), [])
    texts = isinstance(given, list) and all(isinstance(text, str) for text in given)
    require(texts, "hydra.searchpath", given, "must be a list of folders")
    folders = [Path(str(text).removeprefix("file://")) for text in given if not str(text).startswith("pkg://")]  # type: ignore[union-attr]
    for folder in folders:
        require(folder.is_dir(), "hydra.searchpath", str(folder), "is not a folder")
    return folders


def choices_of(arguments: Sequence[str], multirun: bool) -> list[list[str]]:
    """Each override once for each of its values; raises `InputError` for what is no override or no group's choice."""
    overrides = [parse(argument) for argument in arguments if not argument.startswith("-")]
    groups = config_groups(added_folders(overrides))
    for override in overrides:
        check_group(override, groups)
    return [values_of(override, multirun) for override in overrides]


def check_objective(config: DictConfig) -> None:
    """Raise `InputError` where a search is to maximise what no run tells."""
    name = config.objective
    require(name is None or name in METRICS, "objective", name, f"must be one of {', '.join(METRICS)}")


def parse(argument: str) -> Override:
    """One override of the command line."""
    name = argument.split("=")[0]
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        setting, _, value = argument.partition("=")
        expected = "is not of the form SETTING=VALUE"
        if setting and value and "'" not in value:  # such as a path: ~ ( ) , have a meaning of their own
            expected = f"quote it: \"{setting}='{value}'\""
        raise InputError(name or "SETTING", value or argument, expected) from None
    require(override.key_or_group != "", name or "SETTING", argument, "is not of the form SETTING=VALUE")
    return override


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
    one = name in LISTS or not any(isinstance(choice, list) for choice in given)
    require(one, name, value_text(override), "takes one choice, no list")
    for choice in itertools.chain.from_iterable(c if isinstance(c, list) else [c] for c in given):
        text = "null" if choice is None else str(choice)
        require(
            text in groups[name] or (choice is None and name in ("experiment", "hparams_search")),
            name,
            text,
            f"is no choice of this group{near(text, groups[name])}; there are: {', '.join(groups[name])}",
        )


def config_groups(folders: Iterable[Path] = ()) -> dict[str, list[str]]:
    """Choices of each group in conf/ and in other `folders`, and of the groups within ("noise/source")."""
    groups: dict[str, list[str]] = {}

    def walk(folder: Traversable, name: str) -> None:
        leaves = [leaf.name for leaf in folder.iterdir() if leaf.name.endswith(".yaml")]
        if name and leaves:
            groups[name] = sorted({*groups.get(name, ()), *(leaf.removesuffix(".yaml") for leaf in leaves)})
        for inner in folder.iterdir():
            if inner.is_dir() and not inner.name.startswith(("__", ".")) and name.count("/") == 0:
                walk(inner, f"{name}/{inner.name}".lstrip("/"))

    for root in (importlib.resources.files(CONFIG_MODULE), *folders):
        walk(root, "")
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
    parsed = [parse(text) for text in overrides]
    groups = config_groups(added_folders(parsed))
    if absent := re.search(r"Could not (?:find|load) '(hydra/\w+)/([^']*)'", str(error)):
        return InputError(absent[1], absent[2], "is not installed (launchers and Optuna: the extra `sweeps`)")
    choices = [o.input_line or "" for o in parsed if brings(o, groups)]
    try:
        config = hydra.compose("config", choices, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException):
        return InputError("config", " ".join(overrides), first_line(error))
    known = settings(config)
    for override in parsed:
        key = override.key_or_group
        if key not in groups and not override.is_add() and key not in known:
            return InputError(key, value_text(override), f"is no setting{near(key, [*known, *groups])}")
    reason = first_line(error.__cause__ or error)
    for place, override in enumerate(parsed):
        try:
            hydra.compose("config", [*overrides[:place], *overrides[place + 1 :]], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException):
            continue
        return InputError(override.key_or_group, value_text(override), reason)  # without it there is no error
    return InputError("config", " ".join(overrides), reason)


def check_writable(setting: str, config: DictConfig) -> Path:
    """The run's folder, not yet made; raises `InputError` where it cannot be made or written to."""
    folder = Path(folder_name(setting, config))
    present = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    try:
        if not present.is_dir():
            raise NotADirectoryError(f"{present} is not a folder")
        with tempfile.TemporaryFile(dir=present) as file:
            file.write(bytes(1 << 16))  # a full disk still takes an empty file, a nearly full one what Hydra writes
            file.flush()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(setting, str(folder), f"cannot be written ({reason})") from None
    return folder
