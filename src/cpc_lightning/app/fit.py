"""Tries before training whether the parts of a run fit together."""

from __future__ import annotations

from typing import Any

import torch

from cpc_lightning.app.build import settings_of
from cpc_lightning.backbones.network import Network
from cpc_lightning.datasets.dataset import ImageDataset, Vectors
from cpc_lightning.errors import InputError, first_line, require
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views


def check_schedule(schedule: Any, epochs: int) -> None:
    """Raise `InputError` where the schedule gives an epoch a learning rate that is no number, or negative."""
    for epoch in range(epochs):
        rate = schedule.get_last_lr()[0]
        shown = f"a learning rate of {rate} in epoch {epoch}"
        require(0 <= rate < float("inf"), "optimizer.schedule", shown, "must not be negative or infinite")
        schedule.optimizer.step()  # or torch warns that the schedule is ahead of it
        schedule.step()


def check_views(views: Views | VectorViews, dataset: ImageDataset) -> None:
    """Raise `InputError` where the views do not fit the data set's images, rather than in the middle of an epoch.

    Views of vectors learn what those to train on need to be standardised.
    """
    images = dataset.train.images
    if isinstance(views, VectorViews) and isinstance(images, Vectors):
        views.standardise_to(images.vectors)
    elif isinstance(views, VectorViews) or isinstance(images, Vectors):
        expected = "but the data set consists of vectors" if isinstance(images, Vectors) else "but there are images"
        raise InputError("views", f"{type(views).__name__}", expected)
    image = images.fetch(torch.tensor([0]))
    with settings_of("views"):
        views.normalise(views.weak(image))
        views.evaluation(image)


def check_network(network: Network, views: Views | VectorViews, dataset: ImageDataset) -> None:
    """Raise `InputError` where the backbone cannot take the views, such as a transformer for another image size."""
    image = views.normalise(views.evaluation(dataset.train.images.fetch(torch.tensor([0]))))
    network.eval()
    try:
        with torch.no_grad():
            network(image)
    except (RuntimeError, AssertionError, ValueError) as error:  # what the layers of different libraries raise
        what = f"images of {' x '.join(map(str, image.shape[2:]))}"
        if image.ndim == 2:
            what = f"vectors of {image.shape[1]} numbers (backbone=mlp does)"
        raise InputError("backbone", "this network", f"cannot take {what}: {first_line(error)}") from error
    network.train()
