"""Folders in which data sets are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from cpc_lightning.errors import InputError, require_path

DEFAULT_ROOT = "data"


def own_root(root: str | None) -> str:
    """The folder to put data into: `root`, or the one that the environment variable CPC_DATA names, or ./data."""
    return os.path.expanduser(root if root is not None else os.environ.get("CPC_DATA") or DEFAULT_ROOT)


def roots(root: str | None, *more: str) -> list[Path]:
    """The folders to look into: `root` alone where it is given, else CPC_DATA's, ./data, and `more`.

    Raises:
        InputError: named "root", if it is no path.
    """
    if root is not None:
        require_path("root", root)
    names = [root] if root is not None else list(dict.fromkeys([own_root(None), DEFAULT_ROOT, *more]))
    return [Path(name).expanduser() for name in names]


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; an `InputError` named "root" where that may not be looked at."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null character
        return False
    except OSError as error:
        raise InputError("root", str(path), f"cannot be read: {error.strerror or error}") from None
    return True
