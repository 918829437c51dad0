"""Saves predictions in blocks, and joins the blocks into one csv or Parquet file.

A block is a file of its own, whole or not at all. So a stopped prediction goes on, several processes share one, and the
result is the same whoever computed what.

Shapes: n images, T classes shown of each.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from cpc_lightning.errors import InputError, one_line, require, written
from cpc_lightning.files import atomic_write, remove_stale
from cpc_lightning.report.labels import inert

FORMATS = (".csv", ".parquet")
ABOUT = "about.json"


@dataclass(frozen=True)
class Predicted:
    """What is predicted of n images, in their order.

    Attributes:
        paths: n names.
        errors: n reasons why an image cannot be read; "" for those that can.
        classes: n times T numbers of classes, the most probable first; none for an image that cannot be read.
        probabilities: likewise, in [0, 1], to six digits.
    """

    paths: Sequence[str]
    errors: Sequence[str]
    classes: Sequence[Sequence[int]]
    probabilities: Sequence[Sequence[float]]


def columns(top: int) -> list[str]:
    """Names of the output's columns, for that many classes of each image."""
    ranked = [name for k in range(2, top + 1) for name in (f"class_{k}", f"probability_{k}")]
    return ["path", "class", "probability", *ranked, "error"]


class Blocks:
    """The blocks of a prediction, in a folder beside the output.

    Args:
        output: the file that they become.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f"{output.name}.parts")

    def begin(self, about: Mapping[str, Any], overwrite: bool) -> int:
        """Go on with what is there, or begin; how many blocks are there.

        Args:
            about: what the blocks depend on.
            overwrite: whether blocks of something else may go.

        Raises:
            InputError: named "output", where they are of something else, or the folder cannot be written.
        """
        with self.in_one_line():
            self.output.parent.mkdir(parents=True, exist_ok=True)
            there = self.folder.exists()
            if there and not self.is_about(about):
                own = not os.listdir(self.folder) or (self.folder / ABOUT).is_file()
                what = "is no folder of a prediction that was stopped: name another output"
                require(own, "output", str(self.folder), what)
                what = "is of a prediction by other networks, or on another input, that was stopped"
                require(overwrite, "output", str(self.folder), f"{what}; overwrite=true begins anew")
                shutil.rmtree(self.folder)
            self.folder.mkdir(exist_ok=True)
            remove_stale(self.folder)
            with atomic_write(self.folder / ABOUT) as file:
                file.write(json.dumps(about).encode())
            return sum(name.endswith(".block") for name in os.listdir(self.folder))

    def is_about(self, about: Mapping[str, Any]) -> bool:
        """Whether the folder holds blocks of just that."""
        try:
            return bool(json.loads((self.folder / ABOUT).read_text()) == json.loads(json.dumps(about)))
        except (OSError, ValueError):
            return False

    def read(self, number: int, names: Sequence[str] | None = None) -> Predicted | None:
        """The block; None where it is not there, or is not of these names."""
        try:
            found = Predicted(**json.loads(self._file(number).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return found if names is None or list(found.paths) == list(names) else None

    def has(self, number: int) -> bool:
        """Whether the block is there."""
        return self._file(number).is_file()

    def write(self, number: int, predicted: Predicted) -> None:
        """Keep a block. Where the folder is gone, another process has put all together already."""
        with self.in_one_line():
            try:
                with atomic_write(self._file(number)) as file:
                    file.write(json.dumps(predicted.__dict__).encode())
            except FileNotFoundError:
                if self.folder.exists():
                    raise

    def put_together(self, count: int, class_names: Sequence[str], top: int) -> tuple[int, list[tuple[str, str]]]:
        """Write the output of all `count` blocks; how many images cannot be read, and the first few of them with why.

        Args:
            count: of the blocks.
            class_names: K names.
            top: T.
        """
        write = _write_csv if self.output.suffix.lower() == ".csv" else _write_parquet
        bad, shown = Counter[str](), list[tuple[str, str]]()

        def all_blocks() -> Iterator[Predicted]:
            for number in range(count):
                found = self.read(number)
                if found is None:  # somebody has taken it away meanwhile
                    raise InputError("output", str(self._file(number)), "is gone or damaged: start again")
                for path, error in zip(found.paths, found.errors, strict=True):
                    if error:
                        bad["all"] += 1
                        if len(shown) < 3:
                            shown.append((path, error))
                yield found

        with self.in_one_line():
            write(self.output, all_blocks(), class_names, top)
            shutil.rmtree(self.folder, ignore_errors=True)
        return bad["all"], shown

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:07}.block"

    def in_one_line(self) -> AbstractContextManager[None]:
        """Within the block, what the disk refuses is an `InputError` named "output"."""
        return written("output", self.output)


def _write_csv(output: Path, found: Iterator[Predicted], class_names: Sequence[str], top: int) -> None:
    """UTF-8, each line ended by a newline; names as in labels.csv (`inert`)."""
    shown = [one_line(name) for name in class_names]
    with atomic_write(output) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns(top))
        for block in found:
            for path, error, classes, chances in zip(
                block.paths, block.errors, block.classes, block.probabilities, strict=True
            ):
                pairs = zip(classes, chances, strict=True)
                ranked = [cell for k, chance in pairs for cell in (shown[k], f"{chance:.6f}")] or [""] * (2 * top)
                writer.writerow([inert(path), *ranked, one_line(error)])
        text.flush()
        text.detach()  # or it would close the file, which is not its own


def _write_parquet(output: Path, found: Iterator[Predicted], class_names: Sequence[str], top: int) -> None:
    """A row group for each block; what is unknown is null. Names as they are, but for bytes that are no UTF-8."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    kinds = {name: arrow.float64() if name.startswith("probability") else arrow.string() for name in columns(top)}
    schema = arrow.schema(list(kinds.items()))
    with atomic_write(output) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for block in found:
            cells: dict[str, list[Any]] = {
                "path": [path.encode("utf-8", "backslashreplace").decode() for path in block.paths],
                "error": [error or None for error in block.errors],
            }
            for k in range(top):
                rank = "" if k == 0 else f"_{k + 1}"
                cells[f"class{rank}"] = [class_names[row[k]] if row else None for row in block.classes]
                cells[f"probability{rank}"] = [row[k] if row else None for row in block.probabilities]
            writer.write_table(arrow.table({name: arrow.array(cells[name], kinds[name]) for name in kinds}, schema))
