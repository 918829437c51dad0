"""Reads the sizes of images from the headers of their files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from cpc_lightning.datasets.reading.formats import open_image
from cpc_lightning.datasets.reading.image_files import ImageFiles
from cpc_lightning.files import usable_cores

MOST_LOOKED_AT = 512
"""Files whose headers are looked at, drawn at random where there are more."""


def shorter_sides(images: ImageFiles, seed: int = 0) -> list[int]:
    """The shorter sides of up to `MOST_LOOKED_AT` images, in pixels, ascending; files that cannot be read have none.

    Args:
        images: N of them.
        seed: decides which ones, where there are more.
    """

    def side(position: int) -> int | None:
        try:
            with open_image(images.file(position)) as image:
                return int(min(image.size))
        except Exception:  # decoders of garbled files raise nearly anything; who decodes it says what is wrong
            return None

    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    with ThreadPoolExecutor(usable_cores() + 4) as threads:
        found = threads.map(side, order[:MOST_LOOKED_AT].tolist())
        return sorted(one for one in found if one is not None)
