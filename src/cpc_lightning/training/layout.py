"""The order in which convolutions' weights, and the optimizers' states of them, lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Store the optimizer's state of each parameter in the order of memory that the parameter has.

    A state that was saved with other strides keeps them when it is loaded, and fused steps go through parameter and
    state in the order of memory, without a look at strides: each weight would get another one's momentum.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
