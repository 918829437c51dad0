"""A run in a few numbers."""

import io

import pytest
import torch
from rich.console import Console

from cpc_lightning.report.ending import lost_by_dividing, print_summary
from cpc_lightning.report.findings import never_divided
from cpc_lightning.report.labels import LabelReport
from cpc_lightning.report.summary import summarise, summarise_accuracy


def test_summarise_accuracy():
    history = [0.99, 0.1, *([0.5] * 8), 0.7]  # the last ten: .1 + 8 * .5 + .7 = 4.8
    assert summarise_accuracy(history) == {"best": 0.99, "last": 0.7, "last10": pytest.approx(0.48)}
    assert summarise_accuracy([0.25, 0.75]) == {"best": 0.75, "last": 0.75, "last10": 0.5}


def verdict(clean, suggested):
    """On labels that are all 0."""
    zeros = torch.zeros(len(clean), dtype=torch.int64)
    clean = None if None in clean else torch.tensor([clean, clean])
    return LabelReport(zeros, zeros, clean, 0.5, torch.tensor(suggested), torch.ones(len(zeros)), ("a", "b"))


def told(training, test):
    row = {"test/accuracy": 0.5, "noise/rate_nominal": None, "noise/rate_actual": 0.0}
    summary = summarise([row], training, {"test": test}, {}, 7.0)
    console = Console(file=io.StringIO(), width=200)
    print_summary(summary, {"folder": "here"}, console)
    return summary, console.file.getvalue()


def test_a_set_that_looks_clean_is_not_accused():
    """Of thirty labels three are below the threshold, and one of these is predicted otherwise: 3.3 %."""
    training = verdict([0.1] * 3 + [0.9] * 27, [1] + [0] * 29)
    summary, said = told(training, verdict([0.9, 0.1, 0.1], [0, 1, 1]))
    assert (summary["looks_clean"], summary["suspected_labels"], summary["suspected_labels_test"]) == (True, 1, 2)
    assert "the labels look clean: 1 of 30 suspected; noise rate: actual 0.0 %; 7 s" in said


def test_a_set_that_does_not_look_clean():
    summary, said = told(verdict([0.1] * 3 + [0.9] * 27, [1, 1] + [0] * 28), verdict([0.9], [0]))
    assert (summary["looks_clean"], summary["suspected_labels"], summary["suspected_labels_test"]) == (False, 3, 0)
    assert "3 of 30 labels suspected" in said
    assert "look clean" not in said


def test_without_a_cleaner_nobody_says_how_it_looks():
    summary, said = told(verdict([None], [0]), verdict([None], [0]))
    assert (summary["looks_clean"], summary["suspected_labels"], summary["suspected_labels_test"]) == (None, None, None)
    assert "no cleaner, so no verdict" in said


def test_the_best_of_warm_up_is_the_best_up_to_the_first_division():
    """Stage 1 follows an epoch's evaluation: the epoch whose end divides is still one of warm-up."""
    rows = [
        {
            "test/accuracy": accuracy,
            "partition/labeled_1": labeled,
            "noise/rate_nominal": None,
            "noise/rate_actual": 0.0,
        }
        for accuracy, labeled in ((30.0, None), (50.0, None), (40.0, 7.0), (60.0, 7.0))
    ]
    training = verdict([0.9], [0])
    summary = summarise(rows, training, {"test": verdict([0.9] * 5, [0] * 5)}, {}, 7.0)
    assert (summary["test_accuracy_warmup"], summary["test_samples"]) == (50.0, 5)
    assert (summary["divided_after"], summary["effective_gain"]) == (3, None)
    undivided = summarise([{**row, "partition/labeled_1": None} for row in rows], training, {}, {}, 7.0)
    assert (undivided["test_accuracy_warmup"], undivided["test_samples"]) == (None, 0)
    assert undivided["divided_after"] is None
    told = (None, 0.1, 0.2, None)
    waited = summarise(
        [{**row, "stage1/effective_gain": m} for row, m in zip(rows, told, strict=True)], training, {}, {}, 7.0
    )
    assert (waited["divided_after"], waited["effective_gain"]) == (3, 0.2)


@pytest.mark.parametrize(
    ("gain", "divided_after", "said"),
    [
        (0.1, None, "in the first half of 24 epochs that would have gained nothing"),
        (0.0, None, "there are too few, or these networks"), (0.3, 4, None), (None, None, None), (None, 2, None),
    ],
)  # fmt: skip
def test_labels_that_were_never_divided_are_told(gain, divided_after, said):
    line = never_divided({"effective_gain": gain, "divided_after": divided_after, "epochs": 24})
    assert (line is None) == (said is None)
    if line is not None:
        assert line.startswith(f"The labels were not divided: {said}")
    assert never_divided({"epochs": 24}) is None  # of an older version


@pytest.mark.parametrize(
    ("before", "now", "samples", "said"),
    [
        (50.0, 45.6, 1000, True),  # 1.96 sqrt((0.5 * 0.5 + 0.456 * 0.544) / 1000) = 4.374 points
        (50.0, 45.7, 1000, False),
        (45.0, 50.0, 1000, False),
        (None, 50.0, 1000, False),
        (50.0, None, 0, False),
    ],
)
def test_what_dividing_has_cost_is_said_where_chance_does_not_explain_it(before, now, samples, said):
    accuracies = {"test_accuracy_warmup": before, "test_accuracy_last10": now, "test_accuracy_last": 99.0}
    summary = {**accuracies, "test_samples": samples, "epochs": 20, "divided_after": 10}
    line = lost_by_dividing(summary)
    assert (line is not None) == said
    if line is not None:
        assert "50.0 % before the labels were divided, and is 45.6 % in the last epochs" in line
    assert lost_by_dividing({**summary, "divided_after": 11}) is None  # one of the ten was before
