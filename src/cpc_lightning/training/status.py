"""The text of the progress bar, as one line that fits the width of the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpc_lightning.report.duration import spoken
from cpc_lightning.training.pace import Left

NARROW, WIDE, SHORT, LONG = 59, 119, 10, 20
"""Columns of a terminal: below the first there is no bar, from the second on it is long; and how long it is then."""


@dataclass(frozen=True)
class Status:
    """Where a run is.

    Attributes:
        job: which job of a sweep it is, "job 2 of 12"; "" for a single run.
        where: "epoch 3/300", or what comes after the last one.
        doing: "network 1", "evaluation", "stage 1", ...; "" for nothing in particular.
        share: of the epoch, or of the pass after the last one, in [0, 1]; None where it cannot be told.
        epoch_left: until the epoch ends; None where nobody knows yet.
        run_left: until the run ends; None where nobody knows yet.
        measured: what was measured last, "test 87.31 %".
    """

    job: str
    where: str
    doing: str = ""
    share: float | None = None
    epoch_left: Left | None = None
    run_left: Left | None = None
    measured: str = ""


def left(time: Left | None, short: bool = False) -> str:
    """A time left in words: "at least 5 h 12 min"; "?" where nobody knows yet."""
    if time is None:
        return "?"
    return f"{('over ' if short else 'at least ') if time.at_least else ''}{spoken(time.seconds)}"


def compose(status: Status, width: int, blocks: Sequence[str] = "━─") -> list[tuple[str, str]]:
    """The line as pieces of text with their style, at most `width` columns wide: what matters least is left out first.

    What changes most comes last and the bar is as long as the width says, so that nothing jumps to and fro.

    Args:
        status: what it says.
        width: columns.
        blocks: what a bar is drawn with: its done part, and the rest.
    """
    columns = 0 if status.share is None or width < NARROW else LONG if width >= WIDE else SHORT
    done = int(columns * (status.share or 0.0))
    bar = [(blocks[0] * done, "cyan"), (blocks[1] * (columns - done), "dim")]
    percent = "" if status.share is None else f"{int(100 * status.share):2d} %"
    epoch = "" if status.epoch_left is None else left(status.epoch_left, short=True)
    run = "" if status.run_left is None else f"run: {left(status.run_left)} left"
    brief = "" if status.run_left is None else f"{left(status.run_left, short=True)} left"
    both = f"{epoch}; {run}" if epoch else f"{left(status.run_left)} left" if run else ""
    measured = status.measured if width >= WIDE else ""
    job, where = (status.job, ""), (status.where, "bold")
    offers = (
        [[job], [where], bar, [(percent, "")], [(both, "")], [(measured, "dim")], [(status.doing, "")]],
        [[job], [where], bar, [(percent, "")], [(both, "")], [(status.doing, "")]],
        [[job], [where], bar, [(percent, "")], [(both, "")]],
        [[where], bar, [(percent, "")], [(both, "")]],
        [[where], [(percent, "")], [(run, "")]],
        [[where], [(percent, "")], [(brief, "")]],
        [[where], [(brief, "")]],
        [[where], [(percent, "")]],
    )
    for offer in offers:
        groups = [group for group in offer if any(text for text, _ in group)]
        pieces = [piece for place, group in enumerate(groups) for piece in ([("  ", "")] if place else []) + group]
        if sum(len(text) for text, _ in pieces) <= width:
            return pieces
    return [(status.where[:width], "bold")]


def line(status: Status) -> str:
    """The line without a bar and without styles, for a log."""
    parts = (status.job, status.where, status.doing, status.measured)
    said = [part for part in parts if part]
    if status.share is not None:
        said.append(f"{int(100 * status.share)} %" + (" of the epoch" if status.epoch_left else ""))
    if status.run_left is not None:
        said.append(("the run: " if status.epoch_left else "") + f"{left(status.run_left)} left")
    return ", ".join(said)
