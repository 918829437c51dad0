"""Turns settings that are given in Python into overrides of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpc_lightning.app.build import build
from cpc_lightning.app.compose import Composed, read
from cpc_lightning.app.given import Given
from cpc_lightning.app.options import quoted
from cpc_lightning.errors import require

SMALL = 96
"""Images of up to so many pixels are learnt by `backbone=small_resnet`, larger ones by torchvision's ResNet-18."""


def composed_of(texts: Sequence[str]) -> Composed:
    """What the overrides compose, checked as those of the command line are."""
    asked = read(texts, multirun=False)
    return asked.compose(asked.first)


def as_override(name: str, value: Any) -> str:
    """A setting and its value in Hydra's grammar."""
    require(isinstance(name, str), "settings", name, "must be named by a text, as training.batch_size")
    return f"{name}={in_grammar(value)}"


def in_grammar(value: Any) -> str:
    """A value of plain Python in Hydra's grammar; a text that is a name goes without quotes, as choices must."""
    if value is None:
        return "null"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{in_grammar(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple, np.ndarray)):
        return "[" + ",".join(map(in_grammar, value)) + "]"
    if isinstance(value, (int, float, np.number)):
        return repr(value.item() if isinstance(value, np.number) else value)
    require(isinstance(value, (str, Path)), "settings", value, "must be numbers, texts, lists or dicts of such")
    text = str(value)
    return text if text.isidentifier() and text.lower() not in ("null", "true", "false", "nan", "inf") else quoted(text)


def scaled(composed: Composed, epochs: int, typed: Mapping[str, Any], folder: str) -> list[str]:
    """Overrides for that many epochs: warm-up and milestones keep their share of the training, unless typed."""
    require(isinstance(epochs, Integral) and epochs >= 1, "epochs", epochs, "must be a whole number of at least 1")
    settings = composed.settings(folder)
    share = epochs / settings["training"]["epochs"]
    texts = [f"training.epochs={epochs}"]
    if "training.warmup_epochs" not in typed and build(settings, "method", "losses").takes_cleaner:
        warmup = round(settings["training"]["warmup_epochs"] * share)
        texts.append(f"training.warmup_epochs={max(1, min(warmup, epochs - 1))}")
    milestones = settings["optimizer"]["schedule"].get("milestones")
    if milestones is not None and "optimizer.schedule.milestones" not in typed:
        texts.append(f"optimizer.schedule.milestones={[max(1, round(m * share)) for m in milestones]}".replace(" ", ""))
    return texts


def overrides_for(given: Given, features: str | None, backbone: str | None) -> list[str]:
    """Overrides that suit what is given: its data set, experiment and views.

    Args:
        given: the samples.
        features: the choice of a pretrained network; None for none.
        backbone: the choice of networks; None where these are to suit the images too.
    """
    pretrained = features not in (None, "none")
    fits = given.vectors is None or not pretrained
    require(fits, "features", features, "are computed of images, and X holds vectors")
    texts = []
    if given.vectors is not None or pretrained:
        texts += ["experiment=photos", f"features={features or 'none'}"]
    kinds = {"arrays": given.images, "embeddings": given.vectors, "table": given.files}
    source = next((name for name, held in kinds.items() if held is not None), "imagefolder")
    texts += [f"dataset={source}", "dataset.test_share=0"]
    if given.images is None:
        return texts
    channels, *sides = given.images.shape[1:]  # colour images are seen as photos, gray ones as signs
    side = min(sides)
    texts.append(f"views.padding={max(1, side // 8)}")
    if channels > 1:
        texts.append("views.flip=true")
    return texts + (["backbone=torchvision"] if side > SMALL and backbone is None and not pretrained else [])


def chosen_device(device: str | None) -> str:
    """The choice of `trainer` that `device` names; for None a GPU where there is one."""
    if device is not None:
        require(device in ("cpu", "gpu", "mps"), "device", device, "must be cpu, gpu or mps")
        return device
    if torch.cuda.is_available():
        return "gpu"
    return "mps" if torch.backends.mps.is_available() else "cpu"
