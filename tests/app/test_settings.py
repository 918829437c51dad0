"""Names and kinds of settings, by the yaml files alone."""

import pytest

from cpc_lightning.app import settings
from cpc_lightning.app.settings import check_kinds, check_names, misfit, near, select, unknown
from cpc_lightning.errors import InputError

USUAL = {
    "seed": 1,
    "training": {"epochs": "???", "limit": None, "share": 0.5},
    "noise": {"_target_": "noise.Noise", "rate": 0.5, "map": None},
    "callbacks": {},
    "views": {"size": 8, "mean": [0.5], "policy": "none", "flip": False, "root": "${seed}"},
}


def changed(name, value):
    """`USUAL` with the setting `name` set; with ... it is not there."""
    *groups, last = name.split(".")
    copy = {key: dict(node) if isinstance(node, dict) else node for key, node in USUAL.items()}
    node = copy
    for group in groups:
        node = node.setdefault(group, {})
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return copy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise.colour", "red"),  # what is built judges it
        ("noise.map", {0: 7}),
        ("callbacks.mine", {"_target_": "mine.Callback"}),
        ("training.limit", 3),
        ("noise", {"_target_": "mine.Noise", "strength": 2}),  # another thing, of other settings
    ],
)
def test_names_that_are_fine(name, value):
    check_names(changed(name, value), USUAL)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("training.epoch", 3, "training.epoch=3: is no setting; did you mean training.epochs?"),
        ("colour", "red", "colour=red: is no setting"),
        ("training", 5, "training=5: must be a group of settings, such as training.NAME=VALUE"),
        ("training.share", {"a": 1}, "training.share={...}: must be a single value"),
        ("seed", ..., "seed=(deleted): is needed"),
        ("training.share", ..., "training.share=(deleted): is needed"),
        ("noise", ..., "noise=(deleted): is needed"),
        ("noise._target_", ..., "noise._target_=(deleted): is needed"),
        ("noise.rate", ..., "noise.rate=(deleted): is needed"),
    ],
)
def test_names_that_are_not(name, value, line):
    with pytest.raises(InputError) as caught:
        check_names(changed(name, value), USUAL)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("value", "usual", "expected"),
    [
        (3, 1, None),
        (2.5, 1, None),
        (None, 1, None),
        ([1, 2], 1, None),  # one for each device, or for height and width
        ("3", 1, "a number"),
        (True, 1, "a number"),
        (["a"], 1, "a number"),
        (float("nan"), None, "a finite number"),
        ([0.5, float("inf")], [0.5], "a finite number"),
        ("maybe", True, "true or false"),
        (1, False, "true or false"),
        ([True], False, "true or false"),
        (3, [1], "a list, such as [a,b]"),
        (["a"], [1], "a number"),
        ([1], "text", "a text"),
        (7, "text", None),
        (-7, None, None),
        ([["a"]], None, None),
        ("anything", "${seed}", None),
        ({}, {}, None),
    ],
)
def test_kinds(value, usual, expected):
    assert misfit(value, usual) == expected


def test_switches_alone_or_all():
    given = changed("views.mean", "word")
    check_kinds(given, USUAL, switches=True)
    with pytest.raises(InputError, match=r"^views.mean=word: must be a list"):
        check_kinds(given, USUAL)
    with pytest.raises(InputError, match=r"^views.flip=3: must be true or false$"):
        check_kinds(changed("views.flip", 3), USUAL, switches=True)


def test_a_renamed_setting_answers_with_its_new_name(monkeypatch):
    monkeypatch.setattr(settings, "RENAMED", {"training.length": "training.epochs"})
    assert unknown("training.length", ["training.epochs"]) == "is now called training.epochs"
    with pytest.raises(InputError, match=r"^training.length=3: is now called training.epochs$"):
        check_names(changed("training.length", 3), USUAL)


def test_near_looks_at_the_last_part_too():
    known = ["training", "training.epochs", "noise", "noise.rate"]
    assert near("trainig.epochs", known) == "; did you mean training.epochs?"
    assert near("epoch", known) == "; did you mean training.epochs?"
    assert near("zzz", known) == ""


def test_select():
    assert select(USUAL, "noise.rate") == 0.5
    assert select(USUAL, "noise") is USUAL["noise"]
    assert select(USUAL, "noise.rate.more") is None
    assert select(USUAL, "nothing") is None
