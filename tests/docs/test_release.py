"""`.ci/release` makes a release of what is committed: version, changelog, tag, wheel and sdist."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from tests.docs.blocks import ROOT

WHO = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def run(*call, cwd, **more):
    environment = {**os.environ, **WHO, "PYTHON": sys.executable}
    return subprocess.run(call, cwd=cwd, env=environment, capture_output=True, text=True, **more)


@pytest.fixture
def repository(tmp_path):
    """A repository with what a release is made of."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("src", "conf", ".ci", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for call in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "All")):
        assert run("git", *call, cwd=folder).returncode == 0
    return folder


@pytest.mark.slow
def test_a_release(repository):
    done = run(".ci/release", "99.1.0", cwd=repository)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (repository / "dist").iterdir()} == {
        "cpc_lightning-99.1.0-py3-none-any.whl", "cpc_lightning-99.1.0.tar.gz",
    }  # fmt: skip
    with zipfile.ZipFile(repository / "dist/cpc_lightning-99.1.0-py3-none-any.whl") as wheel:
        assert "cpc_lightning/conf/config.yaml" in wheel.namelist()
    changelog = run("git", "show", "v99.1.0:CHANGELOG.md", cwd=repository).stdout
    assert re.search(r"## \[Unreleased\]\n\n## \[99\.1\.0\] - \d{4}-\d\d-\d\d\n\n### ", changelog)
    assert "\nversion: 99.1.0\n" in run("git", "show", "release-99.1.0:CITATION.cff", cwd=repository).stdout
    assert run("git", "status", "--porcelain", cwd=repository).stdout == ""  # dist/ is ignored
    assert run(".ci/release", "99.2.0", cwd=repository).returncode == 2  # dist/ is there


def test_what_is_not_committed_is_refused(repository):
    (repository / "LICENSE").write_text("another")
    done = run(".ci/release", "99.1.0", cwd=repository)
    assert (done.returncode, done.stderr) == (2, "commit first: a release is made of what is committed\n")


@pytest.mark.long
@pytest.mark.parametrize(("version", "says"), [("1.0", "must be three numbers"), ("0.0.1", "is 0.1.0 already")])
def test_a_version_that_cannot_be(repository, version, says):
    done = run(".ci/release", version, cwd=repository)
    assert done.returncode == 1
    assert says in done.stderr
    assert not (repository / "dist").exists()
