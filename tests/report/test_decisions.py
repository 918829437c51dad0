"""Decisions on labels: files as people and Excel write them, the verdict by itself, and the labels that they give."""

import numpy as np
import pytest
from tests.report.judged import NAMES, verdicts

from cpc_lightning.errors import InputError
from cpc_lightning.report.decisions import apply, automatic, read_decisions

HEADER = "index,path,decision,label\n"


def read(tmp_path, content, names=NAMES, **changes):
    path = tmp_path / "decisions.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_decisions(str(path), verdicts(**changes), names)


def test_a_file_of_decisions_and_the_labels_after_them(tmp_path):
    """0 is kept, 1 relabeled, 2 dropped, 3 gets its first label; 4 stays as it is."""
    content = HEADER + "0,a/1.png,keep,\n1,b/1.png,relabel,dog\n2,a/2.png,drop,\n3,a/3.png,relabel,cat\n"
    decisions = read(tmp_path, content)
    assert decisions.kept.tolist() == [True, False, False, False, False]
    assert decisions.dropped.tolist() == [False, False, True, False, False]
    assert decisions.relabeled.tolist() == [-1, 1, -1, 0, -1]
    cleaned = apply(verdicts(), decisions)
    assert cleaned.labels.tolist() == [0, 1, 1, 0, 1]
    assert cleaned.trusted.tolist() == [True, True, False, True, False]
    assert cleaned.dropped.tolist() == [False, False, True, False, False]


def test_what_was_trusted_stays_so_and_no_label_is_not_trusted(tmp_path):
    decisions = read(tmp_path, HEADER + "3,a/3.png,keep,\n")
    cleaned = apply(verdicts(trusted=[True, False, False, False, False]), decisions)
    assert cleaned.trusted.tolist() == [True, False, False, False, False]
    assert cleaned.labels.tolist() == [0, 0, 1, -1, 1]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffindex,path,decision,label\r\n1,b/1.png,relabel,dog\r\n0,a/1.png,keep,\r\n",
        "index;path;decision;label\r\n1;b/1.png;Relabel;dog\r\n0;a/1.png;KEEP;\r\n;;;\r\n",
        "index\tpath\tdecision\tlabel\n1\tb/1.png\trelabel\tdog\n0\ta/1.png\tkeep\n".encode("utf-16"),
        "label,decision,note,path,index\ndog, relabel ,sure,b/1.png,1.0\n,keep,,a/1.png,0\n\n",
        "index,path,decision,label\n1,b/1.png,relabel,dog\n1,b/1.png,relabel,dog\n0,a/1.png,keep,",
    ],
)
def test_as_excel_saves_it(tmp_path, content):
    decisions = read(tmp_path, content)
    assert decisions.relabeled.tolist() == [-1, 1, -1, -1, -1]
    assert decisions.kept.tolist() == [True, False, False, False, False]
    assert not decisions.dropped.any()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "must have the columns index, path, decision, label; it has: none"),
        ("index,path\n", "must have the columns index, path, decision, label; it has: index, path"),
        (HEADER, "holds no decision"),
        ("index,index,path,decision,label\n", "has two columns index"),
        (HEADER + "5,a/1.png,keep,\n", "line 2: index '5' names no sample of this run, which has 0 to 4"),
        (HEADER + "-1,a/1.png,keep,\n", "line 2: index '-1' names no sample"),
        (HEADER + "x,a/1.png,keep,\n", "line 2: index 'x' names no sample"),
        (
            HEADER + "1,a/1.png,keep,\n",
            "line 2: path 'a/1.png' is not that of sample 1 .b/1.png.: decisions of another",
        ),
        (HEADER + "1,,keep,\n", "line 2: a blank path is not that of sample 1"),
        (HEADER + "1,b/1.png,maybe,\n", "line 2: decision is 'maybe'; it must be keep, relabel or drop"),
        (HEADER + "1,b/1.png,relabel,\n", "line 2: label must be given; there are: cat, dog"),
        (HEADER + "1,b/1.png,relabel,Dog\n", "line 2: label is 'Dog', which is no class; there are: cat, dog"),
        (HEADER + "1,b/1.png,keep,dog\n", "line 2: label is 'dog', and the decision is keep: which one counts"),
        (HEADER + "1,b/1.png,keep,\n\n1,b/1.png,drop,\n", "line 4 contradicts line 2 about sample 1"),
        (HEADER + "1,b/1.png,relabel,dog\n1,b/1.png,relabel,cat\n", "line 3 contradicts line 2 about sample 1"),
        (HEADER + "1,b/1.png,keep,,more\n", "line 2: has more fields than the header"),
        (HEADER + '1,"b"/1.png,keep,\n', "line 2: is no csv"),
        (HEADER.encode() + "0,a/1.png,keep,\n1,é,keep,\n".encode("cp1252"), "line 3: is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, content, says):
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path, content)
    assert caught.value.setting == "decisions"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "nowhere.csv", ".", "a\0b", "~nobody/decisions.csv"])
def test_no_file(path):
    with pytest.raises(InputError, match="decisions="):
        read_decisions(path, verdicts(), NAMES)


def test_classes_are_named_as_labels_csv_names_them(tmp_path):
    """A line break in a class's name is escaped there, and two classes may be escaped alike."""
    row = HEADER + "1,b/1.png,relabel,{}\n"
    assert read(tmp_path, row.format("d\\nog"), names=("cat", "d\nog")).relabeled[1] == 1
    assert read(tmp_path, row.format('"d\nog"'), names=("cat", "d\nog")).relabeled[1] == 1
    assert read(tmp_path, row.format('" dog"'), names=("dog", " dog")).relabeled[1] == 1
    with pytest.raises(InputError, match="is the name of two classes"):
        read(tmp_path, row.format("d\\nog"), names=("d\\nog", "d\nog"))


def test_images_without_paths_are_named_by_their_index(tmp_path):
    assert read(tmp_path, HEADER + "4,,drop,\n", path=[""] * 5).dropped.tolist() == [False] * 4 + [True]


def test_the_verdict_by_itself_acts_on_other_suggestions_above_the_confidence():
    """1 is suspected and surely a dog. The suggestion for 2 is its label; that for 4 is unsure; 3 has no label."""
    decisions = automatic(verdicts())
    assert decisions.relabeled.tolist() == [-1, 1, -1, -1, -1]
    cleaned = apply(verdicts(), decisions)
    assert cleaned.labels.tolist() == [0, 1, 1, -1, 1]
    assert not cleaned.trusted.any()
    assert not cleaned.dropped.any()
    assert automatic(verdicts(), "relabel", 0.5).relabeled.tolist() == [-1, 1, -1, -1, 0]
    assert automatic(verdicts(), "relabel", 0.97).relabeled.tolist() == [-1] * 5  # not above
    dropped = automatic(verdicts(), "drop", 0.5)
    assert dropped.dropped.tolist() == [False, True, False, False, True]
    assert apply(verdicts(), dropped).labels.tolist() == [0, 0, 1, -1, 1]


def test_what_is_trusted_is_left_alone_by_the_verdict():
    trusted = verdicts(trusted=[False, True, False, False, False])
    assert not (automatic(trusted).relabeled >= 0).any()
    assert apply(trusted, automatic(trusted)).trusted.tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("keep",), "policy=keep: must be one of relabel, drop"),
        (("drop", 1.5), r"confidence=1.5: must be a number in \[0, 1\]"),
        (("drop", float("nan")), "confidence=nan: must be a number"),
    ],
)
def test_a_policy_that_there_is_not(arguments, says):
    with pytest.raises(InputError, match=says):
        automatic(verdicts(), *arguments)


def test_a_run_without_a_verdict():
    with pytest.raises(InputError, match="decisions=auto: needs a verdict"):
        automatic(verdicts(clean_probability=[np.nan] * 5, suspected=[False] * 5))
