"""labels.csv read back: what was written, column by column; garbled files are told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cpc_lightning.errors import InputError
from cpc_lightning.report.labels import COLUMNS, LabelReport
from cpc_lightning.report.verdicts import read_verdicts

NAN = float("nan")


def write(path, **changes):
    report = {
        "noisy_labels": torch.tensor([1, 0, -1, 2]),
        "true_labels": torch.tensor([1, -2, -1, 0]),
        "clean_probabilities": torch.tensor([[0.75, 0.25, NAN, 0.5], [0.25, 0.0, NAN, 1.0]]),
        "threshold": 0.5,
        "suggested": torch.tensor([1, 2, 0, 2]),
        "confidence": torch.tensor([0.5, 1.0, 0.25, 0.125]),
        "class_names": ("a", "b,c", 'd"'),
        "paths": ["x.png", '=cmd,"', "", "y\n.png"],
        "rows": torch.tensor([2, 3, 4, 5]),
        "trusted": torch.tensor([True, False, False, False]),
    }
    LabelReport(**{**report, **changes}).write(path)
    return path


def test_all_columns_come_back(tmp_path):
    verdicts = read_verdicts(write(tmp_path / "labels.csv"), classes=3)
    assert verdicts.index.tolist() == [0, 1, 2, 3]
    assert verdicts.path == ["x.png", './=cmd,"', "", r"y\n.png"]
    assert verdicts.noisy_label.tolist() == [1, 0, -1, 2]
    np.testing.assert_array_equal(verdicts.clean_probability_1, [0.75, 0.25, NAN, 0.5])
    np.testing.assert_array_equal(verdicts.clean_probability_2, [0.25, 0.0, NAN, 1.0])
    np.testing.assert_array_equal(verdicts.clean_probability, [0.5, 0.125, NAN, 0.75])
    assert verdicts.suspected.tolist() == [False, True, False, False]  # the first is trusted, the third has no label
    assert verdicts.suggested_label.tolist() == [1, 2, 0, 2]
    assert verdicts.confidence.tolist() == [0.5, 1.0, 0.25, 0.125]
    assert verdicts.true_label.tolist() == [1, -2, -1, 0]
    assert verdicts.row.tolist() == [2, 3, 4, 5]
    assert verdicts.trusted.tolist() == [True, False, False, False]
    assert verdicts.judged


def test_what_a_run_without_cleaner_paths_and_rows_leaves(tmp_path):
    blank = {"clean_probabilities": None, "threshold": None, "paths": None, "rows": None, "trusted": None}
    verdicts = read_verdicts(write(tmp_path / "labels.csv", **blank))
    assert not verdicts.judged
    assert verdicts.path == [""] * 4
    assert not verdicts.suspected.any()
    assert verdicts.row.tolist() == [-1] * 4


def test_without_a_cleaner_contradicted_labels_are_doubted(tmp_path):
    suggested = {"suggested": torch.tensor([0, 2, 0, 2])}  # other than labels 0 and 1; label 2 is none
    judged = read_verdicts(write(tmp_path / "judged.csv", **suggested))
    assert judged.contradicted.tolist() == [True, True, False, False]
    assert judged.doubted.tolist() == judged.suspected.tolist() == [False, True, False, False]
    blank = {"clean_probabilities": None, "threshold": None}
    assert read_verdicts(write(tmp_path / "labels.csv", **suggested, **blank)).doubted.tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_a_file_of_an_older_version_lacks_columns(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("index,path,noisy_label,suspected,suggested_label,confidence\n0,,1,true,0,0.5\n")
    verdicts = read_verdicts(path)
    assert verdicts.suspected.tolist() == [True]
    assert verdicts.true_label.tolist() == [-1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",".join(COLUMNS) + "\n",
        "index,noisy_label\n0,one\n",
        "index,noisy_label\n1,0\n",  # not all samples
        "index,noisy_label\n0,3\n",  # a class that there is not
        "a,b\n1,2\n",
        '"\n',
    ],
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"labels\.csv: cannot be read"):
        read_verdicts(path, classes=3)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_verdicts(tmp_path / "labels.csv")
