"""Serves what is given in Python in batches, as a trained model takes them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cpc_lightning.app.given import Given, files_in
from cpc_lightning.datasets.dataset import ArrayImages
from cpc_lightning.datasets.reading.levels import UnreadableImageError
from cpc_lightning.errors import InputError, require
from cpc_lightning.inference.model import TrainedModel

BATCH = 256
"""Samples that are predicted at once."""


def batches_of(given: Given, model: TrainedModel) -> Iterator[Tensor]:
    """The samples in their order, as `TrainedModel.logits` takes them.

    Raises:
        InputError: named "X", for samples of the kind that the model was not trained on, or a file that cannot be read.
    """
    names = given.files if given.folder is None else files_in(given.folder)
    if names is not None:
        require(model.decode is not None, "X", "image files", "the networks were trained on vectors")
        for start in range(0, len(names), BATCH):
            yield torch.stack([decoded(model, name) for name in names[start : start + BATCH]])
        return
    held = given.images if given.images is not None else given.vectors
    assert held is not None
    vectors = given.images is None
    other = "images" if vectors is False else "vectors"
    require(model.takes_vectors == vectors, "X", other, "the networks were trained on the other kind")
    if not vectors:
        held = model.prepared(ArrayImages(held)).fetch(torch.arange(len(held)))
    yield from torch.split(held, BATCH)


def decoded(model: TrainedModel, name: str) -> Tensor:
    """An image file as the model takes it, (C, S, S) uint8; raises `InputError` where it cannot be read."""
    assert model.decode is not None
    try:
        return model.decode(name)
    except UnreadableImageError as error:
        raise InputError("X", name, str(error)) from None
