"""Holds out a share of the samples, class by class. Shapes: N samples, K classes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cpc_lightning.errors import require, require_integer, require_number


def held_out(labels: Tensor, num_classes: int, share: float, seed: int, setting: str = "test_share") -> Tensor:
    """Which samples to set aside, (N,) bool.

    Of a class's n samples round(share * n) are set aside, at least one and at most n - 1; of a single one, none.

    Args:
        labels: (N,) int64 in 0..K-1.
        num_classes: K.
        share: in (0, 1).
        seed: decides which ones; the same on any machine and with any version of numpy.
        setting: what an error calls the share.

    Raises:
        InputError: named `setting` or "split_seed".
    """
    require_number(setting, share, 0, 1, open_ends=True)
    require_integer("split_seed", seed, 0)
    require(seed < 2**32, "split_seed", seed, "must be below 2**32")
    # Not scikit-learn's split, whose draw may change: RandomState's stream is frozen by numpy's policy (NEP 19).
    stream = np.random.RandomState(seed)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    given = labels.numpy()
    by_class = np.split(np.argsort(given, kind="stable"), np.cumsum(np.bincount(given, minlength=num_classes))[:-1])
    for members in by_class:
        count = min(max(round(share * len(members)), 1), max(len(members) - 1, 0))
        chosen[torch.from_numpy(stream.permutation(members)[:count])] = True
    return chosen
