"""The table of findings: its exit code, and names that try to be more than names."""

import io

import pytest
from rich.console import Console

from cpc_lightning.checkup.findings import Finding, exit_code, print_findings, verdict

OK, WARNING, ERROR = (Finding("topic", status, "found") for status in ("ok", "warning", "error"))


@pytest.mark.parametrize(
    ("findings", "code", "says"),
    [
        ([], 0, "nothing stands out: this run can start"),
        ([OK], 0, "nothing stands out: this run can start"),
        ([OK, WARNING], 0, "1 warning: this run can start"),
        ([ERROR, WARNING, WARNING], 2, "1 error and 2 warnings: this run would fail"),
    ],
)
def test_only_errors_fail(findings, code, says):
    assert exit_code(findings) == code
    assert verdict(findings) == says


def printed(*findings: Finding) -> str:
    text = io.StringIO()
    print_findings(findings, Console(file=text, width=80))
    return text.getvalue()


def test_rows_of_80_columns_with_the_advice_below():
    lines = printed(OK, Finding("disk", "error", "word " * 40, "another disk")).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["ok", "topic", "found"]
    assert lines[2].startswith("error disk")
    assert any(line.strip() == "> another disk" for line in lines)


def test_hostile_names_are_text():
    hostile = "a\nok forged [red]b[/red] \x1b[31m\udcff.jpg"
    text = printed(Finding("images", "error", hostile, hostile))
    assert "\x1b" not in text
    assert "[red]b[/red]" in text
    assert r"a\nok forged" in text
    assert r"\udcff" in text
