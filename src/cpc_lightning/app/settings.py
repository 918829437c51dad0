"""Checks settings: names and types against the yaml files, and whether the settings of a run fit together.

The yaml files are the schema. Names are checked before torch is imported, so that a typing mistake is answered at once.
Ranges are checked by the constructors, and whether settings fit together by `parts`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cpc_lightning.errors import InputError, first_line, require, require_integer
from cpc_lightning.training.same_run import RENAMED, flatten

OWN_PARTS = ("callbacks", "logger")  # groups to which parts of one's own can be added
MOST_EPOCHS = 100_000


def plain(config: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """All settings but Hydra's own in plain containers.

    Args:
        config: composed.
        resolve: whether interpolations are replaced by what they refer to; `???` stays as it is.

    Raises:
        InputError: for an interpolation that refers to nothing.
    """
    own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    try:
        return cast(dict[str, Any], OmegaConf.to_container(own, resolve=resolve))
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "config")
        raise InputError(key, "(an interpolation)", first_line(error)) from None


# Names ----------------------------------------------------------------------------------------------------------------


def check_names(given: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Raise `InputError` for a setting that the yaml files do not have, or one of theirs that is not there.

    A node that names what to build (`_target_`) takes further settings, which its constructor judges. One that names
    something else than usual, such as another schedule, need not have the usual settings.

    Args:
        given: the settings, nested.
        usual: as the yaml files have them, nested.
    """
    flat, known = flatten(given), flatten(usual)
    for name in usual:
        require(name in given or name in OWN_PARTS, name, "(deleted)", "is needed")
    for name, value in flat.items():
        parents = [name.rsplit(".", up)[0] for up in range(1, name.count(".") + 1)]
        if name in known or name.split(".")[0] in OWN_PARTS:
            continue
        is_group = any(other.startswith(f"{name}.") for other in known)
        require(not is_group, name, value, f"must be a group of settings, such as {name}.NAME=VALUE")
        above = next((parent for parent in parents if parent in known), None)
        single = above is not None and isinstance(known[above], (bool, int, float, str))
        require(not single, str(above), "{...}", "must be a single value")
        built = any(isinstance(node := select(usual, parent), Mapping) and "_target_" in node for parent in parents)
        require(built or above is not None, name, value, unknown(name, known))
    there = {".".join(name.split(".")[:depth]) for name in flat for depth in range(1, name.count(".") + 2)}
    for name in known:
        while name.rpartition(".")[0] not in {"", *there}:
            name = name.rpartition(".")[0]
        own = name.split(".")[0] in OWN_PARTS or builds_another(name.rpartition(".")[0], given, usual)
        require(name in there or own, name, "(deleted)", "is needed")


def builds_another(name: str, given: Mapping[str, Any], usual: Mapping[str, Any]) -> bool:
    """Whether the node with this full name builds (`_target_`) something else in `given` than in `usual`."""
    ours, theirs = select(given, f"{name}._target_"), select(usual, f"{name}._target_")
    return ours is not None and theirs is not None and ours != theirs


def select(settings: Mapping[str, Any], name: str) -> Any:
    """The value of the setting, or the node, with this full name; None where there is none."""
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def unknown(name: str, known: Iterable[str]) -> str:
    """What is wrong with a setting that there is not, and which one may have been meant.

    Args:
        name: full, as it was typed.
        known: full names of the settings that there are.
    """
    if name in RENAMED:
        return f"is now called {RENAMED[name]}"
    nodes = {".".join(other.split(".")[:depth]) for other in known for depth in range(1, other.count(".") + 2)}
    return f"is no setting{near(name, sorted(nodes))}"


def near(text: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the most alike of `known`, also where only the last part of a dotted name is alike."""
    match = difflib.get_close_matches(text, known := list(known), n=1)
    if not match:
        ends = {name.rsplit(".", 1)[-1]: name for name in known}
        end = difflib.get_close_matches(text.rsplit(".", 1)[-1], ends, n=1)
        match = [ends[end[0]]] if end else []
    return f"; did you mean {match[0]}?" if match else ""


# Kinds ----------------------------------------------------------------------------------------------------------------


def check_kinds(given: Mapping[str, Any], usual: Mapping[str, Any], switches: bool = False) -> None:
    """Raise `InputError` for the first value that is of another kind than the yaml files give the setting.

    A switch takes true or false, a list a list, a text a text or a number; a number takes a finite number or a list of
    such, which most constructors then refuse. Where the yaml files have null, `???` or an interpolation, the
    constructor alone judges.

    Args:
        given: the settings, nested, resolved.
        usual: as the yaml files have them, nested.
        switches: look at those alone that are true or false.
    """
    known = flatten(usual)
    for name, value in flatten(given).items():
        expected = misfit(value, known.get(name)) if isinstance(known.get(name), bool) or not switches else None
        require(expected is None, name, value, f"must be {expected}")


def misfit(value: object, usual: object) -> str | None:
    """What the value should be, to be of the kind of `usual`; None where it is."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(usual, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(value, list) and not isinstance(usual, str):
        entry = next(iter(usual), None) if isinstance(usual, list) else usual
        return next(filter(None, (misfit(inner, entry) for inner in value)), None)
    if value is None or usual in (None, {}) or str(usual).startswith(("${", "???")):
        return None
    if isinstance(usual, list):
        return "a list, such as [a,b]"
    if isinstance(usual, str):
        return None if isinstance(value, (str, int, float)) else "a text"
    return None if isinstance(value, (int, float)) and not isinstance(value, bool) else "a number"


# The run as a whole ---------------------------------------------------------------------------------------------------


def check_run(settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for settings of the run as a whole that cannot be used."""
    alone = "must be train; other modes (check, figures, report, labels, apply, pretrain) go without -m"
    require(settings["mode"] == "train", "mode", settings["mode"], alone)
    if settings["objective"] is not None:
        from cpc_lightning.report.sweep import METRICS  # which prints tables

        name = settings["objective"]
        require(name in METRICS, "objective", name, f"must be one of {', '.join(METRICS)}")
    for name in ("seed", "noise_seed"):
        require_integer(name, settings[name], 0)
        require(settings[name] < 2**32, name, settings[name], "must be below 2**32")
    epochs = settings["training"]["epochs"]
    require_integer("training.epochs", epochs, 1)
    require(epochs <= MOST_EPOCHS, "training.epochs", epochs, f"must be at most {MOST_EPOCHS}")
    require_integer("training.warmup_epochs", settings["training"]["warmup_epochs"], 1)
