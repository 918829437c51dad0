"""Reads a run's labels.csv as a table of images: the run's config says where they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cpc_lightning.datasets.image_folder import parts_of
from cpc_lightning.datasets.reading.folders import is_folder


def recorded_root(folder: Path) -> Path | None:
    """The folder that the paths in `folder`/labels.csv start from; None where `folder` is not that of a run.

    Args:
        folder: holds config.yaml, whose relative paths start from where the run was started.
    """
    settings = _mapping(folder / "config.yaml").get("dataset")
    if not isinstance(settings, Mapping) or not str(settings.get("_target_")).startswith("cpc_lightning."):
        return None
    root, file = settings.get("root"), settings.get("file")
    for start in (_started_in(folder), Path()):
        if root is None and isinstance(file, str):
            table = start / Path(file).expanduser()
            place = recorded_root(table.parent) if table.parent.resolve() != folder.resolve() else None
            place = place or table.parent
        elif isinstance(root, str):
            place = start / Path(root).expanduser()
        else:
            return None
        if is_folder("root", place):
            is_tree = str(settings["_target_"]).endswith(".image_folder")
            return parts_of(place)["train"] if is_tree else place
    return None


def _started_in(folder: Path) -> Path:
    """Where the run was started, as Hydra records it; the current folder where it does not."""
    found: Any = _mapping(folder / ".hydra" / "hydra.yaml")
    for name in ("hydra", "runtime", "cwd"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return Path(found) if isinstance(found, str) else Path()


def _mapping(file: Path) -> Mapping[str, Any]:
    """What a yaml file holds; nothing where it is absent, or holds anything else."""
    try:
        content = yaml.safe_load(file.read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}
