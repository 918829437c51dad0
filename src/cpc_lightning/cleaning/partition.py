"""Partitions: which samples a network trains on with their labels, and which without.

Shapes: n samples looked at, of N training samples; m of them on the labeled side; K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MINIMUM_LABELED = 2
"""BatchNorm needs two samples, and so does mixup to mix anything."""


@dataclass(frozen=True, eq=False)
class Partition:
    """One network's division of n training samples into a labeled and an unlabeled side.

    Attributes:
        index: (n,) int64 positions in the training set.
        clean_probability: (n,) float32 in [0, 1].
        clean: (n,) bool, True on the labeled side.
        fell_back: True if too few samples passed the threshold, so that the labeled side was filled by rank.
        targets: (n, K) floating point, what the labeled side is trained on in place of the given labels, such as
            corrected labels or the probability of each class; None: the given labels.
        weights: (n,) float32 above 0, how often a sample of the labeled side is drawn beside the others, such as to
            balance classes; None: all alike.
    """

    index: Tensor
    clean_probability: Tensor
    clean: Tensor
    fell_back: bool = False
    targets: Tensor | None = None
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        columns = (self.index, self.clean_probability, self.clean, *([] if self.weights is None else [self.weights]))
        shapes = {tuple(t.shape) for t in columns}
        if len(shapes) != 1 or self.index.ndim != 1:
            raise ValueError(f"index, clean_probability, clean and weights must all be (n,), not {sorted(shapes)}")
        if self.targets is not None and (self.targets.ndim != 2 or len(self.targets) != len(self.index)):
            raise ValueError(f"targets must be (n, K) with n = {len(self.index)}, not {tuple(self.targets.shape)}")

    @classmethod
    def from_probability(
        cls,
        index: Tensor,
        clean_probability: Tensor,
        clean_threshold: float,
        minimum_labeled: int = MINIMUM_LABELED,
    ) -> Partition:
        """Label what is clean with a probability above `clean_threshold` (strictly, as in Section 4.2).

        Where fewer than `minimum_labeled` samples pass, the labeled side is the `minimum_labeled` samples of highest
        clean probability instead (the earlier one on ties; all n if n is smaller), so that training goes on;
        `fell_back` says so.

        Args:
            index: (n,) int64 positions in the training set.
            clean_probability: (n,) in [0, 1]; moved to the device of `index`.
            clean_threshold: tau.
            minimum_labeled: the smallest labeled side.

        Raises:
            ValueError: a probability is not finite or not in [0, 1], or shapes differ.
        """
        probability = clean_probability.detach().to(index.device, torch.float32)
        require_finite(probability, "clean probability", index)
        if bool(((probability < 0) | (probability > 1)).any()):
            raise ValueError("clean probabilities must be in [0, 1]")
        clean = probability > clean_threshold
        fell_back = int(clean.sum()) < minimum_labeled
        if fell_back:
            ranked = torch.argsort(probability, descending=True, stable=True)
            clean = torch.zeros_like(clean)
            clean[ranked[:minimum_labeled]] = True
        return cls(index, probability, clean, fell_back)

    @property
    def labeled(self) -> Tensor:
        """Training-set positions of the labeled side, (m,) int64 in the order of `index`."""
        return self.index[self.clean]

    @property
    def unlabeled(self) -> Tensor:
        """Training-set positions of the unlabeled side, (n - m,) int64 in the order of `index`."""
        return self.index[~self.clean]

    @property
    def labeled_probability(self) -> Tensor:
        """Clean probability of each sample of `labeled`, (m,) float32."""
        return self.clean_probability[self.clean]

    @property
    def labeled_targets(self) -> Tensor | None:
        """What to train `labeled` on, (m, K) float32; None: their given labels."""
        return None if self.targets is None else self.targets[self.clean].float()

    @property
    def labeled_weights(self) -> Tensor | None:
        """How often each sample of `labeled` is drawn, (m,) float32; None: all alike."""
        return None if self.weights is None else self.weights[self.clean]

    def to_state(self) -> dict[str, Tensor]:
        """Plain tensors on the CPU, which a checkpoint can hold and `weights_only=True` can load."""
        more = {"targets": self.targets, "weights": self.weights}
        return {
            **{name: value.cpu() for name, value in more.items() if value is not None},
            "index": self.index.cpu(),
            "clean_probability": self.clean_probability.cpu(),
            "clean": self.clean.cpu(),
            "fell_back": torch.tensor(self.fell_back),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Partition:
        """The partition that `to_state` was called on."""
        return cls(
            state["index"],
            state["clean_probability"],
            state["clean"],
            bool(state["fell_back"]),
            state.get("targets"),
            state.get("weights"),
        )


def co_divide(by_first: Partition, by_second: Partition) -> tuple[Partition, Partition]:
    """Swap the networks: what is estimated with network 1 divides the data for network 2, and the reverse.

    A network that trained on its own verdicts would confirm its own mistakes.

    Returns:
        The partitions for network 1 and for network 2.
    """
    return by_second, by_first


def require_finite(values: Tensor, what: str, index: Tensor | None = None) -> None:
    """Raise `ValueError` naming the first sample whose value (n,) is not finite, by `index` (n,) if given."""
    broken = torch.nonzero(~torch.isfinite(values)).flatten()
    if len(broken):
        row = int(broken[0])
        sample = row if index is None else int(index[row])
        raise ValueError(
            f"the {what} of sample {sample} is {float(values[row])} ({len(broken)} of {len(values)} are not finite)"
        )
