"""MkDocs' hook of this site: pages made from the repository, links into it, and equations as MathML.

Nothing here needs a network, and what it writes needs none either: MathML is shown by the browser itself.
"""

from __future__ import annotations

import ast
import html
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

sys.path.insert(0, str(Path(__file__).parent))  # MkDocs loads this file by its path

from notebook_pages import page_of, title_of

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "cpc_lightning"
RESULTS = ROOT / "benchmarks" / "results"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COPIES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages of the site that are files of the repository."""

LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")
SHIM = '<script src="https://unpkg.com/iframe-worker/shim"></script>'
"""What the theme fetches for a search from disk; docs/from_disk.js does the same without a network."""

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
NAME = re.compile(r"`(cpc_lightning(?!\.json`)(?:\.\w+)+)`")


def rooms() -> dict[str, str]:
    """Name and first line of each room and module of the package that has public names, in alphabetical order."""
    places = sorted(path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())
    found = {}
    for place in places:
        if not place.name.startswith("_"):
            source = place if place.suffix else place / "__init__.py"
            found[place.stem] = (ast.get_docstring(ast.parse(source.read_text())) or "").split("\n")[0]
    return found


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the parts of the navigation that follow from the repository."""
    made: dict[str, list[Any]] = {
        "API": ["api/index.md", *({room: f"api/{room}.md"} for room in rooms())],
        "Notebooks": ["notebooks.md", *({title_of(path): f"notebooks/{path.stem}.md"} for path in NOTEBOOKS)],
        "Measurements": [{path.stem: f"results/{path.name}"} for path in sorted(RESULTS.glob("*.md"))],
    }
    assert config.nav is not None
    config.nav = [{name: made.get(name, pages) for name, pages in part.items()} for part in config.nav]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""

    def add(name: str, content: str | bytes) -> None:
        files.append(File.generated(config, name, content=content))

    for page, source in COPIES.items():
        add(page, (ROOT / source).read_text())
    add("CITATION.cff", (ROOT / "CITATION.cff").read_text())
    for path in RESULTS.iterdir():
        add(f"results/{path.name}", path.read_bytes() if path.suffix == ".png" else path.read_text())
    for path in NOTEBOOKS:
        page, pictures = page_of(path)
        add(f"notebooks/{path.stem}.md", page)
        for name, picture in pictures.items():
            add(f"notebooks/{name}", picture)
    lines = [f"| [`{room}`]({room}.md) | {first} |" for room, first in rooms().items()]
    add("api/index.md", "\n".join(["# API", "", "| room | what it holds |", "|---|---|", *lines]))
    for room in rooms():
        add(f"api/{room}.md", f"# {room}\n\n::: cpc_lightning.{room}\n")
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository become links to their pages; full Python names become links into the API."""
    uri = page.file.src_uri
    made = {"results": f"benchmarks/{uri}", "notebooks": uri}  # pages by their folder in the site
    source = COPIES.get(uri) or made.get(posixpath.dirname(uri), f"docs/{uri}")

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        there = {file: name for name, file in COPIES.items()}.get(target)
        if there is None:
            there = target.removeprefix("docs/").removeprefix("benchmarks/")
            there = re.sub(r"\.ipynb$", ".md", there)
        return match[1] + posixpath.relpath(there, posixpath.dirname(uri) or ".")

    markdown = LINK.sub(link, markdown)
    if source.startswith("docs/"):
        markdown = NAME.sub(lambda match: f"[`{match[1].rsplit('.', 1)[1]}`][{match[1]}]", markdown)
    return markdown


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Equations as MathML: no script, no font, no network."""

    def equation(match: re.Match[str]) -> str:
        block = match[1] == "div"
        formula = convert(html.unescape(match[2]).strip(), display="block" if block else "inline")
        return f'<div class="equation">{formula}</div>' if block else formula

    return EQUATION.sub(equation, content)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Put our own script in the place of the one script that the theme would fetch."""
    return output.replace(SHIM, f'<script src="{get_relative_url("from_disk.js", page.url)}"></script>')


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
    """The same for the page that says "not found"."""
    return output.replace(SHIM, '<script src="from_disk.js"></script>')
