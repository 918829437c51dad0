"""The study of methods: its tables by hand, and made anew from the committed rows."""

import importlib
import sys
from pathlib import Path

import pytest

from cpc_lightning.app.overrides import composed_of
from cpc_lightning.app.parts import Parts

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def made():
    """benchmarks/methods_tables.py as a module, its neighbours found as when it is run."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("methods_tables")
    sys.path.remove(str(BENCHMARKS))


def row(choice, seed, accuracy, best, seconds="10", megabytes="500", **more):
    place = {
        "set": "digits",
        "noise": "symmetric 80 %",
        "choice": choice,
        "seed": str(seed),
        "commit": "c",
        "host": "h",
    }
    measures = {"cleaner_auc_gmm": "", "cleaner_auc_cpc": "", "cleaner_auc_verdict": ""}
    numbers = {"test_accuracy_last": str(accuracy), "test_accuracy_best": str(best)}
    return {**place, **measures, **numbers, "seconds": seconds, "megabytes": megabytes, **more}


ROWS = [
    *(row("elr", seed, accuracy, accuracy + 1, "5", cleaner_auc_verdict="0.9", cleaner_auc_gmm="0.8")
      for seed, accuracy in ((1, 61), (2, 62), (3, 63))),
    *(row("cpc_awr", seed, accuracy, 66) for seed, accuracy in ((3, 65), (1, 65), (2, 65))),
    row("gjs", 2, 70, 71, "20", "750"),
]  # fmt: skip


def test_accuracy_last_and_best(made):
    assert [*made.accuracy_table(made.Study(ROWS))][2:] == [
        "| elr | 62.00 ± 1.00 (63.00), n = 3 |", "| cpc_awr | 65.00 ± 0.00 (66.00), n = 3 |",
        "| gjs | **70.00** (71.00), n = 1 |",
    ]  # fmt: skip


def test_differences_to_the_reference_are_paired(made):
    """-4, -3, -2: mean -3, half of the interval 4.302653 / sqrt(3) = 2.484."""
    assert [*made.difference_table(made.Study(ROWS))][2:] == [
        "| elr | -3.00 (-5.48 to -0.52): below |", "| gjs | +5.00, one seed |",
    ]  # fmt: skip


def test_time_and_memory_are_ratios_on_shared_seeds(made):
    assert [*made.cost_table(made.Study(ROWS))][2:] == [
        "| elr | 0.50, 1.00 |", "| cpc_awr | 1.00, 1.00 |", "| gjs | 2.00, 1.50 |",
    ]  # fmt: skip


def test_the_last_word_on_labels(made):
    """A verdict of its own before a mixture beside it."""
    assert [*made.auc_table(made.Study(ROWS))][2] == "| elr | 0.900 ± 0.000 |"


@pytest.mark.long
def test_every_run_can_be_started(made):
    """What the study types is what its methods read; one that no cleaner divides the data for has no warm-up."""
    methods = importlib.import_module("methods")
    undivided = set()
    for name, chosen in methods.METHODS.items():
        warms_up = name not in methods.UNDIVIDED
        run = methods.Run("digits", "symmetric 80 %", name, 1, (*chosen, *methods.rate_of(name, "symmetric 80 %")),
                          warms_up=warms_up)  # fmt: skip
        composed = composed_of(run.settings())
        method = Parts(composed.settings("runs"), run.settings(), composed.usual).method
        undivided |= set() if method.takes_cleaner else {name}
    assert undivided == set(methods.UNDIVIDED)


def test_the_committed_tables_are_those_of_the_committed_rows(made):
    from measure import read_rows

    rows = read_rows(BENCHMARKS / "results" / "methods_runs.csv")
    assert rows
    assert made.tables(rows) == (BENCHMARKS / "results" / "methods.md").read_text()


def test_the_documentation_quotes_the_committed_rows(made):
    from cleaners_tables import fmean
    from measure import read_rows

    study, cell = made.Study(read_rows(BENCHMARKS / "results" / "methods_runs.csv")), ("digits", "symmetric 80 %")
    page = (BENCHMARKS.parent / "docs" / "methods.md").read_text().split("<!-- measured -->")[1]
    lines = page.split("<!-- end of measured -->")[0].strip().splitlines()[2:]
    plain = study.values(cell, "cross-entropy", "seconds")
    assert len(lines) == len([choice for choice in study.choices if study.values(cell, choice)])
    for line in lines:
        choice, accuracy, _, times, seeds = (part.strip() for part in line.strip("|").split("|"))
        found, seconds = study.values(cell, choice), study.values(cell, choice, "seconds")
        ratios = [seconds[seed] / plain[seed] for seed in seconds if seed in plain]
        shown = [made.mean_and_deviation([*found.values()]), f"{fmean(ratios):.2f}", str(len(found))]
        assert [accuracy, times, seeds] == shown
