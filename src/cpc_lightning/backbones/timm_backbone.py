"""Models of timm (PyTorch Image Models) as backbones; an extra: `pip install cpc-lightning[timm]`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from cpc_lightning.backbones.network import Headless
from cpc_lightning.backbones.torchvision_backbone import suggestion
from cpc_lightning.backbones.weights import load_weights, require_download
from cpc_lightning.errors import InputError, first_line, require, require_path


def timm_backbone(name: str, weights: str | None = None, in_channels: int = 3) -> Headless:
    """The timm model `name` up to the input of its classifier: pooled features.

    Some need a certain image size (the vit family 224, unless their name says another).

    Args:
        name: as in `timm.list_models()`, e.g. "inception_resnet_v2".
        weights: None for a random start; "DEFAULT" or a tag of timm's ("a1_in1k"), which are downloaded once; or a
            file (see `load_weights`).
        in_channels: of the images. Weights of timm's own are adapted to it, as timm does.

    Raises:
        InputError: if timm is not installed, has no such model or weights, or the file does not fit the model.
    """
    try:
        timm: Any = importlib.import_module("timm")
    except ImportError as error:
        raise InputError("name", name, "needs timm: pip install 'cpc-lightning[timm]'") from error
    names = timm.list_models()
    require(isinstance(name, str), "name", name, "must be a text, the model's name")
    require(name in names, "name", name, f"is no timm model{suggestion(name, names)}")
    if weights is not None:
        require_path("weights", weights)
    is_file = weights is not None and Path(weights).expanduser().is_file()
    model = named_model(timm, name, None if is_file else weights, in_channels)
    if is_file:
        classifiers = model.pretrained_cfg.get("classifier") or ()
        classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
        load_weights(model, str(weights), tuple(f"{classifier}." for classifier in classifiers))
    return Headless(model, getattr(model, "head_hidden_size", model.num_features))


def named_model(timm: Any, name: str, weights: str | None, in_channels: int) -> Any:
    """The timm model without classifier, with random weights or timm's of that tag."""
    settings = {"num_classes": 0, "in_chans": in_channels}
    if weights is None:
        return timm.create_model(name, pretrained=False, **settings)
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}*") if full.partition(".")[0] == name]
    known = [*tags, "DEFAULT"] if tags else []
    expected = f"is neither a file nor weights that timm has for {name} ({', '.join(known) or 'it has none'})"
    require(weights in known, "weights", weights, expected)
    require_download(weights, "come from timm's cache, or are downloaded by the run")
    try:
        return timm.create_model(name if weights == "DEFAULT" else f"{name}.{weights}", pretrained=True, **settings)
    except (OSError, RuntimeError, ValueError) as error:  # what its downloads fail with
        reason = f"{address_of(timm, name, weights)} could not be downloaded ({first_line(error)}); "
        reason += "download it elsewhere and give the file's path here"
        raise InputError("weights", weights, reason) from error


def address_of(timm: Any, name: str, weights: str) -> str:
    """Where timm's weights of that tag lie."""
    config = timm.get_pretrained_cfg(name if weights == "DEFAULT" else f"{name}.{weights}")
    return str(f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url)
