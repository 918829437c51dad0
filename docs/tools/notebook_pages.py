"""Makes pages of the site of executed notebooks: Markdown, and the pictures beside it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What colours text in a terminal."""


def title_of(path: Path) -> str:
    """The notebook's first line."""
    return "".join(cells_of(path)[0]["source"]).split("\n")[0].removeprefix("# ")


def page_of(path: Path) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook, and its pictures by the names of their files."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in cells_of(path):
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the lines above]({name})")
            elif "text/html" in data:
                parts.append(f'<div class="output">\n{"".join(data["text/html"]).strip()}\n</div>')
            else:
                text = COLOUR.sub("", "".join(data["text/plain"])).rstrip()
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts), pictures


def cells_of(path: Path) -> list[dict[str, Any]]:
    """The cells as they are in the file."""
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return cells
