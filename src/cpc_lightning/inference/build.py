"""Builds the parts that a checkpoint names, only from this library: a stranger may have written the checkpoint.

A checkpoint's settings say what to build (`_target_`), and whoever wrote them could have named any function of any
installed package. What is not of this library is built only where the user says so.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from cpc_lightning.errors import InputError, first_line, require

OWN = "cpc_lightning."


def build_part(name: str, node: Any, rooms: tuple[str, ...], trust: bool, **more: Any) -> Any:
    """What a node of a checkpoint's settings describes.

    Args:
        name: of the node, for errors.
        node: its settings; nodes within it are built first.
        rooms: modules, or packages, of this library that the part may come from.
        trust: whether it, and what is within it, may come from anywhere.
        more: further arguments.

    Raises:
        InputError: named "run", where the node names what it may not, or what there is not; or of the part itself.
    """
    is_part = isinstance(node, Mapping) and isinstance(node.get("_target_"), str)
    require(is_part, "run", name, "is no part of this library's in the checkpoint's settings")
    target = str(node["_target_"])
    make = _found(name, target, rooms, trust)
    arguments = {
        key: _argument(f"{name}.{key}", value, rooms, trust) for key, value in node.items() if not key.startswith("_")
    }
    if node.get("_partial_") and not more:
        return partial(make, **arguments)
    try:
        return make(**arguments, **more)
    except TypeError as error:
        expected = f"was made by another version of this library: {name}: {first_line(error)}"
        raise InputError("run", target, expected) from error


def _argument(name: str, value: Any, rooms: tuple[str, ...], trust: bool) -> Any:
    """An argument, with what is to be built within it."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build_part(name, value, rooms, trust)
        return {key: _argument(f"{name}.{key}", inner, rooms, trust) for key, inner in value.items()}
    return [_argument(name, inner, rooms, trust) for inner in value] if isinstance(value, list) else value


def _found(name: str, target: str, rooms: tuple[str, ...], trust: bool) -> Any:
    """The class or function of that full name."""
    module, _, attribute = target.rpartition(".")
    own = any(module == room or module.startswith(f"{room}.") for room in rooms) and not attribute.startswith("_")
    what = f"names code that is not this library's ({name}); trust=true runs it, if you know who wrote it"
    require(own or trust, "run", target, what)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        missing = f"cannot be imported ({name}; {first_line(error)})"
        if own:
            missing = f"is not in this version of the library ({name})"
        raise InputError("run", target, missing) from error
    # What a module has only imported, such as `os.path.join`, is not of its room.
    defined = inspect.isclass(found) or inspect.isfunction(found)
    of_room = defined and str(found.__module__).startswith(OWN)
    require(of_room or trust, "run", target, what)
    return found


def require_own(name: str, node: Any, rooms: tuple[str, ...], trust: bool) -> None:
    """Raise `InputError` where a node, or one within it, names what is not of these rooms, unless it is trusted.

    A name is followed as `build_part` does: what a module has only imported is not of its room, nor is an attribute of
    it (`cpc_lightning.files.Path.write_text`).
    """
    if isinstance(node, Mapping):
        if "_target_" in node and not trust:
            _found(name, str(node["_target_"]), rooms, trust)
        for key, value in node.items():
            require_own(f"{name}.{key}", value, rooms, trust)
    elif isinstance(node, list):
        for value in node:
            require_own(name, value, rooms, trust)
