"""Where a status is shown: a terminal, a notebook, a log."""

import io
import os
import sys
import threading
import time

import pytest
from rich.console import Console

from cpc_lightning.training.displays import Artist, Lines, NotebookLine, TerminalBar, _drawing, find_display
from cpc_lightning.training.pace import Left
from cpc_lightning.training.status import Status


def status(epoch, minutes=10):
    return Status("", f"epoch {epoch}/9", "network 1", 0.5, Left(60, at_least=False), Left(60 * minutes, False))


# A log ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def log():
    """A log with a clock that stands until a test moves it: the lines, the clock, the display."""
    lines, now = [], [1000.0]
    return lines, now, Lines(lines.append, lambda: now[0])


def test_a_log_has_a_first_line_after_half_a_minute_and_then_one_in_five(log):
    lines, now, display = log
    for second in range(1, 700):
        now[0] = 1000.0 + second
        display.show(status(second))
    assert [line.split(",")[0] for line in lines] == ["epoch 30/9", "epoch 330/9", "epoch 630/9"]


def test_a_log_has_a_line_of_an_epoch_but_no_two_within_half_a_minute(log):
    lines, now, display = log
    for epoch in range(1, 11):  # of 12 seconds
        now[0] = 1000.0 + 12 * epoch
        display.keep(status(epoch))
    assert [line.split(",")[0] for line in lines] == ["epoch 3/9", "epoch 6/9", "epoch 9/9"]


def test_a_log_is_what_a_pipe_gets(monkeypatch, capsys):
    monkeypatch.setattr("cpc_lightning.training.displays.OFTEN", -1.0)
    display = find_display(leave=False)
    assert isinstance(display, Lines)
    display.keep(status(2))
    assert capsys.readouterr() == (
        "", "epoch 2/9, network 1, 50 % of the epoch, the run: 10 min left\n",
    )  # fmt: skip


# A terminal -----------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def terminal(width, encoding="utf-8"):
    stream = Terminal()
    stream.encoding = encoding
    return stream, Console(file=stream, force_terminal=True, width=width, color_system=None, legacy_windows=False)


def test_a_bar_is_erased_and_nothing_is_drawn_twice():
    stream, console = terminal(80)
    display = TerminalBar(console, leave=False)
    display.show(status(2))
    drawn = len(stream.getvalue())
    display.show(status(2))
    assert len(stream.getvalue()) == drawn
    display.keep(status(2))
    display.close()
    shown = stream.getvalue()
    assert "epoch 2/9  ━━━━━─────  50 %  1 min; run: 10 min left  network 1" in shown
    assert "of the epoch" not in shown  # no line is left
    assert shown.endswith("\x1b[2K")  # erases the line
    assert "\x1b[?25h" in shown  # the cursor is there again


def test_a_bar_leaves_a_line_of_every_epoch_where_that_is_wanted():
    stream, console = terminal(40)
    display = TerminalBar(console, leave=True)
    display.keep(status(3))
    display.close()
    assert "epoch 3/9, network 1, 50 % of the epoch, the run: 10 min left\n" in stream.getvalue()


def test_a_terminal_without_lines_in_its_alphabet():
    stream, console = terminal(80, "ascii")
    display = TerminalBar(console, leave=False)
    display.show(status(2))
    display.close()
    assert "#####-----" in stream.getvalue()


def test_what_is_printed_meanwhile_stands_above_the_bar(monkeypatch):
    stream, console = terminal(80)
    monkeypatch.setattr(sys, "stderr", stream)
    display = TerminalBar(console, leave=False)
    display.show(status(2))
    print("a warning", file=sys.stderr)
    display.close()
    assert sys.stderr is stream
    assert "a warning\n" in stream.getvalue()


# The thread that draws ------------------------------------------------------------------------------------------------


class Recorder:
    seconds = 0.01

    def __init__(self, error=None):
        self.error, self.shown, self.closed = error, [], 0

    def show(self, status):
        self.shown.append(status)
        if self.error is not None:
            raise self.error

    keep = show

    def close(self):
        self.closed += 1


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_it_draws_while_the_run_computes_and_stops_when_it_is_closed():
    display = Recorder()
    artist = Artist(display, lambda: "now")
    wait_until(lambda: len(display.shown) > 3)
    artist.close()
    drawn = len(display.shown)
    time.sleep(0.05)
    assert (len(display.shown), display.closed) == (drawn, 1)


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_a_reader_that_goes_away_costs_nothing(error):
    display = Recorder(error)
    artist = Artist(display, lambda: "now")
    wait_until(lambda: display.shown)
    artist.keep("an epoch")
    artist.close()
    assert len(display.shown) == 1
    assert display.closed == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_nobody_draws_while_a_process_is_forked():
    """A child gets a copy of every lock: of one that a thread of its parent holds, it would wait for forever."""
    inside, children = threading.Event(), []

    def draw():
        with _drawing:
            inside.set()
            time.sleep(0.2)
            children.append("drawn")

    thread = threading.Thread(target=draw)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if children == ["drawn"] and _drawing.acquire(timeout=5) else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# A notebook -----------------------------------------------------------------------------------------------------------


def test_a_notebook_has_one_output_that_changes(monkeypatch):
    changes = []

    class Handle:
        def update(self, data, raw):
            changes.append((data, raw))

    def display(data, raw, display_id):
        changes.append((data, raw))
        return Handle()

    module = type(sys)("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", type(sys)("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    line = NotebookLine(leave=False)
    line.show(status(2))
    line.close()
    assert changes == [
        ({"text/plain": ""}, True),
        ({"text/plain": "epoch 2/9  ━━━━━─────  50 %  1 min; run: 10 min left  network 1"}, True),
        ({"text/plain": ""}, True),
    ]
