"""What the page says of the run: its facts and settings, and the command lines that repeat it or apply decisions."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from cpc_lightning.report.run_folder import RunFolder, as_item


def command(run: RunFolder) -> str:
    """The command line that repeats the run, quoted for a shell."""
    return shlex.join(["python", "-m", "cpc_lightning", *run.overrides])


def apply_command(run: RunFolder) -> str:
    """The command line that applies the decisions that the page downloads, in any folder."""
    words = ["mode=apply", f"run={as_item(os.path.abspath(run.path))}", "decisions=DECISIONS.csv"]
    return shlex.join(["python", "-m", "cpc_lightning", *words])


def facts(run: RunFolder) -> list[tuple[str, str]]:
    """What a person asks of a run: when it took how long, and with what."""
    summary = run.summary or {}
    seconds = summary.get("seconds")
    epochs = len(run.metrics.get("epoch", ()))
    said = [("Folder", str(run.path)), ("Epochs", f"{epochs:,}")]
    if seconds is not None:
        hours, rest = divmod(round(seconds), 3600)
        text = f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
        said.append(("Duration", text))
    return said + [(name, str(version)) for name, version in run.versions.items()]


def settings_rows(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its full name, in the order of its file."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from settings_rows(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "" if value is None else str(value)
