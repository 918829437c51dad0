"""Names of folders and files that every file system accepts, and that image_folder reads.

A class may be called "a/b", "CON" or "..", two classes may differ in case alone, and two images of one name may come
into one folder.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence

from cpc_lightning.datasets.reading.folders import is_added

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)  # on Windows
LONGEST = 120
"""Bytes of a name, to which a mark and an ending may come: file systems take 255, encrypted ones 143."""


def plain_name(name: str) -> str:
    """`name` as the name of a folder or a file: what some file system does not take is an underscore."""
    plain = "".join(c if c.isprintable() else "_" for c in unicodedata.normalize("NFC", name))
    plain = _FORBIDDEN.sub("_", plain).strip(" ").rstrip(". ")
    plain = plain.encode()[:LONGEST].decode(errors="ignore").rstrip(". ")
    if plain.startswith("."):
        plain = f"_{plain[1:]}"
    return f"_{plain}" if not plain or _RESERVED.fullmatch(plain) or is_added(plain) else plain


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder's name for each of K classes, no two of them equal in any case."""
    names = Names()
    return [names.free(plain_name(name), f"_{k}") for k, name in enumerate(class_names)]


class Names:
    """The names that one folder has given away."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, name: str, mark: str) -> str:
        """`name`, or where it is taken in any case, `name` with `mark` before its ending, as often as it takes."""
        stem, ending = os.path.splitext(name)
        while (key := unicodedata.normalize("NFC", name.casefold())) in self._taken:
            stem += mark
            name = stem + ending
        self._taken.add(key)
        return name
