"""csv and parquet: the run's labels.csv with classes' names, full file names and kinds of columns that pandas knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES
from cpc_lightning.datasets.labeled_rows import NO_CLASS
from cpc_lightning.report.formats.contract import Exported
from cpc_lightning.report.labels import inert
from cpc_lightning.report.pictures import file_of

COLUMNS = (
    "The columns are those of the run's labels.csv, and file, the full name of the image's file, blank where it has "
    "none; the row k is image k of the training set. "
)


def write_csv(exported: Exported, folder: Path) -> list[str]:
    """labels.csv."""
    table = table_of(exported, [inert(file) for file in files_of(exported)])
    table.to_csv(folder / "labels.csv", index=False, encoding="utf-8", lineterminator="\n")
    return [COLUMNS + "Signs that are not printed are escaped in names, so that no terminal obeys them."]


def write_parquet(exported: Exported, folder: Path) -> list[str]:
    """labels.parquet."""
    # A name that is no UTF-8 cannot be a text there.
    files = [file.encode("utf-8", "backslashreplace").decode() for file in files_of(exported)]
    table_of(exported, files).to_parquet(folder / "labels.parquet", engine="pyarrow", index=False)
    return [COLUMNS + "path has signs that are not printed escaped, as in labels.csv; file has not."]


def files_of(exported: Exported) -> list[str]:
    """N full names, "" where an image has no file."""
    return [file_of(exported.images, k) or "" for k in range(len(exported.verdicts))]


def table_of(exported: Exported, files: Sequence[str]) -> pd.DataFrame:
    """The table; `files` are N names."""
    verdicts = exported.verdicts
    judged = np.isfinite(verdicts.clean_probability)
    names = pd.Series([*exported.names, NO_CLASS, None], dtype=object)  # at -2 and -1

    def class_of(labels: NDArray[np.int64]) -> pd.Series:
        return names.iloc[np.where(labels >= 0, labels, labels + len(names))].reset_index(drop=True)

    def whole(values: NDArray[np.int64], lowest: int = 0) -> pd.Series:
        return pd.Series(values, dtype="Int64").where(values >= lowest)

    return pd.DataFrame(
        {
            "index": verdicts.index,
            "path": verdicts.path,
            "file": list(files),
            "noisy_label": whole(verdicts.noisy_label),
            "clean_probability_1": verdicts.clean_probability_1,
            "clean_probability_2": verdicts.clean_probability_2,
            "clean_probability": verdicts.clean_probability,
            "suspected": pd.Series(verdicts.suspected, dtype="boolean").where(judged),
            "suggested_label": whole(verdicts.suggested_label),
            "confidence": verdicts.confidence,
            "true_label": whole(verdicts.true_label, NONE_OF_THE_CLASSES).where(verdicts.true_label != -1),
            "noisy_class": class_of(verdicts.noisy_label),
            "suggested_class": class_of(verdicts.suggested_label),
            "true_class": class_of(verdicts.true_label),
            "row": whole(verdicts.row),
            "trusted": verdicts.trusted,
        }
    )
