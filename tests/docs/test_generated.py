"""What is drawn and listed in the documentation agrees with the code."""

import importlib
import json
import re

import pytest
from tests.docs.blocks import PAGES, ROOT
from tests.test_public_names import defined

from cpc_lightning.views.policies import POLICIES
from cpc_lightning.views.views import JITTER

LIST = json.loads((ROOT / "tests/public_names.json").read_text())


@pytest.fixture
def tool(monkeypatch):
    """A module of docs/tools by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/tools"))
    return importlib.import_module


def test_the_plan_is_that_of_the_imports(tool):
    plan = tool("plan")
    assert plan.PICTURE.read_text() == plan.drawing(), "python docs/tools/plan.py draws it again"


def test_floors_and_arrows_of_a_plan(tool):
    """By hand: c imports b and a, b imports a; the arrow from c to a follows from the two others."""
    plan, imports = tool("plan"), {"c": {"a", "b"}, "a": set(), "b": {"a"}, "d": set()}
    assert plan.floors(imports) == [["a", "d"], ["b"], ["c"]]
    assert plan.needed(imports) == {("c", "b"), ("b", "a")}
    with pytest.raises(ValueError, match="circle"):
        plan.floors({"a": {"b"}, "b": {"a"}})


def test_cells_are_those_of_the_experiments(tool):
    experiments = tool("experiments")
    page = experiments.PAGE.read_text()
    assert page.split(experiments.BEGIN)[1].split(experiments.END)[0].strip() == experiments.table(), (
        "python docs/tools/experiments.py writes the table again"
    )
    rows = re.findall(r"^\|.*\| `experiment=([\w/]+)", page, re.MULTILINE)
    assert set(rows) == {experiments.name_of(path) for path in experiments.files()}
    assert len(rows) == len(set(rows)) > 40


def test_a_head_is_read(tool, tmp_path):
    experiments, path = tool("experiments"), tmp_path / "x.yaml"
    path.write_text(
        "# @package _global_\n# python -m cpc_lightning experiment=x trainer=gpu\n# A method on data (Table 2):\n"
        "# published 96.50 ± 0.10 % over three seeds. It does so and so.\n# GPU hours: 7.\nseed: 1\n"
    )
    assert experiments.read(path) == experiments.Cell(
        "x", "python -m cpc_lightning experiment=x trainer=gpu", "A method on data (Table 2)",
        "96.50 ± 0.10 %", "7", "It does so and so.",
    )  # fmt: skip
    path.write_text("# python -m cpc_lightning experiment=x\n# A method. GPU hours: 7.\n")
    with pytest.raises(ValueError, match="the head needs"):
        experiments.read(path)


def test_names_in_the_text_are_there():
    """In full, `cpc_lightning.room.module.name`: the site makes links of them."""
    named = {
        (page.name, name)
        for page in PAGES
        if page.parent == ROOT / "docs"
        for name in re.findall(r"`(cpc_lightning(?!\.json`)(?:\.\w+)+)`", page.read_text())
    }
    assert len(named) > 20
    assert [where for where in named if not defined(where[1])] == []


def test_columns_of_labels_are_all_explained():
    page = (ROOT / "docs/report.md").read_text().split("## Columns of labels.csv")[1]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == LIST["labels.csv"]


def test_files_of_a_run_are_all_explained():
    page = (ROOT / "docs/report.md").read_text().split("## What a run leaves behind")[1]
    for name in LIST["files"]:
        parts = name.split("/")
        known = {".hydra": ".hydra/", "report": "report/index.html"}.get(parts[0], parts[-1])
        if name == "cpc_lightning.log":
            known = ".hydra/`, a log"
        assert re.search(rf"`(?:checkpoints/)?{re.escape(known)}", page), name


def test_every_choice_is_in_the_table():
    page = (ROOT / "docs/choices.md").read_text()
    sections = dict(re.findall(r"^## (\w+):[^\n]*\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == {"dataset", "noise", "cleaner", "method", "features", "backbone"}
    rest = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page.split("## trainer")[1], re.MULTILINE))
    for choice in LIST["choices"]:
        group, name = choice.split("=")
        if group in sections:
            assert re.search(rf"^\| (?:`\w+`, )*`{name}`", sections[group], re.MULTILINE), choice
        elif group in rest and group != "experiment":
            assert f"`{name}`" in rest[group], choice
        else:
            alone = [other for other in LIST["choices"] if other.startswith(f"{group}=")]
            assert group in ("experiment", "noise/source") or alone == [choice], choice


def test_every_policy_of_strong_views_is_in_its_table():
    section = (ROOT / "docs/choices.md").read_text().split("## views.policy")[1].split("\n## ")[0]
    rows = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert sorted(re.findall(r"`(\w+)`", rows)) == sorted([*POLICIES, JITTER, "none", "weak"])


def test_the_readme_is_short_and_shows_the_page():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 120
    assert "](docs/report.png)" in readme
    assert re.search(r"<!-- test command -->\n```sh\n[^\n]*-m pytest\n```\n", readme)


def test_versions_agree():
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert f"\nversion: {version[1]}\n" in (ROOT / "CITATION.cff").read_text()


def test_hooks_are_the_linters_of_ci():
    """What pre-commit runs, CI runs."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    for linter in re.findall(
        r"^\.venv/bin/(ruff check|ruff format|mypy|lint-imports|mkdocs build)", (ROOT / ".ci/run").read_text(), re.M
    ):
        assert f"entry: {linter}" in hooks, linter
    assert hooks.count("{id:") == 5
