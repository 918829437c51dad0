"""What a verdict cannot see, classes by their size, and the cap of an estimate on a set that looks clean."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from cpc_lightning.cleaning.noise_rate import NoiseEstimate
from cpc_lightning.report.ending import print_summary, warnings_of
from cpc_lightning.report.findings import ClassCount, by_class_size, emptied, unseen
from cpc_lightning.report.labels import LabelReport
from cpc_lightning.report.tables import write_matrix


def count(label, labels, suspected):
    return ClassCount(label, labels, suspected, 0, 0, None)


def test_classes_are_joined_by_the_power_of_ten_of_their_size():
    counts = [count(0, 8, 6), count(1, 9, 0), count(2, 10, 1), count(3, 0, 0), count(4, 2000, 20)]
    found = [(one.low, one.high, one.classes, one.labels, one.suspected) for one in by_class_size(counts)]
    assert found == [(8, 9, 2, 17, 6), (10, 10, 1, 10, 1), (2000, 2000, 1, 2000, 20)]


def test_a_class_that_loses_most_of_its_labels_is_named_first():
    counts = [count(0, 8, 6), count(1, 20, 19), count(2, 1000, 100), count(3, 6, 3)]
    assert [one.label for one in emptied(counts)] == [1, 0]  # half is not more than half


def test_where_half_of_all_labels_are_suspected_one_half_is_nothing_special():
    assert emptied([count(0, 100, 50), count(1, 100, 60)]) == []
    assert [one.label for one in emptied([count(0, 100, 50), count(1, 100, 60), count(2, 10, 10)])] == [2]


def test_what_an_estimate_cannot_see_depends_on_what_is_predicted_otherwise():
    assert unseen(0.039, 0.35).startswith(
        "The estimated noise rate of 3.9 % may be far too low: a model that has not seen a label predicts another in "
        "35.0 % of cases."
    )
    assert unseen(0.3, 0.39).startswith("Mistakes between classes that the features confuse cannot be seen")


def noise(rate, high, error):
    return NoiseEstimate(rate, 0.0, high, rate, None, error, torch.eye(2), 0.0)


def report_of(estimate, count=100):
    """Ten labels below the threshold, all of which the networks predict otherwise."""
    clean = torch.cat([torch.linspace(0.0, 0.09, 10), torch.full((count - 10,), 0.9)])
    suggested = torch.cat([torch.ones(10), torch.zeros(count - 10)]).long()
    return LabelReport(
        torch.zeros(count).long(), torch.full((count,), -1), torch.stack([clean, clean]), 0.5, suggested,
        torch.full((count,), 0.9), ["a", "b"], noise=estimate,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("estimate", "suspected", "clean"),
    [
        (None, 10, False),
        (noise(0.01, 0.021, 0.03), 3, True),  # 2.1 of 100
        (noise(0.01, 0.06, 0.03), 10, False),  # too many may be wrong
        (noise(0.01, 0.021, 0.2), 10, False),  # something speaks against it
    ],
)
def test_no_more_are_suspected_than_the_estimate_allows(estimate, suspected, clean):
    report = report_of(estimate)
    assert report.looks_clean is clean
    assert torch.nonzero(report.suspected).flatten().tolist() == list(range(suspected))


def test_the_noise_rate_is_the_cleaners_own_or_else_that_of_the_clean_probabilities():
    assert report_of(noise(0.2, 0.3, 0.2)).noise_rate == (0.2, 0.0, 0.3)
    rate, low, high = report_of(None).noise_rate
    wrong = 1 - np.concatenate([np.linspace(0, 0.09, 10), np.full(90, 0.9)])
    half = 1.959964 * wrong.std() / 10
    assert (rate, low, high) == pytest.approx((wrong.mean(), wrong.mean() - half, wrong.mean() + half), abs=1e-6)


def test_the_end_of_a_run_warns():
    (unseen_line,) = warnings_of(report_of(noise(0.01, 0.06, 0.03)))
    assert unseen_line.startswith("Mistakes between classes")
    clean = torch.cat([torch.full((7,), 0.1), torch.full((93,), 0.9)])
    labels = torch.cat([torch.ones(8), torch.zeros(92)]).long()
    report = LabelReport(
        labels, torch.full((100,), -1), torch.stack([clean, clean]), 0.5, torch.zeros(100).long(),
        torch.full((100,), 0.9), ["a", "rare"],
    )  # fmt: skip
    (lost,) = warnings_of(report)
    assert lost.startswith("Class rare would lose 7 of its 8 labels: look at them before you drop any")


def test_the_end_of_a_run_says_the_estimate_and_what_was_chosen():
    summary = {
        "test_accuracy_best": 90.0, "test_accuracy_last": 90.0, "test_accuracy_last10": 90.0, "suspected_labels": 3,
        "training_samples": 10, "noise_rate_nominal": None, "noise_rate_actual": None, "noise_rate_estimated": 0.31,
        "noise_rate_low": 0.25, "noise_rate_high": 0.4, "out_of_fold_error": 0.4,
        "chosen": "cpc_agn, lambda_u 25: because", "seconds": 1.0,
    }  # fmt: skip
    stream = io.StringIO()
    print_summary(summary, {"folder": "runs/1"}, Console(file=stream, width=60), ["a [warning]"])
    lines = stream.getvalue().splitlines()
    assert "3 of 10 labels suspected; noise rate: estimated 31.0 % (25.0 % to 40.0 %)" in (
        next(line for line in lines if "noise rate" in line)
    )
    assert "chosen: cpc_agn, lambda_u 25: because" in lines
    assert "a [warning]" in lines


def test_a_matrix_is_written_as_lines_of_numbers(tmp_path):
    write_matrix(tmp_path / "T.csv", torch.tensor([[0.75, 0.25], [1.0, 3.0]]))
    assert (tmp_path / "T.csv").read_text() == "0.75000000,0.25000000\n0.25000000,0.75000000\n"
