"""Settings as a whole: which there are, of what kind each is, and what a mistyped name may have meant."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cpc_lightning.errors import InputError, first_line, require
from cpc_lightning.training.checkpoints import flatten

# Of nodes that name what to build: what the library reads too, and not only what is built.
READ = ("trainer.accelerator", "trainer.devices", "trainer.sync_batchnorm", "trainer.precision")


def plain_settings(config: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """All settings in plain containers; resolved, or with their interpolations and `???` as they are written."""
    own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    return cast(dict[str, Any], OmegaConf.to_container(own, resolve=resolve))


def value_text(override: Override) -> str:
    """The value as it was typed; what has none is deleted (~)."""
    text = (override.input_line or "").partition("=")[2]
    return "(deleted)" if override.is_delete() else text


def check_known(override: Override, reference: DictConfig) -> None:
    """Raise `InputError` for a setting that is added (+) where nothing would read it, or deleted (~) though needed.

    Only a node that names what to build (`_target_`) takes settings beyond its own; what it builds then judges them.
    """
    key = override.key_or_group
    parents = [key.rsplit(".", up)[0] for up in range(1, key.count(".") + 1)]
    nodes = [OmegaConf.select(reference, parent, throw_on_missing=False) for parent in parents]
    read = any(isinstance(node, DictConfig) and "_target_" in node for node in nodes)
    free = key.startswith(("hydra.", "callbacks.", "logger.")) or "/" in key
    if override.is_add() and OmegaConf.select(reference, key, default=None) is None and not (read or free):
        raise InputError(key, value_text(override), f"is no setting{near(key, settings(reference))}")
    how = key.rsplit(".", 1)[-1] in ("_target_", "_partial_")  # to build the node, which is no setting of what is built
    if override.is_delete() and not (free or (read and not how)):
        raise InputError(key, "(deleted)", "is needed")


def check_needed(given: Mapping[str, Any]) -> None:
    """Raise `InputError` where a setting is missing that what is built could do without, and the library cannot."""
    for name in READ:
        require(name in given, name, "(missing)", "is needed")


def resolved(config: DictConfig) -> dict[str, Any]:
    """All settings by full name, or an `InputError` for one that refers to nothing."""
    try:
        return flatten(plain_settings(config))
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "config")
        raise InputError(key, "(an interpolation)", first_line(error)) from None


def check_switches(given: Mapping[str, Any], reference: DictConfig) -> None:
    """Raise `InputError` where a value has given way to a group of settings, or a switch to what is not true or false.

    To be called before anything is built: what is built may look at a switch such as `download` and act.
    """
    usual = flatten(plain_settings(reference, resolve=False))
    for name, value in usual.items():
        if isinstance(value, (bool, int, float, str)):
            inside = next((other for other in given if other.startswith(f"{name}.")), None)
            require(inside is None, name, "{...}", f"must be a single value such as {value}")
        if isinstance(value, bool) and name in given:
            check_kind(name, given[name], value)


def check_kinds(given: Mapping[str, Any], reference: DictConfig) -> None:
    """Raise `InputError` for a value that is not of the kind that the setting has in `reference`.

    A switch takes true or false, a number a finite number, a list a list of such, a text a text or a number. The parts
    of other libraries take anything; ours check their own settings too, and alone those that are null or ??? here.
    """
    usual = flatten(plain_settings(reference, resolve=False))
    for name, value in given.items():
        check_kind(name, value, usual.get(name))


def check_finite(group: str, node: DictConfig) -> None:
    """Raise `InputError` for a number of the node `group` that is infinite or NaN."""
    for name, value in flatten(cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))).items():
        if isinstance(value, float):
            require(math.isfinite(value), f"{group}.{name}", value, "must be a finite number")


def check_groups(config: DictConfig, reference: DictConfig) -> None:
    """Raise `InputError` where a single value has taken the place of a group of settings."""
    for name in map(str, reference):
        gone = isinstance(reference._get_node(name), DictConfig) and not isinstance(config._get_node(name), DictConfig)
        if gone:
            raise InputError(name, config.get(name), f"must be a group of settings, such as {name}.NAME=VALUE")


def check_kind(name: str, value: object, usual: object) -> None:
    """Raise `InputError` unless `value` is of the kind of `usual`; see `check_kinds`."""
    if isinstance(value, float):
        require(math.isfinite(value), name, value, "must be a finite number")
    if isinstance(value, list):
        for entry in value:
            check_kind(name, entry, usual[0] if isinstance(usual, list) and usual else None)
    whole = name in ("views.size", "trainer.devices")  # these take a number, or a list or a text
    if isinstance(usual, bool):
        require(isinstance(value, bool), name, value, "must be true or false")
    elif isinstance(usual, (int, float)) and not whole:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(number or value is None, name, value, "must be a number")
    elif isinstance(usual, list):
        require(isinstance(value, list) or value is None, name, value, "must be a list, such as [a,b]")
    elif isinstance(usual, str) and not usual.startswith("${"):
        require(isinstance(value, (str, int, float)) or value is None, name, value, "must be a text")


def settings(config: DictConfig) -> list[str]:
    """Full names of all settings and of the nodes that hold them."""
    names: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for name in node:
            names.append(f"{prefix}{name}")
            if not OmegaConf.is_missing(node, name) and isinstance(node._get_node(name), DictConfig):
                walk(node._get_node(name), f"{prefix}{name}.")

    walk(config, "")
    return names


def near(text: str, known: Sequence[str]) -> str:
    """`; did you mean X?` for the most alike of `known`, also where only the last part of a dotted name is alike."""
    match = difflib.get_close_matches(text, known, n=1)
    if not match:
        ends = {name.rsplit(".", 1)[-1]: name for name in known}
        end = difflib.get_close_matches(text.rsplit(".", 1)[-1], ends, n=1)
        match = [ends[end[0]]] if end else []
    return f"; did you mean {match[0]}?" if match else ""
