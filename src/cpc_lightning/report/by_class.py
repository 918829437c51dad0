"""What the page says of the classes: counts, confused pairs, matrices, and how clean probabilities are spread.

Shapes: K classes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpc_lightning.report.charts import Chart, bar_chart
from cpc_lightning.report.findings import (
    all_known,
    by_class,
    by_class_size,
    confused_pairs,
    confusion,
    estimated_matrix,
    histogram,
    true_matrix,
)
from cpc_lightning.report.verdicts import Verdicts

LARGE = 20  # classes from which on a matrix is a picture: numbers in its cells could not be read
MOST_CLASSES = 1000  # of which a page shows matrices and rows
PAIRS = 24
BINS = 20


@dataclass(frozen=True)
class Matrix:
    """A matrix over classes, as a table of shares or, for many classes, as a picture (a `data:` address).

    Attributes:
        title: of it.
        about: what rows and columns are.
        cells: (K, K) share of each row, and what a cell says; empty for a picture.
        picture: the address; empty for a table.
    """

    title: str
    about: str
    cells: list[list[tuple[float, str]]]
    picture: str


def class_rows(verdicts: Verdicts, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each class, as given; of very many classes those with the most suspected labels."""
    at = verdicts.doubted
    pairs = confused_pairs(verdicts.noisy_label, verdicts.suggested_label, at)
    most = {pair.given: pair for pair in reversed(pairs)}
    counts = by_class(verdicts.noisy_label, verdicts.suggested_label, at, verdicts.clean_probability, len(names))
    if len(counts) > MOST_CLASSES:
        counts = sorted(counts, key=lambda count: -count.suspected)[:MOST_CLASSES]
    return [
        {
            "count": count,
            "name": names[count.label],
            "share": count.suspected / count.labels if count.labels else 0.0,
            "mostly": most.get(count.label),
        }
        for count in counts
    ]


def size_rows(verdicts: Verdicts, names: Sequence[str]) -> list[dict[str, Any]]:
    """What share is suspected in classes of 1 to 9 labels, of 10 to 99, ...; none where all classes are of one size."""
    at = verdicts.doubted
    counts = by_class(verdicts.noisy_label, verdicts.suggested_label, at, verdicts.clean_probability, len(names))
    sizes = by_class_size(counts)
    if len(sizes) < 2:
        return []
    return [
        {
            "size": f"{one.low:,}" if one.low == one.high else f"{one.low:,} to {one.high:,}",
            "count": one,
            "share": one.suspected / one.labels,
        }
        for one in sizes
    ]


def pair_rows(verdicts: Verdicts) -> list[Any]:
    """The most frequent pairs of given and suggested class."""
    return confused_pairs(verdicts.noisy_label, verdicts.suggested_label, verdicts.doubted)[:PAIRS]


def matrices(verdicts: Verdicts, names: Sequence[str]) -> list[Matrix]:
    """The estimated transition matrix, and the true one where it is known."""
    if len(names) > MOST_CLASSES:
        return []
    about = "Rows are true classes, columns given labels; each row adds up to 100 %."
    estimated = estimated_matrix(verdicts.noisy_label, verdicts.suggested_label, verdicts.clean_probability, len(names))
    true = true_matrix(verdicts.noisy_label, verdicts.true_label, len(names))
    made = [matrix("Estimated transition matrix", about, estimated)]
    return made if true is None else [*made, matrix("True transition matrix", about, true)]


def confusion_matrix(held_out: Verdicts, names: Sequence[str]) -> Matrix | None:
    """What the networks make of each class of the held-out images."""
    if len(names) > MOST_CLASSES:
        return None
    counts = confusion(held_out.noisy_label, held_out.suggested_label, len(names))
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    about = "Rows are labels as given, columns what the networks see; each row adds up to 100 %."
    return matrix("Confusion matrix of the test images", about, shares)


def matrix(title: str, about: str, shares: NDArray[np.float64]) -> Matrix:
    """A (K, K) matrix of shares, ready to be drawn."""
    if len(shares) <= LARGE:
        cells = [[(round(float(share), 3), _cell(float(share))) for share in row] for row in shares]
        return Matrix(title, about, cells, "")
    pixels = np.zeros((*shares.shape, 2), np.uint8)  # black, and how much of it: it is tinted for light and dark
    pixels[..., 1] = np.round(255 * np.sqrt(shares))  # a square root, or small shares could not be seen
    file = io.BytesIO()
    Image.fromarray(pixels, "LA").save(file, "PNG")
    return Matrix(title, about, [], f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}")


def _cell(share: float) -> str:
    return "" if share < 0.0005 else "<1" if share < 0.005 else f"{100 * share:.0f}"


def chance_chart(verdicts: Verdicts) -> Chart | None:
    """Histogram of clean probabilities: right and wrong labels where truth is known, else suspected ones and others."""
    chances = verdicts.clean_probability
    if all_known(verdicts.true_label):
        wrong = verdicts.noisy_label != verdicts.true_label
        kinds = {"right labels": ~wrong, "wrong labels": wrong}
    else:
        kinds = {"not suspected": ~verdicts.suspected, "suspected": verdicts.suspected}
    counts = {name: histogram(chances[at], BINS) for name, at in kinds.items()}
    about = f"Histogram of the clean probabilities of all labels, in {BINS} bins, split into {' and '.join(kinds)}."
    return bar_chart("Clean probabilities", about, 0, 1, counts, "clean probability", "labels")
