"""What is printed can be typed."""

import os
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from cpc_lightning.app.options import continuing

FOLDERS = [
    "runs/digits/2026-11-24_23-57",
    "here",
    "2026-11-24/1",
    "Inf",
    "TRUE",
    "None",
    "/a b",
    "run (lr=0.1, b)",
    "it's",
    "a,b",
    "null",
    "1",
    "~x",
    "${now}",
    "ü",
    "a\\",
    " ",
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_command_to_continue_names_the_folder_to_shell_and_hydra(folder):
    *begin, override = shlex.split(continuing(folder))
    assert begin == ["cd", os.getcwd(), "&&", "python", "-m", "cpc_lightning"]
    (parsed,) = OverridesParser.create().parse_overrides([override])
    assert parsed.key_or_group == "resume"
    value = parsed.value()
    assert getattr(value, "text", value) == folder


def test_a_plain_folder_is_printed_plainly():
    assert continuing("runs/a-b/1.2") == f"cd {os.getcwd()} && python -m cpc_lightning resume=runs/a-b/1.2"


def test_it_continues_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "a b").mkdir()
    monkeypatch.chdir(tmp_path / "a b")
    assert continuing("r") == f"cd '{tmp_path}/a b' && python -m cpc_lightning resume=r"
