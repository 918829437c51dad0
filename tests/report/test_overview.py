"""What the page says at its top, in sentences and numbers, of verdicts whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from tests.pages import a_run, verdicts_on

from cpc_lightning.report import overview

NAMES = ("cat", "dog", "bird")


@pytest.fixture
def verdicts():
    """100 labels, 25 of them suspected, each of those contradicted."""
    return verdicts_on(100, NAMES)


def said(lines):
    return " ".join(lines)


def test_headline(verdicts):
    assert overview.headline(verdicts) == "25 of 100 labels look wrong (25 %)."
    assert overview.headline(verdicts, looks_clean=True) == "The labels look clean: 25 of 100 are suspected."
    one = replace(verdicts, suspected=np.arange(100) == 0)
    assert overview.headline(one) == "1 of 100 labels looks wrong (1 %)."
    none = replace(verdicts, suspected=np.zeros(100, bool))
    assert overview.headline(none) == "None of 100 labels looks wrong."


def test_without_a_cleaner_nothing_is_called_suspected(verdicts):
    nobody = np.full(100, np.nan)
    unjudged = replace(verdicts, clean_probability=nobody, suspected=np.zeros(100, bool))
    assert overview.headline(unjudged) == "The networks contradict 25 of 100 labels."
    assert "No cleaner has judged the labels" in said(overview.caveats(unjudged, None))
    numbers = overview.numbers(a_run(), unjudged, {}, NAMES)
    assert [number.value for number in numbers[:2]] == ["-", "-"]


def test_unknown_truth_is_said(verdicts):
    estimated, counted = overview.first_ones(verdicts, np.arange(100))
    assert counted is None
    assert "No true label is known here" in said(overview.caveats(verdicts, estimated))
    some = replace(verdicts, true_label=np.where(np.arange(100) < 7, 0, -1))
    assert "The true label of only 7 images is known" in said(overview.caveats(some, estimated))


def test_known_truth_is_counted(verdicts):
    true = np.where(np.arange(100) < 30, (verdicts.noisy_label + 1) % 3, verdicts.noisy_label)  # the first 30 are wrong
    known = replace(verdicts, true_label=true)
    estimated, counted = overview.first_ones(known, np.arange(100))
    assert "25 of the 25 suspected labels are wrong (100 %), and 5 wrong ones" in said(
        overview.caveats(known, estimated)
    )
    assert overview.first_sentence(estimated, counted) == "Of the first 100, 30 are wrong (counted)."
    assert "30 % by the true labels" in overview.numbers(a_run(), known, {}, NAMES)[1].about


def test_the_first_hundred_with_an_interval(verdicts):
    halves = replace(verdicts, clean_probability=np.full(100, 0.5))
    estimated, counted = overview.first_ones(halves, np.arange(100))
    # mean 50, standard deviation 5: 50 ± 9.8
    assert overview.first_sentence(estimated, counted) == "Of the first 100, about 50 are wrong (40 to 60)."


def test_a_set_that_looks_clean_is_said_to(verdicts):
    clean = replace(verdicts, clean_probability=np.full(100, 0.99))
    assert "The set looks clean." in said(overview.caveats(clean, None))
    assert "The set looks clean." in said(overview.caveats(verdicts, None, looks_clean=True))
    assert "looks clean" not in said(overview.caveats(verdicts, None))


def test_most_confused_pair_and_accuracy(verdicts):
    moved = replace(
        verdicts, noisy_label=np.zeros(100, int), suggested_label=np.where(np.arange(100) < 20, 2, 1),
        suspected=np.arange(100) < 30,
    )  # fmt: skip
    run = a_run(metrics={"test/accuracy": np.array([50.0, 91.25, 90.0, np.nan])})
    numbers = overview.numbers(run, moved, {"test": verdicts}, NAMES)
    assert (numbers[2].value, numbers[2].about) == ("cat → bird", "20 labels: given → suggested")
    assert (numbers[3].value, numbers[3].about) == ("90.0 %", "on 100 held-out images, last epoch; best 91.2 %")
