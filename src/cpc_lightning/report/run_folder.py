"""Reads back what a run has left in its folder: settings, what the user changed, classes, epochs, summary."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cpc_lightning.errors import InputError, require

CONFIG = "config.yaml"  # within a run's folder
METRICS = "metrics.csv"
LAST = Path("checkpoints", "last.ckpt")
PLAIN = re.compile(r"[\w/.-]+")
"""Paths that need no quotes in a setting."""


@dataclass(frozen=True)
class RunFolder:
    """What a run has left; an interrupted run, or one of an older version, has left less.

    Attributes:
        path: of the folder.
        settings: as the run had them, nested, in plain containers; empty without config.yaml.
        overrides: what the user changed.
        class_names: of each class; empty where the run does not name them.
        metrics: the columns of metrics.csv, each (E,) float64, NaN where a cell is empty; empty without that file.
        summary: the numbers at its end; None before.
        versions: of Python and of what computed.
        checkpoint: the networks after the last whole epoch, or the checkpoint that was named; None without one.
    """

    path: Path
    settings: dict[str, Any]
    overrides: list[str]
    class_names: tuple[str, ...]
    metrics: Mapping[str, NDArray[np.float64]]
    summary: dict[str, Any] | None
    versions: dict[str, Any]
    checkpoint: Path | None


def read_run_folder(text: str) -> RunFolder:
    """What the run has left whose folder `text` is, or whose folder holds the checkpoint `text`.

    Raises:
        InputError: named "run", where that is neither, or for a file that cannot be read or is garbled.
    """
    path, named = find_run(text)
    settings, versions = (read_mapping(path / name) or {} for name in (CONFIG, "versions.json"))
    overrides, names = (read_texts(path / name) or [] for name in ("overrides.json", "classes.json"))
    metrics = read_metrics(path / METRICS) if (path / METRICS).exists() else {}
    last = path / LAST
    checkpoint = named or (last if last.is_file() else None)
    summary = read_mapping(path / "summary.json")
    return RunFolder(path, settings, overrides, tuple(names), metrics, summary, versions, checkpoint)


def as_item(path: str) -> str:
    """A path as `run=` and `compare=` read it back, which take several apart at commas, and quotes away."""
    if PLAIN.fullmatch(path):
        return path
    escaped = path.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def find_run(text: str) -> tuple[Path, Path | None]:
    """The folder of the run that `text` names, and the checkpoint where `text` is one."""
    require(text != "", "run", "(not set)", "must name the folder of a run, or one of its checkpoints")
    path, checkpoint = Path(text), None
    try:
        if path.is_file() and path.suffix == ".ckpt":
            checkpoint, path = path, path.absolute().parent.parent
        is_folder = path.is_dir()
        is_run = any((path / name).is_file() for name in (CONFIG, METRICS))
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise InputError("run", text, "cannot be read") from error
    require(is_folder, "run", text, "is no folder of a run, and no checkpoint in one")
    require(is_run, "run", text, f"is not the folder of a run (it has no {CONFIG})")
    return path, checkpoint


def read_metrics(path: Path) -> dict[str, NDArray[np.float64]]:
    """The columns of metrics.csv, NaN where a cell is empty; raises `InputError` for a file that is none."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
        _ = columns["epoch"]
    except (OSError, ValueError, TypeError, KeyError, IndexError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "garbled, or without an epoch"
        raise InputError("run", str(path), f"cannot be read ({why})") from error
    return columns


def read_texts(path: Path) -> list[str] | None:
    """A JSON list of texts; None where there is no such file. Raises `InputError` for anything else."""
    texts = _read(path)
    good = texts is None or (isinstance(texts, list) and all(isinstance(text, str) for text in texts))
    require(good, "run", str(path), "must hold a list of texts")
    return texts  # type: ignore[no-any-return]


def read_mapping(path: Path) -> dict[str, Any] | None:
    """The mapping in a JSON or yaml file; None where there is no such file. Raises `InputError` for anything else."""
    content = _read(path)
    good = content is None or (isinstance(content, dict) and all(isinstance(name, str) for name in content))
    require(good, "run", str(path), "must hold names and values")
    return content  # type: ignore[no-any-return]


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError("run", str(path), "cannot be read") from error
