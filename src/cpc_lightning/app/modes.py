"""Settings of the modes other than training: only their own mode accepts them, and no run records them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpc_lightning.errors import InputError, require

MODE_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "figures": ("run", "output", "format", "overwrite"),
    "report": ("run", "output", "compare", "pictures", "look", "overwrite"),
    "labels": ("run", "output", "format", "copy", "overwrite"),
    "apply": ("run", "output", "decisions", "policy", "confidence", "copy", "overwrite"),
    "predict": ("run", "input", "output", "trust", "overwrite"),
    "evaluate": ("run", "set", "output", "trust", "overwrite"),
    "export": ("run", "format", "output", "networks", "precision", "trust", "overwrite"),
    "pretrain": ("pretraining",),
}
"""The settings, and groups of such, of each mode that has its own, by mode."""
PRETRAINING = "simclr"
"""What mode=pretrain takes where `pretraining` is not given."""

OF_THE_RUN: tuple[str, ...] = ("report", "labels", "apply", "predict", "evaluate", "export")
"""Modes that also take settings of the run that they look back at, in place of its own: `dataset.root=/new/place`."""


def refuse_mode_settings(arguments: Sequence[str], mode: str | None = None) -> None:
    """Raise `InputError` where arguments hold a setting of another mode.

    Args:
        arguments: of the command line.
        mode: whose settings may be among them; None: they describe a training run.
    """
    own = MODE_SETTINGS.get(mode or "", ())
    for argument in arguments:
        name, _, value = argument.lstrip("+~").partition("=")
        group = name.partition(".")[0]
        modes = [f"mode={other}" for other, names in MODE_SETTINGS.items() if {name, group} & {*names}]
        require(bool({name, group} & {*own}) or not modes, name, value, f"is a setting of {' and '.join(modes)}")


def mode_settings(mode: str, arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The mode's settings as they were typed, by name (the last of several counts), and those of the run.

    Raises:
        InputError: for an argument that is none of them.
    """
    require("-m" not in arguments and "--multirun" not in arguments, "-m", f"mode={mode}", "starts no sweep")
    refuse_mode_settings(arguments, mode)
    given: dict[str, str] = {}
    of_run: list[str] = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in MODE_SETTINGS[mode] and "=" in argument:
            given[name] = value
        elif name != "mode":
            expected = f"is no setting of mode={mode}, which has {', '.join(MODE_SETTINGS[mode])}"
            require(mode in OF_THE_RUN and "=" in argument, name, value, expected)
            of_run.append(argument)
    return given, of_run


def with_pretraining(arguments: Sequence[str]) -> list[str]:
    """The arguments, with a choice of the group `pretraining` where mode=pretrain is asked for without one.

    No other mode has that group: what is of no use to a run is not recorded with it.
    """
    named = any(argument.startswith("pretraining=") for argument in arguments)
    return [*arguments, *([] if named or "mode=pretrain" not in arguments else [f"pretraining={PRETRAINING}"])]


def check_free(output: Path, overwrite: bool) -> None:
    """Raise `InputError` where the file, or the folder that holds anything, is there already and may not be replaced.

    Args:
        output: what the mode is to write.
        overwrite: the setting of that name.
    """
    require(overwrite or not is_taken(output), "output", str(output), "is there already; overwrite=true replaces it")


def is_taken(output: Path) -> bool:
    """Whether there is a file, or a folder that holds anything; raises `InputError` where nobody can tell."""
    try:
        return output.exists() and not (output.is_dir() and not any(output.iterdir()))
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise InputError("output", str(output), "cannot be read") from error


def items(text: str) -> list[str]:
    """The items of a setting that takes several: `A,B`, or in Hydra's way `[A,B]`, each perhaps in single quotes.

    Paths with signs that have a meaning in Hydra's grammar need no quotes here, but for a comma.
    """
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    rows = list(csv.reader([inner], quotechar="'", escapechar="\\", skipinitialspace=True))
    return [item for row in rows for item in row if item]


def one(name: str, given: Mapping[str, str]) -> str:
    """The path that the setting names; raises `InputError` where it names none, or several."""
    found = items(given.get(name, ""))
    require(len(found) == 1, name, given.get(name, "(not set)"), "must name one file or folder")
    return found[0]


def switch(name: str, text: str) -> bool:
    """The value of a setting that is true or false; raises `InputError` for anything else."""
    if text.lower() not in ("true", "false"):
        raise InputError(name, text, "must be true or false")
    return text.lower() == "true"
