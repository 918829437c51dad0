"""A run in a few numbers."""

import io

import pytest
import torch
from rich.console import Console

from cpc_lightning.report.ending import print_summary
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
