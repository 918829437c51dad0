"""The comparison of two revisions: two runs that differ in one respect are told apart, and where."""

import pytest
import torch
from benchmarks.compare_runs import compare

LABELS = "index,noisy_label,suspected\n0,3,0\n1,4,1\n"
METRICS = "epoch,train/loss,stage1/seconds\n0,2.5,\n1,1.25,0.5\n"
WEIGHTS = {"a": torch.tensor([0.0, float("nan")]), "b": torch.tensor(7)}


def write(folder, labels=LABELS, metrics=METRICS, weights=WEIGHTS):
    """What a finished run leaves, as far as it is compared."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "labels.csv").write_text(labels)
    (folder / "metrics.csv").write_text(metrics)
    torch.save({"state_dict": weights}, folder / "checkpoints" / "last.ckpt")
    return folder


SAME = {
    "all": ({}, ["same", "2 of 2", "none", "none", "2 of 2"]),
    "seconds": ({"metrics": METRICS.replace("1.25,0.5", "1.25,0.75")}, ["same", "2 of 2", "none", "none", "2 of 2"]),
    "a new column": (
        {"metrics": "epoch,new,train/loss,stage1/seconds\n0,,2.5,\n1,3,1.25,0.5\n"},
        ["same", "2 of 2", "new", "none", "2 of 2"],
    ),
}


@pytest.mark.parametrize(("other", "cells"), SAME.values(), ids=SAME)
def test_runs_that_are_the_same(tmp_path, other, cells):
    found = compare(write(tmp_path / "A"), write(tmp_path / "B", **other))
    assert (found.cells, found.differences) == (cells, [])


DIFFERENT = {
    "a label": ({"labels": LABELS.replace("1,4,1", "1,4,0")}, "labels.csv: index 1, suspected: A has 1, B 0"),
    "a column of the labels": (
        {"labels": "index,noisy_label\n0,3\n1,4\n"},
        "labels.csv: other columns, or written in another way",
    ),
    "a label less": ({"labels": LABELS[:-6]}, "labels.csv: A has 2 rows, B 1"),
    "a digit": ({"metrics": METRICS.replace("1.25", "1.250")}, "metrics.csv: epoch 1, train/loss: A has 1.25, B 1.250"),
    "a lost column": ({"metrics": "epoch,stage1/seconds\n0,\n1,0.5\n"}, "metrics.csv: lost train/loss"),
    "the sign of zero": (
        {"weights": {**WEIGHTS, "a": torch.tensor([-0.0, float("nan")])}},
        "weights: 1 of 2 tensors differ, the first is last.ckpt: a",
    ),
    "another kind": (
        {"weights": {**WEIGHTS, "b": torch.tensor(7, dtype=torch.int32)}},
        "weights: 1 of 2 tensors differ, the first is last.ckpt: b",
    ),
    "a tensor less": (
        {"weights": {"a": WEIGHTS["a"]}},
        "weights: tensors in one run alone: 1, the first is last.ckpt: b",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("other", "says"), DIFFERENT.values(), ids=DIFFERENT)
def test_runs_that_differ_in_one_respect(tmp_path, other, says):
    assert compare(write(tmp_path / "A"), write(tmp_path / "B", **other)).differences == [says]
