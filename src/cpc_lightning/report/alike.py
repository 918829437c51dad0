"""The page's part on near-duplicates, and on images that look like none of the classes.

Shapes: N training samples, M held-out ones, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpc_lightning.datasets.dataset import Images
from cpc_lightning.files import atomic_write
from cpc_lightning.report.gallery import Tile, encode, read_images, sheet
from cpc_lightning.report.likeness import (
    NEAR,
    Alike,
    class_means,
    near_duplicates,
    none_of_the_classes,
    standardised,
)
from cpc_lightning.report.material import Look, Material
from cpc_lightning.report.verdicts import Verdicts

MOST = 60_000
"""Of larger sets as many of the most suspicious images are compared with each other."""

PAIRS = 40  # shown of each kind
FAR_ONES = 24
SHEET = "alike"  # the name of the sprite sheet

Positions = NDArray[np.int64]


@dataclass
class Side:
    """An image of a pair: words for it, and its place in the sheet; None where it cannot be read."""

    name: str
    label: str
    alt: str
    place: int | None = None
    address: str = ""
    sheet: str = ""


@dataclass
class Found:
    """What the page shows of them.

    Attributes:
        groups: of pairs, "title", "about" and "pairs" each.
        far: "about" and "pictures".
        twins: positions of training samples that have a near-duplicate.
        far_ones: positions of those that are farthest from every class.
        wanted: the set ("train" or "test") and the position of each picture, in the order of the sheet.
        sides: whose picture it is, likewise.
    """

    groups: list[dict[str, Any]] = field(default_factory=list)
    far: dict[str, Any] = field(default_factory=dict)
    twins: Positions = field(default_factory=lambda: np.zeros(0, np.int64))
    far_ones: Positions = field(default_factory=lambda: np.zeros(0, np.int64))
    wanted: list[tuple[str, int]] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)


def find_alike(material: Material, order: Positions, why_not: str) -> Found:
    """Look for near-duplicates and for images that look like none of the classes.

    Args:
        material: of the page.
        order: (N,) positions of the training samples, the most suspicious first.
        why_not: what to say where there are no features.
    """
    found = Found()
    look, verdicts = material.look, material.verdicts
    if look is None or verdicts is None:
        found.groups.append({"title": "", "about": f"Not looked for: {why_not}", "pairs": []})
        found.far = {"about": f"Not looked for: {why_not}", "pictures": []}
        return found
    kept = np.sort(order[:MOST])
    rows = standardised(look.features[kept])
    names, part = material.names, ""
    if len(kept) < len(verdicts):
        part = f" Of {len(verdicts):,} training images the {len(kept):,} most suspicious ones were compared."
    what = "copies, crops, frames of one scene"
    about = f"Pairs whose features, standardised, have a cosine of at least {NEAR}: {what}.{part}"
    inside = near_duplicates(rows)
    pairs = [(("train", int(kept[a])), ("train", int(kept[b])), c) for a, b, c in _each(inside)]
    found.twins = kept[np.union1d(inside.first, inside.second).astype(np.int64)]
    _add_group(found, "Within the training set", about, pairs, verdicts, verdicts, names, len(inside))
    test = material.held_out.get("test")
    if look.test_features is not None and test is not None:
        across = near_duplicates(rows, standardised(look.test_features, look.features[kept]))
        pairs = [(("train", int(kept[a])), ("test", int(b)), c) for a, b, c in _each(across)]
        found.twins = np.union1d(found.twins, kept[across.first])
        about = "Accuracy on test images that were trained on says too much."
        _add_group(found, "Between training and test", about, pairs, verdicts, test, names, len(across))
    _add_far(found, look, verdicts, names)
    return found


def _each(alike: Alike) -> list[tuple[int, int, float]]:
    return list(zip(alike.first.tolist(), alike.second.tolist(), alike.cosine.tolist(), strict=True))


def _add_group(
    found: Found,
    title: str,
    about: str,
    pairs: Sequence[tuple[tuple[str, int], tuple[str, int], float]],
    left: Verdicts,
    right: Verdicts,
    names: Sequence[str],
    count: int,
) -> None:
    """Add the pairs, those with two labels first."""

    def differ(pair: tuple[tuple[str, int], tuple[str, int], float]) -> bool:
        return bool(left.noisy_label[pair[0][1]] != right.noisy_label[pair[1][1]])

    apart = sum(map(differ, pairs))
    shown = sorted(pairs, key=lambda pair: not differ(pair))[:PAIRS]
    rows = []
    for pair in shown:
        sides = []
        for (where, position), verdicts in zip(pair[:2], (left, right), strict=True):
            sides.append(_side(found, where, position, verdicts, names))
        rows.append({"sides": sides, "cosine": f"{pair[2]:.4f}", "differ": differ(pair), "same": False})
    if count:
        more = "1,000 or more pairs" if count >= 1000 else f"{count:,} {'pair' if count == 1 else 'pairs'}"
        what = f"{more}, {apart:,} of them with two different labels (shown first)."
    else:
        what = "None found."
    left_out = f" Shown are {len(shown)}." if len(shown) < count else ""
    found.groups.append({"title": title, "about": f"{what}{left_out} {about}", "pairs": rows})


def _side(found: Found, where: str, position: int, verdicts: Verdicts, names: Sequence[str]) -> Side:
    label = int(verdicts.noisy_label[position])
    given = names[label] if label >= 0 else "no label"
    name = verdicts.path[position] or f"image {verdicts.index[position]}"
    shown = f"test: {name}" if where == "test" else name
    side = Side(shown, given, f"{shown}: given {given}")
    found.wanted.append((where, position))
    found.sides.append(side)
    return side


def _add_far(found: Found, look: Look, verdicts: Verdicts, names: Sequence[str]) -> None:
    """Add the images that are farthest from every prototype, or from every class mean."""
    if look.far is not None:
        far, what = look.far, "prototype (their best match, by the mean of both networks, is the worst of all images)"
    else:
        rows = standardised(look.features)
        means = class_means(rows, verdicts.noisy_label, ~verdicts.suspected, len(names))
        far, what = none_of_the_classes(rows, means), "class mean of the networks' features (by cosine)"
    found.far_ones = np.argsort(-far, kind="stable")[: min(FAR_ONES, len(far))]
    about = (
        f"The {len(found.far_ones)} training images farthest from every {what}. There are always some that are "
        "farthest: look whether they show any class at all, and drop those that do not."
    )
    pictures = [_side(found, "train", position, verdicts, names) for position in found.far_ones.tolist()]
    found.far = {"about": about, "pictures": pictures}


def draw_alike(found: Found, train: Images | None, test: Images | None, tile: Tile, folder: Path) -> Path | None:
    """Write the pictures to a sheet in `folder`, which is that of the sprites, and note where each is; its file.

    Pairs of equal pictures are marked as such. None, and no file, where there is no picture.
    """
    read: list[Image.Image | None] = [None] * len(found.wanted)
    for name, images in (("train", train), ("test", test)):
        places = [place for place, (where, _) in enumerate(found.wanted) if where == name]
        if images is not None:
            for place, image in zip(places, read_images(images, [found.wanted[p][1] for p in places]), strict=True):
                read[place] = image
    if not any(image is not None for image in read):
        return None
    path = folder / f"{SHEET}.{tile.ending}"
    with atomic_write(path) as file:
        file.write(encode(sheet(read, tile), tile.crisp))
    by_side = {id(side): image for side, image in zip(found.sides, read, strict=True)}
    for place, (side, image) in enumerate(zip(found.sides, read, strict=True)):
        if image is not None:
            side.place, side.sheet = place, f"{folder.name}/{path.name}"
    for group in found.groups:
        for pair in group["pairs"]:
            one, other = (by_side[id(side)] for side in pair["sides"])
            pair["same"] = one is not None and other is not None and one.tobytes() == other.tobytes()
    return path
