"""Reads one label per training sample: .npy, .json, .csv or .txt. Shapes: N samples."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tokenize import TokenError

import numpy as np
import torch
from torch import Tensor

from cpc_lightning.errors import InputError, require

Reader = Callable[[Path], object]

_WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*", re.ASCII)  # 18 digits: always within int64


def read_labels(path: str) -> Tensor:
    """The labels in a file, (N,) int64, in the order of the training set.

    * .npy: one dimension of integers of any width.
    * .json: a list of integers, as DivideMix writes it.
    * .csv: a column `noisy_label` and perhaps a column `index`; without `index` rows are in order, with it they may
      come in any order and must name each of 0..N-1 once. Other columns are ignored: a run's labels.csv can be read.
    * .txt: one integer a line.

    Raises:
        InputError: named "path", if the file is not there, cannot be read, or holds anything else.
    """
    reader = reader_for(path, _READERS)
    try:
        file = present_file(path)
        return torch.from_numpy(np.array(reader(file), dtype=np.int64))
    except InputError:
        raise
    except OSError as error:
        raise InputError("path", path, f"cannot be read: {error.strerror or error}") from error
    # What the parsers raise on garbled files: numpy's header goes through Python's tokenizer, nested json recurses.
    except (
        ValueError,
        TypeError,
        OverflowError,
        EOFError,
        SyntaxError,
        TokenError,
        RecursionError,
        csv.Error,
    ) as error:
        raise InputError("path", path, f"cannot be read as {Path(path).suffix.lower()}: {error}") from error


def _read_npy(file: Path) -> object:
    # A memory map checks the header's size against the file's before it takes any memory, and refuses pickles.
    array = np.lib.format.open_memmap(str(file), mode="r")
    if array.dtype.kind not in "iu" or array.ndim != 1:
        shape = " x ".join(map(str, array.shape)) or "a single value"
        raise InputError("path", str(file), f"holds {array.dtype} ({shape}); integers in one dimension are needed")
    if len(array) > 0 and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError("path", str(file), f"holds {int(array.max())}, which is no class")
    return array


def _read_json(file: Path) -> object:
    values = json.loads(file.read_text(encoding="utf-8-sig"))
    require(isinstance(values, list), "path", str(file), "must hold one list of integers")
    for place, value in enumerate(values):
        if type(value) is not int:  # bool is an int to isinstance
            raise InputError("path", str(file), f"value {place} is {value!r:.40}; integers are needed")
    return values


def _read_csv(file: Path) -> object:
    # newline="": the csv module sees to line ends itself. strict: a stray quote is an error, not a guess.
    with open(file, encoding="utf-8-sig", newline="") as lines:
        table = csv.DictReader(lines, strict=True)
        columns = table.fieldnames or []
        require("noisy_label" in columns, "path", str(file), "must have a column noisy_label")
        rows = list(table)
    labels = np.array([_whole(file, row["noisy_label"], f"row {n}") for n, row in enumerate(rows, 1)], dtype=np.int64)
    if "index" not in columns:
        return labels
    index = np.array([_whole(file, row["index"], f"index of row {n}") for n, row in enumerate(rows, 1)], dtype=np.int64)
    outside = index[(index < 0) | (index >= len(index))]
    if len(outside) > 0:
        raise InputError("path", str(file), f"index {outside[0]} is outside 0..{len(index) - 1}, one for each row")
    missing = np.flatnonzero(np.bincount(index, minlength=len(index)) == 0)
    if len(missing) > 0:
        raise InputError("path", str(file), f"index {missing[0]} is missing, so that another is there twice")
    ordered = np.empty_like(labels)
    ordered[index] = labels
    return ordered


def _read_txt(file: Path) -> object:
    lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    return [_whole(file, line, f"line {number}") for number, line in enumerate(lines, 1)]


def _whole(file: Path, text: str | None, place: str) -> int:
    """The integer that `text` spells in plain digits."""
    if text is None or _WHOLE_NUMBER.fullmatch(text) is None:
        raise InputError("path", str(file), f"{place} is {text!r:.40}; integers are needed")
    return int(text)


def reader_for(path: str, readers: Mapping[str, Reader]) -> Reader:
    """The reader for the ending of `path`; an `InputError` named "path" where there is none."""
    require(isinstance(path, str) and path != "", "path", path, f"must name a file ({', '.join(readers)})")
    reader = readers.get(Path(path).suffix.lower())
    if reader is None:
        raise InputError("path", path, f"must end in one of {', '.join(readers)}")
    return reader


def present_file(path: str) -> Path:
    """The file at `path`, ~ being the home folder; an `InputError` named "path" unless a file is there."""
    file = Path(path).expanduser()
    require(file.is_file(), "path", path, "is not a file" if file.exists() else "is not there")
    return file


_READERS: dict[str, Reader] = {
    ".npy": _read_npy,
    ".json": _read_json,
    ".csv": _read_csv,
    ".txt": _read_txt,
}
