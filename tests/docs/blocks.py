"""Blocks of code in the documentation's pages."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.md")])

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, its place among the page's blocks, its language, the file it stands for, its text."""

    page: str
    place: int
    language: str
    title: str | None
    text: str

    def __str__(self):
        return f"{self.page}-{self.place}"


def blocks(page):
    """The blocks of a page, in their order."""
    found = FENCE.findall(page.read_text())
    titles = [re.search(r'title="([^"]+)"', more) for _, more, _ in found]
    return [
        Block(page.name, place, language, title and title[1], text)
        for place, ((language, _, text), title) in enumerate(zip(found, titles, strict=True))
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]
