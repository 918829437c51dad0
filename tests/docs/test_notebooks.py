"""The notebooks are committed as they were executed, name nothing of a machine, and (slow) run.

Slow: `python -m pytest -n 0 -m slow tests/docs/test_notebooks.py`.
"""

import importlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from nbformat import NotebookNode
from tests.docs.blocks import BLOCKS, ROOT

FOLDER = ROOT / "notebooks"
NAMES = (
    "01_first_run",
    "02_your_own_images",
    "03_loss_distributions",
    "04_cleaners",
    "05_em_view",
    "06_add_a_cleaner",
    "07_features",
)
LARGEST = 500_000  # bytes
PLACE = re.compile(
    r"(?:(?<=file://)|(?<![\w.:/+~]))/(?:home(?!/me/cpc-lightning)|root|Users|tmp|var|usr|opt|mnt|srv|work)/|[A-Z]:\\\\"
)
"""An absolute path of a machine, but for the one that stands for the reader's."""


@pytest.fixture
def tool(monkeypatch):
    """docs/tools/notebooks.py."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/tools"))
    return importlib.import_module("notebooks")


def read(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text())


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_these_are_all():
    assert tuple(path.stem for path in sorted(FOLDER.glob("*.ipynb"))) == NAMES
    page = (ROOT / "docs/notebooks.md").read_text()
    assert re.findall(r"\]\(\.\./notebooks/(\w+)\.ipynb\)", page) == [*NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_it_was_executed_from_top_to_bottom_without_an_error(name, tool):
    cells = code_cells(read(name))
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert len(outputs) >= 3  # a table, where its files are, a figure
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert "Traceback" not in json.dumps(outputs)
    assert tool.FAILED not in json.dumps(outputs)


@pytest.mark.parametrize("name", NAMES)
def test_it_tells_nothing_of_the_machine(name, tool):
    notebook = read(name)
    assert notebook["metadata"] == tool.METADATA  # no times, no versions
    assert [cell["metadata"] for cell in notebook["cells"] if cell["metadata"]] == []
    text = (FOLDER / f"{name}.ipynb").read_text()
    assert PLACE.findall(text) == []
    for place in (str(ROOT), str(Path.home()), sys.prefix, tempfile.gettempdir()):
        assert f"{place}/" not in text
    assert len(text.encode()) < LARGEST


def test_what_a_place_is():
    for text in ("in /root/runs/1", '"/tmp/x"', "/home/you/x", "file:///work/x", r"C:\\data"):
        assert PLACE.search(text), text
    for text in ("file:///home/me/cpc-lightning/notebooks/runs/01", "https://x.org/usr/bin", "runs/tmp/01"):
        assert not PLACE.search(text), text


def test_outputs_name_the_readers_folder_and_printed_lines_are_one(tool):
    def printed(text, name="stdout"):
        return NotebookNode(output_type="stream", name=name, text=text)

    link = NotebookNode(output_type="display_data", metadata={}, data={"text/html": "<b>file:///x/y/runs/1</b>"})
    told = [
        tool.placeless(output, "/x/y") for output in (link, printed("a\n"), printed("b\n"), printed("c\n", "stderr"))
    ]
    assert tool.joined(told) == [
        {**link, "data": {"text/html": "<b>file:///home/me/cpc-lightning/notebooks/runs/1</b>"}},
        printed("a\nb\n"),
        printed("c\n", "stderr"),
    ]
    bar = NotebookNode(output_type="display_data", metadata={}, data={"text/plain": ""})
    assert [tool.is_empty(output) for output in (bar, link, printed(""))] == [True, False, False]


@pytest.mark.parametrize("name", NAMES)
def test_it_begins_with_what_one_knows_afterwards(name):
    first = "".join(read(name)["cells"][0]["source"])
    assert first.startswith("# ")
    assert "**Afterwards you know** " in first


@pytest.mark.parametrize("name", NAMES)
def test_its_links_lead_somewhere(name):
    text = "\n".join("".join(cell["source"]) for cell in read(name)["cells"] if cell["cell_type"] == "markdown")
    for address in re.findall(r"\]\(([^)#]+)\)", text):
        assert address.startswith("https://") or (FOLDER / address).is_file(), address


def test_the_cleaner_of_the_notebook_is_that_of_the_documentation():
    written = {}
    for cell in code_cells(read("06_add_a_cleaner")):
        first, _, rest = "".join(cell["source"]).partition("\n")
        if first.startswith("%%writefile runs/06/"):
            written[first.removeprefix("%%writefile runs/06/")] = rest
    told = {block.title: block.text.rstrip("\n") for block in BLOCKS if block.title in written}
    assert len(written) == 2
    assert written == told


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name, tool, tmp_path):
    """In a folder of its own, so that nothing is left of the notebook before."""
    shutil.copy(FOLDER / f"{name}.ipynb", tmp_path)
    notebook = tool.execute(tmp_path / f"{name}.ipynb", tmp_path)
    committed = code_cells(read(name))
    kinds = [[output["output_type"] for output in cell["outputs"]] for cell in committed]
    again = code_cells(json.loads(json.dumps(notebook)))
    assert [cell["execution_count"] for cell in again] == [*range(1, len(committed) + 1)]
    shown = [any(kind != "stream" for kind in cell) for cell in kinds]
    assert [any(output["output_type"] != "stream" for output in cell["outputs"]) for cell in again] == shown
    assert str(tmp_path) not in json.dumps(notebook)


def test_a_page_of_a_notebook(tmp_path, monkeypatch):
    """By hand: a cell of each kind, and an output of each kind."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/tools"))
    pages = importlib.import_module("notebook_pages")
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["\x1b[1mbold\x1b[0m\n", "plain\n"]},
        {"output_type": "display_data", "data": {"text/plain": "x", "text/html": ["<b>x</b>\n"]}},
        {"output_type": "execute_result", "data": {"text/plain": "<Figure>", "image/png": "aGVsbG8=\n"}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# A title\n", "\n", "Words."]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": outputs},
    ]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    assert pages.title_of(tmp_path / "n.ipynb") == "A title"
    page, pictures = pages.page_of(tmp_path / "n.ipynb")
    assert page.split("\n\n") == [
        "# A title",
        "Words.",
        "```python\n1 + 1\n```",
        "```text\nbold\nplain\n```",
        '<div class="output">\n<b>x</b>\n</div>',
        "![Output of the lines above](n_1.png)",
    ]
    assert pictures == {"n_1.png": b"hello"}
