"""Loads weights from a file into a backbone; keys that do not fit are an error that lists them.

Files come from many places: a bare state_dict, a training checkpoint that holds one among other things, or a
self-supervised network (SimCLR, MoCo, SupCon) whose encoder has a name of its own and carries a projection head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cpc_lightning.datasets.reading.pickles import read_torch
from cpc_lightning.errors import InputError, require, require_path

# Where a checkpoint keeps its state_dict.
HOLDERS = ("state_dict", "model_state_dict", "model", "net")
# How checkpoints call the part that is a backbone; several may be nested, as in "module.encoder_q.".
PREFIXES = ("module.", "model.", "encoder_q.", "encoder.", "backbone.", "net.")
# Layers after the backbone, a few linear ones: projections of self-supervised networks, and classifiers.
HEADS = ("fc.", "head.", "linear.", "classifier.", "projector.", "projection.", "projection_head.", "predictor.",
         "contrastive_head.", "prototypes.")  # fmt: skip
# MoCo's second encoder and its queue of embeddings.
TWINS = ("encoder_k.", "queue", "queue_ptr")
COUNTER = ".num_batches_tracked"
"""How many batches a BatchNorm has seen: files from before torch 0.4.1 do not have it, and nothing here reads it."""


_may_download = ContextVar("may_download", default=True)


class DownloadError(InputError):
    """Weights that would have to be downloaded, where nothing may be (`without_downloads`)."""


@contextmanager
def without_downloads() -> Iterator[None]:
    """Within the block, backbones raise `DownloadError` instead of downloading weights."""
    token = _may_download.set(False)
    try:
        yield
    finally:
        _may_download.reset(token)


def require_download(weights: str, where: str) -> None:
    """Raise `DownloadError` where nothing may be downloaded.

    Args:
        weights: their name.
        where: where they come from, after "weights=NAME".
    """
    if not _may_download.get():
        raise DownloadError("weights", weights, where)


def load_weights(
    model: nn.Module, path: str, left_aside: tuple[str, ...] = (), other_names: Mapping[str, str] | None = None
) -> None:
    """Load the weights in a file into `model`; every key must be there, and every key of the file must be the model's.

    A prefix that the file's encoder has ("module.encoder_q.") is taken off. What lies beside the encoder, or is no key
    of the model's, may only be a head: a known name, and nothing in it but vectors and matrices. BatchNorm's counters
    need not be there.

    Args:
        model: the backbone.
        path: a file that `torch.save` wrote: a state_dict, or a checkpoint with one under a key of `HOLDERS`.
        left_aside: beginnings of further keys that are not to be loaded, such as the classifier's.
        other_names: how other people's code calls each of the model's keys; a file may use either names throughout.

    Raises:
        InputError: named "weights", if the file cannot be read safely, does not fit, or holds what is no finite number.
    """
    require_path("weights", path)
    convert = "is a safetensors file: load it with safetensors.torch.load_file and save that with torch.save"
    require(not path.lower().endswith(".safetensors"), "weights", path, convert)
    loaded = read_torch(Path(path).expanduser(), "weights")
    require(isinstance(loaded, dict), "weights", path, f"must hold a state_dict, but holds a {type(loaded).__name__}")
    state, own = state_in(loaded), model.state_dict()
    given = without_prefix(state, own.keys())
    if other_names is not None and not own.keys() & given.keys():
        ours = {theirs: key for key, theirs in other_names.items()}
        given = {ours.get(key, key): value for key, value in without_prefix(state, ours.keys()).items()}
    given = {key: value for key, value in given.items() if key in own or not _may_stay_out(key, value, left_aside)}

    given = {key: value for key, value in own.items() if key.endswith(COUNTER)} | given

    of_each_kind = [
        [f"{key} is missing" for key in own if key not in given],
        [f"{key} is not the model's" for key in given if key not in own],
        [why for key in own if key in given and (why := unfit(key, given[key], own[key]))],
    ]
    shown = [", ".join(k[:3]) + (f" and {len(k) - 3} more" if len(k) > 3 else "") for k in of_each_kind if k]
    require(not shown, "weights", path, f"does not fit the model: {'; '.join(shown)}")
    model.load_state_dict(given)


def unfit(key: str, value: object, own: Tensor) -> str | None:
    """Why `value` cannot take the place of the model's `own` under `key`; None where it can."""
    if not isinstance(value, Tensor):
        return f"{key} is no tensor"
    if value.shape != own.shape:
        return f"{key} has shape {tuple(value.shape)}, not {tuple(own.shape)}"
    if not own.is_floating_point():
        return None
    if not value.is_floating_point():
        return f"{key} is {str(value.dtype).removeprefix('torch.')}, not floating-point"
    return None if bool(torch.isfinite(value.float()).all()) else f"{key} holds infinite numbers or NaN"


def state_in(checkpoint: Mapping[Any, Any]) -> dict[str, Any]:
    """The state_dict in a checkpoint, or the checkpoint itself where it holds none."""
    for holder in HOLDERS:
        if isinstance(checkpoint.get(holder), dict):
            checkpoint = checkpoint[holder]
            break
    return {str(key): value for key, value in checkpoint.items()}


def without_prefix(state: Mapping[str, Any], own: Any) -> dict[str, Any]:
    """`state` with its encoder's keys as the model has them: the prefix under which most of the keys `own` lie goes.

    Keys beside that prefix keep the rest of theirs: "module.fc.0.weight" beside "module.encoder." is "fc.0.weight".
    """
    best, most = "", sum(key in own for key in state)
    candidates = [""]
    for _ in range(3):  # nested that deep at most
        candidates = [c + p for c in candidates for p in PREFIXES if any(key.startswith(c + p) for key in state)]
        for prefix in candidates:
            count = sum(key.removeprefix(prefix) in own for key in state if key.startswith(prefix))
            if count > most:
                best, most = prefix, count

    def renamed(key: str) -> str:
        if key.startswith(best):
            return key.removeprefix(best)
        while any(key.startswith(prefix) and best.startswith(prefix) for prefix in PREFIXES):
            key = key.split(".", 1)[1]
        return key

    inside = {renamed(key): value for key, value in state.items() if key.startswith(best)}
    beside = {renamed(key): value for key, value in state.items() if not key.startswith(best)}
    # Never may something beside the encoder stand in for a key that the encoder lacks.
    return inside | {key if key not in own else f"(beside {best}) {key}": value for key, value in beside.items()}


def _may_stay_out(key: str, value: object, left_aside: tuple[str, ...]) -> bool:
    """Whether a key that is not the model's is one that it need not have."""
    if key.startswith((*left_aside, *TWINS)):
        return True
    return key.startswith(HEADS) and isinstance(value, Tensor) and value.ndim <= 2
