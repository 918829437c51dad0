"""What the page says at its top of the labels: a headline, how sure it is, numbers, and the share of wrong labels.

Shapes: N samples, E epochs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.report.charts import Chart, line_chart, percent
from cpc_lightning.report.findings import (
    FirstOnes,
    all_known,
    confused_pairs,
    counted_wrong,
    estimated_noise_rate,
    expected_wrong,
    how_many_to_look_at,
    never_divided,
    unseen,
)
from cpc_lightning.report.run_folder import RunFolder
from cpc_lightning.report.verdicts import Verdicts

FEW = 0.02  # estimated noise below which a set looks clean


@dataclass(frozen=True)
class Number:
    """One of the numbers at the top: what it is of, itself, and what one must know to read it."""

    of: str
    value: str
    about: str


def headline(verdicts: Verdicts, looks_clean: bool = False) -> str:
    """What was found, in a sentence; `looks_clean` as the run's summary says it."""
    labels, suspected = int((verdicts.noisy_label >= 0).sum()), int(verdicts.suspected.sum())
    if not verdicts.judged:
        against = int(verdicts.contradicted.sum())
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
    if undivided := never_divided(told):
        yield undivided
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
    pairs = confused_pairs(verdicts.noisy_label, verdicts.suggested_label, verdicts.doubted)
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
    suspected = int(verdicts.doubted.sum())
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
