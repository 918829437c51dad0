"""The most alike of the other samples by the cosine of standardised features, near copies, and what neighbours vote.

Up to `EXACT` samples all pairs are compared. Of more, those of a cell with those of the cells around it (an inverted
file: Jégou et al., "Product quantization for nearest neighbor search", TPAMI 2011, without the quantization): each cell
of about 512 samples against its surroundings is one matrix product. How many cells that takes is read off samples whose
neighbours are known, so that any data gets the same `RECALL`; where there are no cells, all pairs are compared.

Shapes: N samples, D features, K classes, k neighbours, C cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

COPY = 0.995
"""Cosine of standardised features from which two samples are one picture: the same image saved anew lies above it."""

COMPONENTS = 256
"""Numbers of a vector that are looked at: of more, their principal components."""

EXACT = 20_000
"""So many samples are compared pair by pair: exact, for seconds more than cells take (18 s to 10 s of one core)."""

CELL = 512
"""Samples a cell, on average."""

RECALL = 0.98
"""The share of a sample's true neighbours that is found where there are cells, on average."""

PROBES, DRAWN, ROUNDS = 512, 48, 6
"""Samples whose neighbours are known exactly; samples a cell that the means are made of, and how often."""

BLOCK = 1 << 25
"""So many numbers are held at once beside the data (128 MiB)."""


def standardise(features: Tensor) -> Tensor:
    """(N, D) float32 of mean 0 and standard deviation 1; a feature that never varies stays 0. One copy of the data."""
    result = torch.empty(features.shape, dtype=torch.float32)
    variance, mean = torch.var_mean(features.float(), dim=0, correction=0)
    deviation = variance.sqrt()
    scale = 1 / torch.where(deviation > 1e-6 * deviation.max().clamp(min=1e-12), deviation, torch.inf)
    return torch.sub(features, mean, out=result).mul_(scale)


def leading(inputs: Tensor, components: int = COMPONENTS) -> Tensor:
    """(N, d) the first `components` principal components of inputs (N, D) of mean 0, unscaled; inputs of no more as is.

    Lengths and angles between samples stay nearly what they are, at a share of the time (benchmarks/verdicts.py).
    """
    if inputs.shape[1] <= components:
        return inputs
    products = torch.zeros(inputs.shape[1], inputs.shape[1], dtype=torch.float64)
    for rows in torch.split(inputs, 1 << 14):
        products += (rows.T @ rows).double()
    _, directions = torch.linalg.eigh(products)  # the last have the largest variance
    turned: Tensor = inputs @ directions[:, -components:].float()
    return turned


def nearest(inputs: Tensor, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The most alike of the other samples, by cosine: positions (N, k) int64 and cosines (N, k), the highest first.

    k is `count`, or N - 1 where that is less. Beyond `EXACT` samples `RECALL` of them are found, and others nearly as
    alike are in the place of the rest.

    Args:
        inputs: (N, D).
        count: k.
        seed: of the samples that cells are made of.
    """
    count = min(count, len(inputs) - 1)
    if len(inputs) <= EXACT:
        unit = F.normalize(inputs, dim=1)
        return _nearest_of(unit, torch.arange(len(unit)), unit, count)
    return _nearest_in_cells(inputs, count, torch.Generator().manual_seed(seed))


def _nearest_of(
    rows: Tensor, own: Tensor, unit: Tensor, count: int, among: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The most alike to some samples, of all or of those at `among`.

    Args:
        rows: (n, D) the samples.
        own: (n,) where in `unit` they are.
        unit: (N, D) all samples, of length 1.
        count: k.
        among: (m,) positions in `unit`, the samples' own first; None: all of them.
    """
    others = unit if among is None else unit[among]
    first = 0 if among is None else int(among[0])
    found, cosines = [], []
    step = max(1, BLOCK // len(others))
    for part, places in zip(torch.split(rows, step), torch.split(own, step), strict=True):
        similarity = part @ others.T
        similarity[torch.arange(len(part)), places - first] = -torch.inf
        best = similarity.topk(count, dim=1)
        found.append(best.indices)
        cosines.append(best.values)
    near = torch.cat(found)
    return near if among is None else among[near], torch.cat(cosines)


def _nearest_in_cells(inputs: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """As `nearest`, from the cells around each sample's own."""
    means = _means_of_cells(inputs, len(inputs) // CELL, generator)
    cell = torch.cat([(F.normalize(rows, dim=1) @ means.T).argmax(dim=1) for rows in torch.split(inputs, 4096)])
    order = torch.argsort(cell, stable=True)
    unit = torch.empty_like(inputs)
    for places, rows in zip(torch.split(order, 4096), torch.split(unit, 4096), strict=True):
        rows.copy_(F.normalize(inputs[places], dim=1))
    members = torch.split(torch.arange(len(order)), torch.bincount(cell, minlength=len(means)).tolist())
    around = (means @ means.T).fill_diagonal_(torch.inf).argsort(dim=1, descending=True)  # (C, C), itself first
    wanted = _cells_wanted(unit, cell[order], around, count, generator)
    near = torch.empty(len(inputs), count, dtype=torch.int64)
    cosines = torch.empty(len(inputs), count)
    for here, cells in zip(members, around.tolist(), strict=True):
        if len(here):
            others = _members_of(cells, members, wanted, count)
            places = order[here]
            found, cosines[places] = _nearest_of(unit[here], here, unit, count, others)
            near[places] = order[found]
    return near, cosines


def _members_of(cells: Sequence[int], members: Sequence[Tensor], wanted: int, count: int) -> Tensor:
    """The samples of the first cells: of as many as `wanted`, and of more until there are `count` beside oneself."""
    chosen = [members[cell] for cell in cells[:wanted]]
    total = sum(map(len, chosen))
    for cell in cells[wanted:]:
        if total > count:
            break
        chosen.append(members[cell])
        total += len(members[cell])
    return torch.cat(chosen)


def _means_of_cells(inputs: Tensor, cells: int, generator: torch.Generator) -> Tensor:
    """(C, D) directions, by spherical k-means on some of the samples; the same for the same generator."""
    drawn = torch.randperm(len(inputs), generator=generator)[: cells * DRAWN]
    some = F.normalize(inputs[drawn], dim=1)
    means = some[:cells]
    for _ in range(ROUNDS):
        cell = torch.cat([(rows @ means.T).argmax(dim=1) for rows in torch.split(some, 4096)])
        sums = torch.zeros_like(means).index_add_(0, cell, some)
        means = torch.where(sums.norm(dim=1, keepdim=True) > 1e-6, F.normalize(sums, dim=1), means)
    return means


def _cells_wanted(unit: Tensor, cell: Tensor, around: Tensor, count: int, generator: torch.Generator) -> int:
    """How many cells hold `RECALL` of the neighbours of samples, by some whose neighbours are looked for everywhere.

    Args:
        unit: (N, D) in the order of cells.
        cell: (N,) likewise.
        around: (C, C) the cells by their distance from each.
        count: k.
        generator: draws the samples.
    """
    own = torch.randperm(len(unit), generator=generator)[:PROBES]
    true, _ = _nearest_of(unit[own], own, unit, count)
    rank = torch.empty_like(around).scatter_(1, around, torch.arange(len(around)).expand_as(around))
    ranks = rank[cell[own][:, None], cell[true]].flatten().sort().values
    return int(ranks[min(len(ranks) - 1, int(RECALL * len(ranks)))]) + 1


def groups_of_copies(near: Tensor, similarity: Tensor, copy: float = COPY) -> Tensor:
    """(N,) int64 numbers of groups: near copies, and what they are near copies of, share one."""
    first, place = torch.nonzero(similarity >= copy, as_tuple=True)
    second = near[first, place]
    links = coo_matrix((np.ones(len(first), dtype=np.int8), (first.numpy(), second.numpy())), (len(near), len(near)))
    return torch.from_numpy(connected_components(links, directed=False)[1].astype(np.int64))


def vote(posterior: Tensor, near: Tensor, similarity: Tensor, groups: Tensor, scale: float = 0.05) -> Tensor:
    """(N, K) the mean of the neighbours' posteriors, weighted by exp((cosine - the highest) / `scale`).

    Copies of a sample are no neighbours of it, and those of a neighbour vote once together. Uniform without any.

    Args:
        posterior: (N, K).
        near: (N, k) positions.
        similarity: (N, k) cosines.
        groups: (N,) of copies.
        scale: 0.05.
    """
    votes = torch.empty_like(posterior)
    step = max(1, BLOCK // (near.shape[1] * max(posterior.shape[1], near.shape[1])))
    for rows in torch.split(torch.arange(len(near)), step):
        theirs = groups[near[rows]]
        other = theirs != groups[rows, None]
        cosines = similarity[rows].masked_fill(~other, -torch.inf)
        weights = torch.exp((cosines - cosines.amax(dim=1, keepdim=True)) / scale).masked_fill(~other, 0.0)
        weights = weights / (theirs[:, :, None] == theirs[:, None, :]).sum(dim=2)
        total = weights.sum(dim=1, keepdim=True)
        mean = torch.einsum("nk,nkc->nc", weights / total.clamp(min=1e-12), posterior[near[rows]])
        votes[rows] = torch.where(total > 0, mean, 1 / posterior.shape[1])
    return votes
