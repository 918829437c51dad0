"""Writes classes.json, bad_images.csv and transition_matrix.csv."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from cpc_lightning.datasets.dataset import BadImage
from cpc_lightning.errors import one_line
from cpc_lightning.files import atomic_write
from cpc_lightning.report.labels import inert


def write_classes(path: str | Path, class_names: Sequence[str]) -> None:
    """Write the classes' names as a JSON list, atomically: the label k in labels.csv is its item k."""
    with atomic_write(path) as file:
        file.write((json.dumps(list(class_names), indent=2) + "\n").encode())


def write_bad_images(path: str | Path, left_out: Sequence[BadImage]) -> None:
    """Write the images that were left out as csv, atomically: the set that listed it, its path, why."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("set", "path", "reason"))
    writer.writerows((bad.part, inert(bad.path), one_line(bad.reason)) for bad in left_out)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def write_matrix(path: str | Path, transition_matrix: Tensor) -> None:
    """Write a transition matrix (K, K), row i P(given | true i), as K lines of K numbers, atomically.

    `noise=matrix` reads it.
    """
    rows = transition_matrix.double()
    rows = rows / rows.sum(dim=1, keepdim=True)
    lines = (",".join(f"{share:.8f}" for share in row) for row in rows.tolist())
    with atomic_write(path) as file:
        file.write(("\n".join(lines) + "\n").encode())
