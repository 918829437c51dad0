"""Keeps vectors on disk: in blocks while they are computed, then in two files that are mapped into memory.

Several processes may work on one store: each claims a block before it computes it, and a claim ends with its process.
Nothing rests on the claims but that no work is done twice.

Shapes: N samples, W views, D numbers of a vector.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cpc_lightning.errors import InputError, first_line, written
from cpc_lightning.files import atomic_write

BLOCK = 256
"""Samples that are kept together: what a stop costs, at most, and what processes share out."""

VIEWS, VECTORS, ABOUT = "views.npy", "vectors.npy", "about.json"


class Store:
    """The vectors of one set of images.

    Args:
        folder: of its own, which need not be there.
        samples: N, at least 1.
    """

    def __init__(self, folder: Path, samples: int) -> None:
        self.folder, self.samples = folder, samples
        self.blocks = -(-samples // BLOCK)

    @property
    def complete(self) -> bool:
        """Whether all are there."""
        return (self.folder / VECTORS).is_file()

    def missing(self) -> list[int]:
        """The blocks that are still to be computed, by number; none where all are there."""
        if self.complete:
            return []
        try:
            there = {*os.listdir(self.folder / "blocks")}
        except FileNotFoundError:
            there = set()
        missing = [block for block in range(self.blocks) if f"{block:05}.npy" not in there]
        return [] if self.complete else missing  # blocks are gone once they are put together

    def positions(self, block: int) -> Tensor:
        """The samples of a block, int64."""
        return torch.arange(block * BLOCK, min((block + 1) * BLOCK, self.samples))

    def write(self, block: int, vectors: Tensor) -> None:
        """Keep the vectors (n, W, D) float32 of a block."""
        with self._written(self._file(block)) as file:
            np.save(file, vectors.numpy())

    def put_together(self, about: Mapping[str, Any]) -> None:
        """Make the two files of all blocks, and say in a third, for people, what they hold."""
        blocks = [np.load(self._file(block), mmap_mode="r") for block in range(self.blocks)]
        _, views, numbers = blocks[0].shape
        with self._written(self.folder / ABOUT) as file:
            shape = {"samples": self.samples, "views": views, "numbers": numbers}
            file.write(json.dumps({**about, **shape}, indent=1).encode() + b"\n")
        with self._written(self.folder / VIEWS) as file:
            _header(file, (self.samples, views, numbers))
            for block in blocks:
                file.write(np.ascontiguousarray(block).data)
        with self._written(self.folder / VECTORS) as file:  # the last one: where it is, all is there
            _header(file, (self.samples, numbers))
            for block in blocks:
                file.write(np.ascontiguousarray(block.mean(axis=1, dtype=np.float32)).data)
        del blocks
        shutil.rmtree(self.folder / "blocks", ignore_errors=True)

    def read(self) -> tuple[Tensor, Tensor]:
        """All views (N, W, D) and their means (N, D), float32, mapped into memory.

        Raises:
            InputError: named "folder", where the files are damaged.
        """
        try:
            views, vectors = (self._mapped(name) for name in (VIEWS, VECTORS))
            fine = len(views) == len(vectors) == self.samples and views.shape[2:] == vectors.shape[1:]
        except (OSError, ValueError) as error:
            raise self._damaged(first_line(error)) from None
        if not fine:
            raise self._damaged("they are of another number of images")
        return torch.from_numpy(views), torch.from_numpy(vectors)

    def _mapped(self, name: str) -> npt.NDArray[np.float32]:
        # Copy on write: torch warns of arrays that it may not write to.
        return np.load(self.folder / name, mmap_mode="c", allow_pickle=False)  # type: ignore[no-any-return]

    def _damaged(self, how: str) -> InputError:
        return InputError("folder", str(self.folder), f"its files are damaged ({how}): delete it")

    def _file(self, block: int) -> Path:
        return self.folder / "blocks" / f"{block:05}.npy"

    @contextmanager
    def _written(self, path: Path) -> Iterator[Any]:
        """As `atomic_write`; the errors are those of the setting "folder"."""
        with self.in_one_line():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                yield file

    def in_one_line(self) -> AbstractContextManager[None]:
        """Within the block, what the disk refuses is an `InputError` named "folder"."""
        return written("folder", self.folder.parent, ": name a folder for features")


class Claims:
    """Says to other processes which blocks of a store this one is computing.

    Byte k of a file is locked for block k: such locks go with the process that holds them.

    Args:
        store: whose folder is made.
    """

    def __init__(self, store: Store) -> None:
        try:
            self._locks: Any = import_module("fcntl")
        except ImportError:  # Windows: processes may then do the same work twice
            self._locks = None
        with store.in_one_line():
            store.folder.mkdir(parents=True, exist_ok=True)
            self._file = open(store.folder / "lock", "ab")  # noqa: SIM115

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def take(self, block: int) -> bool:
        """Whether this process may compute the block: no other one does."""
        if self._locks is None:
            return True
        try:
            self._locks.lockf(self._file, self._locks.LOCK_EX | self._locks.LOCK_NB, 1, block)
        except BlockingIOError:
            return False
        except PermissionError:  # how some systems say the same
            return False
        except OSError:  # a file system without locks
            return True
        return True

    def release(self, block: int) -> None:
        """Let others have the block."""
        if self._locks is not None:
            try:
                self._locks.lockf(self._file, self._locks.LOCK_UN, 1, block)
            except OSError:  # a file system without locks
                return


def _header(file: Any, shape: tuple[int, ...]) -> None:
    """The beginning of a .npy file of float32."""
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
