"""What a run prints when it ends."""

import io
from urllib.parse import unquote, urlsplit

import pytest
import torch
from rich.console import Console

from cpc_lightning.report.ending import print_findings, shortened
from cpc_lightning.report.labels import LabelReport

NAMES = ("cat", "[red]dog", "b\x1b[31mird")


def verdict(clean, given, suggested, confidence, **more):
    labels = torch.tensor(given)
    both = None if clean is None else torch.tensor([clean, clean])
    more = {"class_names": NAMES, **more}
    return LabelReport(
        labels, torch.full_like(labels, -1), both, 0.5, torch.tensor(suggested), torch.tensor(confidence), **more
    )


def printed(report, page=None, width=80):
    stream = io.StringIO()
    print_findings(report, page, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_most_suspicious_first_and_no_trusted_or_unsuspected_or_unlabeled_one():
    """By hand: 0.1 before 0.2; of the two of 0.2 the more confident; 0.9 is no suspect."""
    report = verdict(
        [0.2, 0.9, 0.1, 0.2, 0.0, float("nan")], [0, 0, 1, 0, 0, -1], [1, 1, 0, 1, 1, 1],
        [0.6, 0.9, 0.75, 0.8, 1.0, 1.0], trusted=torch.tensor([False] * 4 + [True, False]),
    )  # fmt: skip
    assert [line.rstrip() for line in printed(report).splitlines()] == [
        "Most suspicious labels",
        "image  label -> suggestion  confidence",
        "2      [red]dog -> cat            75 %",
        "3      cat -> [red]dog            80 %",
        "0      cat -> [red]dog            60 %",
    ]


def test_ten_at_most():
    report = verdict([0.1] * 20, [0] * 20, [1] * 20, [0.9] * 20)
    assert len(printed(report).splitlines()) == 12


def test_a_label_that_the_networks_would_not_change_says_so():
    assert "cat -> (no other)" in printed(verdict([0.1] * 4, [0] * 4, [1, 1, 1, 0], [0.9] * 4))


def test_the_ten_are_suspected_ones_also_in_a_set_that_looks_clean():
    """Nine of ten labels below the threshold are what both networks predict: only the last one is a suspect."""
    report = verdict([0.1] * 99 + [0.2], [0] * 100, [0] * 99 + [1], [0.9] * 100)
    assert report.looks_clean
    assert [line.split()[0] for line in printed(report).splitlines()] == ["Most", "image", "99"]


@pytest.mark.parametrize("report", [verdict(None, [0], [1], [0.9]), verdict([0.9], [0], [1], [0.9])])
def test_nothing_where_nobody_judges_and_where_all_look_right(report):
    assert printed(report) == ""


def test_names_that_a_terminal_would_obey_are_escaped():
    paths = ["a\x1b]8;;http://evil\x07.png", "new\nline.png"]
    shown = printed(verdict([0.1, 0.2], [2, 0], [0, 2], [0.9, 0.9], paths=paths))
    assert "\x1b" not in shown
    assert r"a\x1b]8;;http://evil\x07.png" in shown
    assert r"new\nline.png" in shown
    assert r"b\x1b[31mird -> cat" in shown


def test_of_a_long_path_the_end_is_shown():
    assert shortened("x" * 40) == "x" * 40
    assert shortened("folder/" * 9 + "image.png", from_end=True) == "..." + "folder/" * 4 + "image.png"
    assert shortened("a" * 41) == "a" * 37 + "..."


def test_forty_columns_hold_it():
    paths = ["photos/of/animals/in/many/folders/cat_0001.png"]
    report = verdict([0.1], [0], [1], [0.9], paths=paths)
    lines = printed(report, width=40).splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert "90 %" in "".join(lines)


def test_the_page_comes_first_as_a_link_in_one_piece(tmp_path):
    page = tmp_path / "a b%c\u00fc#?" / "index.html"
    lines = printed(verdict([0.1], [0], [1], [0.9]), page, width=20).splitlines()
    assert lines[0].startswith("See which labels are wrong: file:///")
    link = lines[0].split(": ", 1)[1]
    assert link.endswith("/a%20b%25c%C3%BC%23%3F/index.html")
    assert unquote(urlsplit(link).path) == str(page)
