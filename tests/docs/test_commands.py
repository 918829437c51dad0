"""Every block of shell commands in the documentation runs, in a folder with what its words in capitals stand for.

Slow: `python -m pytest -n 0 -m slow tests/docs`. tests/docs/small.py says what is made small or replaced.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import SMALL
from tests.datasets.cifar_files import write_cifar10
from tests.datasets.embedding_files import write_embeddings
from tests.datasets.image_trees import write_folders, write_table
from tests.docs.blocks import BLOCKS, ROOT

from cpc_lightning.app.command_line import main

TOOLS = ("python", "python3", "pip", "torchrun", "srun", "pre-commit")
ELSEWHERE = {
    "-m pytest": "CI's first command, and the suite itself",
    "mkdocs build": "tests/docs/test_site.py",
    ".ci/release": "tests/docs/test_release.py",
}
"""Lines that are executed by something else."""


def commands(block):
    """The block without the lines that something else executes."""
    lines = block.text.splitlines()
    return "\n".join(line for line in lines if not any(other in line for other in ELSEWHERE))


RUNNING = [block for block in BLOCKS if block.language == "sh" and commands(block)]

PLACES = ("FOLDER", "FILE.csv", "LIST.csv", "TRAIN.npz", "TEST.npz", "RUN", "FIRST", "SECOND", "CIFAR")
"""What the template has under the names of the documentation."""

NETWORK = """from torch import nn


class MyNetwork(nn.Module):
    def forward(self, images):
        return images.flatten(2).mean(2)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with all that the commands name."""
    folder = tmp_path_factory.mktemp("documentation")
    for name in ("FOLDER", "FOLDER, the second"):
        write_folders(folder / name, {"0": 14, "1": 14})  # classes that RUN has, too
    table = write_table(folder / "table")
    shutil.copytree(table.parent / "photos", folder / "photos")
    shutil.copy(table, folder / "FILE.csv")
    (folder / "LIST.csv").write_text("path\n" + "".join(f"photos/{number}.jpg\n" for number in range(6)))
    write_embeddings(folder / "TRAIN.npz")
    write_embeddings(folder / "TEST.npz")
    (folder / "CIFAR").mkdir()
    write_cifar10(folder / "CIFAR")
    (folder / "my_package.py").write_text(NETWORK)
    for name in ("RUN", "FIRST", "SECOND"):
        assert main([*SMALL, f"hydra.run.dir={folder / name}"]) == 0
    (folder / "decisions.csv").write_text("index,path,decision,label\n0,,keep,\n1,,drop,\n2,,relabel,3\n")
    assert set(PLACES) <= {path.name for path in folder.iterdir()}
    return folder


@pytest.fixture(scope="module")
def shims(tmp_path_factory):
    """Commands that stand for python and its kin."""
    folder = tmp_path_factory.mktemp("bin")
    for tool in TOOLS:
        path = folder / tool
        path.write_text(f'#!/bin/bash\nexec "{sys.executable}" "{Path(__file__).parent / "small.py"}" "$0" "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("block", RUNNING, ids=str)
def test_commands_run(block, template, shims, tmp_path):
    if "dataset=fashion_mnist" in block.text and not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    here = tmp_path / "here"
    shutil.copytree(template, here)
    for other in BLOCKS:
        if other.page == block.page and other.title:
            (here / other.title).parent.mkdir(parents=True, exist_ok=True)
            (here / other.title).write_text(other.text)
    environment = {
        **os.environ, "PATH": f"{shims}:{os.environ['PATH']}", "SHIMS": str(shims), "REPOSITORY": str(ROOT),
        "PYTHONPATH": str(here), "WANDB_MODE": "offline",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(block)],
        cwd=here, env=environment, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_every_word_in_capitals_stands_for_something():
    """Values such as FOLDER in `dataset.root=FOLDER` name what the template has, or what a command makes."""
    words = {word for block in RUNNING for word in re.findall(r"[=,']([A-Z]{3,}(?:\.\w+)?)\b", commands(block))}
    assert {"FOLDER", "RUN"} <= words
    assert words - {*PLACES, "MINE", "DEFAULT"} == set()
