"""Steps of a head's optimizer on all its parameters at once: a step of prototypes costs less than torch's own of SGD.

Shapes: K classes, D features, d embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Parts = tuple[Tensor, Tensor, Tensor]
"""Of a head, the projector's weight (d, D) and bias (d,) and the prototypes (K, d); or what goes with each of them."""


class Packed:
    """What goes with each of a head's parameters, in one tensor, so that a step is a few operations on all at once.

    Attributes:
        all: (d (D + 1) + K d,).
        weight: (d, D + 1) view of it, for the projector's weight and, as the last column, its bias.
        prototypes: (K, d) view of it.
    """

    def __init__(self, parts: Parts) -> None:
        weight, bias, prototypes = parts
        self.all = prototypes.new_empty(weight.numel() + bias.numel() + prototypes.numel())
        self.prototypes = self.all[-prototypes.numel() :].view_as(prototypes)
        self.weight = self.all[: -prototypes.numel()].view(len(weight), -1)
        self._parts = self.weight[:, :-1], self.weight[:, -1], self.prototypes
        self.read(parts)

    def read(self, parts: Parts) -> None:
        """Take the values of tensors of the parameters' shapes."""
        for mine, other in zip(self._parts, parts, strict=True):
            mine.copy_(other)

    def write(self, parts: Parts) -> None:
        """Give tensors of the parameters' shapes these values."""
        for mine, other in zip(self._parts, parts, strict=True):
            other.copy_(mine)


@contextmanager
def stepping(
    optimizer: torch.optim.Optimizer, parameters: Parts, values: Packed, gradient: Packed
) -> Iterator[Callable[[], None]]:
    """A step of `optimizer` on the packed values.

    At the end, also by an error, parameters and the optimizer's state are what it would make them. SGD with momentum
    is written out: on tensors as small as these, torch's step takes longer than the gradient. Any other optimizer steps
    the parameters themselves.
    """
    group = optimizer.param_groups[0]
    unlike = len(optimizer.param_groups) > 1 or any(group.get(name) for name in ("dampening", "nesterov", "maximize"))
    if type(optimizer) is not torch.optim.SGD or group["momentum"] == 0 or unlike:
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)

        def step() -> None:
            gradient.write(tuple(parameter.grad for parameter in parameters))  # type: ignore[arg-type]
            optimizer.step()
            values.read(parameters)

        try:
            yield step
        finally:
            for parameter in parameters:
                parameter.grad = None
        return
    states = [optimizer.state[parameter] for parameter in parameters]
    for state, parameter in zip(states, parameters, strict=True):
        if state.get("momentum_buffer") is None:  # nothing is stepped yet: the first gradient will be all of it
            state["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    buffers = tuple(state["momentum_buffer"] for state in states)
    momentum = Packed(buffers)
    rate, share, decay = float(group["lr"]), group["momentum"], group["weight_decay"]

    def written_out() -> None:
        gradient.all.add_(values.all, alpha=decay)
        momentum.all.mul_(share).add_(gradient.all)
        values.all.sub_(momentum.all, alpha=rate)

    try:
        yield written_out
    finally:
        momentum.write(buffers)
        values.write(parameters)
