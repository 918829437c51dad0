"""Vectors in memory or in a file that is mapped into it, with one or several views of each.

Shapes: N samples, B batch, W views that are kept of a sample, V views that are asked for, D numbers of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import Images
from cpc_lightning.errors import InputError

ROWS = 1 << 13
"""Samples that are worked on at once, so that millions of them need no second copy."""


@dataclass(frozen=True)
class ArrayVectors:
    """Vectors; see `Vectors` for what they answer.

    Attributes:
        views: (N, W, D) float32 or float16.
        vectors: (N, D) of the same kind, their mean over the views.
        pictures: what the vectors were computed from; None where there is nothing to look at.
        origin: says what computed them, so that a resumed run knows them again without reading them all; "" for
            vectors that come as they are.
    """

    views: Tensor
    vectors: Tensor
    pictures: Images | None = None
    origin: str = ""

    def __len__(self) -> int:
        return len(self.vectors)

    def fetch(self, positions: Tensor) -> Tensor:
        """The means over the views, at `positions` (B,) int64, as (B, D) float32."""
        return self.vectors[positions].float()

    def fetch_views(self, positions: Tensor, views: int, seed: int) -> Tensor:
        """That many views of each, drawn with replacement among those that are kept, (V, B, D) float32."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(self.views.shape[1], (views, len(positions)), generator=generator)
        return self.views[positions.expand(views, -1), chosen].float()


def without_views(vectors: Tensor) -> ArrayVectors:
    """Vectors (N, D), or views of them (N, W, D), that come as they are."""
    if vectors.ndim == 2:
        return ArrayVectors(vectors[:, None], vectors)
    return ArrayVectors(vectors, mean_of_views(vectors))


def mean_of_views(views: Tensor) -> Tensor:
    """(N, W, D) -> (N, D) float32, a block of samples at a time."""
    means = torch.empty(len(views), views.shape[2])
    for start in range(0, len(views), ROWS):
        means[start : start + ROWS] = views[start : start + ROWS].float().mean(dim=1)
    return means


def require_finite(setting: str, value: str, vectors: Tensor, what: str) -> None:
    """Raise `InputError` where `vectors` (N, ...) hold NaN or an infinite number, naming the first such sample."""
    for start in range(0, len(vectors), ROWS):
        fine = torch.isfinite(vectors[start : start + ROWS].flatten(1)).all(dim=1)
        if not bool(fine.all()):
            first = start + int(torch.nonzero(~fine)[0])
            raise InputError(setting, value, f"{what} of sample {first} hold NaN or an infinite number")
