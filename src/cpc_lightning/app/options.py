"""Command-line options (`--help`, `-m`, `--config-dir`), and quoting for shell and Hydra."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from cpc_lightning.errors import require

SHOWS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")

PLAIN = re.compile(r"(?!(null|true|false|nan|inf)$)[a-z_/][\w/.-]*", re.ASCII | re.IGNORECASE)
"""Paths that Hydra takes for a text without quotes: not for a number, say."""


def shows(arguments: Sequence[str]) -> bool:
    """Whether an option asks to be shown something: nothing runs then."""
    return any(argument.partition("=")[0] in SHOWS for argument in arguments)


def plain_options(arguments: Sequence[str]) -> list[str]:
    """The arguments with -m, where it is there, as the only option, and first.

    Hydra takes them in any place. --config-dir=FOLDER becomes the setting that says the same; --run is what happens
    anyway.

    Raises:
        InputError: for another option, or one whose value cannot be used.
    """
    kept: list[str] = []
    several: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            kept.append(argument)
        elif argument in ("-m", "--multirun"):
            several = ["-m"]
        elif option in ("--config-name", "-cn"):
            value = value if equals else next(rest, "")
            own = value in ("config", "config.yaml")
            require(
                own, option, value, "must be config: choose with GROUP=CHOICE, or a whole protocol with experiment="
            )
        elif option in ("--config-dir", "-cd"):
            value = value if equals else next(rest, "")
            require(value != "" and Path(value).is_dir(), option, value, "is not a folder")
            kept.append(f"hydra.searchpath=[{quoted(str(Path(value).absolute()))}]")
        else:
            require(
                argument in ("-r", "--run"), option, value,
                "is no option of a run, which are -m and --config-dir; settings are written SETTING=VALUE",
            )  # fmt: skip
    return [*several, *kept]


def quoted(text: str) -> str:
    """`text` as Hydra's grammar quotes it."""
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + match[2].replace("'", r"\'"), text)
    return f"'{escaped}'"


def continuing(run_dir: str) -> str:
    """The command that continues the run in the folder `run_dir`, as a shell and Hydra read it, in any folder.

    It first goes to the present folder, where relative paths in the run's settings start.
    """
    folder = run_dir if PLAIN.fullmatch(run_dir) else quoted(run_dir)
    return f"cd {shlex.quote(os.getcwd())} && python -m cpc_lightning {shlex.quote(f'resume={folder}')}"
