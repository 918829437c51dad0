"""Estimates how many labels are wrong, and in what way, with an interval, from predictions out of fold.

Posteriors and matrix are those of `infer_true_classes`, on features that do not change or on a network's own after
warm-up. Measured on the digits after five epochs of warm-up (1,438 labels, seed 1, mean of both networks), where 0,
17.9, 44.8 and 71.2 % of labels were wrong at random, and 20.4 % moved to one class: 0.2, 18.2, 44.2, 72.1 and 19.7 %.
The mixture of losses, which always finds a second component, says 8.8, 25.2, 41.9, 60.6 and 20.6 %; the calibrated
confident joint 0.3, 18.4, 46.4, 77.3 and 21.8 %.

What follows the confusions of the features themselves cannot be seen here: a class that is often taken for another
looks the same as one that is often labeled as another (docs/features.md). `out_of_fold_error` bounds it.

Shapes: N samples, K classes, G groups of copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from cpc_lightning.cleaning.posterior import Posterior
from cpc_lightning.cleaning.transition import given_the_label

DRAWS = 200
"""Of the bootstrap."""

LEVEL = 0.95
"""Of the interval."""


@dataclass(frozen=True)
class NoiseEstimate:
    """What is estimated of the wrong labels among N; rates are shares in [0, 1].

    Attributes:
        rate: of wrong labels: 1 minus the mean posterior of the given label.
        low: lower end of its 95 % interval over samples, by the bootstrap; of two networks the lower one.
        high: upper end.
        by_joint: the rate by the calibrated confident joint (Northcutt et al. 2021), for comparison.
        by_mixture: the rate by the mixture of losses; None where there are no losses to judge by.
        out_of_fold_error: how many given labels a model that has not seen them predicts otherwise. What is above `rate`
            are images that are hard to tell, or wrong labels that follow what the features confuse: nobody can say.
        transition_matrix: (K, K) rows P(given g | true k).
        concentration: of a class's wrong labels the share in the class most often given, mean over the wrong ones,
            scaled: 0 where all classes are equally likely, 1 where there is but one. 0 for two classes, which cannot
            tell.
    """

    rate: float
    low: float
    high: float
    by_joint: float
    by_mixture: float | None
    out_of_fold_error: float
    transition_matrix: Tensor
    concentration: float

    @property
    def scalars(self) -> dict[str, float]:
        """For the log, by metric name."""
        named = {"estimated": self.rate, "low": self.low, "high": self.high, "joint": self.by_joint}
        named |= {} if self.by_mixture is None else {"mixture": self.by_mixture}
        return {f"noise/rate_{name}": value for name, value in named.items()} | {
            "noise/out_of_fold_error": self.out_of_fold_error
        }

    def to_state(self) -> dict[str, Any]:
        """Plain containers and a tensor, which a checkpoint can hold and `weights_only=True` can load."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> NoiseEstimate:
        """The estimate that `to_state` was called on."""
        return cls(**state)


def estimate_noise(
    found: Sequence[Posterior], labels: Sequence[Tensor], seed: int = 0, by_mixture: float | None = None
) -> NoiseEstimate:
    """The mean over what was inferred from each network's features; the interval spans those of all.

    Args:
        found: from one set of features, or from both networks'.
        labels: of each the given labels (N,) int64.
        seed: of the bootstrap.
        by_mixture: the rate by the mixture of losses.
    """
    each = [_estimate(*pair, seed) for pair in zip(found, labels, strict=True)]
    return NoiseEstimate(
        rate=fmean(one.rate for one in each),
        low=min(one.low for one in each),
        high=max(one.high for one in each),
        by_joint=fmean(one.by_joint for one in each),
        by_mixture=by_mixture,
        out_of_fold_error=fmean(one.out_of_fold_error for one in each),
        transition_matrix=torch.stack([one.transition_matrix for one in each]).mean(dim=0),
        concentration=fmean(one.concentration for one in each),
    )


def _estimate(found: Posterior, labels: Tensor, seed: int) -> NoiseEstimate:
    joint = calibrated_joint(found.given, labels)
    rate, low, high = rate_and_interval(found, labels, seed)
    return NoiseEstimate(
        rate=rate,
        low=low,
        high=high,
        by_joint=1 - float(joint.trace()),
        by_mixture=None,
        out_of_fold_error=float((found.given.argmax(dim=1) != labels).float().mean()),
        transition_matrix=found.transition_matrix,
        concentration=concentration(joint),
    )


def rate_and_interval(found: Posterior, labels: Tensor, seed: int, draws: int = DRAWS) -> tuple[float, float, float]:
    """1 minus the mean posterior of the given label, and its 95 % interval by the bootstrap over groups of copies.

    Each draw weighs groups by how often they are drawn, counts the confident joint anew, and with its matrix judges the
    labels: what the models say of the features stays, for they would have to be fitted anew. The quantiles are those of
    the draws' distance from the same rate with every group drawn once.
    """
    rate_of = torch.empty(draws)
    generator = torch.Generator().manual_seed(seed)
    count = int(found.groups.max()) + 1
    for draw in range(draws):
        drawn = torch.bincount(torch.randint(count, (count,), generator=generator), minlength=count)
        rate_of[draw] = _rate(found, labels, drawn[found.groups].float())
    apart = rate_of - _rate(found, labels, torch.ones(len(labels)))
    ends = torch.quantile(apart, torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    rate = 1 - float(found.posterior.gather(1, labels[:, None]).mean())
    low, high = (rate + ends).clamp(0, 1).tolist()
    return rate, min(low, rate), max(high, rate)


def _rate(found: Posterior, labels: Tensor, weights: Tensor) -> float:
    """The rate where sample i counts `weights` (N,) times."""
    joint = calibrated_joint(found.given, labels, weights) + 1e-6 * torch.eye(found.given.shape[1])
    posterior = given_the_label(found.true_class, labels, joint / joint.sum(dim=1, keepdim=True))
    own = posterior.gather(1, labels[:, None]).squeeze(1)
    return 1 - float((weights * own).sum() / weights.sum())


def calibrated_joint(given: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """(K, K) P(true k, given g), whose columns sum to the shares of the given labels (Northcutt et al. 2021).

    Samples count as in `posterior.confident_joint`. A class none of whose labels counts is taken to be right.

    Args:
        given: (N, K) out-of-fold P(given label | features).
        labels: (N,) int64 given labels.
        weights: (N,) how often each sample counts; None: once.
    """
    classes = given.shape[1]
    weights = torch.ones(len(labels)) if weights is None else weights
    own = given.gather(1, labels[:, None]).squeeze(1)
    of_class = torch.zeros(classes).index_add(0, labels, weights)
    thresholds = torch.zeros(classes).index_add(0, labels, weights * own) / of_class.clamp(min=1e-12)
    thresholds[of_class == 0] = torch.inf
    chance, likely = torch.where(given >= thresholds, given, -1.0).max(dim=1)
    counted = torch.where(chance >= 0, weights, 0.0)
    joint = torch.zeros(classes * classes).index_add(0, likely * classes + labels, counted).view(classes, classes)
    none = joint.sum(dim=0) == 0
    joint[none, none] = 1.0
    return joint / joint.sum(dim=0) * of_class / of_class.sum()


def concentration(joint: Tensor) -> float:
    """Of a class's wrong labels the share in its most frequent one, scaled to 0 (even) and 1 (one class alone).

    Args:
        joint: (K, K) P(true k, given g).
    """
    classes = len(joint)
    wrong = joint - torch.diag(joint.diag())
    total = float(wrong.sum())
    if classes < 3 or total <= 0:
        return 0.0
    even = 1 / (classes - 1)
    return max(0.0, (float(wrong.amax(dim=1).sum()) / total - even) / (1 - even))
