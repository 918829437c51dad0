"""Keeps millions of file names in one buffer of bytes, to save memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from cpc_lightning.errors import one_line

BLOCK = 1 << 16
"""How many offsets are Python integers at a time: these are five times as large as the array."""


class PathList(Sequence[str]):
    """File names, each as long as it is plus 8 bytes. Worker processes share it: reading changes no reference count.

    Args:
        paths: the names; bytes as the file system has them, or strings.
    """

    def __init__(self, paths: Iterable[str | bytes] = ()) -> None:
        buffer, ends = bytearray(), [0]
        counted: list[npt.NDArray[np.int64]] = []
        for path in paths:
            buffer += path if isinstance(path, bytes) else os.fsencode(path)
            ends.append(len(buffer))
            if len(ends) == BLOCK:
                counted.append(np.array(ends, dtype=np.int64))
                ends = []
        self._offsets = np.concatenate([*counted, np.array(ends, dtype=np.int64)])
        self._buffer = bytes(buffer)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> PathList: ...
    def __getitem__(self, place: int | slice) -> str | PathList:
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return os.fsdecode(self.encoded(place % len(self)))

    def __iter__(self) -> Iterator[str]:
        return map(os.fsdecode, self._all_encoded(np.arange(len(self))))

    def encoded(self, place: int) -> bytes:
        """The name at `place` in 0..N-1 as the file system has it."""
        return self._buffer[self._offsets[place] : self._offsets[place + 1]]

    def take(self, places: Iterable[int]) -> PathList:
        """The names at `places`, in that order."""
        return PathList(self._all_encoded(np.fromiter(places, np.int64)))

    def _all_encoded(self, places: npt.NDArray[np.int64]) -> Iterator[bytes]:
        """`encoded` of many places, each in 0..N-1, without a number of numpy's for each."""
        for start in range(0, len(places), BLOCK):
            block = places[start : start + BLOCK]
            ends = self._offsets[block + 1].tolist()
            for begin, end in zip(self._offsets[block].tolist(), ends, strict=True):
                yield self._buffer[begin:end]

    def escaped(self) -> list[str]:
        """The names that tables can only show escaped: they hold control characters, or bytes that are no UTF-8."""
        try:
            if self._buffer.decode().isprintable():
                return []
        except UnicodeDecodeError:
            pass
        return [name for name in self if one_line(name) != name]

    def first_repeat(self) -> tuple[int, int] | None:
        """The places of a name that is there twice, the earliest such second place; None if there is none."""
        hashes = np.fromiter(map(hash, self._all_encoded(np.arange(len(self)))), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        pairs = [(int(order[at + 1]), int(order[at])) for at in same]
        repeats = [(second, first) for second, first in pairs if self.encoded(second) == self.encoded(first)]
        if not repeats:
            return None
        second, first = min(repeats)
        return first, second
