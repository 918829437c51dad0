"""Executes notebooks: `python docs/tools/notebooks.py [NAME ...]` writes their outputs into notebooks/.

What differs between machines is made alike: where the repository lies, and the metadata that Jupyter adds.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
READERS = "/home/me/cpc-lightning/notebooks"
"""Where a reader's notebooks might lie: stands in outputs for where they were executed."""

FAILED = "Unknown failure executing module"
"""What IPython says of an exit code other than 0."""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path, folder: Path, seconds: int = 600) -> NotebookNode:
    """The notebook with the outputs of all of its cells.

    Args:
        path: of the notebook, which stays as it is.
        folder: where its cells run, and leave their runs.
        seconds: that a cell may take.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell has failed.
        RuntimeError: a command has, of which `%run -m` only warns.
    """
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=seconds, kernel_name="python3", record_timing=False, resources=resources)
    client.execute(env={**os.environ, "PYTHONWARNINGS": "ignore:IProgress not found"})  # tqdm's, which wants widgets
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            if FAILED in str(cell.outputs):
                raise RuntimeError(f"{path.name}, cell {cell.execution_count}: {cell.outputs}")
            cell.outputs = joined(placeless(output, str(folder)) for output in cell.outputs if not is_empty(output))
    return notebook


def is_empty(output: NotebookNode) -> bool:
    """Whether it is the output of a progress bar that was taken away when the run was over."""
    return output.output_type == "display_data" and dict(output.data) == {"text/plain": ""}


def joined(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """The outputs, with lines that were printed one after another as one."""
    found: list[NotebookNode] = []
    for output in outputs:
        if found and output.output_type == "stream" and output.get("name") == found[-1].get("name"):
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def placeless(value: Any, folder: str) -> Any:
    """An output with `READERS` for the folder, wherever it is named."""
    if isinstance(value, str):
        return value.replace(folder, READERS)
    if isinstance(value, dict):
        return NotebookNode({key: placeless(inner, folder) for key, inner in value.items()})
    return [placeless(inner, folder) for inner in value] if isinstance(value, list) else value


def main() -> None:
    """Execute the notebooks that are named, or all, one after another; print how long each took."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if len(sys.argv) == 1 or path.stem in sys.argv[1:]:
            begin = time.monotonic()
            notebook = execute(path, NOTEBOOKS)
            nbformat.write(notebook, path)
            size = path.stat().st_size / 1000
            print(f"{path.name}: {time.monotonic() - begin:.0f} s, {size:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
