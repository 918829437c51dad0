"""Reads pickled arrays without running code: only arrays and plain containers come out.

A pickle can name any function to be called while it is read. These readers know the few that numpy's own pickles
name, and refuse all others.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from cpc_lightning.errors import InputError, first_line, require

# What a pickled array names. numpy 2 moved its core and still answers to the old name; protocol 2 spells bytes as
# an encoded text.
_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]
_SCALAR: Any = np.int64(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding: str(text).encode(encoding),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What `module.name` stands for, if arrays need it."""
        found = _ALLOWED.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, and only arrays are read")
        return found


def read_pickle(path: Path, setting: str) -> Any:
    """The arrays, numbers, texts and containers in a pickle file; Python 2's byte strings become texts (latin-1).

    Args:
        path: the file.
        setting: what its errors are named after.

    Raises:
        InputError: if the file is not there, cannot be read, is no pickle, or names anything but arrays.
    """
    return _read(path, setting, lambda file: _ArrayUnpickler(file, encoding="latin1").load())


def read_npy_object(path: Path, setting: str) -> Any:
    """The array in a .npy file, or the one object that numpy pickled into it, such as a dict of arrays.

    Args and errors as for `read_pickle`.
    """

    def load(file: BinaryIO) -> Any:
        version = np.lib.format.read_magic(file)
        numpy: Any = np.lib.format  # which has no types before 2.3
        shape, _, dtype = (numpy.read_array_header_1_0 if version == (1, 0) else numpy.read_array_header_2_0)(file)
        if not dtype.hasobject:
            file.seek(0)
            return np.load(file, allow_pickle=False)
        array = _ArrayUnpickler(file, encoding="latin1").load()
        require(shape == () and isinstance(array, np.ndarray) and array.shape == (), setting, str(path),
                "holds an array of objects; one array of numbers, or one dict of such arrays, is needed")  # fmt: skip
        return array.item()

    return _read(path, setting, load)


def read_torch(path: Path, setting: str) -> Any:
    """What `torch.save` wrote: tensors, arrays, numbers, texts and containers of these.

    Args and errors as for `read_pickle`.
    """
    allowed = [(value, f"{module}.{name}") for (module, name), value in _ALLOWED.items() if module != "_codecs"]
    # Checkpoints often hold the command line that they were trained with: a class without code of its own.
    allowed.append((argparse.Namespace, "argparse.Namespace"))
    kinds = [type(np.dtype(letter)) for letter in "?bhilqBHILQfdSUO"]

    def load(file: BinaryIO) -> Any:
        with torch.serialization.safe_globals([*allowed, *kinds]):
            return torch.load(file, map_location="cpu", weights_only=True)

    return _read(path, setting, load)


def _read(path: Path, setting: str, load: Callable[[BinaryIO], Any]) -> Any:
    try:
        require(path.is_file(), setting, str(path), "is not a file" if path.exists() else "is not there")
        with open(path, "rb") as file:
            return load(file)
    except InputError:
        raise
    except OSError as error:
        raise InputError(setting, str(path), f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a parser on a garbled file raises whatever it trips over
        raise InputError(setting, str(path), f"cannot be read safely ({first_line(error):.200})") from error
