"""Reads labels.csv back: the verdict on every label, in columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES, UNKNOWN
from cpc_lightning.errors import InputError, require
from cpc_lightning.report.findings import most_suspicious_first

LABELS = "labels.csv"  # within a run's folder
CHANCES = ("clean_probability_1", "clean_probability_2", "clean_probability", "confidence")
CLASSES = ("noisy_label", "suggested_label", "true_label")


@dataclass(frozen=True)
class Verdicts:
    """The verdict on N labels, as `LabelReport.write` wrote it; a column that the file lacks is blank throughout.

    Attributes:
        index: (N,) int64 positions in the training set, ascending.
        path: N file names as the file has them (`report.labels.inert`), "" for images that have none.
        noisy_label: (N,) int64 given labels, -1 where there is none.
        clean_probability_1: (N,) float64 by network 1, NaN where there is no verdict.
        clean_probability_2: the same by network 2.
        clean_probability: their mean.
        suspected: (N,) bool; False where there is no verdict.
        suggested_label: (N,) int64 the class with the largest mean softmax of both networks, -1 where blank.
        confidence: (N,) float64 that largest mean softmax.
        true_label: (N,) int64, -1 where unknown, -2 where the image shows none of the classes.
        row: (N,) int64 lines of the user's table, -1 where there is none.
        trusted: (N,) bool, labels that a person has confirmed.
    """

    index: NDArray[np.int64]
    path: list[str]
    noisy_label: NDArray[np.int64]
    clean_probability_1: NDArray[np.float64]
    clean_probability_2: NDArray[np.float64]
    clean_probability: NDArray[np.float64]
    suspected: NDArray[np.bool_]
    suggested_label: NDArray[np.int64]
    confidence: NDArray[np.float64]
    true_label: NDArray[np.int64]
    row: NDArray[np.int64]
    trusted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def judged(self) -> bool:
        """Whether a cleaner has said anything of the labels."""
        return bool(np.isfinite(self.clean_probability).any())

    @property
    def contradicted(self) -> NDArray[np.bool_]:
        """(N,) the labels in whose place the networks see another class."""
        against: NDArray[np.bool_] = (self.suggested_label != self.noisy_label) & (self.noisy_label >= 0)
        return against

    @property
    def doubted(self) -> NDArray[np.bool_]:
        """(N,) the suspected labels; without a cleaner, those that the networks contradict."""
        return self.suspected if self.judged else self.contradicted

    @cached_property
    def most_suspicious_first(self) -> NDArray[np.int64]:
        """(N,) all positions, in the order of `findings.most_suspicious_first`."""
        return most_suspicious_first(
            self.noisy_label, self.suggested_label, self.confidence, self.clean_probability, self.suspected,
            self.trusted,
        )  # fmt: skip


def read_verdicts(path: str | Path, classes: int | None = None) -> Verdicts:
    """What labels.csv, or labels_test.csv, says.

    Args:
        path: of the file.
        classes: how many there are; None where nobody knows.

    Raises:
        InputError: named "run", if the file is absent, cannot be read, or is no such file.
    """
    try:
        table: Any = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        columns = {name: table[name] if name in table else pd.Series([""] * len(table)) for name in _NAMES}
        read: dict[str, Any] = {"path": columns["path"].tolist()}
        for name in ("index", *CLASSES, "row"):
            texts = columns[name].replace({"": str(UNKNOWN), "none": str(NONE_OF_THE_CLASSES)})
            read[name] = texts.to_numpy(dtype=np.int64)
        for name in CHANCES:
            read[name] = columns[name].replace("", "nan").to_numpy(dtype=np.float64)
        for name in ("suspected", "trusted"):
            read[name] = columns[name].to_numpy() == "true"
    except (OSError, ValueError, pd.errors.ParserError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "garbled, or another file"
        raise InputError("run", str(path), f"cannot be read ({why})") from error
    whole = bool((read["index"] == np.arange(len(table))).all()) and len(table) > 0
    in_range = classes is None or not whole or all(int(read[name].max()) < classes for name in CLASSES)
    require(whole and in_range, "run", str(path), "cannot be read (garbled, or another file)")
    return Verdicts(**read)


def as_frame(verdicts: Verdicts, classes: NDArray[Any]) -> pd.DataFrame:
    """The verdicts as a data frame, with classes (K,) in the place of their numbers; `rank` 0 is the worst label.

    There is no column of paths where no sample has one.
    """
    order = verdicts.most_suspicious_first
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))

    def named(numbers: NDArray[np.int64]) -> NDArray[Any]:
        found = classes.astype(object)[np.maximum(numbers, 0)]
        found[numbers < 0] = None
        return found if (numbers < 0).any() else found.astype(classes.dtype)

    frame = pd.DataFrame(
        {
            "path": verdicts.path,
            "label": named(verdicts.noisy_label),
            "clean_probability": verdicts.clean_probability,
            "suspected": verdicts.suspected,
            "suggested_label": named(verdicts.suggested_label),
            "confidence": verdicts.confidence,
            "rank": rank,
            "clean_probability_1": verdicts.clean_probability_1,
            "clean_probability_2": verdicts.clean_probability_2,
        }
    )
    return frame if any(verdicts.path) else frame.drop(columns="path")


_NAMES = ("path", "index", *CLASSES, "row", *CHANCES, "suspected", "trusted")
