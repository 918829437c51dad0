"""The comparison of two revisions' cost: ratios by hand, and when one is called worse."""

import importlib
import math
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def regress():
    """benchmarks/regress.py as a module, its neighbours found as when it is run."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("regress")
    sys.path.remove(folder)


def test_ratios_are_joined_by_their_geometric_mean(regress):
    """Ratios 1, 2, 4: logarithms 0, l, 2l of mean l = log 2, deviation l; t(0.975, 2) = 4.302653, by the root of 3."""
    mean, low, high = regress.compared([1, 2, 3], [1, 4, 12])
    half = 4.302653 / math.sqrt(3) * math.log(2)
    assert mean == pytest.approx(2)
    assert (low, high) == (pytest.approx(2 * math.exp(-half), rel=1e-5), pytest.approx(2 * math.exp(half), rel=1e-5))


@pytest.mark.parametrize(
    ("old", "new", "worse"),
    [
        ([10, 10, 10], [11.2, 11.3, 11.1], True),
        ([10, 10, 10], [10.8, 10.9, 10.7], False),  # within the limit
        ([10, 10, 10], [9, 16, 10], False),  # a busy machine
        ([10, 10, 10], [5, 5, 5], False),
        ([10], [20], False),  # one pair tells nothing
    ],
)
def test_what_is_worse(regress, old, new, worse):
    assert regress.is_worse(regress.compared(old, new)) is worse
