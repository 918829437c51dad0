"""When networks begin to learn labels by heart, read off labels that only one of the two is trained on in the warm-up.

Networks learn what most labels of a kind have in common first, and single labels by heart later (Arpit et al., "A
closer look at memorization in deep networks", ICML 2017). Before that, wrong labels do little harm, and a network that
still knows too little cannot tell them: to divide the data then costs more than it gains (docs/cleaners.md).

Each of two networks is kept from a part of the labels. What it knows less of its own part than its peer does is what
training on a label itself adds. Both losses are of the same samples, so that hard ones change nothing, and the other
part tells how far one network is ahead of the other in all.

Shapes: N labeled samples, n of each part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SCHEDULED, MEMORISING = "scheduled", "memorising"
WHEN = (SCHEDULED, MEMORISING)
"""Values of `training.divide_when`: after `training.warmup_epochs`; or then, but not before networks memorise."""

FEW = 10
"""A class of fewer labels is not kept from any network."""

SHARE, LEAST, MOST = 0.05, 20, 1000
"""Of the labels that each network is kept from: their share, and how many at least (but a fifth) and at most."""

LIMIT = 0.2
"""Nats that a label's loss falls by when it is trained on itself from which on networks memorise: between what was seen
where dividing costs accuracy (0.17 at most) and where it gains (docs/cleaners.md)."""


@dataclass(frozen=True)
class Memorised:
    """What training on a label itself takes from its loss, mean over the labels kept from one network.

    Attributes:
        value: in nats.
        error: its standard error; infinite where there are too few labels.
    """

    value: float
    error: float

    @property
    def begun(self) -> bool:
        """Whether it is `LIMIT` or more, and not by chance."""
        return self.value >= max(LIMIT, 2 * self.error)


def kept_from(labeled: Tensor, seed: int) -> tuple[Tensor, Tensor] | None:
    """Positions (n,) that network 1 is kept from, and network 2; None where there are too few labels for it.

    Args:
        labeled: (N,) int64 positions of the labels that a network can do without.
        seed: the same draws the same.
    """
    count = min(max(round(SHARE * len(labeled)), LEAST), MOST, len(labeled) // 5)
    if count < 2:
        return None
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(labeled), 5]))
    drawn = labeled[torch.from_numpy(rng.permutation(len(labeled))[: 2 * count])]
    return drawn[:count].sort().values, drawn[count:].sort().values


def memorised(index: Tensor, losses: tuple[Tensor, Tensor], kept: tuple[Tensor, Tensor]) -> Memorised:
    """Compare both networks on what each was kept from.

    With d = loss of network 1 - loss of network 2, half the difference of the mean d over both parts.

    Args:
        index: (N,) int64 positions of the samples looked at, ascending.
        losses: (N,) of network 1 and of network 2, for their given labels.
        kept: from `kept_from`; those that were not looked at are left out.
    """
    apart = (losses[0] - losses[1]).double()
    first, second = (apart[torch.isin(index, part).to(apart.device)] for part in kept)
    if min(len(first), len(second)) < 2:
        return Memorised(0.0, math.inf)
    variance = float(first.var() / len(first) + second.var() / len(second))
    return Memorised(float(first.mean() - second.mean()) / 2, math.sqrt(variance) / 2)
