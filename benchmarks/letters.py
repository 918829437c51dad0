"""Fifty-three letters from the typefaces of Debian's font packages: a many-class set that anybody can make anew.

    apt-get install --no-install-recommends $(python benchmarks/letters.py --packages)
    python benchmarks/letters.py letters.npz

32 Cyrillic capitals without Ё, and the Greek small letters without omicron, kappa and tau, which look like Latin ones.
A typeface counts if it has all of them, so that no typeface tells a class; families by one maker that share the first
word of their names, and copies under another name (`SAME`), are one typeface. Every third of the typefaces, in a drawn
order, is for the test set, and all its styles with it. A class has at most 100 images to train on and 50 to test by:
the typefaces take turns, each with its next style. Images are 64 x 64, white on black, a letter of 44 px an em, shifted
by up to 4 px and turned by up to 6 degrees. The same fonts and seed give the same images; the fonts' number is printed.

The file has `images` (N, 64, 64) uint8, `labels` (N,), `test_images`, `test_labels`, and `class_names` (53,).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

PACKAGES = (
    "3270", "agave", "anonymous-pro", "cantarell", "clear-sans", "cmu", "comfortaa", "crosextra-carlito", "croscore",
    "dejavu-core", "dejavu-extra", "ebgaramond", "fantasque-sans", "firacode", "freefont-ttf", "georgewilliams", "go",
    "hack", "inter", "jetbrains-mono", "jura", "lato", "liberation", "linex", "linuxlibertine", "manrope", "monofur",
    "monoid", "mononoki", "morisawa-bizud-gothic", "noto-core", "noto-mono", "oldstandard", "open-sans", "osifont",
    "play", "roboto-slab", "roboto-unhinted", "sil-gentiumplus", "stix", "tuffy", "urw-base35", "vollkorn",
)  # fmt: skip
"""fonts-... of Debian 12 that have a typeface with all the letters."""

CYRILLIC = tuple(chr(code) for code in range(0x0410, 0x0430))
GREEK = tuple(chr(code) for code in range(0x03B1, 0x03CA) if code not in (0x03BA, 0x03BF, 0x03C2, 0x03C4))
LETTERS = CYRILLIC + GREEK

SAME = {"Arimo": "Liberation", "Cousine": "Liberation", "Tinos": "Liberation", "STIXGeneral": "STIX",
        "Monoisome": "Monoid"}  # fmt: skip
"""First words of names under which another typeface is sold."""

NOT_LETTERS = ("Smallcaps", "SC", "Sample", "Initials")
"""Words of names where small letters are drawn as capitals, or as something else."""

SIZE, EM = 64, 44
SHIFT, TURN = 4, 6.0
TRAIN, TEST = 100, 50


@dataclass(frozen=True)
class Font:
    """A style of a typeface.

    Attributes:
        typeface: its name.
        style: the family's and the style's name.
        path: of the file.
    """

    typeface: str
    style: str
    path: Path


def find_fonts(folder: Path = Path("/usr/share/fonts")) -> list[Font]:
    """The styles with all letters, one file each, by name."""
    found: dict[str, Font] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf")):
        with TTFont(path, lazy=True) as file:
            known = file.getBestCmap() or {}
            names = file["name"]
            family = names.getDebugName(16) or names.getDebugName(1) or path.stem
            style = names.getDebugName(17) or names.getDebugName(2) or ""
        words = family.replace("-", " ").split()
        if all(ord(letter) in known for letter in LETTERS) and not set(words) & set(NOT_LETTERS):
            font = Font(SAME.get(words[0], words[0]), f"{family} {style}", path)
            if font.style not in found and draws_all(path):
                found[font.style] = font
    return [found[style] for style in sorted(found)]


def draws_all(path: Path) -> bool:
    """Whether the file has a drawing of its own for each letter: neither nothing, nor the box of unknown ones."""
    font = ImageFont.truetype(str(path), EM)
    drawings = {bytes(font.getmask(letter)) for letter in LETTERS}
    return len(drawings) == len(LETTERS) and b"" not in drawings and bytes(font.getmask("\U0010fffe")) not in drawings


def split_typefaces(fonts: Sequence[Font], seed: int) -> tuple[list[Font], list[Font]]:
    """The fonts to train on and to test by; no typeface is in both."""
    typefaces = sorted({font.typeface for font in fonts})
    drawn = np.random.default_rng(seed).permutation(len(typefaces))
    tested = {typefaces[place] for place in drawn[::3]}
    return [font for font in fonts if font.typeface not in tested], [font for font in fonts if font.typeface in tested]


def in_turns(fonts: Sequence[Font], count: int, rng: np.random.Generator) -> list[Font]:
    """At most `count` fonts: a style of each typeface, then a second one of each that has it, and so on."""
    left: dict[str, list[Font]] = {}
    for place in rng.permutation(len(fonts)):
        left.setdefault(fonts[place].typeface, []).append(fonts[place])
    turns: Iterator[Font] = (
        styles[turn] for turn in range(len(fonts)) for styles in left.values() if turn < len(styles)
    )
    return list(islice(turns, count))


def draw(letter: str, font: ImageFont.FreeTypeFont, shift: tuple[int, int], turn: float) -> npt.NDArray[np.uint8]:
    """(64, 64) the letter in white on black, its em in the middle, then shifted (px) and turned (degrees)."""
    image = Image.new("L", (SIZE, SIZE))
    place = (SIZE // 2 + shift[0], SIZE // 2 + EM // 4 + shift[1])  # of the middle of the baseline
    ImageDraw.Draw(image).text(place, letter, fill=255, font=font, anchor="ms")
    return np.asarray(image.rotate(turn, resample=Image.Resampling.BILINEAR))


def render(fonts: Sequence[Font], rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (N, 64, 64) and labels (N,): every letter in every font."""
    images, labels = [], []
    for font in fonts:
        loaded = ImageFont.truetype(str(font.path), EM)
        for label, letter in enumerate(LETTERS):
            x, y = rng.integers(-SHIFT, SHIFT + 1, size=2)
            images.append(draw(letter, loaded, (int(x), int(y)), float(rng.uniform(-TURN, TURN))))
            labels.append(label)
    return np.stack(images), np.array(labels)


def make_letters(fonts: Sequence[Font], seed: int = 0) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of the file."""
    rng = np.random.default_rng(seed)
    learnt, tested = split_typefaces(fonts, seed)
    images, labels = render(in_turns(learnt, TRAIN, rng), rng)
    test_images, test_labels = render(in_turns(tested, TEST, rng), rng)
    names = np.array(LETTERS)
    return {
        "images": images,
        "labels": labels,
        "test_images": test_images,
        "test_labels": test_labels,
        "class_names": names,
    }


def main() -> None:
    """Write the file, or print the packages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=Path("letters.npz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--packages", action="store_true", help="print the names of Debian's packages")
    options = parser.parse_args()
    if options.packages:
        print(*(f"fonts-{name}" for name in PACKAGES))
        return
    fonts = find_fonts()
    made = make_letters(fonts, options.seed)
    np.savez_compressed(options.file, **made)
    kinds = len({font.typeface for font in fonts})
    print(f"{len(fonts)} fonts of {kinds} typefaces: {len(made['labels'])} images to train on, "
          f"{len(made['test_labels'])} to test by, in {options.file}")  # fmt: skip


if __name__ == "__main__":
    main()
