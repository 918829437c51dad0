"""A run in a few numbers."""

import pytest

from cpc_lightning.report.summary import summarise_accuracy


def test_summarise_accuracy():
    history = [0.99, 0.1, *([0.5] * 8), 0.7]  # the last ten: .1 + 8 * .5 + .7 = 4.8
    assert summarise_accuracy(history) == {"best": 0.99, "last": 0.7, "last10": pytest.approx(0.48)}
    assert summarise_accuracy([0.25, 0.75]) == {"best": 0.75, "last": 0.75, "last10": 0.5}
