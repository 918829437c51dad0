"""The overrides of a command line: what Hydra will make of them, and whether it can, before there is a run folder."""

from __future__ import annotations

import importlib.resources
import itertools
import os
import re
import tempfile
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
from cpc_lightning.data.dataset import ImageDataset
from cpc_lightning.errors import InputError, require
from cpc_lightning.report.sweep import METRICS
from cpc_lightning.settings import check_kinds, check_known, check_switches, near, resolved, settings, value_text
from cpc_lightning.train import prepare

if TYPE_CHECKING:
    from importlib.abc import Traversable  # moves to importlib.resources.abc in Python 3.14

CONFIG_MODULE = "cpc_lightning.conf"


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
        setting, _, value = argument.partition("=")
        expected = "is not of the form SETTING=VALUE"
        if value and "'" not in value:  # such as a path: ~ ( ) , have a meaning of their own
            expected = f"quote it: \"{setting}='{value}'\""
        raise InputError(setting, value or argument, expected) from None


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
            file.write(bytes(1 << 16))  # a full disk still takes an empty file, a nearly full one what Hydra writes
            file.flush()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(setting, str(folder), f"cannot be written ({reason})") from None
    return folder
