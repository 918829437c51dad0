"""Digests of images: the key under which their features are kept on disk."""

from __future__ import annotations

import hashlib
import os

from cpc_lightning.datasets.dataset import ArrayImages, Images
from cpc_lightning.datasets.reading.image_files import ImageFiles
from cpc_lightning.errors import InputError
from cpc_lightning.noise.open_set import MixedImages


def identity_of(images: Images) -> str:
    """sha256 of the pixels in memory, or of the names, sizes and times of image files and of how they are cropped.

    Files are not read, which for photos would take longer than all else of a second run: who changes a file's content
    and keeps its size and its time of change gets the features of before. The folder that holds them may be moved.

    Raises:
        InputError: named "images", for images of a kind of one's own.
    """
    if isinstance(images, MixedImages):
        hashed = hashlib.sha256(f"{identity_of(images.own)} {identity_of(images.other)}".encode())
        hashed.update(images.origin.numpy().data)
    elif isinstance(images, ArrayImages):
        hashed = hashlib.sha256(repr(tuple(images.pixels.shape)).encode())
        hashed.update(images.pixels.contiguous().numpy().data)
    elif isinstance(images, ImageFiles):
        hashed = hashlib.sha256(repr((images.crop, images.top)).encode())
        for position, path in enumerate(images.paths):
            try:
                found = os.stat(images.file(position))
                size, time = found.st_size, found.st_mtime_ns
            except OSError:  # whoever opens it says so
                size, time = -1, -1
            hashed.update(f"{size} {time} ".encode() + os.fsencode(path) + b"\0")
    else:
        expected = "are of a kind whose features cannot be found again: image files, or images in memory"
        raise InputError("images", type(images).__name__, expected)
    return hashed.hexdigest()
