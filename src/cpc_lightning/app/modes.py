"""Settings of modes other than training: read as typed, no part of any run's record, refused by every other mode."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

from cpc_lightning.errors import InputError, require

MODE_SETTINGS: Mapping[str, tuple[str, ...]] = {"figures": ("run", "output", "format", "overwrite")}
"""The settings of each mode that has its own, by mode."""


def refuse_mode_settings(arguments: Sequence[str]) -> None:
    """Raise `InputError` where arguments that describe a training run hold a setting of another mode."""
    for argument in arguments:
        name, _, value = argument.lstrip("+~").partition("=")
        for mode, names in MODE_SETTINGS.items():
            require(name not in names, name, value, f"is a setting of mode={mode}")


def mode_settings(mode: str, arguments: Sequence[str]) -> dict[str, str]:
    """The mode's settings as they were typed, by name; the last of several counts.

    Raises:
        InputError: for an argument that is none of them.
    """
    given: dict[str, str] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        known = name in MODE_SETTINGS[mode] and "=" in argument
        expected = f"is no setting of mode={mode}, which has {', '.join(MODE_SETTINGS[mode])}"
        require(known or name == "mode", name, value, expected)
        given[name] = value
    return given


def items(text: str) -> list[str]:
    """The items of a setting that takes several: `A,B`, or in Hydra's way `[A,B]`, each perhaps in single quotes.

    Paths with signs that have a meaning in Hydra's grammar need no quotes here, but for a comma.
    """
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    rows = list(csv.reader([inner], quotechar="'", escapechar="\\", skipinitialspace=True))
    return [item for row in rows for item in row if item]


def switch(name: str, text: str) -> bool:
    """The value of a setting that is true or false; raises `InputError` for anything else."""
    if text.lower() not in ("true", "false"):
        raise InputError(name, text, "must be true or false")
    return text.lower() == "true"
