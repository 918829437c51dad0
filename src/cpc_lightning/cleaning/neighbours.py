"""The most alike of the other samples by the cosine of standardised features, near copies, and what neighbours vote.

Up to `EXACT` samples all pairs are compared. Of more, faiss compares those of a list with those of the lists around it
(an inverted file: Jégou et al., "Product quantization for nearest neighbor search", TPAMI 2011, without the
quantization). How many lists that takes is read off samples whose neighbours are known, so that any data gets the same
`RECALL`. faiss is an extra: without it all pairs are compared, up to `MOST` samples.

Shapes: N samples, D features, K classes, k neighbours, L lists.
"""

from __future__ import annotations

from math import isqrt
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from cpc_lightning.errors import require

COPY = 0.995
"""Cosine of standardised features from which two samples are one picture: the same image saved anew lies above it."""

COMPONENTS = 256
"""Numbers of a vector that are looked at: of more, their principal components."""

EXACT = 20_000
"""So many samples are compared pair by pair: exact, in 4 s of a core."""

MOST = 200_000
"""So many samples are compared pair by pair where there is no faiss: in about 8 min of a core."""

RECALL = 0.95
"""The share of a sample's true neighbours that is to be found where there are lists, on average."""

PROBES, SAMPLES, ROUNDS = 512, 64, 10
"""Samples whose neighbours are known exactly; samples a list that k-means sees, and how often."""

AT_ONCE = 1 << 14
"""Samples that faiss is asked about in one call: it can be stopped between two."""

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


class Neighbours(NamedTuple):
    """The most alike of the other samples, by cosine, the highest first.

    Attributes:
        near: (N, k) int64 their positions.
        cosines: (N, k) float32.
        recall: the share of the true neighbours that was found, by `PROBES` samples; 1 where all pairs are compared.
    """

    near: Tensor
    cosines: Tensor
    recall: float


def nearest(inputs: Tensor, count: int, seed: int = 0) -> Neighbours:
    """Each sample's `count` neighbours, or N - 1 where that is less.

    Beyond `EXACT` samples about `RECALL` of them are found, and others nearly as alike are in the place of the rest. It
    is the same for the same seed and number of threads.

    Args:
        inputs: (N, D).
        count: k.
        seed: of k-means, and of the samples that the recall is measured by.
    """
    unit = F.normalize(inputs, dim=1)
    count = min(count, len(unit) - 1)
    faiss = installed_faiss() if len(unit) > EXACT else None
    if faiss is None:
        return Neighbours(*_nearest_of(torch.arange(len(unit)), unit, count), 1.0)
    return _nearest_in_lists(faiss, unit, count, seed)


def require_comparable(samples: int, setting: str, value: object) -> None:
    """Raise `InputError` where comparing so many samples takes faiss, and it is not installed."""
    expected = f"for {samples:,} samples this needs faiss: pip install 'cpc-lightning[neighbours]'"
    require(samples <= MOST or installed_faiss() is not None, setting, value, expected)


def installed_faiss() -> ModuleType | None:
    """The library, imported where it is needed only: it brings threads and a BLAS of its own. None where it is not."""
    try:
        import faiss
    except ImportError:
        return None
    module: ModuleType = faiss
    return module


def _nearest_of(own: Tensor, unit: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most alike of all other samples, exactly: positions (n, k) and cosines (n, k).

    Args:
        own: (n,) positions of the samples.
        unit: (N, D) all samples, of length 1.
        count: k.
    """
    found, cosines = [], []
    for places in torch.split(own, max(1, BLOCK // len(unit))):
        similarity = unit[places] @ unit.T
        similarity[torch.arange(len(places)), places] = -torch.inf
        best = similarity.topk(count, dim=1)
        found.append(best.indices)
        cosines.append(best.values)
    return torch.cat(found), torch.cat(cosines)


def _nearest_in_lists(faiss: Any, unit: Tensor, count: int, seed: int) -> Neighbours:
    """As `nearest`, by faiss's inverted file."""
    faiss.omp_set_num_threads(torch.get_num_threads())
    rows, lists = unit.numpy(), 2 * isqrt(len(unit))
    means = faiss.IndexFlatIP(unit.shape[1])
    index = faiss.IndexIVFFlat(means, unit.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter = seed, ROUNDS
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = SAMPLES, 1
    index.train(rows)
    index.add(rows)
    list_of = torch.from_numpy(means.search(rows, 1)[1][:, 0])
    some = torch.randperm(len(unit), generator=torch.Generator().manual_seed(seed))[:PROBES]
    true, highest = _nearest_of(some, unit, count)
    around = torch.from_numpy(means.search(rows[some.numpy()], lists)[1])
    index.nprobe = _lists_wanted(around, list_of[true])

    near, cosines = torch.empty(len(unit), count, dtype=torch.int64), torch.empty(len(unit), count)
    for places in torch.split(list_of.argsort(stable=True), AT_ONCE):  # one list's in a row: they look at the same
        similarity, found = map(torch.from_numpy, index.search(rows[places.numpy()], count + 1))
        best = similarity.masked_fill(found == places[:, None], -torch.inf).topk(count, dim=1)
        near[places], cosines[places] = found.gather(1, best.indices), best.values
    few = (near < 0).any(dim=1).nonzero().flatten()  # in the lists around them there are less than k
    if len(few):
        near[few], cosines[few] = _nearest_of(few, unit, count)
    known = cosines[some] >= highest[:, -1:] - 1e-5  # among samples that are equally alike, any are right
    return Neighbours(near, cosines, float(known.float().mean()))


def _lists_wanted(around: Tensor, list_of: Tensor) -> int:
    """How many lists hold `RECALL` of the neighbours.

    Args:
        around: (n, L) all lists, by how near they are to each of some samples.
        list_of: (n, k) those of the samples' neighbours.
    """
    rank = torch.empty_like(around).scatter_(1, around, torch.arange(around.shape[1]).expand_as(around))
    ranks = rank.gather(1, list_of).flatten().sort().values
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
