"""Writes a folder completely or not at all, and never over files that the library has not made."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cpc_lightning.errors import InputError, require


def require_apart(output: Path, roots: Iterable[str], run: Path) -> None:
    """Raise `InputError` where `output` lies among the original images, but for the run's own folder, or holds them.

    Args:
        output: a file or folder that is to be written.
        roots: the folders of the original images.
        run: the run's folder.
    """
    target, own = _real(output), _real(run)
    for root in map(_real, roots):
        if target != own and own not in target.parents:
            among = "lies in the folder of the original images, which is never touched"
            require(target != root and root not in target.parents, "output", str(output), among)
        require(target not in root.parents and target != root, "output", str(output), "holds the original images")


@contextmanager
def new_folder(output: Path, overwrite: bool, made_here: str) -> Iterator[Path]:
    """A folder to write into, which becomes `output` when the block ends well, and is removed when it does not.

    Args:
        output: where the folder is to be.
        overwrite: replace a folder that is there.
        made_here: a file that such a folder holds; one without it is never replaced, unless it is empty.

    Raises:
        InputError: where something is there that may not be replaced, or the folder cannot be written.
    """
    check_new_folder(output, overwrite, made_here)
    target = Path(os.path.abspath(output))
    building, old = (target.with_name(f".{uuid.uuid4().hex}.tmp") for _ in range(2))
    try:
        building.mkdir(parents=True)
        yield building
        if os.path.lexists(target):
            os.replace(target, old)
        os.replace(building, target)
    except OSError as error:
        raise InputError("output", str(output), f"cannot be written ({error.strerror or error})") from error
    finally:
        if not os.path.lexists(target) and os.path.lexists(old):  # the new one could not take its place
            os.replace(old, target)
        for leftover in (building, old):
            shutil.rmtree(leftover, ignore_errors=True)


def check_new_folder(output: Path, overwrite: bool, made_here: str) -> None:
    """Raise `InputError` where something is at `output` that may not be replaced."""
    try:
        os.lstat(output)
        inside = os.listdir(output) if output.is_dir() and not output.is_symlink() else None
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise InputError("output", str(output), "cannot be read") from error
    require(inside is not None, "output", str(output), "is there, and is no folder")
    if not inside:
        return
    require(made_here in inside, "output", str(output), f"holds other things (no {made_here}): name a new folder")
    require(overwrite, "output", str(output), "is there already; overwrite=true replaces it")


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))
