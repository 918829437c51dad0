"""Reads text files that list images: lines `PATH LABEL` (Clothing1M, WebVision) or lines `PATH`.

Everything wrong raises an `InputError` that gives file and line, named "root" unless said otherwise.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cpc_lightning.errors import InputError, require


def require_folder(setting: str, folder: object) -> Path:
    """`folder` as a path, or `InputError` where it is no folder."""
    require(isinstance(folder, str) and folder != "", setting, folder, "must name a folder")
    path = Path(str(folder)).expanduser()
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(setting, folder, "is not there") from None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise InputError(setting, folder, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    require(is_folder, setting, folder, "is not a folder")
    return path


def lines_of(root: Path, name: str, setting: str = "root") -> Iterator[tuple[int, bytes]]:
    """Number and content of the lines of `root`/`name` that are not blank, without white space around them."""
    try:
        regular = stat.S_ISREG(os.stat(root / name).st_mode)  # a pipe would keep its reader waiting
        require(regular, setting, str(root / name), "is no file")
        with open(root / name, "rb") as file:
            for number, line in enumerate(file, 1):
                content = line.strip()
                if content:
                    yield number, content
    except FileNotFoundError:
        raise InputError(setting, str(root), f"there is no {name}") from None
    except OSError as error:
        raise InputError(setting, str(root / name), f"cannot be read: {error.strerror or error}") from None


def labeled_lines(root: Path, name: str, num_labels: int) -> Iterator[tuple[bytes, int]]:
    """Path and label of each line `PATH LABEL` of `root`/`name`; labels must lie in 0..num_labels-1."""
    for number, line in lines_of(root, name):
        path, _, label = line.replace(b"\t", b" ").rpartition(b" ")
        if not (path and label.isdigit() and len(label) < 10):
            raise wrong_line(root, name, number, line, "must be a path and a number")
        if int(label) >= num_labels:
            raise wrong_line(root, name, number, line, f"labels must lie in 0..{num_labels - 1}")
        path = path.rstrip()
        if not is_inside(path):
            raise wrong_line(root, name, number, line, "must not lead out of the folder")
        yield path, int(label)


def is_inside(path: bytes) -> bool:
    """Whether a relative path stays in the folder that it starts from, whatever links there are."""
    return path[:1] != b"/" and (b".." not in path or b".." not in path.split(b"/"))


def wrong_line(root: Path, name: str, number: int, line: bytes, expected: str, setting: str = "root") -> InputError:
    """The error that names a line of `root`/`name`."""
    shown = line[:80].decode(errors="replace")
    return InputError(setting, str(root / name), f"line {number} is {shown!r}: {expected}")
