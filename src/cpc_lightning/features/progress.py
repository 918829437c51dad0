"""Shows the progress of computing features: a bar in a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """Shows how many images of a set the network has seen, on standard error.

    Args:
        part: the set's name.
        total: its images.
        quiet: show nothing.
    """

    def __init__(self, part: str, total: int, quiet: bool = False) -> None:
        self.part, self.total, self.quiet = part, total, quiet
        console = Console(file=sys.stderr)
        columns = TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn()
        on_terminal = console.is_terminal and not quiet
        self._bar = Bar(*columns, TimeRemainingColumn(), console=console, transient=True) if on_terminal else None
        self._begin: tuple[float, int] | None = None  # when, and how many there were then
        self._said = float("-inf")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task(f"Features of {self.part}", total=self.total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int) -> None:
        """Say that so many are there."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
        elif not self.quiet and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            self._begin = self._begin or (self._said, done)
            begin, before = self._begin
            left = ""
            if done > before:
                seconds = (self._said - begin) / (done - before) * (self.total - done)
                left = f", {spoken(seconds)} left"
            print(f"features of {self.part}: {done:,} of {self.total:,} images{left}", file=sys.stderr)


def spoken(seconds: float) -> str:
    """A duration for people: "40 s", "6 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
