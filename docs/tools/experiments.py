"""The table of the paper's cells in docs/reproduce.md, from the heads of conf/experiment.

python docs/tools/experiments.py     # writes the table into the page
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "conf" / "experiment"
PAGE = ROOT / "docs" / "reproduce.md"
BEGIN, END = "<!-- cells: python docs/tools/experiments.py -->", "<!-- end of cells -->"
OWN = ("animal10n", "cifar10_pair45", "digits_sym80", "fashion_mnist_asym40", "food101n", "mini_imagenet_red", "photos")
"""Experiments that are no cell of a table."""


@dataclass(frozen=True)
class Cell:
    """An experiment's head.

    Attributes:
        name: of the experiment.
        command: that trains it.
        what: method, data and table.
        published: the number of the paper.
        hours: of a GPU, or "not measured".
        more: what else the head says, such as which sentence of the paper a value follows.
    """

    name: str
    command: str
    what: str
    published: str
    hours: str
    more: str


def name_of(path: Path) -> str:
    """What is typed for the experiment of a file."""
    return path.relative_to(FOLDER if path.is_relative_to(FOLDER) else path.parent).with_suffix("").as_posix()


def read(path: Path) -> Cell:
    """The cell of one file; `ValueError` where its head lacks one of the parts."""
    lines = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("# ")]
    lines = [line for line in lines if not line.startswith("@package")]
    command, text = lines[0], " ".join(lines[1:])
    about, has_hours, hours = text.partition("GPU hours: ")
    what, has_number, rest = about.partition("published ")
    if not (has_number and has_hours and command.startswith("python -m cpc_lightning ")):
        raise ValueError(f"{path}: the head needs a command, 'WHAT: published NUMBER.' and 'GPU hours: NUMBER.'")
    published, _, more = rest.partition(". ")
    published, *remark = re.split(r"(?<=%), (?=the |but )", published, maxsplit=1)
    if remark:
        more = f"{remark[0][0].upper()}{remark[0][1:].strip(' .')}. {more}"
    published = published.replace(" over three seeds", "").rstrip(",")
    more = re.sub(r"Its row of Table 4, one setting at a time.*", "Sweeps of Table 4: in the file's head.", more)
    return Cell(name_of(path), command, what.rstrip(": ("), published.strip(" ."), hours.split(".")[0], more.strip())


def files() -> list[Path]:
    """Those of the cells, in the order of their rows."""
    paths = [p for p in FOLDER.rglob("*.yaml") if name_of(p) not in OWN and p.parent.name != "_shared"]
    paths.sort(key=lambda path: (path.parent.name, path.stem.startswith(("augdesc_", "dividemix_")), path.stem))
    return sorted(paths, key=lambda path: path.parent != FOLDER)


def table() -> str:
    """The table in Markdown, a row for each cell: first the paper's own, then the baselines, then other methods."""
    cells = [read(path) for path in files()]
    rows = [
        f"| {cell.what} | {cell.published} | {cell.hours} "
        f"| `{cell.command.removeprefix('python -m cpc_lightning ')}` | {cell.more or '-'} |"
        for cell in cells
    ]
    differs = "what differs beyond [departures](paper.md)"
    head = [
        f"| cell | published | GPU hours | `python -m cpc_lightning ...` | {differs} |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows])


def main() -> None:
    """Write the table into the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
