"""The study of verdicts on features: its letters, its figures by hand, and its table, made anew from the rows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def load_benchmark():
    """A benchmark as a module, its neighbours found as when it is run."""
    sys.path.insert(0, str(BENCHMARKS))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def letters(load_benchmark):
    pytest.importorskip("fontTools")
    return load_benchmark("letters")


@pytest.fixture(scope="module")
def verdicts(load_benchmark):
    return load_benchmark("verdicts")


def fonts_of(letters, names):
    return [letters.Font(name.split()[0], name, Path(name)) for name in names]


def test_there_are_fifty_three_letters_and_none_looks_like_another(letters):
    assert "".join(letters.CYRILLIC) == "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ"
    assert "".join(letters.GREEK) == "αβγδεζηθιλμνξπρσυφχψω"


def test_no_typeface_is_in_both_parts_and_they_take_turns(letters):
    fonts = fonts_of(letters, ["A 1", "A 2", "A 3", "B 1", "C 1", "C 2", "D 1", "E 1", "F 1"])
    learnt, tested = letters.split_typefaces(fonts, 0)
    assert {font.typeface for font in learnt} | {font.typeface for font in tested} == set("ABCDEF")
    assert not {font.typeface for font in learnt} & {font.typeface for font in tested}
    assert len({font.typeface for font in tested}) == 2
    assert letters.split_typefaces(fonts, 0) == (learnt, tested)
    turns = letters.in_turns(fonts, 7, np.random.default_rng(0))
    assert {font.typeface for font in turns[:6]} == set("ABCDEF")
    assert turns[6].typeface in "AC"
    assert len(letters.in_turns(fonts, 99, np.random.default_rng(0))) == 9


@pytest.mark.long
def test_no_two_letters_have_the_same_mean(letters):
    fonts = letters.find_fonts()
    assert fonts, "apt-get install fonts-dejavu-core"
    rng = np.random.default_rng(0)
    images, labels = letters.render(letters.in_turns(fonts, 20, rng), rng)
    means = torch.from_numpy(np.stack([images[labels == label].mean(axis=0) for label in range(53)])).flatten(1).float()
    apart = torch.cdist(means, means) + 1e6 * torch.eye(53)
    assert float(apart.min()) > 100  # of 64 x 64 levels: a tenth of the pixels of a stroke, at least
    again, _ = letters.render(letters.in_turns(fonts, 20, r := np.random.default_rng(0)), r)
    assert np.array_equal(images, again)


def test_components_keep_cosines_and_are_of_one_scale(verdicts):
    generator = torch.Generator().manual_seed(0)
    inner = torch.randn(300, 1, 8, generator=generator) @ torch.randn(8, 40, generator=generator)
    reduced, tested = verdicts.reduce_features(inner, inner[:5], most=8)
    assert reduced.shape == (300, 1, 8)
    torch.testing.assert_close(tested, reduced[:5])
    whole = (inner - inner.mean(dim=0)) / inner.squeeze(1).std(dim=0)
    torch.testing.assert_close(reduced[:, 0] @ reduced[:, 0].T, whole[:, 0] @ whole[:, 0].T, atol=1e-2, rtol=1e-3)


def test_scores_by_hand(verdicts):
    cell = verdicts.Cell(torch.zeros(4, 1, 1), torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 0, 0]), None, None)
    # Wrong: the second and fourth, of scores 0.2 and 0.6; one of two right ones, 0.4, lies below the latter.
    found = verdicts.judge_scores(cell, torch.tensor([0.9, 0.2, 0.4, 0.6]))
    assert found == {"auc": 0.75, "precision": 0.5}
    assert verdicts.mean_and_half([0.5]) == "0.500"
    # mean 2, standard deviation 1, t(0.975, 2) = 4.3027, over the root of 3
    assert verdicts.mean_and_half([1, 2, 3]) == "2.000 ± 2.484"


def test_a_table_of_rows(verdicts):
    def row(method, seed, auc, **more):
        found = {"set": "digits", "noise": "symmetric 20 %", "seed": seed, "method": method, "auc": auc}
        return {**dict.fromkeys(verdicts.FIELDS, ""), **found, **more}

    rows = [row("regression", "1", "0.9"), row("cleanlab", "1", "0.92"), row("probe", "1", "0.95"),
            row("regression", "2", "0.92"), row("cleanlab", "2", "0.9"), row("probe", "2", "0.95")]  # fmt: skip
    lines = verdicts.table(rows).splitlines()
    # 0.95 - 0.92 for both seeds; t(0.975, 1) = 12.706 times 0.01414 / sqrt(2) for regression
    assert (
        "| digits | symmetric 20 % | 2 | auc | 0.910 ± 0.127 | 0.910 ± 0.127 | 0.950 ± 0.000 | 0.030 ± 0.000 | - |"
        in lines
    )


def test_the_published_table_is_what_the_rows_say(verdicts):
    rows = verdicts.read_rows(BENCHMARKS / "results" / "verdicts.csv")
    assert len(rows) > 40
    assert (BENCHMARKS / "results" / "verdicts.md").read_text() == verdicts.table(rows)
