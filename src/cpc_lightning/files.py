"""Atomic writing of files: a crash leaves the old file or the new one, never half of one.

Nothing here imports the rest of the library.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file whose content takes `path`'s place when the block ends well, and is dropped when it does not.

    The content goes to a new file in the same folder (a rename is atomic only within one file system), reaches the
    disk, and is then renamed; that name reaches the disk too. A symbolic link is followed, so that the file it points
    to is replaced, not the link. A process that is killed in between leaves the new file: see `remove_stale`.

    Raises:
        OSError: if the folder is absent or cannot be written to, the disk is full, or `path` is a folder.
    """
    target = Path(os.path.realpath(path))
    # The short random name fits where the target's own name has no room for a suffix; "x" refuses to reuse a file and,
    # unlike mkstemp, leaves the permissions to the user's umask.
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        error.filename = error.filename or str(target)  # writing to a full disk names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders; elsewhere one may be written to and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(descriptor)


def remove_stale(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left of files that they were writing into `folder`, which need not be there."""
    for path in Path(folder).glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def files_in(folder: str | os.PathLike[str], ending: str) -> list[Path]:
    """The files and folders in `folder` whose names end so, by name; none where there is no such folder.

    Unlike `Path.glob`, which is silent about it, this raises `OSError` where the folder may not be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [Path(folder, name) for name in names if name.endswith(ending)]


def usable_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
