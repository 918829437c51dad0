"""Parses and checks Hydra overrides, and composes the config of a run or of a sweep's jobs."""

from __future__ import annotations

import copy
import functools
import importlib.resources
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cpc_lightning.app.options import quoted
from cpc_lightning.app.settings import check_names, near, plain, unknown
from cpc_lightning.errors import InputError, first_line, one_line, require
from cpc_lightning.training.same_run import RENAMED, flatten

if TYPE_CHECKING:
    from importlib.abc import Traversable  # of Python 3.10; later ones have it in importlib.resources.abc

CONFIG_MODULE = "cpc_lightning.conf"
PROTOCOLS = ("experiment", "hparams_search")  # groups whose files set settings of other groups, and bring none
LISTS = ("logger", "callbacks", "experiment")  # groups of which several choices go together
IN_FOLDERS = ("experiment",)  # groups whose choices may lie in folders, which then are part of their names


@dataclass(frozen=True)
class Composed:
    """What some overrides compose.

    Attributes:
        config: all of it, Hydra's own part included.
        usual: the settings as the chosen yaml files have them, in plain containers: without what is set one by one.
    """

    config: DictConfig
    usual: dict[str, Any]

    def settings(self, folder: str) -> dict[str, Any]:
        """The settings in plain containers, for a run in `folder`; raises `InputError` as `plain` does."""
        HydraConfig.instance().set_config(self.config)  # settings may refer to ${hydra:...}
        self.config.run_dir = folder
        return plain(self.config)


@dataclass(frozen=True)
class Asked:
    """What a command line asks for.

    Attributes:
        overrides: of the command line, without what a search draws from a range, which has no first value.
        choices: each of them once for each of its values in a sweep.
        groups: names of the groups of conf/, with the choices of each.
    """

    overrides: list[Override]
    choices: list[list[str]]
    groups: Mapping[str, Sequence[str]]

    @property
    def first(self) -> list[str]:
        """The first value of each override."""
        return [values[0] for values in self.choices]

    def compose(self, texts: Sequence[str]) -> Composed:
        """Compose one value of each override, given as `texts`, and check the names of all settings.

        Args:
            texts: overrides; a method among them brings its cleaner (`with_own_cleaner`).

        Raises:
            InputError: for an override that Hydra cannot apply, or a setting that there is not.
        """
        texts = with_own_cleaner(texts)
        config = compose(texts)
        chosen = cast(dict[str, Any], OmegaConf.to_container(config.hydra.runtime.choices))
        # Not by the files of `experiment`, which set settings that others have brought.
        own = [f"{group}={choice}" for group, choice in chosen.items() if isinstance(choice, str)]
        own = [text for text in own if text.split("=")[0] in {*self.groups} - {*PROTOCOLS}]
        folders = [text for text in texts if text.lstrip("+").startswith("hydra.searchpath=")]
        # Files of folders that the user adds may change while a program runs, those of conf/ do not.
        usual = plain(compose([*folders, *own]), resolve=False) if folders else copy.deepcopy(usual_settings(*own))
        check_names(plain(config, resolve=False), usual)
        return Composed(config, usual)


def read(arguments: Sequence[str], multirun: bool) -> Asked:
    """Parse the overrides among the arguments; raises `InputError` for one that Hydra cannot apply."""
    overrides = [parse(argument) for argument in arguments if not argument.startswith("-")]
    groups = config_groups(added_folders(overrides))
    for override in overrides:
        name = override.key_or_group
        require(name != "run_dir", name, value_text(override), "follows hydra.run.dir: set that one")
        check_group(override, groups)
    values = [values_of(override, multirun, groups) for override in overrides]
    kept = [(override, texts) for override, texts in zip(overrides, values, strict=True) if texts]
    return Asked([override for override, _ in kept], [texts for _, texts in kept], groups)


def parse(argument: str) -> Override:
    """One override of the command line."""
    name = argument.split("=")[0]
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        setting, _, value = argument.partition("=")
        expected = "is not of the form SETTING=VALUE"
        if re.fullmatch(r"\+*[\w./]+", setting) and value:  # such as a path: ~ ( ) ' have a meaning of their own
            expected = f"quote it: {as_one_value(setting, value)}"
        raise InputError(name or "SETTING", value or argument, expected) from None
    require(override.key_or_group != "", name or "SETTING", argument, "is not of the form SETTING=VALUE")
    return override


def as_one_value(setting: str, value: str) -> str:
    """What to type into a shell so that `setting` is the text `value`, which may stand in single quotes already."""
    inner = value[1:-1] if len(value) > 1 and value[0] == value[-1] == "'" else value
    typed = f"{setting}={quoted(inner)}"
    return shlex.quote(typed) if re.search(r'[$`"!]', value) else f'"{typed}"'


def value_text(override: Override) -> str:
    """The value as it was typed; what has none is deleted (~)."""
    text = (override.input_line or "").partition("=")[2]
    return "(deleted)" if override.is_delete() else text


def values_of(override: Override, multirun: bool, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The override once for each of a sweep's values; as it stands where it is none."""
    text = override.input_line or ""
    if not override.is_sweep_override() or override.get_key_element().startswith("hydra."):
        return [text]
    key = override.get_key_element()
    typed = text.split("=", 1)[1]
    expected = "several values need -m (a sweep); a list is written [a,b]"
    if key not in groups and re.search("[^0-9e.,+ -]", typed):
        expected += f", one value with a comma {as_one_value(key, typed)}"
    require(multirun, key, typed, expected)
    value = override.value()
    if isinstance(value, Glob):
        require(key in groups, key, value_text(override), "a glob works for groups, such as cleaner=glob(gmm*)")
        return [f"{key}={name}" for name in value.filter([*groups[key]])]
    if not override.is_discrete_sweep():
        return []
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def help_text(arguments: Sequence[str]) -> str:
    """What --help prints: the groups with their choices, and all settings that the overrides among `arguments` compose.

    Hydra would take a second and a half to list the groups.
    """
    asked = read(arguments, multirun=True)
    composed = asked.compose(asked.first)
    groups = "\n".join(f"  {name}: {', '.join(choices)}" for name, choices in sorted(asked.groups.items()))
    settings = OmegaConf.to_yaml(OmegaConf.create(plain(composed.config, resolve=False)))
    template = str(composed.config.hydra.help.template)
    return template.replace("$APP_CONFIG_GROUPS", groups).replace("$CONFIG", settings)


# Groups ---------------------------------------------------------------------------------------------------------------


def check_group(override: Override, groups: Mapping[str, Sequence[str]]) -> None:
    """Raise `InputError` where a group is given a choice that it does not have."""
    name = override.key_or_group
    if name not in groups or override.is_delete():
        return
    value: Any = override.value()
    if isinstance(value, Glob):
        value = value.filter([*groups[name]])
        require(bool(value), name, value_text(override), f"matches none of {', '.join(groups[name])}")
    elif override.is_sweep_override():
        value = list(override.sweep_iterator()) if override.is_discrete_sweep() else []
    else:
        value = [value]
    one = name in LISTS or not any(isinstance(choice, list) for choice in value)
    require(one, name, value_text(override), "takes one choice, no list")
    for choice in (inner for outer in value for inner in (outer if isinstance(outer, list) else [outer])):
        text = "null" if choice is None else str(choice)
        there = text in groups[name] or (choice is None and name in ("experiment", "hparams_search"))
        expected = f"is no choice of this group{near(text, groups[name])}; there are: {', '.join(groups[name])}"
        if f"{name}={text}" in RENAMED:
            expected = f"is now called {RENAMED[f'{name}={text}']}"
        require(there, name, text, expected)


def config_groups(folders: Iterable[Traversable] = ()) -> dict[str, list[str]]:
    """Choices of each group in conf/ and in other `folders`, and of the groups within ("noise/source").

    Folders whose name begins with "_" hold what choices share; those within `experiment` hold choices of it, such as
    elr/cifar10_sym20.
    """
    groups: dict[str, list[str]] = {}

    def walk(folder: Any, name: str) -> None:
        choices = [leaf.name.removesuffix(".yaml") for leaf in folder.iterdir() if leaf.name.endswith(".yaml")]
        group, _, inside = name.partition("/")
        if inside and group in IN_FOLDERS:
            choices = [f"{inside}/{choice}" for choice in choices]
        else:
            group = name
        if group and choices:
            groups[group] = sorted({*groups.get(group, ()), *choices})
        for inner in folder.iterdir():
            if inner.is_dir() and not inner.name.startswith(("_", ".")) and name.count("/") == 0:
                walk(inner, f"{name}/{inner.name}".lstrip("/"))

    for root in (importlib.resources.files(CONFIG_MODULE), *folders):
        walk(root, "")
    return groups


def added_folders(overrides: Iterable[Override]) -> list[Traversable]:
    """Folders, or packages, that hold choices beside conf/; raises `InputError` for what is none."""
    given = next((override.value() for override in overrides if override.key_or_group == "hydra.searchpath"), [])
    texts = isinstance(given, list) and all(isinstance(text, str) for text in given)
    require(texts, "hydra.searchpath", given, "must be a list of folders")
    return [added_folder(str(text)) for text in given]  # type: ignore[union-attr]


def added_folder(text: str) -> Traversable:
    """A folder, perhaps with file:// in front, or a package after pkg://."""
    if not text.startswith("pkg://"):
        folder = Path(text.removeprefix("file://"))
        require(folder.is_dir(), "hydra.searchpath", text, "is not a folder")
        return folder
    try:
        package = importlib.resources.files(text.removeprefix("pkg://"))
    except (ImportError, TypeError, ValueError) as error:  # TypeError: a module that is no package
        raise InputError(
            "hydra.searchpath", text, f"is no package that can be imported ({first_line(error)})"
        ) from None
    require(package.is_dir(), "hydra.searchpath", text, "is no package")
    return package


# Composition ----------------------------------------------------------------------------------------------------------


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config that Hydra will compose, or an `InputError` that names the override that it cannot apply."""
    with initialised():
        try:
            return hydra.compose("config", list(overrides), return_hydra_config=True)
        except (yaml.YAMLError, UnicodeError) as error:
            raise InputError("config", " ".join(overrides), f"a file cannot be read: {one_line(str(error))}") from None
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(overrides, error) from None


@functools.cache
def usual_settings(*choices: str) -> dict[str, Any]:
    """The settings as files of conf/ have them; jobs of a sweep, and runs of one program, mostly choose the same."""
    return plain(compose(choices), resolve=False)


@contextmanager
def initialised() -> Iterator[None]:
    """Have Hydra ready to compose, also within a job that it runs; after the block it is as it was."""
    held = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3", job_name="cpc_lightning"):
            yield
    finally:
        GlobalHydra.instance().hydra = held


def with_own_cleaner(texts: Sequence[str]) -> list[str]:
    """The overrides, and the cleaner that a typed method brings where an experiment brings another one.

    Of two files that name a cleaner the experiment's counts, and somebody who types a method means what belongs to it.
    A cleaner that was typed stays. In a sweep over methods nothing is added: each job adds its own.
    """
    typed = dict(text.partition("=")[::2] for text in texts if not text.startswith("-"))
    method = typed.get("method")
    if method is None or "experiment" not in typed or "cleaner" in typed or not re.fullmatch(r"\w+", method):
        return list(texts)
    folders = [text for text in texts if text.startswith("hydra.searchpath=")]
    try:
        usual, own = (compose([*folders, *more]).hydra.runtime.choices.cleaner for more in ([], [f"method={method}"]))
    except InputError:  # which is told with all others
        return list(texts)
    return [*texts, *([] if own == usual else [f"cleaner={own}"])]


def explain(overrides: Sequence[str], error: Exception) -> InputError:
    """Which override Hydra could not apply, and which setting may have been meant."""
    parsed = [parse(text) for text in overrides]
    groups = config_groups(added_folders(parsed))
    if absent := re.search(r"Could not (?:find|load) '(hydra/\w+)/([^']*)'", str(error)):
        return InputError(absent[1], absent[2], "is not installed (launchers and Optuna: the extra `sweeps`)")
    choices = [o.input_line or "" for o in parsed if o.key_or_group in {*groups, "hydra.searchpath"}]
    try:
        usual = plain(hydra.compose("config", choices), resolve=False)
    except (HydraException, OmegaConfBaseException):
        return InputError("config", " ".join(overrides), first_line(error))
    known = [*flatten(usual), *groups]
    for override in parsed:
        key = override.key_or_group
        there = any(name == key or name.startswith(f"{key}.") for name in known)
        if not there and not override.is_add() and not key.startswith("hydra"):
            return InputError(key, value_text(override), unknown(key, known))
    reason = first_line(error.__cause__ or error)
    for place, override in enumerate(parsed):
        try:
            hydra.compose("config", [*overrides[:place], *overrides[place + 1 :]], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException):
            continue
        return InputError(override.key_or_group, value_text(override), reason)  # without it there is no error
    return InputError("config", " ".join(overrides), reason)
