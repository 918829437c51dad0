"""Builds the object that a part of the settings names (`_target_`); its constructor's errors become one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cpc_lightning.app.settings import select
from cpc_lightning.errors import InputError, first_line, require


def build(settings: Mapping[str, Any], name: str, method: str = "", **more: Any) -> Any:
    """What the node `name` of the settings says (`_target_`), with the arguments `more` besides.

    Args:
        settings: nested, in plain containers.
        name: full name of the node.
        method: what the part must have to do its work; "" for nothing in particular.
        more: further arguments of the constructor.

    Raises:
        InputError: naming the setting that the constructor objects to, or the node.
    """
    node = select(settings, name)
    is_part = isinstance(node, Mapping) and "_target_" in node
    require(is_part, name, node, "must be a group of settings whose _target_ says what to build")
    try:
        part = instantiate(node, _convert_="all", **more)
    except MissingMandatoryValue as error:
        raise InputError(f"{name}.{error.full_key}", "???", "must be given") from None
    except (InstantiationException, TypeError, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else None
        if isinstance(cause, InputError):
            raise cause.within(name) from None
        if str(error).startswith(("Error loading", "Error locating")):
            said = str(error.__cause__ or error).splitlines()
            reason = f"cannot be imported ({next(iter(said[1:]), said[0])})"
            raise InputError(f"{name}._target_", node["_target_"], reason) from error
        raise blame(name, node, cause or error) from error
    expected = f"builds nothing that can be a {name} (it has no {method})"
    require(hasattr(part, method or "__class__"), f"{name}._target_", type(part).__name__, expected)
    return part


def blame(name: str, node: Mapping[str, Any], error: BaseException) -> InputError:
    """The error of a part of another library as one line about the setting that it speaks of.

    That is the one whose name stands in its message, or else whose value ("Invalid learning rate: -1"), or which is
    null where that is the trouble; `_target_`, which says what was built, where none does or several do.

    Args:
        name: full name of the node.
        node: its settings.
        error: what building raised.
    """
    reason = first_line(error)
    words = {word.rstrip(".") for word in re.findall(r"[\w.+-]+", reason)}
    settings = [key for key in node if not key.startswith("_")]
    for told in (
        [key for key in settings if key in words],
        [key for key in settings if str(node[key]) in words],
        [key for key in settings if node[key] is None and "NoneType" in words],
    ):
        if len(told) == 1:
            return InputError(f"{name}.{told[0]}", node[told[0]], reason)
    return InputError(f"{name}._target_", node.get("_target_"), reason)


@contextmanager
def settings_of(group: str) -> Iterator[None]:
    """Name the settings of errors that come from inside from `group` on."""
    try:
        yield
    except InputError as error:
        raise error.within(group) from None


@contextmanager
def settings_of_features() -> Iterator[None]:
    """Name the settings of errors from inside from `features` on; an image that cannot be read is none of them."""
    try:
        yield
    except InputError as error:
        raise error if error.setting == "image" else error.within("features") from None
