"""What each part of the page says: sentences, numbers, tables and charts of what a run has left.

Shapes: N samples, K classes, E epochs.
"""

from __future__ import annotations

import base64
import io
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpc_lightning.report.charts import Chart, bar_chart, line_chart, percent
from cpc_lightning.report.findings import (
    FirstOnes,
    all_known,
    by_class,
    by_class_size,
    confused_pairs,
    confusion,
    counted_wrong,
    estimated_matrix,
    estimated_noise_rate,
    expected_wrong,
    histogram,
    how_many_to_look_at,
    true_matrix,
    unseen,
)
from cpc_lightning.report.run_folder import RunFolder, as_item
from cpc_lightning.report.verdicts import Verdicts

LARGE = 20  # classes from which on a matrix is a picture: numbers in its cells could not be read
MOST_CLASSES = 1000  # of which a page shows matrices and rows
PAIRS = 24
FEW = 0.02  # estimated noise below which a set looks clean
BINS = 20


@dataclass(frozen=True)
class Number:
    """One of the numbers at the top: what it is of, itself, and what one must know to read it."""

    of: str
    value: str
    about: str


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


# At the top -----------------------------------------------------------------------------------------------------------


def headline(verdicts: Verdicts, looks_clean: bool = False) -> str:
    """What was found, in a sentence; `looks_clean` as the run's summary says it."""
    labels, suspected = int((verdicts.noisy_label >= 0).sum()), int(verdicts.suspected.sum())
    if not verdicts.judged:
        against = int(((verdicts.suggested_label != verdicts.noisy_label) & (verdicts.noisy_label >= 0)).sum())
        return f"The networks contradict {against:,} of {labels:,} labels."
    if suspected == 0:
        return f"None of {labels:,} labels looks wrong."
    if looks_clean:
        return f"The labels look clean: {suspected:,} of {labels:,} are suspected."
    verb = "looks" if suspected == 1 else "look"
    return f"{suspected:,} of {labels:,} labels {verb} wrong ({percent(suspected / labels)})."


def caveats(
    verdicts: Verdicts, first: FirstOnes | None, looks_clean: bool = False, told: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """What an honest reader must know beside the headline; `looks_clean` and `told` as the run's summary has it."""
    told = told or {}
    if told.get("out_of_fold_error") is not None:
        yield unseen(told["noise_rate_estimated"], told["out_of_fold_error"])
    if told.get("chosen"):
        yield f"Chosen by the run itself: {told['chosen']}."
    rate = estimated_noise_rate(verdicts.clean_probability)
    suspected = int(verdicts.suspected.sum())
    if rate is None:
        yield (
            "No cleaner has judged the labels, so none is suspected. They are sorted by how strongly the networks "
            "contradict them; networks that were trained on wrong labels contradict fewer of them than there are."
        )
    elif looks_clean or rate < FEW:
        yield (
            "The set looks clean. A cleaner always finds labels that look worse than the others, hard images above "
            f"all; the estimated noise rate of {percent(rate)} counts them as wrong too, and is rather an upper bound. "
            "Look at the first few before you change any."
        )
    if not all_known(verdicts.true_label):
        known = int((verdicts.true_label != -1).sum())
        some = f"The true label of only {known:,} images is known" if known else "No true label is known here"
        if first is not None:
            yield (
                f"{some}: how many labels are wrong is estimated from the networks' own clean probabilities. They "
                "have seen these labels in training, and can be too sure. Mistakes that follow what the images "
                "themselves confuse are hard to see."
            )
    elif rate is not None and suspected:
        wrong = verdicts.noisy_label != verdicts.true_label
        found, missed = int((wrong & verdicts.suspected).sum()), int((wrong & ~verdicts.suspected).sum())
        yield (
            f"The true labels are known here: {found:,} of the {suspected:,} suspected labels are wrong "
            f"({percent(found / suspected)}), and {missed:,} wrong ones are not suspected."
        )


def numbers(run: RunFolder, verdicts: Verdicts, held_out: Mapping[str, Verdicts], names: Sequence[str]) -> list[Number]:
    """The four numbers at the top."""
    labels, suspected = int((verdicts.noisy_label >= 0).sum()), int(verdicts.suspected.sum())
    judged, rate = verdicts.judged, estimated_noise_rate(verdicts.clean_probability)
    pairs = confused_pairs(verdicts.noisy_label, verdicts.suggested_label, doubted(verdicts))
    known = all_known(verdicts.true_label)
    actual = float((verdicts.noisy_label != verdicts.true_label).mean()) if known else None
    truth = f"; {percent(actual)} by the true labels" if actual is not None else ""
    return [
        Number("Labels suspected", f"{suspected:,}", f"{percent(suspected / labels)} of {labels:,} labels")
        if judged
        else Number("Labels suspected", "-", "no label has been judged"),
        _noise_rate(run, rate, truth)
        if judged
        else Number("Estimated noise rate", "-", f"no label has been judged{truth}"),
        Number(
            "Most confused pair",
            f"{names[pairs[0].given]} → {names[pairs[0].suggested]}",
            f"{pairs[0].count:,} labels: given → suggested",
        )
        if pairs
        else Number("Most confused pair", "-", "no label is contradicted"),
        _accuracy(run, held_out),
    ]


def _noise_rate(run: RunFolder, rate: float | None, truth: str) -> Number:
    """The cleaner's own estimate and its interval where there is one, else the mean of 1 - clean probability."""
    told = run.summary or {}
    if told.get("out_of_fold_error") is not None:
        low, high = (percent(told[f"noise_rate_{end}"]) for end in ("low", "high"))
        return Number("Estimated noise rate", percent(told["noise_rate_estimated"]), f"{low} to {high}{truth}")
    return Number(
        "Estimated noise rate", "-" if rate is None else percent(rate), f"mean of 1 - clean probability{truth}"
    )


def doubted(verdicts: Verdicts) -> NDArray[np.bool_]:
    """(N,) the suspected labels; without a cleaner, those that the networks contradict."""
    if verdicts.judged:
        return verdicts.suspected
    against: NDArray[np.bool_] = (verdicts.suggested_label != verdicts.noisy_label) & (verdicts.noisy_label >= 0)
    return against


def _accuracy(run: RunFolder, held_out: Mapping[str, Verdicts]) -> Number:
    values = run.metrics.get("test/accuracy", np.zeros(0))
    values = values[np.isfinite(values)]
    selected = (run.summary or {}).get("test_accuracy_selected")
    count = f"{len(held_out['test']):,} held-out images" if "test" in held_out else "the held-out images"
    if selected is not None:
        return Number("Test accuracy", f"{selected:.1f} %", f"on {count}; networks selected on val")
    if not len(values):
        return Number("Test accuracy", "-", "was not measured")
    about = f"on {count}, last epoch; best {values.max():.1f} %"
    return Number("Test accuracy", f"{values[-1]:.1f} %", about)


def first_ones(verdicts: Verdicts, order: NDArray[np.int64]) -> tuple[FirstOnes | None, FirstOnes | None]:
    """How many of the first n are wrong: as estimated, and as counted; None where that cannot be said."""
    order = order[verdicts.noisy_label[order] >= 0]
    judged = order[np.isfinite(verdicts.clean_probability[order]) & ~verdicts.trusted[order]]
    suspected = int(doubted(verdicts).sum())
    estimated = counted = None
    if len(judged):
        n = how_many_to_look_at(len(judged), suspected)
        estimated = expected_wrong(verdicts.clean_probability[judged], n)
    if all_known(verdicts.true_label):
        shown = judged if len(judged) else order
        n = how_many_to_look_at(len(shown), suspected)
        counted = counted_wrong(verdicts.noisy_label[shown], verdicts.true_label[shown], n)
    return estimated, counted


def first_sentence(estimated: FirstOnes | None, counted: FirstOnes | None) -> str:
    """How many of the first hundred, or of all if they are fewer, are wrong."""
    found = counted or estimated
    if found is None or not len(found.n):
        return ""
    place = int(np.searchsorted(found.n, min(100, found.n[-1])))
    n, wrong = int(found.n[place]), round(float(found.wrong[place]))
    if counted is not None:
        return f"Of the first {n:,}, {wrong:,} are wrong (counted)."
    low, high = round(float(found.low[place])), round(float(found.high[place]))
    return f"Of the first {n:,}, about {wrong:,} are wrong ({low:,} to {high:,})."


def first_chart(estimated: FirstOnes | None, counted: FirstOnes | None, suspected: int) -> Chart | None:
    """The share of wrong labels among the first n, over n."""
    series: dict[str, tuple[Any, Any]] = {}
    band = None
    if counted is not None:
        series["counted"] = counted.n, counted.wrong / counted.n
    if estimated is not None:
        series["estimated"] = estimated.n, estimated.wrong / estimated.n
        band = estimated.n, estimated.low / estimated.n, estimated.high / estimated.n
    return line_chart(
        "How many of the first n labels are wrong", first_sentence(estimated, counted), series,
        "most suspicious labels looked at", "wrong among them", y_range=(0, 1), shares=True,
        band=band, band_name="95 % interval", height=186,
        marks={"all suspected": suspected} if suspected else None,
    )  # fmt: skip


# By class -------------------------------------------------------------------------------------------------------------


def class_rows(verdicts: Verdicts, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each class, as given; of very many classes those with the most suspected labels."""
    at = doubted(verdicts)
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
    at = doubted(verdicts)
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
    return confused_pairs(verdicts.noisy_label, verdicts.suggested_label, doubted(verdicts))[:PAIRS]


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


# The run --------------------------------------------------------------------------------------------------------------


def command(run: RunFolder) -> str:
    """The command line that repeats the run, quoted for a shell."""
    return shlex.join(["python", "-m", "cpc_lightning", *run.overrides])


def apply_command(run: RunFolder) -> str:
    """The command line that applies the decisions that the page downloads, in any folder."""
    words = ["mode=apply", f"run={as_item(os.path.abspath(run.path))}", "decisions=DECISIONS.csv"]
    return shlex.join(["python", "-m", "cpc_lightning", *words])


def facts(run: RunFolder) -> list[tuple[str, str]]:
    """What a person asks of a run: when it took how long, and with what."""
    summary = run.summary or {}
    seconds = summary.get("seconds")
    epochs = len(run.metrics.get("epoch", ()))
    said = [("Folder", str(run.path)), ("Epochs", f"{epochs:,}")]
    if seconds is not None:
        hours, rest = divmod(round(seconds), 3600)
        text = f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
        said.append(("Duration", text))
    return said + [(name, str(version)) for name, version in run.versions.items()]


def settings_rows(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its full name, in the order of its file."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from settings_rows(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "" if value is None else str(value)
