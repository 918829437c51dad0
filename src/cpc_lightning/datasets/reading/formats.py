"""The image formats that are read, the endings of their file names, and the decoder for HEIC."""

from __future__ import annotations

import functools
import importlib
import os
import warnings

from PIL import Image

# Whoever opens an image asks how large it is, and refuses or shrinks what is too large.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "MPO")
"""Formats of photos and drawings. Pillow knows forty more, and some of their readers start other programs: for a file
that begins like EPS, whatever its name, it would run Ghostscript."""
ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".avif", ".avifs",
)  # fmt: skip
"""How names of such files end. Not .pfm: it holds floating-point levels, whose range is not known."""

HEIF = "HEIF"
HEIF_ENDINGS = (".heic", ".heif", ".hif", ".heics", ".heifs")
NEEDS_HEIF = "is HEIC, which takes another package: pip install pillow-heif"
_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow can open, and HEIF where pillow-heif is installed."""
    Image.init()
    found = tuple(name for name in FORMATS if name in Image.OPEN)
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return found
    return (*found, HEIF)


def open_image(file: str) -> Image.Image:
    """`PIL.Image.open` for `formats` alone."""
    return Image.open(file, formats=formats())


def is_image(file: str) -> bool:
    """Whether a file is looked at: its name ends like an image; or it has no ending, and it begins like an image."""
    ending = os.path.splitext(file)[1].lower()
    if ending:
        return ending in ENDINGS or ending in HEIF_ENDINGS
    try:
        if not os.path.isfile(file):  # a pipe would keep its reader waiting
            return False
        with open_image(file):
            return True
    except Exception:  # what is no image may trip a decoder in any way
        return False


def lacks_decoder(name: str) -> bool:
    """Whether a file of that name is HEIC and nothing that is installed decodes it."""
    return name.lower().endswith(HEIF_ENDINGS) and HEIF not in formats()


def begins_like_heif(file: str) -> bool:
    """Whether a file's first bytes are those of HEIC, whatever its name: phones and converters rename them."""
    with open(file, "rb") as opened:
        start = opened.read(12)
    return start[4:8] == b"ftyp" and start[8:12] in _BRANDS
