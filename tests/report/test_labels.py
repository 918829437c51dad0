"""labels.csv, byte for byte."""

import csv

import pytest
import torch

from cpc_lightning.datasets.reading.label_files import read_labels
from cpc_lightning.report import labels
from cpc_lightning.report.labels import LabelReport


def report(**changes):
    settings = {
        "noisy_labels": torch.tensor([1, 0, 1]),
        "true_labels": torch.tensor([1, 1, -1]),
        "clean_probabilities": torch.tensor([[0.9, 0.2, 0.5], [0.7, 0.3, 0.5]]),
        "threshold": 0.5,
        "suggested": torch.tensor([1, 1, 0]),
        "confidence": torch.tensor([0.75, 0.9, 0.6]),
        "class_names": ["=cat", "sea, lion"],
    }
    return LabelReport(**{**settings, **changes})


@pytest.mark.parametrize("rows", [1, 2, 3, 1 << 14])
def test_the_whole_file(tmp_path, monkeypatch, rows):
    """The last image's clean probability is at the threshold: not above it. Rows are written some at a time."""
    monkeypatch.setattr(labels, "ROWS", rows)
    report(paths=["a.png", 'b,"c".png', "d\ne.png"], rows=torch.tensor([2, 7, 3])).write(tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == (
        "index,path,noisy_label,clean_probability_1,clean_probability_2,clean_probability,suspected,"
        "suggested_label,confidence,true_label,noisy_class,suggested_class,true_class,row,trusted\n"
        '0,a.png,1,0.900000,0.700000,0.800000,false,1,0.750000,1,"sea, lion","sea, lion","sea, lion",2,\n'
        '1,"b,""c"".png",0,0.200000,0.300000,0.250000,true,1,0.900000,1,=cat,"sea, lion","sea, lion",7,\n'
        '2,d\\ne.png,1,0.500000,0.500000,0.500000,true,0,0.600000,,"sea, lion",=cat,,3,\n'
    )


def test_without_a_cleaner_there_is_no_verdict_but_a_suggestion(tmp_path):
    empty = report(clean_probabilities=None)
    assert empty.suspected is None
    empty.write(tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text().splitlines()[1] == (
        '0,,1,,,,,1,0.750000,1,"sea, lion","sea, lion","sea, lion",,'
    )


def test_an_image_of_none_of_the_classes(tmp_path):
    report(true_labels=torch.tensor([-2, 1, -1])).write(tmp_path / "labels.csv")
    rows = csv.DictReader((tmp_path / "labels.csv").read_text().splitlines())
    assert [(row["true_label"], row["true_class"]) for row in rows] == [("none", "none"), ("1", "sea, lion"), ("", "")]


def test_classes_are_called_as_in_classes_json(tmp_path):
    """A class -1 is not ./-1 in one of the two files: the names are joined. Paths keep the guard against formulas."""
    names = ["-1", "@home", "+", "=1"]
    four = torch.arange(4)
    columns = {"noisy_labels": four, "true_labels": four, "suggested": four, "confidence": four / 4}
    report(class_names=names, paths=["-1.png"] * 4, clean_probabilities=torch.ones(2, 4), **columns).write(
        tmp_path / "labels.csv"
    )
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    for column in ("noisy_class", "suggested_class", "true_class"):
        assert [row[column] for row in rows] == names
    assert {row["path"] for row in rows} == {"./-1.png"}


def test_it_can_be_read_as_labels_to_train_on(tmp_path):
    report(class_names=["a\nb", 'c"']).write(tmp_path / "labels.csv")
    assert read_labels(str(tmp_path / "labels.csv")).tolist() == [1, 0, 1]


def test_suspected_is_what_the_file_says():
    assert report().suspected.tolist() == [False, True, True]


def test_a_label_is_suspected_by_the_mean_of_both_networks():
    """Means 0.475, 0.55 and 0.5, of which 0.5 is not above the threshold."""
    told = report(clean_probabilities=torch.tensor([[0.9, 0.2, 0.9], [0.05, 0.9, 0.1]]))
    assert told.clean_probability.tolist() == pytest.approx([0.475, 0.55, 0.5])
    assert told.suspected.tolist() == [True, False, True]


def test_hostile_file_names_are_inert(tmp_path):
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\x1b[2J.png", "../../etc/passwd", "a\tb\r\n=1,2"]
    expected = [
        "./=cmd|' /C calc'!A0",
        "./+1",
        "./-1",
        "./@SUM(1)",
        r"\x1b[2J.png",
        "../../etc/passwd",
        r"a\tb\r\n=1,2",
    ]
    seven = torch.ones(7, dtype=torch.int64)
    columns = {"noisy_labels": seven, "true_labels": seven, "suggested": seven, "confidence": seven / 2}
    report(paths=names, clean_probabilities=torch.ones(2, 7), **columns).write(tmp_path / "labels.csv")
    text = (tmp_path / "labels.csv").read_text()
    assert text.replace("\n", "").isprintable()
    assert [row["path"] for row in csv.DictReader(text.splitlines())] == expected
    assert text.count("\n") == 8  # one line a sample, whatever it is called


def test_images_without_a_label_and_trusted_ones(tmp_path):
    """The second has no label: blank, with a suggestion. The third would be suspected, and is trusted."""
    made = report(
        noisy_labels=torch.tensor([1, -1, 1]),
        clean_probabilities=torch.tensor([[0.9, torch.nan, 0.5], [0.7, torch.nan, 0.5]]),
        trusted=torch.tensor([False, False, True]),
    )
    assert made.suspected.tolist() == [False, False, False]
    made.write(tmp_path / "labels.csv")
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert [row["suspected"] for row in rows] == ["false", "", "false"]
    assert [row["trusted"] for row in rows] == ["false", "false", "true"]
    blank = {
        "noisy_label",
        "clean_probability_1",
        "clean_probability_2",
        "clean_probability",
        "suspected",
        "noisy_class",
    }
    assert {name for name, cell in rows[1].items() if cell == "" and rows[0][name] != ""} == blank
    assert (rows[1]["suggested_label"], rows[1]["suggested_class"], rows[1]["true_label"]) == ("1", "sea, lion", "1")


def test_a_label_that_nobody_judged_is_blank(tmp_path):
    """Of held-out images the oracle knows only some."""
    report(clean_probabilities=torch.tensor([[1.0, torch.nan, 0.0]] * 2)).write(tmp_path / "labels_test.csv")
    rows = list(csv.DictReader((tmp_path / "labels_test.csv").read_text().splitlines()))
    assert [row["suspected"] for row in rows] == ["false", "", "true"]
    assert [row["clean_probability"] for row in rows] == ["1.000000", "", "0.000000"]
