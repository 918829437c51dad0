"""Writes the page of a run: report/index.html, and beside it the pictures and the data that it loads as one scrolls.

The page holds all that its first screen needs; nothing on it comes from outside its folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from cpc_lightning.errors import one_line
from cpc_lightning.files import atomic_write
from cpc_lightning.report import about_run, by_class, overview
from cpc_lightning.report.alike import draw_alike, find_alike
from cpc_lightning.report.gallery import (
    EMBEDDED,
    PICTURES,
    Tile,
    read_images,
    tile_of,
    within_page,
    write_sheets,
)
from cpc_lightning.report.material import Material
from cpc_lightning.report.page_data import GONE, columns, compact, flags_of, script
from cpc_lightning.report.training_charts import epoch_charts, loss_charts
from cpc_lightning.report.verdicts import Verdicts

INDEX = "index.html"
SPRITES, DATA = "sprites", "data"
SCRIPTS = ("store.js", "decisions.js", "gallery.js", "viewer.js")
LONGEST = 80  # characters of a class's name that are shown
OURS = re.compile(r"(\d{3,}|alike)\.(png|webp|js)")
NO_LOOK = "the networks of the last checkpoint could not look at the images again (see above)."

Positions = NDArray[np.int64]


def write_page(
    material: Material, output: Path, pictures: int = PICTURES, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the page into the folder `output`; its index.html, written last.

    What the folder holds of an older page is replaced; other files in it stay.

    Args:
        material: what the page is made of.
        output: a folder, which need not be there.
        pictures: how many labels are shown, the most suspicious ones.
        progress: is told how many sprite sheets there are, of how many.

    Raises:
        OSError: if the folder cannot be written to.
    """
    for folder in (output, output / SPRITES, output / DATA):
        folder.mkdir(parents=True, exist_ok=True)
    context = dict(static_context(material), **no_labels())
    written: set[Path] = set()
    if material.verdicts is not None:
        context |= labels_context(material, material.verdicts, output, pictures, written, progress)
    environment = Environment(
        loader=PackageLoader("cpc_lightning.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    html = environment.get_template("page.html").render(context)
    with atomic_write(output / INDEX) as file:
        file.write(html.encode("utf-8", "replace"))
    for folder in (output / SPRITES, output / DATA):
        for path in folder.iterdir():
            if OURS.fullmatch(path.name) and path not in written:
                path.unlink()  # of an older page that showed more
        if not any(folder.iterdir()):
            folder.rmdir()
    return output / INDEX


def static_context(material: Material) -> dict[str, Any]:
    """What the template needs of the run as a whole."""
    run, names = material.run, shown_names(material.names)
    test = material.held_out.get("test")
    charts, note = [], ""
    if material.look is not None:
        charts = loss_charts(material.look.losses, "after the last epoch")
        note = "Losses are those of the networks in last.ckpt; the mixture is fitted to them anew, over all classes."
    elif material.warmup is not None:
        both, epoch = material.warmup
        charts = loss_charts([seen.losses for seen in both], f"at the end of the warm-up (epoch {epoch})")
        note = f"Losses are those at the end of the warm-up (epoch {epoch}); later ones are not there."
    asset = files("cpc_lightning.report") / "templates"
    return {
        "title": one_line("/".join(run.path.absolute().parts[-2:])),
        "run_path": str(run.path.absolute()),
        "css": Markup((asset / "page.css").read_text(encoding="utf-8")),
        "script": Markup("".join((asset / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        "names": names,
        "missing": material.missing,
        "epoch_charts": epoch_charts(run.metrics),
        "loss_charts": charts,
        "loss_note": note if charts else "",
        "confusion": by_class.confusion_matrix(test, names) if test is not None else None,
        "facts": about_run.facts(run),
        "settings": list(about_run.settings_rows(run.settings)),
        "command": about_run.command(run),
        "apply_command": about_run.apply_command(run),
        "changes": material.changes,
    }


def no_labels() -> dict[str, Any]:
    """What the template needs of labels where nothing can be said of them."""
    nothing = "Not looked for: there are no verdicts on the labels."
    return {
        "headline": "This run has no verdict on its labels yet.", "first_sentence": "", "numbers": [],
        "first_chart": None, "caveats": [], "caveat_title": "What is missing", "data": None, "has_paths": False,
        "judged": False, "gallery_notes": [], "rows": [], "pairs": [], "sizes": [], "matrices": [],
        "chance_chart": None, "alike": [{"title": "", "about": nothing, "pairs": []}],
        "far": {"about": nothing, "pictures": []}, "tile": None,
    }  # fmt: skip


def labels_context(
    material: Material,
    verdicts: Verdicts,
    output: Path,
    pictures: int,
    written: set[Path],
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """What the template needs of the labels; writes sprites and data into `output`, and notes them in `written`."""
    names = shown_names(material.names)
    order = verdicts.most_suspicious_first
    found = find_alike(replace(material, run=replace(material.run, class_names=tuple(names))), order, NO_LOOK)
    flags = flags_of(verdicts, found.twins, found.far_ones)
    shown = order[:pictures]
    tile, addresses = embed(material, shown[:EMBEDDED], flags)
    embedded = len(addresses)
    gone = write_beside(material, verdicts, shown[embedded:], flags, tile, output, written, progress)
    if tile is not None:
        sheet = draw_alike(found, material.images, material.test_images, tile, output / SPRITES)
        written |= {sheet} if sheet is not None else set()
    gone += int((flags[shown[:embedded]] & GONE > 0).sum())
    data = {
        "id": material.identity, "classes": names, "names": [one_line(name) for name in material.names],
        "has_paths": any(verdicts.path), "total": len(shown), "embedded": embedded,
        "suspected": int(verdicts.suspected[shown].sum()), "per": per_script(tile),
        "truth": bool((verdicts.true_label != -1).any()), "pictures": addresses,
        "tile": tile and {"crisp": tile.crisp, "columns": tile.columns, "ending": tile.ending},
        "samples": columns(verdicts, shown[:embedded], flags), "file": f"decisions_{material.identity[:8]}.csv",
    }  # fmt: skip
    estimated, counted = overview.first_ones(verdicts, order)
    summary = material.run.summary or {}
    looks_clean = bool(summary.get("looks_clean"))
    caveats = list(overview.caveats(verdicts, estimated, looks_clean, summary))
    return {
        "headline": overview.headline(verdicts, looks_clean),
        "first_sentence": overview.first_sentence(estimated, counted),
        "numbers": overview.numbers(material.run, verdicts, material.held_out, names),
        "first_chart": overview.first_chart(estimated, counted, int(verdicts.suspected.sum())),
        "caveats": caveats,
        "caveat_title": "How sure this is" if not material.missing else "How sure this is, and what is missing",
        "data": Markup(compact(data)),
        "has_paths": data["has_paths"],
        "judged": verdicts.judged,
        "gallery_notes": list(gallery_notes(material, len(verdicts), len(shown), gone)),
        "rows": by_class.class_rows(verdicts, names),
        "pairs": by_class.pair_rows(verdicts),
        "sizes": by_class.size_rows(verdicts, names),
        "matrices": by_class.matrices(verdicts, names),
        "chance_chart": by_class.chance_chart(verdicts),
        "alike": found.groups,
        "far": found.far,
        "tile": tile,
    }


def embed(material: Material, positions: Positions, flags: NDArray[np.int64]) -> tuple[Tile | None, list[str | None]]:
    """How pictures are kept, and those within the page; flags images that cannot be read. None without any image."""
    if material.images is None:
        return None, [None] * len(positions)
    read = read_images(material.images, positions.tolist())
    flags[positions[[image is None for image in read]]] |= GONE
    first = next((image for image in read if image is not None), None)
    if first is None:  # of the first ones; the others will not be read either, or they are of no use
        return None, [None] * len(positions)
    tile = tile_of(first)
    return tile, within_page(read, tile)


def per_script(tile: Tile | None) -> int:
    """Labels of a script: as many as of a sheet."""
    return 500 if tile is None else tile.per_sheet


def write_beside(
    material: Material,
    verdicts: Verdicts,
    positions: Positions,
    flags: NDArray[np.int64],
    tile: Tile | None,
    output: Path,
    written: set[Path],
    progress: Callable[[int, int], None] | None,
) -> int:
    """Write the sprites and the scripts of the labels beyond the page; how many images cannot be read."""
    per = per_script(tile)
    parts = [positions[start : start + per] for start in range(0, len(positions), per)]
    sheets: Iterator[list[bool]] = iter([True] * len(part) for part in parts)
    if tile is not None and material.images is not None:
        done = None if progress is None else (lambda number: progress(number + 1, len(parts)))
        sheets = write_sheets(material.images, positions.tolist(), tile, output / SPRITES, done)
    gone = 0
    for number, (part, fine) in enumerate(zip(parts, sheets, strict=True)):
        flags[part[~np.array(fine)]] |= GONE
        gone += fine.count(False)
        path = output / DATA / f"{number:03d}.js"
        with atomic_write(path) as file:
            file.write(script(number, columns(verdicts, part, flags)).encode())
        written.add(path)
        if tile is not None:
            written.add(output / SPRITES / f"{number:03d}.{tile.ending}")
    return gone


def gallery_notes(material: Material, count: int, shown: int, gone: int) -> Iterator[str]:
    """What one must know of the gallery: what is left out, and what cannot be seen."""
    if shown < count:
        yield (
            f"Shown are the {shown:,} most suspicious of {count:,} labels; the other {count - shown:,} are in "
            "labels.csv. Filters, sorting and search cover those shown."
        )
    if material.images is None:
        yield "The images cannot be opened, so there are no pictures; filters, keys and decisions work as ever."
    elif gone:
        yield f"{gone:,} of these images cannot be read any more, and have no picture."


def shown_names(names: list[str]) -> list[str]:
    """Names of classes as the page shows them: on one line, and not endless."""
    lines = map(one_line, names)
    return [line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…" for line in lines]
