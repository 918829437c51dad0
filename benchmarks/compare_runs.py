"""Two finished runs: in which respects do they differ, and where first?"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

Rows = list[dict[str, str]]


@dataclass
class Comparison:
    """What two runs have in common, and in which respects they differ.

    Attributes:
        cells: of a row of the printed table, for labels.csv, metrics.csv, new columns, lost columns, weights.
        differences: one line each.
    """

    cells: list[str] = field(default_factory=lambda: ["-"] * 5)
    differences: list[str] = field(default_factory=list)


def compare(ours: Path, theirs: Path) -> Comparison:
    """Hold the finished runs in two folders, A's and B's, against each other.

    labels.csv must agree in every byte. Of metrics.csv the columns that both have must agree as text, seconds aside; a
    column that is in A alone is lost, which is a difference. Networks and heads must agree in names, shapes and bits.
    """
    found = Comparison()
    labels = [(folder / "labels.csv").read_bytes() for folder in (ours, theirs)]
    where = first_difference(*(rows_of(folder / "labels.csv") for folder in (ours, theirs)), "index")[0]
    if labels[0] != labels[1]:
        found.differences.append(f"labels.csv: {where or 'other columns, or written in another way'}")
    found.cells[0] = yes_or_no(labels[0] == labels[1])

    rows = [rows_of(folder / "metrics.csv") for folder in (ours, theirs)]
    columns = [[name for name in table[0] if "seconds" not in name] for table in rows]
    new = [name for name in columns[1] if name not in columns[0]]
    lost = [name for name in columns[0] if name not in columns[1]]
    where, equal, shared = first_difference(*rows, "epoch")
    if where:
        found.differences.append(f"metrics.csv: {where}")
    if lost:
        found.differences.append(f"metrics.csv: lost {', '.join(lost)}")
    found.cells[1:4] = [f"{equal} of {shared}", ", ".join(new) or "none", ", ".join(lost) or "none"]

    first, second = (weights_of(folder) for folder in (ours, theirs))
    both = [name for name in first if name in second]
    other = [name for name in both if not same_bits(first[name], second[name])]
    alone = sorted(first.keys() ^ second.keys())
    if other:
        found.differences.append(f"weights: {len(other)} of {len(both)} tensors differ, the first is {other[0]}")
    if alone:
        found.differences.append(f"weights: tensors in one run alone: {len(alone)}, the first is {alone[0]}")
    found.cells[4] = f"{len(both) - len(other)} of {len(both)}"
    return found


def rows_of(path: Path) -> Rows:
    """A table's rows as text; a table without rows is nothing to compare."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows, path
    return rows


def first_difference(ours: Rows, theirs: Rows, key: str) -> tuple[str | None, int, int]:
    """Where two tables differ first in the columns of both, seconds aside.

    Returns:
        That place in words (None: nowhere), how many of the shared columns are equal, and how many are shared.
    """
    shared = [name for name in ours[0] if name in theirs[0] and "seconds" not in name]
    differ = {name for name in shared if [row[name] for row in ours] != [row[name] for row in theirs]}
    equal = len(shared) - len(differ)
    if len(ours) != len(theirs):
        return f"A has {len(ours)} rows, B {len(theirs)}", equal, len(shared)
    for our, their in zip(ours, theirs, strict=True):
        for name in shared:
            if our[name] != their[name]:
                return f"{key} {our[key]}, {name}: A has {our[name]}, B {their[name]}", equal, len(shared)
    return None, equal, len(shared)


def weights_of(folder: Path) -> dict[str, Tensor]:
    """All tensors of the networks and heads in a run's checkpoints, by file and name."""
    found: dict[str, Tensor] = {}
    for path in sorted((folder / "checkpoints").glob("*.ckpt")):
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        found |= {f"{path.name}: {name}": value for name, value in state.items()}
    assert found, folder
    return found


def same_bits(ours: Tensor, theirs: Tensor) -> bool:
    """Equal in kind, shape and every bit: -0 is not 0, and a NaN is itself."""
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return False
    first, second = (value.contiguous().reshape(-1).view(torch.uint8) for value in (ours, theirs))
    return torch.equal(first, second)


def yes_or_no(same: bool) -> str:
    """For a cell."""
    return "same" if same else "OTHER"
