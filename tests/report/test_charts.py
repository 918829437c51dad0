"""Geometry of charts, worked out by hand: an axis from 60 to 426 across, and from 206 up to 12."""

import numpy as np
import pytest

from cpc_lightning.report.charts import bar_chart, line_chart, number, percent, round_values


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (1, 14, [5, 10]),
        (0.9, 1.0, [0.9, 0.92, 0.94, 0.96, 0.98, 1.0]),
        (3, 3, [3]),
    ],
)
def test_round_values(low, high, expected):
    assert round_values(low, high) == pytest.approx(expected)


def test_whole_numbers_have_no_halves():
    assert round_values(0, 2, whole=True) == [0, 1, 2]


def test_numbers_are_short():
    assert [number(v) for v in (12000.0, 0.25, 3.0, 0.123456, 1234.5)] == ["12,000", "0.25", "3", "0.1235", "1,234"]
    assert [percent(v) for v in (0.5, 0.123456, 1.0, 0.0)] == ["50 %", "12.3 %", "100 %", "0 %"]


def chart(**changes):
    series = {"a": (np.array([0, 5, 10]), np.array([0.0, 0.5, 1.0])), "b": (np.array([0, 10]), np.array([np.nan, 0.5]))}
    return line_chart("t", "about", series, "epoch", "share", y_range=(0, 1), shares=True, **changes)


def test_lines_go_where_the_axes_say():
    first, second = chart().lines
    assert first.path == "M60,206L243,109L426,12"
    assert [text for _, _, text in first.points] == ["a, epoch 0: 0 %", "a, epoch 5: 50 %", "a, epoch 10: 100 %"]
    assert second.path == "M426,109"  # what is not finite is left out
    assert (first.style, second.style) == (0, 1)
    assert [(tick.at, tick.text) for tick in chart().x_ticks] == [
        (60, "0"), (133.2, "2"), (206.4, "4"), (279.6, "6"), (352.8, "8"), (426, "10")
    ]  # fmt: skip


def test_band_and_marks():
    band = np.array([0, 10]), np.array([0.0, 0.5]), np.array([0.5, 1.0])
    drawn = chart(band=band, band_name="95 %", marks={"now": 5})
    assert drawn.band == "M60,109L426,12L426,109L60,206Z"
    assert [(mark.at, mark.text) for mark in drawn.marks] == [(243, "now")]


def test_the_table_says_the_same():
    assert chart().header == ["epoch", "a", "b"]
    assert chart().rows == [["0", "0 %", "-"], ["5", "50 %", "-"], ["10", "100 %", "50 %"]]


def test_a_long_table_is_thinned_and_keeps_its_end():
    x = np.arange(1, 1001)
    rows = line_chart("t", "", {"a": (x, x / 1000)}, "n", "").rows
    assert len(rows) == 12
    assert [rows[0][0], rows[-1][0]] == ["1", "1,000"]


def test_nothing_to_draw():
    assert line_chart("t", "", {"a": (np.array([1]), np.array([np.nan]))}, "x", "y") is None
    assert bar_chart("t", "", 0, 1, {"a": np.zeros(3)}, "x", "y") is None


def test_bars_are_stacked():
    drawn = bar_chart("t", "", 0, 1, {"a": np.array([2, 0]), "b": np.array([2, 1])}, "p", "labels")
    # 183 pixels a bin, one of them between bins; 4 labels are 194 pixels high
    assert [(bar.x, bar.y, bar.width, bar.height, bar.style) for bar in drawn.bars] == [
        (60.5, 109, 182, 97, 0), (60.5, 12, 182, 97, 1), (243.5, 157.5, 182, 48.5, 1)
    ]  # fmt: skip
    assert drawn.bars[2].text == "b, 0.5 to 1: 1"
    assert drawn.rows == [["0 to 0.5", "2", "2"], ["0.5 to 1", "0", "1"]]


def test_curves_share_the_axis_of_the_bars():
    drawn = bar_chart("t", "", 0, 1, {"a": np.array([2, 1])}, "p", "", curves={"fit": np.array([0.0, 4.0])})
    assert drawn.lines[0].path == "M60,206L426,12"
    assert drawn.bars[0].y == 109  # half of 4
    assert drawn.lines[0].style == 1
