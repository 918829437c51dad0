"""Batch samplers of co-training: which samples each step of each network trains on.

Shapes: n labeled, m unlabeled samples of one network; B batch of one process; G = B * world_size, the global batch; K
classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from cpc_lightning.errors import InputError, require, require_integer, require_number


@dataclass(frozen=True)
class NetworkShare:
    """What one network trains on in one epoch.

    Attributes:
        labeled: (n,) int64 positions of the samples whose label it learns.
        clean_probability: (n,) float32, how far that label is trusted.
        unlabeled: (m,) int64 positions of the others; None in warm-up, which has no such side.
        targets: (n, K) float32 what to learn in place of the label; None: the label.
        weights: (n,) float32 above 0, how often a labeled sample is drawn beside the others; None: all alike.
    """

    labeled: Tensor
    clean_probability: Tensor
    unlabeled: Tensor | None = None
    targets: Tensor | None = None
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.labeled) != len(self.clean_probability):
            raise ValueError(f"{len(self.labeled)} labeled samples, {len(self.clean_probability)} clean probabilities")


def warmup_share(index: Tensor) -> NetworkShare:
    """The share of a network in warm-up: all samples of `index` (n,) int64, their labels fully trusted."""
    return NetworkShare(index, torch.ones(len(index)))


@dataclass(frozen=True)
class BatchPlan:
    """One step of one network.

    Attributes:
        network: 0 or 1, the one to train.
        labeled: (B,) int64 positions in the training set.
        clean_probability: (B,) float32.
        unlabeled: (B,) int64; (0,) in warm-up, and where the partition's unlabeled side is empty.
        warmup: whether this is a step of the warm-up.
        epoch_share: the share of the network's steps in this epoch that lie behind it, in [0, 1).
        targets: (B, K) float32 what to learn in place of the labels; None: the labels.
        seed: even, of what is drawn for the labeled side while it is fetched; seed + 1 is the unlabeled side's.
    """

    network: int
    labeled: Tensor
    clean_probability: Tensor
    unlabeled: Tensor
    warmup: bool
    epoch_share: float
    seed: int
    targets: Tensor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value: tensors would travel to a worker through shared memory, which may be full without a word."""
        values = (getattr(self, field.name) for field in fields(self))
        return _plan, tuple(value.numpy() if isinstance(value, Tensor) else value for value in values)


def _plan(*values: Any) -> BatchPlan:
    """The plan of what `__reduce__` gave."""
    back: list[Any] = [torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in values]
    return BatchPlan(*back)


class CoTrainingSampler(Sampler[BatchPlan]):
    """One epoch: all steps of network 0, then all of network 1.

    A network takes ceil(n / G) steps, the same on every rank, or as many as `epoch_size` samples fill. Every batch is
    full (shapes stay, no batch of one sample meets BatchNorm): samples come in one permutation after another, and the
    last batch takes what it lacks from the next one; samples that have weights come as often as those say, but for a
    draw of their fractions. The unlabeled side goes round likewise, B a step and process, however many it has. A
    network with nothing labeled takes no step.

    All ranks agree on the global batches, and each takes its slice: the concatenation over ranks of their t-th plans is
    the plan that one process with batch G would have.

    Args:
        shares: of network 0 and of network 1.
        batch_size: B.
        seed: decides the order, together with epoch, network and side.
        epoch: from 0.
        rank: of this process.
        world_size: how many processes there are.
        limit_batches: at most this many steps a network (int, at least 1), or this share of its steps (float in (0, 1],
            at least one step); None for all. A limit on the epoch as a whole would never reach network 1.
        epoch_size: how many labeled samples a network with a labeled side sees, before `limit_batches`; None: each of
            them once.
    """

    def __init__(
        self,
        shares: tuple[NetworkShare, NetworkShare],
        batch_size: int,
        seed: int,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
        limit_batches: int | float | None = None,
        epoch_size: int | None = None,
    ) -> None:
        require_integer("batch_size", batch_size, 1)
        require_integer("seed", seed, 0)
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside 0..{world_size - 1}")
        self.shares = shares
        self.batch_size = batch_size
        self.seed, self.epoch = seed, epoch
        self.rank, self.world_size = rank, world_size
        self.limit_batches = checked_limit(limit_batches)
        self.epoch_size = epoch_size

    def steps(self, network: int) -> int:
        """How many steps `network` (0 or 1) takes."""
        samples = len(self.shares[network].labeled)
        if samples and self.epoch_size is not None:
            samples = self.epoch_size
        every = math.ceil(samples / (self.batch_size * self.world_size))
        if self.limit_batches is None or every == 0:
            return every
        if isinstance(self.limit_batches, int):
            return min(every, self.limit_batches)
        return max(1, int(round(self.limit_batches * every, 6)))  # 0.29 * 100 is below 29 in floating point

    def __len__(self) -> int:
        return self.steps(0) + self.steps(1)

    def __iter__(self) -> Iterator[BatchPlan]:
        for network, share in enumerate(self.shares):
            steps, warmup = self.steps(network), share.unlabeled is None
            labeled_places = self._places(network, 0, len(share.labeled), steps, share.weights)
            unlabeled = share.labeled[:0] if share.unlabeled is None else share.unlabeled
            unlabeled_places = self._places(network, 1, len(unlabeled), steps)
            seeds = np.random.SeedSequence([self.seed, self.epoch, network, 2, self.rank]).generate_state(steps)
            for step, (mine, mine_unlabeled) in enumerate(zip(labeled_places, unlabeled_places, strict=True)):
                yield BatchPlan(
                    network=network,
                    labeled=share.labeled[mine],
                    clean_probability=share.clean_probability[mine],
                    unlabeled=unlabeled[mine_unlabeled],
                    warmup=warmup,
                    epoch_share=step / steps,
                    seed=2 * int(seeds[step]),
                    targets=None if share.targets is None else share.targets[mine],
                )

    def _places(self, network: int, side: int, size: int, steps: int, weights: Tensor | None = None) -> Tensor:
        """(steps, B) places in 0..size-1 for this rank, one row a step; (steps, 0) if there are none to draw from."""
        if size == 0:
            return torch.empty(steps, 0, dtype=torch.int64)
        # Distinct streams, not seed + epoch + ..., where one run's epoch 1 would be the next seed's epoch 0.
        entropy = np.random.SeedSequence([self.seed, self.epoch, network, side])
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))
        needed = steps * self.batch_size * self.world_size
        if weights is not None:
            order = weighted_draw(weights, needed, generator)
        else:
            rounds = math.ceil(needed / size)
            # Each row a permutation, all at once: a handful of samples may go round thousands of times.
            keys = torch.rand(rounds, size, dtype=torch.float64, generator=generator)
            order = keys.argsort(dim=1, stable=True).flatten()[:needed]
        return order.view(steps, self.world_size, self.batch_size)[:, self.rank]


def weighted_draw(weights: Tensor, needed: int, generator: torch.Generator) -> Tensor:
    """Places of n samples in a random order, each as often as its weight asks for: (needed,) int64.

    That is `needed` times its share of the weights, rounded up or down at random (systematic sampling).

    Args:
        weights: (n,) above 0.
        needed: how many to draw.
        generator: of the draw.
    """
    reach = weights.double().cumsum(0)
    start = torch.rand(1, dtype=torch.float64, generator=generator)
    marks = (torch.arange(needed, dtype=torch.float64) + start) * (reach[-1] / needed)
    places = torch.searchsorted(reach, marks, right=True).clamp(max=len(weights) - 1)
    return places[torch.randperm(needed, generator=generator)]


def balanced_draw(labels: Tensor, size: int, num_classes: int, seed: int, epoch: int, network: int) -> Tensor:
    """A class-balanced part of the training set, drawn anew for each epoch and network (Clothing1M; DivideMix).

    Args:
        labels: (N,) int64 given labels.
        size: how many samples to draw: size / K of each class, rounded up, in a random order up to `size`. A class that
            has fewer gives all it has, so that there may be fewer in all.
        num_classes: K.
        seed: decides the draw, together with the other two.
        epoch: the one to draw for.
        network: the one to draw for, 0 or 1.

    Returns:
        Positions in the training set, int64, in ascending order.
    """
    entropy = np.random.SeedSequence([seed, epoch, network, 3])
    generator = torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))
    order = torch.randperm(len(labels), generator=generator)
    given = labels[order]
    by_class = torch.argsort(given, stable=True)
    starts = torch.searchsorted(given[by_class], torch.arange(num_classes))
    rank = torch.empty_like(order)
    rank[by_class] = torch.arange(len(labels)) - starts[given[by_class]]  # of each sample within its class
    kept = order[rank < math.ceil(size / num_classes)][:size]
    return kept.sort().values


def checked_limit(limit: int | float | None) -> int | float | None:
    """`limit` as a plain int or float, or `InputError` where it is neither a number of batches nor a share."""
    if limit is None:
        return None
    if isinstance(limit, Integral):
        require_integer("limit_batches", limit, 1)
        return int(limit)
    expected = "must be a whole number of batches of at least 1, or a share of them as a decimal in (0, 1]"
    try:
        require_number("limit_batches", limit, 0, 1)
    except InputError as error:
        raise InputError("limit_batches", limit, expected) from error
    require(limit > 0, "limit_batches", limit, expected)
    return float(limit)
