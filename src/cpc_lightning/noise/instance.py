"""Instance-dependent label noise (Xia et al. 2020, Part-dependent Label Noise, Algorithm 2).

Shapes: N samples, n of them at a time, K classes, S values of an image (C H W).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr, ndtri

from cpc_lightning.datasets.dataset import ImageDataset, Images, Split, Vectors
from cpc_lightning.errors import require, require_number
from cpc_lightning.noise.noise import frozen_stream, relabeled

# Projections are rounded to multiples of 1 / SCALE. Grey levels are whole numbers, so that a score is a sum of whole
# numbers: exact in float64, in whatever order a machine adds. A million white pixels, each with a weight 8 standard
# deviations out and of the same sign, would add up to a hundredth of the 2**53 up to which that holds.
SCALE = 2**16
CHUNK = 1024  # images looked at together


class InstanceNoise:
    """Every sample is mistaken at a rate of its own, and for what depends on its image.

    Sample i of class y flips with a probability q_i, drawn from a normal distribution around `rate` that is cut off at
    0 and 1. What it flips to is drawn from the softmax of its scores: the image, grey levels in [0, 1], times its
    class's random projection (S, K), drawn from a standard normal distribution, with class y left out.

    Args:
        rate: mean of the normal distribution, in [0, 1]; the expected share of wrong labels where the cut is far away.
        spread: its standard deviation.
    """

    def __init__(self, rate: float, spread: float = 0.1) -> None:
        require_number("rate", rate, 0, 1)
        require_number("spread", spread, 0, open_ends=True)
        self.nominal_rate: float | None = float(rate)
        self.rate, self.spread = float(rate), float(spread)

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """Noisy labels; see `Noise`.

        The same on any machine but for the last bit of exp and of the normal distribution's functions: two machines
        differ where a draw in [0, 1) falls into such a bit, once in about 10**10 samples.

        Raises:
            InputError: for a data set of vectors, which have no grey levels.
        """
        expected = "depends on the images' grey levels, and this data set consists of vectors: noise=symmetric, say"
        require(not isinstance(dataset.train.images, Vectors), "rate", self.rate, expected)
        stream, split, num_classes = frozen_stream(seed), dataset.train, len(dataset.class_names)
        labels = split.labels.numpy()
        whether, rates, drawn = (stream.random_sample(len(labels)) for _ in range(3))
        flips = whether < flip_rates(self.rate, self.spread, rates)
        size = split.images.fetch(torch.tensor([0])).numel()
        noisy = labels.copy()
        for true in range(num_classes):
            projection = np.rint(stream.standard_normal((size, num_classes)) * SCALE)
            members = np.flatnonzero(flips & (labels == true))
            for start in range(0, len(members), CHUNK):
                chunk = members[start : start + CHUNK]
                noisy[chunk] = pick_each(label_scores(split.images, chunk, projection, true), drawn[chunk])
        return relabeled(split, torch.from_numpy(noisy))


def flip_rates(rate: float, spread: float, drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) draws from the normal distribution N(rate, spread**2) cut off at 0 and 1, by inversion of uniform ones."""
    low, high = ndtr((0 - rate) / spread), ndtr((1 - rate) / spread)
    rates: npt.NDArray[np.float64] = np.clip(rate + spread * ndtri(low + drawn * (high - low)), 0, 1)
    return rates


def label_scores(
    images: Images, positions: npt.NDArray[np.int64], projection: npt.NDArray[np.float64], true: int
) -> npt.NDArray[np.float64]:
    """(n, K) scores of the labels that images of one class may be mistaken for; -inf for the class itself.

    Args:
        images: the training set's.
        positions: (n,) of the images.
        projection: (S, K), the class's, in whole numbers of 1 / SCALE.
        true: the class.
    """
    levels = images.fetch(torch.from_numpy(positions)).flatten(1).numpy().astype(np.float64)
    scores: npt.NDArray[np.float64] = levels @ projection / (255 * SCALE)
    scores[:, true] = -np.inf
    return scores


def pick_each(scores: npt.NDArray[np.float64], drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(n,) positions in 0..K-1, each drawn from the softmax of its row of scores (n, K), by a number in [0, 1)."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    bounds = np.cumsum(weights, axis=1)
    # The product is below the last bound, or, rounded, equal to it: then the last position with a weight is meant.
    reached = drawn[:, None] * bounds[:, -1:]
    passed = bounds <= np.minimum(reached, np.nextafter(bounds[:, -1:], 0))
    picked: npt.NDArray[np.int64] = np.count_nonzero(passed, axis=1).astype(np.int64)
    return picked
