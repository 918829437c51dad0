"""The cleaner of IDO: how often, over the epochs, a network predicted another class than the given label.

Zhang et al., "Handling Label Noise via Instance-Level Difficulty Modeling and Dynamic Optimization", NeurIPS 2025, and
its published code (github.com/iTheresaApocalypse/IDO: stage_1.py, stage_2.py, stage_2_class.py, utils/bmm.py), from
which the constants are. The paper weighs a loss by the mixture; here it divides the data.

Shapes: n samples looked at, N training samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.special import betaln, expit
from torch import Tensor

from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Draw, Estimate, Evidence
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.gmm import MIN_CLASS_SAMPLES, Array, by_class
from cpc_lightning.errors import require_number, require_switch

FIRST_SHAPES = ((1.0, 2.0), (2.0, 1.0))
"""(alpha, beta) of the clean and of the wrong component that the fit starts from; the code's BetaMixtureModel."""

ITERATIONS = 20
"""Of expectation and maximisation (stage_2.py, the first fit)."""

MARGIN = 1e-6
"""Kept from 0 and 1, where the density may be infinite; the least variance and shape too (epsilon of the code)."""

FLAT, ROUNDED = 1.02, 1.1
"""A clean component's beta and a wrong one's alpha below 1.02 become 1.1: neither has mass at the other's end."""


class WrongEventsCleaner:
    """Labels that a network has often disagreed with are wrong; it forgets no epoch, so that learning by heart is late.

    A wrong event of a sample is an epoch at whose end a network predicts another class than the label. Events are
    counted from the first epoch of the warm-up on, in the evaluation pass (the code counts in training steps, on
    augmented images); a mixture of two Beta distributions over the share of wrong events gives the clean probability.
    It is fitted anew in each stage 1; the code goes on from the last fit by one or two iterations.
    """

    active = True
    needs_true_labels = False
    needs_features = False
    history_length = 1

    def __init__(self, class_aware: bool = True, threshold: float = 0.5, class_floor: float = 0.0) -> None:
        """Take the settings.

        Args:
            class_aware: fit one mixture for each given class (stage_2_class.py of the code) instead of one for all
                (stage_2.py).
            threshold: tau; samples with a clean probability above it are labeled.
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        require_switch("class_aware", class_aware)
        require_number("threshold", threshold, 0, 1, open_ends=True)
        check_floor(class_floor)
        self.class_aware, self.threshold, self.class_floor = class_aware, threshold, class_floor
        self._events = torch.zeros(2, 0, dtype=torch.int32)  # by both networks, of each position in the training set
        self._looks = torch.zeros(0, dtype=torch.int32)

    def remember(self, draw: Draw, seen: tuple[Evidence, Evidence]) -> None:
        """Count what both networks get wrong; samples that were not looked at keep their counts."""
        index = draw.index.cpu()
        missing = max(0, int(index.max()) + 1 - len(self._looks)) if len(index) else 0
        self._events = torch.nn.functional.pad(self._events, (0, missing))
        self._looks = torch.nn.functional.pad(self._looks, (0, missing))
        self._looks[index] += 1
        for number, evidence in enumerate(seen):
            self._events[number, index] += wrong(evidence, draw).int()

    def state_dict(self) -> dict[str, Tensor]:
        """The counts: "events" (2, N) and "looks" (N,), int32."""
        return {"events": self._events.clone(), "looks": self._looks.clone()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on from these counts."""
        self._events, self._looks = state_dict["events"].clone(), state_dict["looks"].clone()

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples for both networks."""
        first, second = self._estimate(task, 0), self._estimate(task, 1)
        partitions = task.divide((first, second), self.threshold)
        scalars = {"wrong_events/epochs": float(self._looks.max()) if len(self._looks) else 0.0}
        return CleaningResult((first, second), partitions, self.threshold, {}, scalars, class_floor=self.class_floor)

    def _estimate(self, task: CleaningTask, network: int) -> Estimate:
        judged = task.draws[1 - network]  # a network judges its peer's draw
        share = self.share_of_events(network, judged, task.judging[network])
        labels = judged.noisy_labels.cpu().numpy() if self.class_aware else None
        return Estimate(torch.from_numpy(clean_share(share.numpy(), labels)).float())

    def share_of_events(self, network: int, draw: Draw, seen: Evidence) -> Tensor:
        """(n,) float64, the share of looks in which `network` (0 or 1) predicted another class.

        Of samples that it remembers nothing of, what it says now is all that is known.
        """
        index = draw.index.cpu()
        known = index < len(self._looks)
        looks, events = torch.zeros_like(index), torch.zeros_like(index)
        looks[known] = self._looks[index[known]].long()
        events[known] = self._events[network, index[known]].long()
        return torch.where(looks > 0, events.double() / looks.clamp(min=1), wrong(seen, draw).double())


def wrong(evidence: Evidence, draw: Draw) -> Tensor:
    """(n,) bool on the CPU, whether the predicted class is not the given label."""
    return evidence.predicted.cpu() != draw.noisy_labels.cpu()


def clean_share(shares: Array, noisy_labels: Array | None) -> Array:
    """(n,) float64 the clean probability, from one mixture, or from one for each given class.

    Shares are scaled to [0, 1] over the whole set. (The code scales within a class, where a class without wrong labels
    would be cut in two.) Equal shares speak against no label: all 1. A class of fewer than `MIN_CLASS_SAMPLES` samples,
    or of equal shares, takes the mixture of all classes.

    Args:
        shares: (n,) of wrong events, in [0, 1].
        noisy_labels: (n,) integer given labels; None for one mixture.

    Raises:
        ValueError: a share is not a number in [0, 1].
    """
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("shares of wrong events must be in [0, 1]")
    if len(shares) == 0 or np.ptp(shares) == 0:
        return np.ones(len(shares))
    scaled = (shares - shares.min()) / np.ptp(shares)
    probability = beta_mixture(scaled)
    if noisy_labels is not None:
        for _, members in by_class(noisy_labels):
            if len(members) >= MIN_CLASS_SAMPLES and np.ptp(scaled[members]) > 0:
                probability[members] = beta_mixture(scaled[members])
    return probability


def beta_mixture(scaled: Array) -> Array:
    """(n,) float64, the posterior of the component of small values in a mixture of two Beta distributions.

    Expectation and maximisation by weighted moments: alpha = m (m (1 - m) / s2 - 1), beta = alpha (1 - m) / m. At
    the ends both densities vanish, and there the wider component wins, or, in the code, which sets densities below 1e-6
    to it, neither. So below the mean of the clean component fewer events are never less clean, and above that of the
    other one more events never cleaner.

    Args:
        scaled: (n,) in [0, 1].
    """
    inner = scaled * (1 - 2 * MARGIN) + MARGIN
    values, counts = np.unique(inner, return_counts=True)
    shapes, weights = FIRST_SHAPES, np.array([0.5, 0.5])
    for _ in range(ITERATIONS):
        clean = _posterior(values, shapes, weights)
        (a, b), (c, d) = _moments(values, clean * counts), _moments(values, (1 - clean) * counts)
        shapes = (a, ROUNDED if b < FLAT else b), (ROUNDED if c < FLAT else c, d)
        share = float((clean * counts).sum() / counts.sum())
        weights = np.array([share, 1 - share]).clip(MARGIN, 1 - MARGIN)
    posterior, means = _posterior(values, shapes, weights), [alpha / (alpha + beta) for alpha, beta in shapes]
    if means[0] > means[1]:
        posterior = 1 - posterior
    few, many = values <= min(means), values >= max(means)
    posterior[few] = np.maximum.accumulate(posterior[few][::-1])[::-1]
    posterior[many] = np.minimum.accumulate(posterior[many])
    found: Array = posterior[np.searchsorted(values, inner)]
    return found


def _posterior(values: Array, shapes: tuple[tuple[float, float], ...], weights: Array) -> Array:
    """(n,) the posterior of the first component."""
    first, second = (
        np.log(w) + (a - 1) * np.log(values) + (b - 1) * np.log1p(-values) - betaln(a, b)
        for (a, b), w in zip(shapes, weights, strict=True)
    )
    share: Array = expit(first - second)
    return share


def _moments(values: Array, weights: Array) -> tuple[float, float]:
    """Alpha and beta of the Beta distribution with the weighted mean and variance of `values`."""
    total = weights.sum() + MARGIN
    mean = min(max(float((weights * values).sum() / total), MARGIN), 1 - MARGIN)
    variance = max(float((weights * (values - mean) ** 2).sum() / total), MARGIN)
    alpha = mean * (mean * (1 - mean) / variance - 1)
    return max(alpha, MARGIN), max(alpha * (1 - mean) / mean, MARGIN)
