"""Inputs and outputs of a cleaner: what the networks say of the samples, and the cleaner's answer.

Shapes: n samples looked at, N training samples, h epochs, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from cpc_lightning.cleaning.noise_rate import NoiseEstimate
from cpc_lightning.cleaning.partition import Partition, co_divide
from cpc_lightning.cleaning.prototypes import PrototypeHead

T = TypeVar("T")

CLASS_AGNOSTIC = -1
"""The key of the mixture over all classes, among mixtures by class."""


@dataclass(frozen=True)
class Evidence:
    """What one network says of n training samples, in eval mode and without augmentation. Row j is sample index[j].

    Of the softmax it keeps what stage 1 asks for: of a million samples and a thousand classes, all would be 4 GB.

    Attributes:
        losses: (n,) float32 cross-entropy of the given label.
        loss_history: (h, n) float32 min-max scaled losses of the last h recorded epochs, this one last.
        given_probability: (n,) float32 softmax of the given label.
        predicted: (n,) int64 the class with the largest softmax.
        confidence: (n,) float32 that largest softmax.
        features: (n, D) floating point of any width, on any device; (n, 0) where the cleaner reads none.
    """

    losses: Tensor
    loss_history: Tensor
    given_probability: Tensor
    predicted: Tensor
    confidence: Tensor
    features: Tensor


@dataclass(frozen=True)
class Draw:
    """The n samples that one network trains on next: the whole training set, or a part drawn for it.

    Attributes:
        index: (n,) int64 positions of the samples in the training set.
        noisy_labels: (n,) int64 given labels.
        true_labels: (n,) int64, -1 where unknown, -2 for none of the classes. Only the oracle reads them.
        trusted: (n,) bool, labels that a person has confirmed; None where none is.
    """

    index: Tensor
    noisy_labels: Tensor
    true_labels: Tensor
    trusted: Tensor | None = None


@dataclass(frozen=True)
class CleaningTask:
    """Everything that a cleaner may look at in one stage 1, for both networks.

    A network judges the samples that its peer trains on next, and its prototypes learn from those that it trains on
    itself. Where both train on the whole set, both draws are the same, and so are `judging` and `learning`.

    Attributes:
        draws: what network 1 and what network 2 trains on next.
        judging: what network 1 says of network 2's draw, and network 2 of network 1's.
        learning: what network 1 says of its own draw, and network 2 of its.
        heads: projector and prototypes of network 1 and of network 2; trained in place.
        optimizers: one for each head.
        progress: epochs since the network warm-up as a share of all epochs, in [0, 1].
        seed: seeds the fits and the draw of mini-batches.
        vectors: (N, D) floating point, what the whole training set consists of where that is features and no images;
            None for images.
        classifiers: of network 1 and of network 2, features (n, D) -> logits (n, K): `Evidence` keeps no whole softmax.
    """

    draws: tuple[Draw, Draw]
    judging: tuple[Evidence, Evidence]
    learning: tuple[Evidence, Evidence]
    heads: tuple[PrototypeHead, PrototypeHead]
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]
    progress: float
    seed: int
    vectors: Tensor | None = None
    classifiers: tuple[nn.Module, nn.Module] | None = None

    def of_each(self, judge: Callable[[CleaningTask, int], T]) -> tuple[T, T]:
        """What `judge` says of the task for network 1 (0) and for network 2 (1).

        It is asked once where both are one network, of a method that trains one, on one draw.
        """
        one = self.heads[0] is self.heads[1] and torch.equal(self.draws[0].index, self.draws[1].index)
        first = judge(self, 0)
        return first, first if one else judge(self, 1)

    def divide(self, estimates: tuple[Estimate, Estimate], threshold: float) -> tuple[Partition, Partition]:
        """Partitions for network 1 and for network 2: each draw is divided by the other network's estimate.

        Args:
            estimates: by network 1 and by network 2, each of its peer's draw.
            threshold: above it a label is trained on.

        Raises:
            ValueError: a clean probability is not finite or not in [0, 1].
        """
        (by_first, by_second), (first, second) = estimates, self.draws
        return co_divide(
            Partition.from_probability(second.index, by_first.clean_probability, threshold),
            Partition.from_probability(first.index, by_second.clean_probability, threshold),
        )


@dataclass(frozen=True)
class LossMixture:
    """A fitted mixture of two Gaussians over scaled losses; component 0 has the smaller mean: it is the clean one."""

    means: tuple[float, float]
    variances: tuple[float, float]
    weights: tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """The clean probabilities that one network gives its peer's draw, each (n,) float32 in [0, 1].

    Attributes:
        clean_probability: the one that divides the data.
        gmm: q', from the loss distribution; None for cleaners without a mixture.
        cpc: q, from the prototypes; None for cleaners without prototypes.
        mixtures: fitted, by given class, -1 for the one over all classes; None for cleaners without a mixture.
    """

    clean_probability: Tensor
    gmm: Tensor | None = None
    cpc: Tensor | None = None
    mixtures: dict[int, LossMixture] | None = None


@dataclass(frozen=True)
class Advice:
    """What a cleaner that chooses for itself has chosen, once for the run.

    Attributes:
        cleaner: the choice of the group `cleaner` that it acts as.
        class_aware: whether there is a mixture for each class.
        threshold: tau of the mixture, or of the probe.
        history_length: how many recorded losses are averaged.
        warmup_share: e, as a share of all epochs.
        lambda_u: weight of the unlabeled loss, where `semisup.lambda_u` leaves it to the cleaner.
        reason: why, for people.
    """

    cleaner: str
    class_aware: bool
    threshold: float
    history_length: int
    warmup_share: float
    lambda_u: float
    reason: str

    def __str__(self) -> str:
        return f"{self.cleaner}, lambda_u {self.lambda_u:g}, threshold {self.threshold:g}: {self.reason}"

    def to_state(self) -> dict[str, Any]:
        """Plain values, which a checkpoint can hold."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Advice:
        """The advice that `to_state` was called on."""
        return cls(**state)


@runtime_checkable
class Chooses(Protocol):
    """A cleaner that chooses for itself at the end of warm-up, and can be told what it chose, and by which estimate."""

    advice: Advice | None
    noise: NoiseEstimate | None


@dataclass(frozen=True)
class CleaningResult:
    """A cleaner's answer.

    Attributes:
        estimates: by network 1 and by network 2.
        partitions: for network 1 and for network 2, that is, after the swap of co-divide.
        threshold: what the estimates' `clean_probability` was held against: above it a sample counts as clean.
        thresholds: the same for each source of an estimate, "gmm" and "cpc", that the cleaner has.
        scalars: what else is worth logging, by metric name.
        class_floor: the share of each class's labels that is trained on whatever the estimates say (`cleaning.floor`).
        noise: what is estimated of the wrong labels; None where the cleaner estimates nothing beyond its verdict.
        advice: what a cleaner that chooses for itself has chosen.
    """

    estimates: tuple[Estimate, Estimate]
    partitions: tuple[Partition, Partition]
    threshold: float
    thresholds: dict[str, float]
    scalars: dict[str, float]
    class_floor: float = 0.0
    noise: NoiseEstimate | None = None
    advice: Advice | None = None


class Cleaner(Protocol):
    """Answers who is clean.

    Attributes:
        history_length: how many recorded losses `Evidence.loss_history` must hold.
        active: False if the cleaner never divides the data, so that stage 1 and stage 2 do not take place.
        needs_true_labels: True if it can only judge samples whose true label is known.
        needs_features: False if it never reads `Evidence.features`, the largest thing of a run: then they are not kept.
    """

    history_length: int
    active: bool
    needs_true_labels: bool
    needs_features: bool

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples for both networks."""


@runtime_checkable
class TakesSteps(Protocol):
    """A cleaner that trains something in each fit: that takes its time by the steps, not by the number of samples.

    Attributes:
        steps: the most that a network's fit takes.
    """

    steps: int

    def expected_steps(self, samples: int) -> int:
        """How many a fit on so many samples takes as a rule."""


@runtime_checkable
class ComparesSamples(Protocol):
    """A cleaner that compares samples with each other: of very many, with the help of a package that may be missing."""

    def require_comparable(self, samples: int, of_vectors: bool) -> None:
        """Raise `InputError` where it is.

        Args:
            samples: how many there are.
            of_vectors: whether the data set consists of features that do not change.
        """


@runtime_checkable
class Keeps(Protocol):
    """A cleaner that keeps something from one stage 1 to the next, which travels through checkpoints."""

    def state_dict(self) -> dict[str, Tensor]:
        """What it keeps: plain tensors on the CPU."""

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""


@runtime_checkable
class Remembers(Keeps, Protocol):
    """A cleaner that keeps something of each sample from epoch to epoch, from the first epoch of the warm-up on.

    Every process has it remember the same.
    """

    def remember(self, draw: Draw, seen: tuple[Evidence, Evidence]) -> None:
        """Take note of what both networks say at the end of an epoch, before `clean` where there is a stage 1.

        Args:
            draw: all samples with a label that were looked at, ascending.
            seen: what network 1 and network 2 say of them; without features, and without a loss history.
        """


@dataclass(frozen=True)
class Basis:
    """What one network's last verdict rests on beside its weights: enough to judge samples that no stage 1 saw.

    Attributes:
        loss_range: the smallest and the largest loss of the training set, which scaling takes to 0 and 1.
        mixtures: as in `Estimate`.
        progress: as in `CleaningTask`.
    """

    loss_range: tuple[float, float]
    mixtures: dict[int, LossMixture] | None
    progress: float

    def to_state(self) -> dict[str, Any]:
        """Plain containers, which a checkpoint can hold and `weights_only=True` can load."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Basis:
        """The basis that `to_state` was called on."""
        mixtures = state["mixtures"] and {label: LossMixture(**mixture) for label, mixture in state["mixtures"].items()}
        return cls(state["loss_range"], mixtures, state["progress"])


@runtime_checkable
class JudgesOthers(Protocol):
    """A cleaner that can also judge samples outside the training set, by what its last stage 1 has left."""

    def judge(self, evidence: Evidence, draw: Draw, basis: Basis, head: PrototypeHead) -> Tensor:
        """Clean probability, (n,) in [0, 1], by one network; NaN where it cannot tell.

        Args:
            evidence: what the network says of the n samples; its loss history is their one loss on the scale of the
                training set, cut off at 0 and 1.
            draw: the samples and their labels.
            basis: of this network's last verdict.
            head: of this network.
        """
