"""Lists the images in a folder: follows links, and ignores files that a NAS or a file manager adds.

Nothing is passed over in silence: a folder that may not be read is an error, and what is not looked at is counted.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from cpc_lightning.datasets.reading.formats import is_image
from cpc_lightning.errors import InputError

_ADDED = re.compile(
    r"@eadir|[@#](recycle|snapshot|recently-snapshot|__thumb|tmp)|\$recycle\.bin|system volume information|lost\+found"
    r"|__macosx|network trash folder|temporary items|thevolumesettingsfolder|thumbs\.db|ehthumbs(_vista)?\.db"
    r"|desktop\.ini|picasa\.ini|icon\r|zbthumbnail\.info|albumart(small|_[^/\n]*_(small|large))\.jpg"
    r"|syno(photo|file|index|video)_[^/\n]*",
    re.IGNORECASE,
)
"""Names that a NAS (Synology, QNAP), Windows, macOS and viewers give to what they add: thumbnails, indices, trash."""

_ADDED_ON_THE_WAY = re.compile(rf"(?:^|/)(?:{_ADDED.pattern}|\._[^/]*)(?=/|\Z)", re.IGNORECASE)
"""A part of a path that has such a name, or begins as the files do in which macOS keeps what other systems cannot."""

CIRCLE = "links in a circle"
TWICE = "links to folders that are read already"
ADDED = "folders added by a NAS or file manager"
BESIDE = "images in no folder of a class"
IN_WORDS = (CIRCLE, TWICE, ADDED, BESIDE)


def is_added(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or was added by a NAS or a file manager: never an image."""
    return name.startswith(".") or _ADDED.fullmatch(name) is not None


def lies_in_added(path: str) -> bool:
    """Whether a list names what a NAS or file manager added: there or in a folder of it. Hidden ones may be meant."""
    return _ADDED_ON_THE_WAY.search(path) is not None  # one search a path: lists are long


def entries_of(setting: str, folder: str | Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; an `InputError` named `setting` where that cannot be told."""
    try:
        os.stat(os.path.join(folder, "."))  # a folder that can be listed but not entered
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(setting, str(folder), f"cannot be read: {error.strerror or error}") from None


def subfolders(folder: Path, aside: Counter[str] | None = None, setting: str = "root") -> list[str]:
    """Names of the folders in `folder`, in their order, but for what `is_added`; none where it is no folder.

    Args:
        folder: to look into. A link to a folder is one; not a link to a folder around it.
        aside: counts the folders that are not looked at, by why.
        setting: what names the folder, for errors.
    """
    aside = Counter() if aside is None else aside
    if not is_folder(setting, folder):
        return []
    names = []
    around = _around(folder)
    for entry in entries_of(setting, folder):
        if is_folder(setting, entry):
            if is_added(entry.name):
                aside[ADDED] += not entry.name.startswith(".")
            elif entry.is_symlink() and _identity(entry.path) in around:
                aside[CIRCLE] += 1
            else:
                names.append(entry.name)
    return names


def images_beside(folder: Path, setting: str = "root") -> int:
    """How many images lie in `folder` itself."""
    return sum(
        not is_folder(setting, entry) and not is_added(entry.name) and is_image(entry.path)
        for entry in entries_of(setting, folder)
    )


def image_names(folder: Path, aside: Counter[str] | None = None, setting: str = "root") -> Iterator[str]:
    """Names of the images in `folder` and in its folders, from `folder` on: of each folder its files, then its folders.

    Links to folders are followed, after all else: each folder is read once, so that none leads in a circle.

    Args:
        folder: to look into; not at what `is_added`.
        aside: counts what is not looked at, by its kind.
        setting: what names the folder, for errors.
    """
    aside = Counter() if aside is None else aside
    around = _around(folder)
    seen: set[tuple[int, int]] = set()
    waiting, links = [""], deque[str]()
    while waiting or links:
        inner = waiting.pop() if waiting else links.popleft()
        place = os.path.join(folder, inner) if inner else str(folder)
        folders: list[str] = []
        entries = entries_of(setting, place)
        identity = _identity(place)
        if inner and identity in around:
            aside[CIRCLE] += 1
            continue
        if identity in seen:
            aside[TWICE] += 1
            continue
        seen.add(identity)
        for entry in entries:
            name = os.path.join(inner, entry.name)
            if is_folder(setting, entry):
                if is_added(entry.name):
                    aside[ADDED] += not entry.name.startswith(".")
                else:
                    (links if entry.is_symlink() else folders).append(name)
            elif not is_added(entry.name):
                if is_image(entry.path):
                    yield name
                else:
                    aside[os.path.splitext(entry.name)[1].lower() or "without an ending"] += 1
        waiting += reversed(folders)


def is_folder(setting: str, entry: os.DirEntry[str] | Path) -> bool:
    """Whether `entry` is a folder or a link to one; an `InputError` where that cannot be told."""
    try:
        return stat.S_ISDIR(os.stat(entry).st_mode) if isinstance(entry, Path) else entry.is_dir()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # ELOOP: a link to itself
            return False
        raise InputError(setting, os.fspath(entry), f"cannot be read: {error.strerror or error}") from None


def counted(aside: Mapping[str, int]) -> str:
    """What is left aside in words, the most frequent kinds first: "12 .txt, 3 .mp4"; "" where nothing is."""
    kinds = sorted(((number, kind) for kind, number in aside.items() if number), key=lambda pair: -pair[0])
    one = {kind: kind.replace("s ", " ", 1) for kind in IN_WORDS}
    shown = ", ".join(f"{number:,} {one.get(kind, kind) if number == 1 else kind}" for number, kind in kinds[:4])
    return shown + (f" and {len(kinds) - 4} kinds more" if len(kinds) > 4 else "")


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _around(folder: Path) -> set[tuple[int, int]]:
    """The folder itself and those that it lies in."""
    place = Path(os.path.realpath(folder))
    return {_identity(parent) for parent in (place, *place.parents)}
