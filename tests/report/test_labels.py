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


def of_a_hundred(otherwise, below=10, **changes):
    """A hundred labels 0, the first `below` of them below the threshold, the first `otherwise` predicted as 1.

    So are the last three, which are far above the threshold.
    """
    zeros, place = torch.zeros(100, dtype=torch.int64), torch.arange(100)
    clean = torch.where(place < below, 0.1, 0.9)
    settings = {
        "noisy_labels": zeros, "true_labels": zeros, "clean_probabilities": torch.stack([clean, clean]),
        "suggested": ((place < otherwise) | (place >= 97)).long(), "confidence": torch.ones(100),
    }  # fmt: skip
    return report(**{**settings, **changes})


def test_a_set_looks_clean_where_few_labels_are_below_the_threshold_and_predicted_otherwise():
    """Four of a hundred are few (`FEW` is 5 %): they alone are suspected. Five are not: all ten are."""
    clean, noisy = of_a_hundred(4), of_a_hundred(5)
    assert (clean.looks_clean, noisy.looks_clean) == (True, False)
    assert clean.suspected.nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert noisy.suspected.nonzero().flatten().tolist() == list(range(10))
    assert bool((clean.below_threshold == noisy.below_threshold).all())
    assert of_a_hundred(0).looks_clean
    assert of_a_hundred(0, below=0).looks_clean
    assert not bool(of_a_hundred(0).suspected.any())
    assert report(clean_probabilities=None).looks_clean is None


def test_few_labels_are_wrong_where_hardly_any_that_neither_network_takes_for_clean_is_predicted_as_labeled():
    """Of four, one is a quarter (`AGREED`): hard images. Of five that is less: wrong labels."""
    assert of_a_hundred(3, below=4).looks_clean is True
    assert of_a_hundred(4, below=5).looks_clean is False
    assert of_a_hundred(4, below=4).looks_clean is False


def test_what_one_network_takes_for_clean_is_no_sign_of_a_clean_set():
    """Network 2 takes six of ten for clean, and so learns to predict them as labeled. The four others speak."""
    clean = of_a_hundred(4).clean_probabilities.clone()
    clean[1, 4:10] = 0.7  # the mean is 0.4
    told = of_a_hundred(4, clean_probabilities=clean)
    assert told.looks_clean is False
    assert int(told.suspected.sum()) == 10


def test_labels_without_a_verdict_do_not_make_a_set_look_clean():
    """Four of eighty that were judged are 5 %."""
    clean = of_a_hundred(4).clean_probabilities.clone()
    clean[:, 50:70] = torch.nan
    assert of_a_hundred(4, clean_probabilities=clean).looks_clean is False
    assert of_a_hundred(3, clean_probabilities=clean).looks_clean is True


def test_trusted_labels_do_not_make_a_set_look_noisy():
    told = of_a_hundred(6, trusted=torch.arange(100) < 2)
    assert told.looks_clean
    assert told.suspected.nonzero().flatten().tolist() == [2, 3, 4, 5]


def test_the_file_says_of_a_clean_set_what_suspected_does(tmp_path):
    of_a_hundred(4).write(tmp_path / "labels.csv")
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert [row["suspected"] for row in rows] == ["true"] * 4 + ["false"] * 96


def test_a_label_that_nobody_judged_is_blank(tmp_path):
    """Of held-out images the oracle knows only some."""
    report(clean_probabilities=torch.tensor([[1.0, torch.nan, 0.0]] * 2)).write(tmp_path / "labels_test.csv")
    rows = list(csv.DictReader((tmp_path / "labels_test.csv").read_text().splitlines()))
    assert [row["suspected"] for row in rows] == ["false", "", "true"]
    assert [row["clean_probability"] for row in rows] == ["1.000000", "", "0.000000"]
