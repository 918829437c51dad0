"""Makes the paths of a table relative to a root folder: absolute paths, paths through links, other encodings."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from cpc_lightning.datasets.reading.list_files import is_inside


class Inside:
    """Paths as a table writes them, as paths from a folder on.

    Args:
        folder: the root.
        encoding: the table's: a file's name on disk may be in it.
    """

    def __init__(self, folder: Path, encoding: str | None) -> None:
        self.encoding = encoding
        self.real = os.path.realpath(folder)
        # A root may be a link. With a separator at the end, whichever this system has.
        self.roots = [os.path.join(name, "") for name in (os.path.abspath(folder), self.real)]
        self.real_folder = lru_cache(1024)(os.path.realpath)

    def path(self, written: str) -> str:
        """The path from the root on, without `./` and the like.

        Raises:
            ValueError: saying why, where it leads out of the root or is none.
        """
        path = written
        if "://" in path:
            raise ValueError(f"path {path[:80]!r} is an address: fetch the images first")
        if os.path.isabs(path):
            path = next(
                (path[len(root) :] for root in self.roots if path.startswith(root)), None
            ) or self._through_links(path)
        if not is_inside(os.fsencode(path)):
            advice = "paths start there, or are absolute"
            if os.path.isabs(written):
                advice = "dataset.root=/ takes any absolute path, dataset.root=FOLDER those in FOLDER"
            raise ValueError(f"path {written[:80]!r} leads out of {os.path.abspath(self.roots[0])}: {advice}")
        path = os.path.normpath(path)  # ./a.jpg is a.jpg
        return path if self.encoding is None or path.isascii() else self._on_disk(path)

    def _through_links(self, path: str) -> str:
        """An absolute path from the root on, where links lead there; else as it is."""
        folder = str(self.real_folder(os.path.dirname(path)))
        within = os.path.join(folder, os.path.basename(path))
        return within[len(self.roots[1]) :] if within.startswith(self.roots[1]) else path

    def _on_disk(self, path: str) -> str:
        """The name of the file, where it is in the table's encoding rather than in the file system's."""
        assert self.encoding is not None
        name = os.fsdecode(path.encode(self.encoding))
        there = os.path.lexists(os.path.join(self.real, path)) or not os.path.lexists(os.path.join(self.real, name))
        return path if there else name
