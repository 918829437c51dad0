"""Reads named arrays from .npz, Parquet, or .npy files with a common name. Pickled objects are refused."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cpc_lightning.errors import InputError, first_line, one_line, require, require_path

Arrays = dict[str, npt.NDArray[Any]]
ENDINGS = (".npz", ".npy", ".parquet")


def read_arrays(setting: str, file: str, names: Sequence[str]) -> Arrays:
    """The arrays of a file that go by one of `names`.

    * .npz: as `numpy.savez` writes it.
    * .npy: one of several files that are called alike but for such a name ("train_features.npy", "train_labels.npy");
      the array is mapped into memory, not read.
    * .parquet: a column each; one whose rows are lists of one length is an array of two dimensions.

    Args:
        setting: what names the file, for errors.
        file: its name.
        names: of the arrays to read; others are not looked at.

    Raises:
        InputError: if the file is not there, cannot be read, or holds Python objects or lists of different lengths.
    """
    require_path(setting, file)
    path = Path(file).expanduser()
    require(path.suffix in ENDINGS, setting, file, f"must be a file of one of the kinds {', '.join(ENDINGS)}")
    try:
        require(path.is_file(), setting, file, "is not a file" if path.exists() else "is not there")
        if path.suffix == ".npz":
            arrays = _of_npz(path, names)
        elif path.suffix == ".npy":
            arrays = _of_npy_files(setting, path, names)
        else:
            arrays = _of_parquet(setting, path, names)
    except InputError:
        raise
    except MemoryError:
        raise InputError(setting, file, "holds more than fits into the memory") from None
    except Exception as error:  # what numpy, zipfile, zlib and pyarrow raise on garbled files: nearly anything
        reason = getattr(error, "strerror", None) or one_line(first_line(error))
        raise InputError(setting, file, f"cannot be read: {reason}") from None
    for name, array in arrays.items():
        require(array.dtype.kind != "O", setting, file, f"its {name} hold Python objects, which are not unpickled")
    return arrays


def _of_npz(path: Path, names: Sequence[str]) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        return {name: _unpickled(archive, name) for name in names if name in archive.files}


def _unpickled(archive: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    try:
        return archive[name]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError(f"its {name} hold Python objects, which are not unpickled") from None
        raise


def _of_npy_files(setting: str, path: Path, names: Sequence[str]) -> Arrays:
    own = next((name for name in names if name in path.name), None)
    expected = f"a .npy file holds one array: call them alike but for {', '.join(names)}, as in train_{names[0]}.npy"
    require(own is not None, setting, str(path), expected)
    before, _, after = path.name.rpartition(str(own))
    files = {name: path.with_name(f"{before}{name}{after}") for name in names}
    return {name: _npy(name, file) for name, file in files.items() if file.is_file()}


def _npy(name: str, file: Path) -> npt.NDArray[Any]:
    try:
        # Copy on write: torch warns of arrays that it may not write to.
        array = np.load(file, mmap_mode="c", allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise ValueError(f"its {name} hold Python objects, which are not unpickled") from None
        raise
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{file.name} is no .npy file, whatever its name says")
    return array


def _of_parquet(setting: str, path: Path, names: Sequence[str]) -> Arrays:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(setting, str(path), "needs pyarrow: pip install 'cpc-lightning[formats]'") from error
    there = parquet.read_schema(path).names
    table = parquet.read_table(path, columns=[name for name in names if name in there])
    return {name: _column(name, table.column(name).combine_chunks()) for name in table.column_names}


def _column(name: str, column: Any) -> npt.NDArray[Any]:
    """A column of Parquet: lists of numbers become rows of one array, texts an array of texts."""
    if column.null_count:
        raise ValueError(f"its {name} are not all there ({column.null_count:,} are null)")
    if str(column.type).startswith(("list", "large_list", "fixed_size_list")):
        lengths = {len(row) for row in column}
        if len(lengths) > 1:
            raise ValueError(f"its {name} are lists of different lengths, {min(lengths)} to {max(lengths)}")
        inner = column.flatten()
        if inner.null_count:
            raise ValueError(f"its {name} are not all there ({inner.null_count:,} are null)")
        return np.array(inner.to_numpy(zero_copy_only=False)).reshape(len(column), -1)  # one that may be written to
    array = np.asarray(column.to_numpy(zero_copy_only=False))
    return array.astype(str) if array.dtype == object and "string" in str(column.type) else array
