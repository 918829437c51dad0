"""What the page says of the run, and that its command lines can be typed."""

import shlex
from pathlib import Path

from tests.pages import a_run

from cpc_lightning.app.modes import items
from cpc_lightning.report import about_run


def test_commands_are_quoted_for_a_shell():
    run = a_run(overrides=["dataset=imagefolder", "dataset.root=/a b/$HOME's"])
    repeat = """python -m cpc_lightning dataset=imagefolder 'dataset.root=/a b/$HOME'"'"'s'"""
    assert about_run.command(run) == repeat
    assert "run='/runs/a b'" in shlex.split(about_run.apply_command(run))


def test_the_apply_command_names_the_run_as_it_is_read(tmp_path, monkeypatch):
    """In any folder, and whatever its name is: commas and quotes have a meaning in a setting."""
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "a, b", "it's", "a\\b", "[x]", "\u00e9t\u00e9"):
        words = shlex.split(about_run.apply_command(a_run(path=Path(name))))
        setting = next(word for word in words if word.startswith("run="))
        assert items(setting.removeprefix("run=")) == [str(tmp_path / name)]


def test_settings_have_full_names():
    rows = dict(about_run.settings_rows({"seed": 1, "noise": {"rate": 0.5, "more": {"x": None}}, "logger": {}}))
    assert rows == {"seed": "1", "noise.rate": "0.5", "noise.more.x": "", "logger": "{}"}


def test_durations():
    assert ("Duration", "1 min 5 s") in about_run.facts(a_run(summary={"seconds": 65.4}))
    assert ("Duration", "2 h 1 min") in about_run.facts(a_run(summary={"seconds": 7290.0}))
