"""Durations as people say them."""

import pytest

from cpc_lightning.report.duration import spoken


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, "0 s"), (0.4, "0 s"), (41.2, "41 s"), (59.6, "1 min"), (60, "1 min"), (200, "3 min 20 s"),
        (599, "9 min 59 s"), (600, "10 min"), (3569, "59 min"), (3585, "1 h"), (3600, "1 h"), (18720, "5 h 12 min"),
        (35_940, "9 h 59 min"), (36_000, "10 h"), (255_600, "71 h"),
    ],
)  # fmt: skip
def test_two_units_at_most(seconds, expected):
    assert spoken(seconds) == expected
