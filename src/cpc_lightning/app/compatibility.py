"""Checks before training whether the parts of a run fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cpc_lightning.app.build import settings_of
from cpc_lightning.app.unread import called
from cpc_lightning.backbones.network import Network
from cpc_lightning.cleaning.evidence import Chooses, Cleaner
from cpc_lightning.datasets.dataset import ImageDataset, Vectors
from cpc_lightning.errors import InputError, first_line, require
from cpc_lightning.methods.method import Method
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views


def check_cleaner(cleaner: Cleaner, method: Method, settings: Mapping[str, Any], overrides: Sequence[str] = ()) -> None:
    """Raise `InputError` where the cleaner cannot divide the data for this method, or with these settings.

    Args:
        cleaner: as `settings` has it.
        method: need not have begun.
        settings: nested.
        overrides: what was typed, which says how the choices are called.
    """
    name, learner = called("cleaner", cleaner, overrides), called("method", method, overrides)
    expected = f"divides the data, and method={learner} trains on all of it: leave cleaner out, or take cleaner=none"
    require(method.takes_cleaner or not cleaner.active, "cleaner", name, expected)
    expected = f"divides nothing, and method={learner} needs a division, by a cleaner that it brings: leave cleaner out"
    require(cleaner.active or not method.needs_cleaner, "cleaner", name, expected)
    try:
        method.check_cleaner(cleaner)
    except InputError as error:  # of a method, which does not know what was typed
        raise InputError("cleaner", name, error.expected) if error.setting == "cleaner" else error from None
    training = settings["training"]
    epochs, warmup_epochs = training["epochs"], training["warmup_epochs"]
    expected = f"must be more than training.warmup_epochs={warmup_epochs}, or there is no stage 2"
    require(not cleaner.active or epochs > warmup_epochs, "training.epochs", epochs, expected)
    require(
        training["balanced_batches"] is None or cleaner.history_length == 1,
        "cleaner.history_length", cleaner.history_length,
        "must be 1 with training.balanced_batches, which draws other samples every epoch",
    )  # fmt: skip
    left_to_it = settings["semisup"].get("lambda_u", 0) is None
    expected = "must be a number: only cleaner=auto chooses it"
    require(not left_to_it or isinstance(cleaner, Chooses), "semisup.lambda_u", None, expected)


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
