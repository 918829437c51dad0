"""The wheel: conf/ travels inside, and the command runs from it in any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_the_wheel_runs_on_its_own(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "wheel", "."]
    source = tmp_path / "source"  # a copy: setuptools leaves build/ and egg-info behind in its source tree
    for name in ("conf", "src"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(build, cwd=source, check=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    names = {p.relative_to(tmp_path / "site").as_posix() for p in (tmp_path / "site").rglob("*.yaml")}
    expected = {
        f"cpc_lightning/conf/{p.relative_to(ROOT / 'conf').as_posix()}" for p in (ROOT / "conf").rglob("*.yaml")
    }
    assert names == expected
    modules = {p.relative_to(tmp_path / "site").as_posix() for p in (tmp_path / "site" / "cpc_lightning").rglob("*.py")}
    of_source = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src" / "cpc_lightning").rglob("*.py")}
    assert of_source <= modules, "setup.cfg lists the packages"
    for path in (ROOT / "src/cpc_lightning/report/templates").iterdir():
        assert (tmp_path / "site/cpc_lightning/report/templates" / path.name).read_bytes() == path.read_bytes()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = subprocess.run(
        [sys.executable, "-c", "import cpc_lightning; print(cpc_lightning.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(tmp_path / "site") in where.stdout
    answer = subprocess.run(
        [sys.executable, "-m", "cpc_lightning", "noise=symmetric", "noise.rate=2"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (answer.returncode, answer.stderr) == (2, "error: noise.rate=2: must be a number in [0, 1]\n")
