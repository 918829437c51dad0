"""The README's command runs the quick tests, and `.ci/run` the others, too: between them, each test once."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKERS = ("long", "slow", "gpu", "ddp")


def commands() -> list[list[str]]:
    """The arguments of pytest in each command of `.ci/run`, in order; the README's has none."""
    lines = (ROOT / ".ci/run").read_text().replace("\\\n", " ").splitlines()
    found = [line.split("-m pytest", 1)[1] for line in lines if "-m pytest" in line and not line.startswith("#")]
    return [shlex.split(arguments) for arguments in found]


def test_every_mark_is_selected_once():
    """Quick tests by default, long ones by a command of CI; of what is slow or needs a GPU neither, whatever else."""
    (default,) = re.findall(r"""^addopts = "-m '([^']+)'""", (ROOT / "pyproject.toml").read_text(), re.M)
    whole = [arguments for arguments in commands() if not any(word.startswith("tests/") for word in arguments)]
    ((option, long),) = whole
    assert option == "-m"
    for values in itertools.product([False, True], repeat=len(MARKERS)):
        marks = dict(zip(MARKERS, values, strict=True))
        runs = [eval(expression, {"__builtins__": {}}, marks) for expression in (default, long)]
        assert sum(runs) == (not marks["slow"] and not marks["gpu"]), marks


class Collected:
    """A plugin of pytest that keeps the names of all tests that would run."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.names = {item.nodeid for item in session.items}


def collected(*arguments: str) -> set[str]:
    """The tests that pytest would run with these arguments, asked in this process, which has torch already."""
    plugin, apart = Collected(), ["-p", "no:cacheprovider", "-p", "no:faulthandler"]
    assert pytest.main(["--collect-only", "-q", "-n", "0", *apart, *arguments], plugins=[plugin]) == 0
    return plugin.names


@pytest.mark.long
def test_pytest_selects_them_so(monkeypatch):
    """In a file that has all three kinds, with the commands of `.ci/run` as they stand there."""
    monkeypatch.chdir(ROOT)
    file = "tests/docs/test_release.py"
    long, other_kernels, _ = commands()
    quick, later = collected(file), collected(*long, file)
    assert quick
    assert later
    assert not quick & later
    assert quick | later == collected("-m", "not slow and not gpu", file)
    names = {test.split("::")[1].split("[")[0] for test in collected(*other_kernels)}
    assert names == {"test_narrow_networks_train", "test_two_short_epochs"}
