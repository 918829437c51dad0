"""Finds the checkpoint of a run that a user names, and where to write what is made of it."""

from __future__ import annotations

from pathlib import Path

from cpc_lightning.errors import InputError, require
from cpc_lightning.report.run_folder import LAST, find_run, read_metrics
from cpc_lightning.training.checkpoints import BEST, FOLDER


def checkpoint_of(text: str) -> Path:
    """The checkpoint that `text` names: a file, or that of a run's folder.

    Of a folder it is the last one; where networks were selected on clean images (the set "val"), the selected ones.

    Raises:
        InputError: named "run", where there is none.
    """
    require(text != "", "run", "(not set)", "must name the folder of a run, or one of its checkpoints")
    path = Path(text).expanduser()
    try:
        if path.is_file():
            require(path.suffix == ".ckpt", "run", text, "is neither the folder of a run nor a checkpoint (.ckpt)")
            return path
        require(path.exists(), "run", text, "is not there")
        folder, _ = find_run(str(path))
        selected = (folder / "metrics.csv").is_file() and any(
            name.startswith("val/") for name in read_metrics(folder / "metrics.csv")
        )
        best = folder / FOLDER / f"{BEST}.ckpt"
        file = best if selected and best.is_file() else folder / LAST
        there = file.is_file()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("run", text, "cannot be read") from error
    require(there, "run", text, f"has no checkpoint of its networks yet ({LAST}): it ended before its first epoch did")
    return file


def home_of(checkpoint: Path) -> Path:
    """Where to write what is made of a checkpoint: its run's folder, or the folder that it lies in by itself."""
    folder = checkpoint.absolute().parent
    return folder.parent if folder.name == FOLDER else folder
