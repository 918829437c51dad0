"""What the page says, in sentences and numbers, of verdicts whose answer is known."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.pages import verdicts_on

from cpc_lightning.app.modes import items
from cpc_lightning.report import sections
from cpc_lightning.report.run_folder import RunFolder

NAMES = ("cat", "dog", "bird")


def a_run(**changes):
    given = {"path": Path("/runs/a b"), "settings": {}, "overrides": [], "class_names": NAMES, "metrics": {}}
    return RunFolder(**given | {"summary": None, "versions": {}, "checkpoint": None} | changes)


@pytest.fixture
def verdicts():
    """100 labels, 25 of them suspected, each of those contradicted."""
    return verdicts_on(100, NAMES)


def said(lines):
    return " ".join(lines)


def test_headline(verdicts):
    assert sections.headline(verdicts) == "25 of 100 labels look wrong (25 %)."
    assert sections.headline(verdicts, looks_clean=True) == "The labels look clean: 25 of 100 are suspected."
    one = replace(verdicts, suspected=np.arange(100) == 0)
    assert sections.headline(one) == "1 of 100 labels looks wrong (1 %)."
    none = replace(verdicts, suspected=np.zeros(100, bool))
    assert sections.headline(none) == "None of 100 labels looks wrong."


def test_without_a_cleaner_nothing_is_called_suspected(verdicts):
    nobody = np.full(100, np.nan)
    unjudged = replace(verdicts, clean_probability=nobody, suspected=np.zeros(100, bool))
    assert sections.headline(unjudged) == "The networks contradict 25 of 100 labels."
    assert "No cleaner has judged the labels" in said(sections.caveats(unjudged, None))
    numbers = sections.numbers(a_run(), unjudged, {}, NAMES)
    assert [number.value for number in numbers[:2]] == ["-", "-"]


def test_unknown_truth_is_said(verdicts):
    estimated, counted = sections.first_ones(verdicts, np.arange(100))
    assert counted is None
    assert "No true label is known here" in said(sections.caveats(verdicts, estimated))
    some = replace(verdicts, true_label=np.where(np.arange(100) < 7, 0, -1))
    assert "The true label of only 7 images is known" in said(sections.caveats(some, estimated))


def test_known_truth_is_counted(verdicts):
    true = np.where(np.arange(100) < 30, (verdicts.noisy_label + 1) % 3, verdicts.noisy_label)  # the first 30 are wrong
    known = replace(verdicts, true_label=true)
    estimated, counted = sections.first_ones(known, np.arange(100))
    assert "25 of the 25 suspected labels are wrong (100 %), and 5 wrong ones" in said(
        sections.caveats(known, estimated)
    )
    assert sections.first_sentence(estimated, counted) == "Of the first 100, 30 are wrong (counted)."
    assert "30 % by the true labels" in sections.numbers(a_run(), known, {}, NAMES)[1].about


def test_the_first_hundred_with_an_interval(verdicts):
    halves = replace(verdicts, clean_probability=np.full(100, 0.5))
    estimated, counted = sections.first_ones(halves, np.arange(100))
    # mean 50, standard deviation 5: 50 ± 9.8
    assert sections.first_sentence(estimated, counted) == "Of the first 100, about 50 are wrong (40 to 60)."


def test_a_set_that_looks_clean_is_said_to(verdicts):
    clean = replace(verdicts, clean_probability=np.full(100, 0.99))
    assert "The set looks clean." in said(sections.caveats(clean, None))
    assert "The set looks clean." in said(sections.caveats(verdicts, None, looks_clean=True))
    assert "looks clean" not in said(sections.caveats(verdicts, None))


def test_most_confused_pair_and_accuracy(verdicts):
    moved = replace(
        verdicts, noisy_label=np.zeros(100, int), suggested_label=np.where(np.arange(100) < 20, 2, 1),
        suspected=np.arange(100) < 30,
    )  # fmt: skip
    run = a_run(metrics={"test/accuracy": np.array([50.0, 91.25, 90.0, np.nan])})
    numbers = sections.numbers(run, moved, {"test": verdicts}, NAMES)
    assert (numbers[2].value, numbers[2].about) == ("cat → bird", "20 labels: given → suggested")
    assert (numbers[3].value, numbers[3].about) == ("90.0 %", "on 100 held-out images, last epoch; best 91.2 %")


def test_matrix_of_few_classes_is_a_table_and_of_many_a_picture():
    few = sections.matrix("t", "a", np.array([[0.75, 0.25], [0.002, 0.998]]))
    assert few.cells == [[(0.75, "75"), (0.25, "25")], [(0.002, "<1"), (0.998, "100")]]
    many = sections.matrix("t", "a", np.eye(30))
    assert many.cells == []
    assert many.picture.startswith("data:image/png;base64,")


def test_commands_are_quoted_for_a_shell():
    run = a_run(overrides=["dataset=imagefolder", "dataset.root=/a b/$HOME's"])
    repeat = """python -m cpc_lightning dataset=imagefolder 'dataset.root=/a b/$HOME'"'"'s'"""
    assert sections.command(run) == repeat
    assert "run='/runs/a b'" in shlex.split(sections.apply_command(run))


def test_the_apply_command_names_the_run_as_it_is_read(tmp_path, monkeypatch):
    """In any folder, and whatever its name is: commas and quotes have a meaning in a setting."""
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "a, b", "it's", "a\\b", "[x]", "\u00e9t\u00e9"):
        words = shlex.split(sections.apply_command(a_run(path=Path(name))))
        setting = next(word for word in words if word.startswith("run="))
        assert items(setting.removeprefix("run=")) == [str(tmp_path / name)]


def test_settings_have_full_names():
    rows = dict(sections.settings_rows({"seed": 1, "noise": {"rate": 0.5, "more": {"x": None}}, "logger": {}}))
    assert rows == {"seed": "1", "noise.rate": "0.5", "noise.more.x": "", "logger": "{}"}


def test_durations():
    assert ("Duration", "1 min 5 s") in sections.facts(a_run(summary={"seconds": 65.4}))
    assert ("Duration", "2 h 1 min") in sections.facts(a_run(summary={"seconds": 7290.0}))
