"""Writes and reads checkpoints: whole or not at all, plain data only."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from cpc_lightning.errors import InputError, TrainingError, require
from cpc_lightning.files import atomic_write, files_in

FOLDER = "checkpoints"  # within a run's folder
BEST = "best"
LAST = "last"
RECORD = "run"  # the key of what `RunRecord` adds to a checkpoint
OVERRIDES = "overrides.json"  # within a run's folder, what the user changed
SELECTED = "selected"  # the key that marks networks of several epochs, from which no run can go on

# What a run goes on from: the kind of each part of a checkpoint, and of what it holds by name.
PARTS: dict[str, type] = {
    "state_dict": dict, "optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict,
    "CoTrainingDataModule": dict, RECORD: dict,
}  # fmt: skip
WITHIN: dict[str, dict[str, type]] = {
    "callbacks": {"EpochTable": dict, "StageOne": dict},
    "CoTrainingDataModule": {"noisy_labels": Tensor},
    RECORD: {"config": dict, "overrides": list, "data": dict},
}
DATA: dict[str, type] = {
    "training samples": int, "classes": list, "evaluation samples": dict, "labels": str, "digests": dict,
}  # fmt: skip


class Begun(NamedTuple):
    """What a run goes on from.

    Attributes:
        checkpoint: the file.
        data: what `describe_data` said of the data then.
        noisy_labels: (N,).
        epochs: those that are over.
        labeled: share of the samples on the labeled side of the partitions, mean of both; None before the first.
    """

    checkpoint: Path
    data: Mapping[str, Any]
    noisy_labels: Tensor
    epochs: int
    labeled: float | None


class SelectedError(InputError):
    """A checkpoint that holds the networks that were selected: not of the epoch that it stands at."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole; loads nothing but plain data."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`; a former file there stays until the new one is whole.

        Raises:
            TrainingError: if it cannot be written, such as on a full disk.
        """
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch dresses up what the file system says
            former = "the former one is unharmed" if Path(path).is_file() else "there is no former one"
            raise TrainingError(f"the checkpoint {path} could not be saved ({_reason(error)}); {former}") from error

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """What `read_checkpoint` gives, whatever the other arguments say."""
        return read_checkpoint(path)


def _reason(error: BaseException) -> str:
    """What the file system said, where `error` comes from it; else the error's first line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).split("\n", 1)[0]


def read_checkpoint(path: str | Path, selected: bool = False) -> dict[str, Any]:
    """The checkpoint at `path`, its tensors on the CPU.

    Args:
        path: of the file.
        selected: whether it may hold selected networks: nobody means to go on from it.

    Raises:
        InputError: named "resume", if the file cannot be read, is cut short or broken, holds anything but plain data
            (`weights_only=True`), or is no checkpoint of a run.
        SelectedError: if a run cannot go on from it, because it holds selected networks.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums
            require(archive.testzip() is None, "resume", str(path), "is no whole checkpoint (a checksum is wrong)")
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # torch.load raises whatever its parser trips over
        reason = error.strerror if isinstance(error, OSError) else "cut short, garbled, or not plain data"
        raise InputError("resume", str(path), f"is no whole checkpoint ({reason})") from error
    require(isinstance(checkpoint, dict) and "state_dict" in checkpoint, "resume", str(path), "is no checkpoint")
    require(isinstance(checkpoint.get(RECORD), dict), "resume", str(path), "is no checkpoint of a run of this library")
    check_complete(path, checkpoint)
    if checkpoint.get(SELECTED, False) and not selected:
        expected = f"holds the networks that val selected, which need not be of one epoch: resume {LAST}.ckpt instead"
        raise SelectedError("resume", str(path), expected)
    return checkpoint  # type: ignore[no-any-return]


def begun_from(path: Path, checkpoint: Mapping[str, Any]) -> Begun:
    """What a run goes on from by the checkpoint at `path`, which `read_checkpoint` has read."""
    data = checkpoint["CoTrainingDataModule"]
    clean = [state["clean"].float().mean() for state in data["partitions"] or ()]
    labeled = float(sum(clean) / len(clean)) if clean else None
    return Begun(path, checkpoint[RECORD]["data"], data["noisy_labels"], checkpoint["epoch"] + 1, labeled)


def is_pretraining(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of mode=pretrain: of one backbone, which knows no classes yet."""
    config = checkpoint[RECORD].get("config")
    return isinstance(config, dict) and config.get("mode") == "pretrain"


def check_complete(path: str | Path, checkpoint: Mapping[str, Any]) -> None:
    """Raise `InputError` where a part is absent, or of another kind, that a run needs to go on as if never stopped."""
    within = {(part, name): kind for part, names in WITHIN.items() for name, kind in names.items()}
    if is_pretraining(checkpoint):
        del within["callbacks", "StageOne"]
    kinds: dict[tuple[str, ...], type] = {(part,): kind for part, kind in PARTS.items()}
    for where, kind in (kinds | within | {(RECORD, "data", name): kind for name, kind in DATA.items()}).items():
        value: Any = checkpoint
        for name in where:  # each container comes before what it holds
            value = value.get(name)
        shown = ".".join(where)
        require(isinstance(value, kind), "resume", str(path), f"is no whole checkpoint ({shown} is absent or garbled)")
    overrides = checkpoint[RECORD]["overrides"]
    texts = all(isinstance(text, str) for text in overrides)
    require(texts, "resume", str(path), f"is no whole checkpoint ({RECORD}.overrides is garbled)")


def find_checkpoint(path: str) -> Path | None:
    """The checkpoint to continue from.

    Args:
        path: a checkpoint, or a run's folder: its last.ckpt, or the newest other one where that is not whole.

    Returns:
        None for the folder of a run that was stopped before its first checkpoint.

    Raises:
        InputError: named "resume", if there is neither, or no checkpoint of the folder is whole.
    """
    require(isinstance(path, str) and path != "", "resume", path, "must name a checkpoint or the folder of a run")
    try:
        is_file, is_run = Path(path).is_file(), Path(path, OVERRIDES).is_file()
        found = sorted(files_in(Path(path, FOLDER), ".ckpt"), key=lambda file: file.stat().st_mtime, reverse=True)
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise InputError("resume", path, f"cannot be read ({_reason(error)})") from error
    if is_file:
        read_checkpoint(path)
        return Path(path)
    if not found:
        require(is_run, "resume", path, "is neither a checkpoint nor the folder of a run")
        return None
    problem: InputError | None = None
    for file in sorted(found, key=lambda file: file.stem != LAST):
        try:
            read_checkpoint(file)
            return file
        except SelectedError:  # written before the first checkpoint to continue from
            continue
        except InputError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    require(is_run, "resume", path, "holds only selected networks, and is not the folder of a run")
    return None


def read_overrides(path: str) -> list[str]:
    """What the user changed in the run of that folder, which was stopped before its first checkpoint.

    Raises:
        InputError: named "resume", if its file is garbled.
    """
    try:
        overrides = json.loads(Path(path, OVERRIDES).read_text())
    except (OSError, ValueError):
        overrides = None
    texts = isinstance(overrides, list) and all(isinstance(text, str) for text in overrides)
    require(texts, "resume", path, f"cannot begin anew: its {OVERRIDES} is absent or garbled; start the run again")
    return list(overrides)


def run_folder(path: str, checkpoint: Path | None) -> Path | None:
    """The folder of the run that `resume=path` continues; None where a checkpoint lies apart from its run."""
    if checkpoint is None or Path(path).is_dir():
        return Path(path)
    parent = Path(os.path.abspath(checkpoint)).parent  # the path may be relative to that folder
    return parent.parent if parent.name == FOLDER else None


def bring_checkpoints(checkpoint: Path, folder: Path) -> None:
    """Copy what lies beside `checkpoint`, such as the best one, to the folder `folder`, each whole or not at all."""
    for file in files_in(checkpoint.parent, ".ckpt"):
        target = folder / file.name
        if file.stem != LAST and not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, atomic_write(target) as copy:
                shutil.copyfileobj(source, copy)


def check_unused(folder: Path, resumed: Path | None) -> None:
    """Raise `InputError` where a run would write over the checkpoints of another.

    Args:
        folder: the run's folder.
        resumed: the folder of the run that it continues, if any.
    """
    try:
        used = bool(files_in(folder / FOLDER, ".ckpt"))
    except OSError as error:
        raise InputError("hydra.run.dir", str(folder / FOLDER), f"cannot be read ({_reason(error)})") from None
    own = resumed is not None and folder.resolve() == resumed.resolve()
    expected = "holds the checkpoints of a run: continue it with resume=FOLDER, or choose another folder"
    require(not used or own, "hydra.run.dir", str(folder), expected)
