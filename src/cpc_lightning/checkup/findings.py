"""Findings of `mode=check`: one row each, their table, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cpc_lightning.errors import InputError, count_of, one_line

T = TypeVar("T")
Status = Literal["ok", "warning", "error"]

COLOURS = {"ok": "green", "warning": "yellow", "error": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what it is about, in a word or two.
        status: "ok"; "warning": the run starts, and may disappoint; "error": it cannot start, or not end well.
        found: what there is, in plain words, with the setting's name where one can change it.
        advice: what to do; empty where there is nothing to do.
    """

    topic: str
    status: Status
    found: str
    advice: str = ""


@dataclass
class Findings:
    """Rows of the table, in the order in which they are found."""

    rows: list[Finding] = field(default_factory=list)

    def add(self, topic: str, status: Status, found: str, advice: str = "") -> None:
        """Add one, unless it is there: what fails, fails again for what depends on it."""
        if not any((row.status, row.found) == (status, found) for row in self.rows):
            self.rows.append(Finding(topic, status, found, advice))

    @property
    def errors(self) -> list[Finding]:
        """Those that are errors."""
        return [row for row in self.rows if row.status == "error"]

    def attempt(self, topic: str, make: Callable[[], T]) -> T | None:
        """What `make` returns; None, and a row, where it cannot."""
        try:
            return make()
        except InputError as error:
            self.add(topic, "error", str(error))
        except OSError as error:
            self.add(topic, "error", f"{error.filename or 'a file'}: {error.strerror or error}")
        return None


def exit_code(findings: Sequence[Finding]) -> int:
    """2 where a finding is an error, as for any mistake on the command line; else 0."""
    return 2 if any(finding.status == "error" for finding in findings) else 0


def print_findings(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print them as a table, in their order, and what they amount to.

    Args:
        findings: names of files in them may hold anything: control characters are escaped, markup is text.
        console: where to print; None: standard output.
    """
    console = console or Console()
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in findings:
        text = Text(one_line(finding.found))
        if finding.advice:
            text.append(f"\n> {one_line(finding.advice)}", style="bold")
        table.add_row(Text(finding.status, COLOURS[finding.status]), Text(one_line(finding.topic)), text)
    console.print(table)
    console.print(Text(verdict(findings), "bold"))


def verdict(findings: Sequence[Finding]) -> str:
    """The findings in one sentence."""
    errors, warnings = (sum(finding.status == status for finding in findings) for status in ("error", "warning"))
    there = [count_of(n, word) for n, word in ((errors, "error"), (warnings, "warning")) if n]
    return f"{' and '.join(there) or 'nothing stands out'}: this run {'would fail' if errors else 'can start'}"
