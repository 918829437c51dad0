"""A run in a few numbers."""

import pytest
import torch

from cpc_lightning.report.labels import LabelReport
from cpc_lightning.report.summary import summarise, summarise_accuracy


def test_summarise_accuracy():
    history = [0.99, 0.1, *([0.5] * 8), 0.7]  # the last ten: .1 + 8 * .5 + .7 = 4.8
    assert summarise_accuracy(history) == {"best": 0.99, "last": 0.7, "last10": pytest.approx(0.48)}
    assert summarise_accuracy([0.25, 0.75]) == {"best": 0.75, "last": 0.75, "last10": 0.5}


def verdict(clean):
    """On labels that are all 0."""
    zeros = torch.zeros(len(clean), dtype=torch.int64)
    clean = None if None in clean else torch.tensor([clean, clean])
    return LabelReport(zeros, zeros, clean, 0.5, zeros, torch.ones(len(zeros)), ("a", "b"))


def test_labels_suspected_of_each_set():
    row = {"noise/rate_nominal": None, "noise/rate_actual": 0.0}
    held_out = {"val": verdict([0.9]), "test": verdict([0.1, 0.9, 0.5])}
    summary = summarise([row], verdict([0.1, 0.9]), held_out, {}, 7.0)
    names = "suspected_labels", "suspected_labels_val", "suspected_labels_test"
    assert [summary[name] for name in names] == [1, 0, 2]
    nobody = summarise([row], verdict([None]), {"test": verdict([None])}, {}, 7.0)
    assert (nobody["suspected_labels"], nobody["suspected_labels_test"]) == (None, None)
