"""Shows a status: as one bar in a terminal, as one output in a notebook, as a line now and then anywhere else."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cpc_lightning.errors import one_line
from cpc_lightning.training.status import Status, compose, line

OFTEN, RARELY = 30.0, 300.0
"""Seconds between two lines: at least so many at the ends of epochs, and at most so many within one."""

_drawing = threading.RLock()
"""Held by whoever draws. A process that is forked meanwhile would wait forever for the locks of the half-drawn bar."""

if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_drawing.acquire, after_in_parent=_drawing.release, after_in_child=_drawing.release)


class Display(Protocol):
    """Where a status is shown.

    Attributes:
        seconds: from one look at it to the next.
    """

    seconds: float

    def show(self, status: Status) -> None:
        """Show it in the place of the last one."""

    def keep(self, status: Status) -> None:
        """Show it, and leave it there: an epoch is over."""

    def close(self) -> None:
        """Take the last one away."""


class TerminalBar:
    """One line at the bottom of a terminal, over which everything else is printed."""

    seconds = 0.25

    def __init__(self, console: Console, leave: bool) -> None:
        """Take where to draw: standard error, as results may go to a file. Take whether to keep lines."""
        self._console, self._leave, self._text = console, leave, Text()
        self._blocks = "━─" if console.encoding.lower().startswith("utf") else "#-"
        self._live = Live(
            get_renderable=lambda: self._text, console=console, transient=True, auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),
        )  # fmt: skip
        self._live.start()

    def show(self, status: Status) -> None:
        """Draw the line, as wide as the terminal is now."""
        text = Text.assemble(*compose(status, self._console.width - 1, self._blocks), no_wrap=True, overflow="crop")
        if text != self._text or text.spans != self._text.spans:  # nothing is drawn twice, so nothing flickers
            self._text = text
            self._live.refresh()

    def keep(self, status: Status) -> None:
        """Leave a line above the bar, where that is wanted."""
        if self._leave:
            self._console.print(Text(line(status)), soft_wrap=True)

    def close(self) -> None:
        """Erase the line, and give the streams back."""
        self._live.stop()


class NotebookLine:
    """One output of a cell, which changes; it needs no widgets."""

    seconds = 1.0

    def __init__(self, leave: bool) -> None:
        """Make the output; take whether to keep lines."""
        display = importlib.import_module("IPython.display").display  # there, where it is wanted
        self._leave = leave
        self._handle: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, status: Status) -> None:
        """Change the output."""
        self._handle.update({"text/plain": "".join(text for text, _ in compose(status, 100))}, raw=True)

    def keep(self, status: Status) -> None:
        """Leave a line, where that is wanted."""
        if self._leave:
            print(line(status))

    def close(self) -> None:
        """Empty the output."""
        self._handle.update({"text/plain": ""}, raw=True)


class Lines:
    """A line now and then, for a file, a pipe or the log of a CI server."""

    seconds = 1.0

    def __init__(self, print_line: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Take how to print a line, and what tells the time."""
        self._print, self._clock, self._last, self._first = print_line, clock, clock(), True

    def show(self, status: Status) -> None:
        """Print it where there was no line for long: at first after half a minute, so that one knows what to expect."""
        self._say(status, OFTEN if self._first else RARELY)

    def keep(self, status: Status) -> None:
        """Print it unless there has just been a line."""
        self._say(status, OFTEN)

    def _say(self, status: Status, after: float) -> None:
        now = self._clock()
        if now - self._last >= after:
            self._print(line(status))
            self._last, self._first = now, False

    def close(self) -> None:
        """Nothing is to be taken away."""


def find_display(leave: bool) -> Display:
    """The display that fits where standard error goes; `leave`: whether a bar leaves a line of every epoch."""
    console = Console(stderr=True, highlight=False)
    if console.is_jupyter:
        return NotebookLine(leave)
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if terminal and console.is_terminal and not console.is_dumb_terminal:
        return TerminalBar(console, leave)
    return Lines(lambda text: print(one_line(text), file=sys.stderr, flush=True))


class Artist:
    """Draws a status again and again in a thread of its own, so that a long computation does not look like a halt."""

    def __init__(self, display: Display, status: Callable[[], Status]) -> None:
        """Take where to draw, and what tells the status; begin."""
        self._display, self._status = display, status
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="progress", daemon=True)
        self._thread.start()

    def _draw(self) -> None:
        while not self._over.wait(self._display.seconds):
            self._try(lambda: self._display.show(self._status()))

    def keep(self, status: Status) -> None:
        """Leave the status, of an epoch that is over."""
        self._try(lambda: self._display.keep(status))

    def _try(self, draw: Callable[[], None]) -> None:
        """Draw, but nothing more once nobody reads it: the terminal or the pipe is gone, and the run goes on."""
        with _drawing:
            if self._over.is_set():
                return
            try:
                draw()
            except (OSError, ValueError):  # ValueError: a closed file
                self._over.set()

    def close(self) -> None:
        """Stop, and take away what is drawn. Once."""
        self._over.set()
        self._thread.join(2.0)
        with _drawing, suppress(OSError, ValueError):
            self._display.close()
