"""Memory layout (channels last) of networks and of their optimizers' states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCK = 16
"""Channels that oneDNN's 1x1 convolutions take at once with AVX-512; 8 with AVX2."""


def may_be_channels_last(network: nn.Module) -> bool:
    """Whether the network trains safely with the channels as neighbours in memory, whatever the CPU.

    It does not where a 1x1 convolution with a stride has fewer than `BLOCK` input channels: in the gradient of its
    float32 weights oneDNN writes past its workspace. With one thread training ends with "double free or corruption" or
    a segmentation fault; with several it goes on with wrong gradients, or waits for ever. The activations' order is
    enough for it, whatever the weights', so the network as a whole keeps out, and its inputs have to come channels
    first, as `Views` makes them.

    Found with torch 2.14.1, whose oneDNN is 3.12.0, on an AVX2 CPU by `benchmarks/channels_last.py`, which tries shapes
    one by one with guarded memory: there those with 2 to 7 channels fail. The cause, and that AVX-512 needs 16, are
    from https://github.com/uxlfoundation/oneDNN/issues/6035. One rule for all CPUs, so that a run can go on elsewhere
    with the same arithmetic.
    """
    return not any(
        isinstance(part, nn.Conv2d)
        and max(part.kernel_size) == 1
        and max(part.stride) > 1
        and part.groups == 1
        and part.in_channels < BLOCK
        for part in network.modules()
    )


def match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Store the optimizer's state of each parameter in the order of memory that the parameter has.

    A state that was saved with other strides keeps them when it is loaded, and fused steps go through parameter and
    state in the order of memory, without a look at strides: each weight would get another one's momentum.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
