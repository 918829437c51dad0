"""Image classifiers of torchvision as backbones: images (B, C, H, W) -> features (B, D)."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from cpc_lightning.backbones.network import Headless
from cpc_lightning.backbones.weights import load_weights, require_download
from cpc_lightning.errors import InputError, require, require_path

RGB = 3
# These two take extra outputs from inner layers in training; a co-trained network has no use for them.
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


class TorchvisionBackbone(Headless):
    """A torchvision classifier without its last layer."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> features (B, D). A grayscale image (C = 1) is repeated as red, green and blue."""
        return super().forward(images.expand(-1, RGB, -1, -1) if images.shape[1] == 1 else images)


def torchvision_backbone(name: str, weights: str | None = None, in_channels: int = 3) -> TorchvisionBackbone:
    """The torchvision classifier `name` up to the input of its last layer.

    Some need a certain image size: the vit family and maxvit_t 224 (or what the weights say), inception_v3 at least 75.

    Args:
        name: as in torchvision.models, e.g. "resnet50".
        weights: None for a random start; a name of the model's torchvision weights ("DEFAULT", "IMAGENET1K_V2"), which
            are downloaded once; or a file (see `load_weights`), whose last layer, of any number of classes, is left
            aside.
        in_channels: 1 or 3. A grayscale image is repeated to three channels, so that pretrained weights fit.

    Raises:
        InputError: if there is no such classifier, no such weights, or the file does not fit the model.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    require(isinstance(name, str), "name", name, "must be a text, the model's name")
    require(name in names, "name", name, f"is no torchvision classifier{suggestion(name, names)}")
    require(in_channels in (1, RGB), "in_channels", in_channels, "must be 1 or 3")
    if weights is not None:
        require_path("weights", weights)
    is_file = weights is not None and Path(weights).expanduser().is_file()
    model = named_model(name, None if is_file else weights)
    for auxiliary in AUXILIARY.get(name, ()):
        setattr(model, auxiliary, None)
        model.aux_logits = False  # type: ignore[assignment]

    last, feature_size = remove_last_layer(model)
    if is_file:
        left_aside = (f"{last}.", *(f"{auxiliary}." for auxiliary in AUXILIARY.get(name, ())))
        load_weights(model, str(weights), left_aside)
    return TorchvisionBackbone(model, feature_size)


def named_model(name: str, weights: str | None) -> nn.Module:
    """The whole torchvision model, with random weights or the torchvision weights of that name."""
    if weights is None:
        # Said out loud, because these two otherwise warn that their default will change.
        options = {"init_weights": True} if name in AUXILIARY else {}
        return torchvision.models.get_model(name, weights=None, **options)  # type: ignore[no-any-return]
    known = torchvision.models.get_model_weights(name).__members__
    require(
        weights in known,
        "weights",
        weights,
        f"is neither a file nor weights that torchvision has for {name} ({', '.join(known)})",
    )
    address = known[weights].url
    if not Path(torch.hub.get_dir(), "checkpoints", address.rsplit("/", 1)[-1]).is_file():
        require_download(weights, "are not in torchvision's cache yet: the run downloads them")
    try:
        return torchvision.models.get_model(name, weights=weights)  # type: ignore[no-any-return]
    except (OSError, RuntimeError) as error:  # RuntimeError: what came is another file
        reason = f"{address} could not be downloaded ({error}); download it elsewhere and give the file's path here"
        raise InputError("weights", weights, reason) from error


def remove_last_layer(model: nn.Module) -> tuple[str, int]:
    """Put an identity where the classifier is; returns the classifier's name and the number of its inputs, D.

    The classifier is the linear layer that torchvision registers last (squeezenet's is a 1x1 convolution, which the
    pool follows). Dropout or hidden layers before it stay.
    """
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    name, layer = layers[-1]
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return name, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def suggestion(name: str, names: list[str]) -> str:
    """'; did you mean "resnet50"?', or nothing if no name is alike."""
    close = get_close_matches(name, names, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
