"""The loss cleaner: a two-component Gaussian mixture fitted to the losses (DivideMix; Section 3).

Shapes: n samples looked at, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from cpc_lightning.cleaning.evidence import (
    CLASS_AGNOSTIC,
    Basis,
    CleaningResult,
    CleaningTask,
    Draw,
    Estimate,
    Evidence,
    LossMixture,
)
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.mixtures import MAX_ITER, REG_COVAR, TOL, fit_pairs
from cpc_lightning.cleaning.partition import require_finite
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import require_integer, require_number

Array = NDArray[Any]

MIN_CLASS_SAMPLES = 10
"""A class-aware mixture has five parameters; with fewer than two samples for each, it describes noise."""


def scale_losses(losses: Tensor) -> Tensor:
    """Min-max scale losses (n,) to [0, 1] over the set; constant losses become all 0.

    Raises:
        ValueError: a loss is not finite.
    """
    require_finite(losses, "loss")
    low, high = torch.aminmax(losses)
    if low == high:
        return torch.zeros_like(losses)
    return (losses - low) / (high - low)


def scale_like(losses: Tensor, loss_range: tuple[float, float]) -> Tensor:
    """Losses (n,) of other samples on the scale of a set whose losses have that smallest and largest one.

    What lies beyond the set's losses is cut off at 0 or 1. Where the set's losses are constant, all are 0, as its own.
    """
    low, high = loss_range
    if low == high:
        return torch.zeros_like(losses)
    return ((losses - low) / (high - low)).clamp(0, 1)


def two_gaussians(values: Array, seed: int) -> GaussianMixture:
    """Two Gaussians with full covariance, fitted to values (n, d), n >= 2, with the constants of DivideMix."""
    model = GaussianMixture(n_components=2, max_iter=MAX_ITER, tol=TOL, reg_covar=REG_COVAR, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # Ten iterations, converged or not, are the method's constant; and coinciding losses are no surprise here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values)
    return model


def fit_mixture(scaled: Array, seed: int) -> tuple[LossMixture, Array]:
    """Fit two Gaussians to the scaled losses (n,), n >= 2.

    Returns:
        The mixture, and the posterior probability of its smaller-mean component (n,) float64.
    """
    mixtures, posterior = fit_mixtures(np.asarray(scaled, dtype=np.float64), np.array([len(scaled)]), seed)
    return mixtures[0], posterior


def fit_mixtures(scaled: Array, sizes: Array, seed: int) -> tuple[list[LossMixture], Array]:
    """`fit_mixture` for each of many groups of losses; arguments as those of `fit_pairs`."""
    pairs, posterior = fit_pairs(scaled, sizes, seed)
    columns = zip(*(v.T.tolist() for v in (pairs.means, pairs.variances, pairs.weights)), strict=True)
    return [LossMixture(*((v[0], v[1]) for v in column)) for column in columns], posterior


def class_agnostic_probability(scaled: Array, seed: int) -> tuple[Array, dict[int, LossMixture]]:
    """Clean probability q' from one mixture over all samples.

    Constant losses (a single sample's, too) speak against no label: every probability is 1, and there is no mixture.

    Args:
        scaled: (n,) losses on the scale [0, 1].
        seed: of scikit-learn's initialisation.

    Returns:
        q' (n,) float64, and the mixture under the key `CLASS_AGNOSTIC`.

    Raises:
        ValueError: a loss is not finite.
    """
    require_finite(torch.as_tensor(scaled), "scaled loss")
    if len(scaled) == 0 or np.ptp(scaled) == 0:
        return np.ones(len(scaled)), {}
    mixture, posterior = fit_mixture(scaled, seed)
    return posterior, {CLASS_AGNOSTIC: mixture}


def by_class(labels: Array) -> Iterator[tuple[int, Array]]:
    """Each class among labels (n,), ascending, and the positions of its samples in their order."""
    order = np.argsort(labels, kind="stable")  # one sort instead of K scans
    classes, starts = np.unique(labels[order], return_index=True)
    yield from zip(classes.tolist(), np.split(order, starts[1:]), strict=True)


def class_aware_probability(scaled: Array, noisy_labels: Array, seed: int) -> tuple[Array, dict[int, LossMixture]]:
    """Clean probability q' from one mixture for each given class, on the same globally scaled losses.

    A class takes the class-agnostic posterior where a mixture of its own would describe noise: with fewer than
    `MIN_CLASS_SAMPLES` samples, or with losses that all lie within sqrt(`REG_COVAR`) of each other (constant ones
    included), as in a class without wrong labels that is learnt well: a mixture always finds a second component.

    Args:
        scaled: (n,) losses on the scale [0, 1].
        noisy_labels: (n,) integer given labels.
        seed: of scikit-learn's initialisation, the same for every class.

    Returns:
        q' (n,) float64, and the mixtures by class, with the class-agnostic one under `CLASS_AGNOSTIC`.

    Raises:
        ValueError: a loss is not finite.
    """
    probability, mixtures = class_agnostic_probability(scaled, seed)
    if not mixtures:
        return probability, mixtures
    of_class = {
        label: members
        for label, members in by_class(noisy_labels)
        if len(members) >= MIN_CLASS_SAMPLES and np.ptp(scaled[members]) > math.sqrt(REG_COVAR)
    }
    if of_class:
        together, sizes = np.concatenate([*of_class.values()]), np.array([len(m) for m in of_class.values()])
        fitted, probability[together] = fit_mixtures(scaled[together].astype(np.float64), sizes, seed)
        mixtures |= dict(zip(of_class, fitted, strict=True))
    return probability, mixtures


def clean_posterior(mixtures: Mapping[int, LossMixture] | None, scaled: Tensor, noisy_labels: Tensor) -> Tensor:
    """Clean probability q' of samples that were not there when the mixtures were fitted.

    A class without a mixture of its own takes the class-agnostic one; where there is no mixture at all, because the
    losses it was to be fitted to were constant, every probability is 1.

    Args:
        mixtures: by given class, the class-agnostic one under `CLASS_AGNOSTIC`.
        scaled: (n,) losses on the scale of those that the mixtures were fitted to.
        noisy_labels: (n,) int64 given labels.

    Returns:
        The posterior of the smaller-mean component (n,) float64.
    """
    if not mixtures:
        return torch.ones(len(scaled), dtype=torch.float64)
    classes, rows = torch.unique(noisy_labels, return_inverse=True)
    chosen = [mixtures.get(label, mixtures[CLASS_AGNOSTIC]) for label in classes.tolist()]
    means, variances, weights = (
        torch.tensor([getattr(mixture, name) for mixture in chosen], dtype=torch.float64)[rows]
        for name in ("means", "variances", "weights")
    )
    squares = (scaled.double()[:, None] - means).square()
    log_density = weights.log() - variances.log() / 2 - squares / (2 * variances)  # (n, 2), but for a constant
    return torch.sigmoid(log_density[:, 0] - log_density[:, 1])


class GmmCleaner:
    """Small loss means clean: DivideMix's cleaner, over all classes (`agn`) or for each given class (`awr`).

    The mixture's input is the mean of the last `history_length` recorded scaled losses, or of as many as there are.
    """

    active = True
    needs_true_labels = False
    needs_features = False

    def __init__(
        self, class_aware: bool, threshold: float = 0.5, history_length: int = 1, class_floor: float = 0.0
    ) -> None:
        """Take the settings.

        Args:
            class_aware: fit one mixture for each given class instead of one for all.
            threshold: tau; samples with a clean probability above it are labeled.
            history_length: how many epochs' losses are averaged (5 for 90 % noise).
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        require_number("threshold", threshold, 0, 1, open_ends=True)
        require_integer("history_length", history_length, minimum=1)
        check_floor(class_floor)
        self.class_aware = class_aware
        self.threshold = threshold
        self.history_length, self.class_floor = history_length, class_floor

    def estimate(self, task: CleaningTask, network: int) -> Estimate:
        """Clean probability q' of the samples that `network` (0 or 1) judges: its peer's draw.

        Raises:
            ValueError: a loss is not finite; the message names the sample.
        """
        draw, history = task.draws[1 - network], task.judging[network].loss_history
        averaged = history[-self.history_length :].mean(dim=0)
        require_finite(averaged, "scaled loss", draw.index)
        scaled = averaged.cpu().double().numpy()
        if self.class_aware:
            posterior, mixtures = class_aware_probability(scaled, draw.noisy_labels.cpu().numpy(), task.seed)
        else:
            posterior, mixtures = class_agnostic_probability(scaled, task.seed)
        probability = torch.from_numpy(posterior).to(history.device, torch.float32)
        return Estimate(probability, gmm=probability, mixtures=mixtures)

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples for both networks."""
        first, second = self.estimate(task, 0), self.estimate(task, 1)
        partitions = task.divide((first, second), self.threshold)
        return CleaningResult(
            (first, second), partitions, self.threshold, {"gmm": self.threshold}, {}, class_floor=self.class_floor
        )

    def judge(self, evidence: Evidence, draw: Draw, basis: Basis, head: PrototypeHead) -> Tensor:
        """Clean probability q' (n,) of samples outside the training set: `clean_posterior` of their one loss each."""
        scaled = evidence.loss_history[-1].cpu()
        return clean_posterior(basis.mixtures, scaled, draw.noisy_labels.cpu()).to(
            evidence.losses.device, torch.float32
        )
