"""Data sets of images in an array: pixels, labels, and perhaps true labels and names, in a file of arrays.

Shapes: N samples, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset
from cpc_lightning.datasets.labeled_arrays import Kind, labeled_arrays
from cpc_lightning.errors import require

ROWS = 1 << 12
"""Images that are converted at once: a data set needs no second copy in floating point."""


def image_arrays(file: str, test_file: str | None = None, test_share: float = 0.2, split_seed: int = 0) -> ImageDataset:
    """Images of one size with labels, as arrays.

    Args:
        file: to train on, as `labeled_arrays` has it; for its array `images` see `check_images`.
        test_file: to test on, likewise; None: a share of each class is set aside.
        test_share: that share, in [0, 1): 0 trains on all, and nothing is tested.
        split_seed: decides which ones.

    Raises:
        InputError: as `labeled_arrays` and `check_images` do.
    """
    return labeled_arrays(IMAGES, file, test_file, test_share, split_seed)


def check_images(setting: str, file: str, images: npt.NDArray[Any]) -> Tensor:
    """The array as (N, C, H, W) uint8, C = 1 (gray) or 3 (RGB).

    Args:
        setting: what names the file, for errors.
        file: its name.
        images: (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1 or 3: levels in 0..255, whole or not; or floating
            point in [0, 1], which is scaled to 0..255; or true and false.

    Raises:
        InputError: named `setting`, if it is of another shape, or its numbers are no levels.
    """
    shape, kind = tuple(images.shape), images.dtype
    expected = "images must be (N, H, W), (N, H, W, 3) or (N, 3, H, W)"
    require(images.ndim in (3, 4) and 0 not in shape, setting, file, f"{expected}, and are {shape}")
    require(kind.kind in "fiub", setting, file, f"images must be numbers, and are {kind}")
    if images.ndim == 3:
        images = images[:, None]
    elif shape[3] in (1, 3):  # also where the first axis could be one of colours: pictures three pixels wide are rare
        images = np.moveaxis(images, 3, 1)
    require(images.shape[1] in (1, 3), setting, file, f"{expected}, and are {shape}")
    if kind == np.uint8:
        # Flattened on the way: an axis of length 1 keeps the stride of wherever it was, and torch takes that for a sign
        # of channels last, whose kernels round otherwise.
        return torch.from_numpy(np.ascontiguousarray(images).ravel().reshape(images.shape))
    lowest, highest = (float(bound) for bound in (images.min(), images.max()))
    levels = np.isfinite(lowest) and np.isfinite(highest) and lowest >= 0 and highest <= 255
    require(levels, setting, file, f"images must be levels in 0..255, or in [0, 1], and are {lowest:g} to {highest:g}")
    scale = 255 if kind.kind == "b" or (kind.kind == "f" and highest <= 1) else 1
    made = np.empty(images.shape, dtype=np.uint8)
    for start in range(0, len(images), ROWS):
        made[start : start + ROWS] = np.rint(images[start : start + ROWS] * np.float32(scale))
    return torch.from_numpy(made)


def size_of(pixels: Tensor) -> str:
    """Channels and size, in words."""
    count, height, width = pixels.shape[1:]
    return f"{'gray' if count == 1 else 'colour'} images of {height} x {width} pixels"


IMAGES = Kind("arrays", "images", check_images, ArrayImages, size_of)
