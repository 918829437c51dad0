"""Weak and strong views of a batch of vectors, on their device; the counterpart of `Views` for images.

The data set itself draws among the views that it keeps of an image (the image, its mirror image, crops): that is the
weak view. Strong ones hide some of its numbers, shift all a little and mix it with another's. Draws are made on the
CPU: the same seed gives the same views everywhere.

Shapes: N samples, B batch, D numbers of a vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cpc_lightning.errors import InputError, require, require_number
from cpc_lightning.views.views import VIEWS

CHUNK = 1 << 13
"""Rows that are worked on at once, so that millions of them need no second copy."""


class VectorViews(nn.Module):
    """How vectors are seen in training and in evaluation.

    A module for the sake of its buffers: they are in every checkpoint, and on the device of the networks.

    Args:
        dropout: share of a strong view's numbers that are hidden, in [0, 1): each shows its mean over the training set.
        noise: standard deviation of what is added to each number of a strong view, in units of that number's own.
        mixing: a strong view is up to so much another vector of the batch, in [0, 0.5].

    Attributes:
        mean: (D,) buffer, of the training set.
        std: (D,) buffer, likewise; 1 for numbers that do not vary.
        strong_are_weak: as in `Views`; strong views are always drawn anew.
        of_certain: as in `Views`; a second one of a vector costs time and gains nothing (docs/features.md).

    Raises:
        InputError: if a setting is out of its range.
    """

    mean: Tensor
    std: Tensor
    strong_are_weak = False
    per_image = 2 * VIEWS
    of_certain = 1

    def __init__(self, dropout: float = 0.2, noise: float = 0.1, mixing: float = 0.2) -> None:
        super().__init__()
        require_number("dropout", dropout, 0.0)
        require(dropout < 1, "dropout", dropout, "must be below 1")
        require_number("noise", noise, 0.0)
        require_number("mixing", mixing, 0.0, 0.5)
        self.dropout, self.noise, self.mixing = float(dropout), float(noise), float(mixing)
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("std", torch.ones(0))

    def standardise_to(self, vectors: Tensor) -> None:
        """From now on, shift and scale as `vectors` (N, D) need it for mean 0 and standard deviation 1."""
        total = torch.zeros(vectors.shape[1], dtype=torch.float64)
        for rows in torch.split(vectors, CHUNK):
            total += rows.sum(dim=0, dtype=torch.float64)
        mean = total / len(vectors)
        squares = torch.zeros_like(total)
        for rows in torch.split(vectors, CHUNK):  # a second pass: the mean of squares would cancel
            squares += (rows.double() - mean).square().sum(dim=0)
        std = (squares / len(vectors)).sqrt()
        constant = std <= 1e-6 * (1 + mean.abs())  # its deviation is the rounding error of its mean
        self.mean, self.std = mean.float(), torch.where(constant, 1.0, std).float()

    def with_policy(self, policy: str | None, setting: str = "policy") -> VectorViews:
        """Raise `InputError` under the name of `setting`: policies are of images."""
        raise InputError(setting, policy, "is for images, and these are vectors, whose views vector_views makes")

    def weak(self, vectors: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The vectors (B, D) themselves: which of its views an image shows, the data set has drawn.

        Args:
            vectors: (B, D) floating point.
            generator: not used.

        Raises:
            InputError: for images, or vectors of another length than those of the training set.
        """
        require(
            vectors.ndim == 2 and vectors.is_floating_point(),
            "vector_views", f"{vectors.dtype} {tuple(vectors.shape)}", "are views of vectors, and these are images",
        )  # fmt: skip
        known = len(self.mean)
        expected = f"numbers a vector; those trained on have {known}"
        require(known in (0, vectors.shape[1]), "dataset", vectors.shape[1], expected)
        return vectors

    def strong(self, vectors: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The vectors (B, D), each mixed with another, shifted and partly hidden.

        Args:
            vectors: as for `weak`.
            generator: a CPU generator; None for the global one.
        """
        views = self.weak(vectors, generator)
        count, device = len(views), views.device
        if count == 0:
            return views
        if self.mixing:
            share = self.mixing * torch.rand(count, 1, generator=generator)
            partner = torch.randperm(count, generator=generator)
            views = torch.lerp(views, views[partner.to(device)], share.to(device, views.dtype))
        mean, std = (self.mean, self.std) if len(self.mean) else (views.new_zeros(()), views.new_ones(()))
        if self.noise:
            noise = torch.randn(views.shape, generator=generator).to(device, views.dtype)
            views = views + self.noise * std * noise
        if self.dropout:
            hidden = (torch.rand(views.shape, generator=generator) < self.dropout).to(device)
            views = torch.where(hidden, mean, views)
        return views

    def evaluation(self, vectors: Tensor) -> Tensor:
        """The vectors (B, D) as they are; errors as for `weak`."""
        return self.weak(vectors)

    def normalise(self, vectors: Tensor) -> Tensor:
        """What a network reads, (B, D) float32: standardised as the training set needs it, once that is known."""
        return (vectors.float() - self.mean) / self.std if len(self.mean) else vectors.float()
