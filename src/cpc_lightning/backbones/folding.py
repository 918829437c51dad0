"""Batch norms folded into the convolutions before them: the same answers, with less to compute."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

TOLERANCE, ROUNDING = 1e-4, 1e-5
"""How far a number of an answer may be from the one without folding: shares of the largest that its column has, and of
the largest of all. More is no rounding."""


def fold_batch_norms(network: nn.Module, answer: Callable[[nn.Module], Tensor]) -> nn.Module:
    """A copy of a network in evaluation mode whose batch norms have gone into the convolutions before them.

    In evaluation mode a batch norm multiplies and shifts each channel by numbers that are known beforehand, and a
    convolution before it can do that with its own weights and bias. Which convolution comes before which batch norm is
    seen in a pass; whether the copy answers the same, in another one. So it works for networks of any library.

    Args:
        network: in evaluation mode; it is left as it is.
        answer: asks the network, or a copy of it, once to see some images; (..., D).

    Returns:
        The copy. The network itself, where it has nothing to fold, cannot be copied, or would answer otherwise: where,
        say, something else happens between the two layers, or more than the batch norm sees the convolution's answer.
    """
    if not any(type(part) in BATCH_NORMS for part in network.modules()):
        return network
    try:
        folded = copy.deepcopy(network)
        if {*folded.modules()} & {*network.modules()}:  # one that answers itself where it is copied
            return network
        expected, pairs = _watched(folded, answer)
        for convolution, batch_norm in pairs:
            _fold(folded.get_submodule(convolution), folded.get_submodule(batch_norm))
            parent, _, name = batch_norm.rpartition(".")
            setattr(folded.get_submodule(parent), name, nn.Identity())
        found = answer(folded) if pairs else expected
    except Exception:  # any network of any library: what is wrong with it is told where it is used
        return network
    columns = expected.abs().flatten(0, -2).amax(dim=0)
    same = bool(((found - expected).abs() <= TOLERANCE * columns + ROUNDING * columns.max()).all())
    return folded if pairs and same else network


def _watched(network: nn.Module, answer: Callable[[nn.Module], Tensor]) -> tuple[Tensor, list[tuple[str, str]]]:
    """What the network answers, and which convolutions go with which batch norms, by name.

    Each is used once, and the batch norm sees what the convolution answers.
    """
    made: dict[int, tuple[str, Any]] = {}  # the tensors too, so that no other one gets their number
    pairs: list[tuple[str, str]] = []
    used: Counter[str] = Counter()

    def note(name: str, part: nn.Module, seen: tuple[Any, ...], answered: Any) -> None:
        used[name] += 1
        if isinstance(part, CONVOLUTIONS):
            made[id(answered)] = name, answered
        elif seen and id(seen[0]) in made and part.running_mean is not None:
            pairs.append((made[id(seen[0])][0], name))

    hooks = [
        part.register_forward_hook(lambda part, seen, answered, name=name: note(name, part, seen, answered))
        for name, part in network.named_modules()
        if (isinstance(part, CONVOLUTIONS) and _plain(part)) or type(part) in BATCH_NORMS
    ]
    try:
        answered = answer(network)
    finally:
        for hook in hooks:
            hook.remove()
    return answered, [pair for pair in pairs if all(used[name] == 1 for name in pair)]


def _plain(convolution: nn.Module) -> bool:
    """Whether its weights are its own, not made anew before each pass (weight norm, pruning and the like)."""
    return isinstance(getattr(convolution, "weight", None), nn.Parameter) and not (
        hasattr(convolution, "parametrizations") or convolution._forward_pre_hooks
    )


def _fold(convolution: Any, batch_norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, batch_norm.running_mean, batch_norm.running_var, batch_norm.eps,
        batch_norm.weight, batch_norm.bias,
    )  # fmt: skip
    convolution.weight, convolution.bias = weight, bias
