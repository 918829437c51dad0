"""Images of a data set as files in a folder: links to its own files, copies of them, or PNG files of arrays."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cpc_lightning.datasets.dataset import Images
from cpc_lightning.datasets.reading.formats import open_image
from cpc_lightning.datasets.reading.image_files import ImageFiles
from cpc_lightning.errors import InputError
from cpc_lightning.noise.open_set import MixedImages

_ENDING = re.compile(r"\.[a-z0-9]{1,8}", re.ASCII | re.IGNORECASE)


def file_of(images: Images, position: int) -> str | None:
    """The absolute name of the file that holds the image at `position`; None where it is no file of its own."""
    if isinstance(images, MixedImages):
        other = int(images.origin[position])
        return file_of(images.own, position) if other < 0 else file_of(images.other, other)
    return os.path.abspath(images.file(position)) if isinstance(images, ImageFiles) else None


def roots_of(images: Images) -> set[str]:
    """The absolute names of the folders that the files of the images lie in."""
    if isinstance(images, MixedImages):
        return roots_of(images.own) | roots_of(images.other)
    return {os.path.abspath(images.root)} if isinstance(images, ImageFiles) else set()


@dataclass(frozen=True)
class Pictures:
    """Puts images into folders.

    Attributes:
        images: of a set.
        copy: copy files rather than link to them. Links are absolute: they hold wherever their own folder is moved to,
            as long as the images stay where they are.
    """

    images: Images
    copy: bool = False

    def ending(self, position: int) -> str:
        """How the name of the image's file must end, ".jpg" say; of a file without an ending, by what is in it."""
        file = file_of(self.images, position)
        if file is None:
            return ".png"
        ending = os.path.splitext(file)[1]
        if _ENDING.fullmatch(ending):
            return ending
        try:
            with open_image(file) as image:
                return f".{(image.format or 'png').lower()}"
        except OSError:
            raise InputError("image", file, "cannot be read") from None

    def put(self, position: int, target: Path) -> None:
        """Make the file `target`, which is not there yet, of the image at `position`.

        Raises:
            InputError: where the image is not there, or cannot be linked to.
            OSError: where the target cannot be written.
        """
        file = file_of(self.images, position)
        if file is None:
            pixels = self.images.fetch(torch.tensor([position]))[0].permute(1, 2, 0).numpy()
            Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)).save(target)
        elif not os.path.isfile(file):
            raise InputError("image", file, "is not there: dataset.root=FOLDER, where the images have moved")
        elif self.copy:
            self._copy(file, target)
        else:
            try:
                os.symlink(file, target)
            except (NotImplementedError, PermissionError) as error:  # a stick without links, Windows without a right
                raise InputError("copy", "false", "links cannot be made there: copy=true") from error

    @staticmethod
    def _copy(file: str, target: Path) -> None:
        try:
            with open(file, "rb") as source, open(target, "xb") as copied:
                shutil.copyfileobj(source, copied, 1 << 20)
        except OSError as error:
            if error.filename == file:  # the source's fault, not the target's
                raise InputError("image", file, f"cannot be read: {error.strerror or error}") from None
            raise
