"""Snippets of Python in the documentation run, page by page, and the parts of docs/extend.md work as it says."""

import sys

import pytest
from tests.conftest import SMALL
from tests.docs.blocks import BLOCKS

from cpc_lightning.app.command_line import main

PYTHON = sorted({block.page for block in BLOCKS if block.language == "python" and not block.title} - {"use.md"})
"""Pages with snippets; those of use.md are for where this library is not (tests/app/test_mode_export.py)."""
OWN = {
    "cleaner": ["cleaner=ratio"],
    "noise": ["noise=double_click", "noise.rate=0.3", "cleaner=gmm_agn"],
    "dataset": ["dataset=stripes", "cleaner=gmm_agn"],
    "backbone": ["backbone=tiny", "backbone.width=4", "embedding_size=8", "cleaner=cpc_awr", "cleaner.steps=10"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the snippets run: with a finished run in RUN, and the titled blocks as files."""
    folder = tmp_path_factory.mktemp("snippets")
    assert main([*SMALL, f"hydra.run.dir={folder / 'RUN'}"]) == 0
    for block in BLOCKS:
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("page", PYTHON)
def test_python_runs(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {"__name__": "__main__"}
    for block in BLOCKS:
        if block.page == page and block.language == "python" and not block.title:
            exec(compile(block.text, str(block), "exec"), names)


def test_there_are_snippets():
    assert {"how.md", "python.md", "start.md", "report.md"} <= set(PYTHON)


@pytest.mark.long
@pytest.mark.parametrize("group", OWN)
def test_a_part_of_ones_own(group, folder, monkeypatch, command, tmp_path):
    """One file and one yaml, from a folder of one's own."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    made = next(b.title for b in BLOCKS if b.page == "extend.md" and f"conf/{group}/" in (b.title or ""))
    assert f"{group}={made.split('/')[-1].removesuffix('.yaml')}" in OWN[group]
    settings = {setting.split("=")[0]: setting for setting in [*SMALL, *OWN[group]]}  # a later one of a name counts
    if group == "backbone":
        assert settings["backbone.width"] == "backbone.width=4"
    if group == "noise":
        assert settings["noise"] == "noise=double_click"
    code, _, err = command("--config-dir=conf", *settings.values(), f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, err) == (0, ""), err
    assert (tmp_path / "run/labels.csv").exists()
    for name in [name for name in sys.modules if name.startswith("my_parts")]:
        del sys.modules[name]


@pytest.mark.long
def test_a_mistake_in_such_a_part_is_one_line(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    code, _, err = command("--config-dir=conf", "cleaner=ratio", "cleaner.threshold=2")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: cleaner.threshold=2: must be a number in (0, 1)")
