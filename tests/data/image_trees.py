"""Small genuine trees of image files, in the layouts in which people have them on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((40, 30), (31, 47), (64, 32), (32, 32), (25, 90), (48, 36))
"""Width and height of the images, in turn."""


def picture(number: int, shade: int = 0, size: tuple[int, int] | None = None) -> Image.Image:
    """An image whose brightness tells its class, with some noise of its own."""
    width, height = size or SIZES[number % len(SIZES)]
    noise = np.random.RandomState(number).randint(0, 60, (height, width, 3))
    return Image.fromarray((noise + shade).astype(np.uint8))


def save_jpeg(path: Path, number: int, shade: int = 0) -> None:
    """Write one of those images, with the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number, shade).save(path, quality=90)
