"""Learning rate schedules that torch does not have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cpc_lightning.errors import require_integer, require_number


def cosine(
    optimizer: Optimizer, epochs: int, lowest: float = 0.0, milestones: Sequence[int] = (), gamma: float = 0.1
) -> LambdaLR:
    """Half a cosine, from the optimizer's rate to `lowest`; at each milestone, times `gamma` from there on.

    Args:
        optimizer: whose rates, one for each of its groups, are scheduled.
        epochs: in which `lowest` is reached.
        lowest: rate; at most the optimizer's.
        milestones: epochs, counted from 0; those of a data set's file hold here, too, unless there are others.
        gamma: at milestones.

    Raises:
        InputError: a setting is out of its range.
    """
    require_integer("epochs", epochs, 1)
    rates = [group["lr"] for group in optimizer.param_groups]
    require_number("lowest", lowest, 0, min(rates))

    def share(rate: float, epoch: int) -> float:
        least = lowest / rate if rate else 0.0
        wave = (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2
        return (least + (1 - least) * wave) * float(gamma ** sum(epoch >= m for m in milestones))

    return LambdaLR(optimizer, [partial(share, rate) for rate in rates])
