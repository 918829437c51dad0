"""Names that a stranger chose, in tables that a spreadsheet or a terminal shows."""

import json

import pytest

from cpc_lightning.data.dataset import BadImage
from cpc_lightning.report.tables import inert_path, write_bad_images, write_classes


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a/b c.jpg", "a/b c.jpg"),
        ("Größe.png", "Größe.png"),
        ("=cmd|' /C calc'!A0", "./=cmd|' /C calc'!A0"),
        ("+1", "./+1"),
        ("-1", "./-1"),
        ("@x", "./@x"),
        ("a/=b", "a/=b"),
        ("a\nb\t\x1b[2J", r"a\nb\t\x1b[2J"),
        ("\t=1", r"\t=1"),
        ("caf\udce9", r"caf\udce9"),  # a name that is not UTF-8
        ("", ""),
    ],
)
def test_names_are_shown_so_that_they_do_nothing(path, shown):
    assert inert_path(path) == shown
    inert_path(path).encode()


def test_classes_and_bad_images(tmp_path):
    write_classes(tmp_path / "classes.json", ["a", "=1\n", "ö"])
    assert json.loads((tmp_path / "classes.json").read_text()) == ["a", "=1\n", "ö"]
    write_bad_images(tmp_path / "bad.csv", [BadImage("train", '=a",b', "is empty"), BadImage("test", "c", "x\ny")])
    assert (tmp_path / "bad.csv").read_bytes() == (b'set,path,reason\ntrain,"./=a"",b",is empty\ntest,c,x\\ny\n')
