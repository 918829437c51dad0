"""Partitions: which samples a network trains on with their labels, and which without.

Shapes: n samples looked at, of N training samples.
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
    """

    index: Tensor
    clean_probability: Tensor
    clean: Tensor
    fell_back: bool = False

    def __post_init__(self) -> None:
        shapes = {tuple(t.shape) for t in (self.index, self.clean_probability, self.clean)}
        if len(shapes) != 1 or self.index.ndim != 1:
            raise ValueError(f"index, clean_probability and clean must all be (n,), not {sorted(shapes)}")

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

    def to_state(self) -> dict[str, Tensor]:
        """Plain tensors on the CPU, which a checkpoint can hold and `weights_only=True` can load."""
        return {
            "index": self.index.cpu(),
            "clean_probability": self.clean_probability.cpu(),
            "clean": self.clean.cpu(),
            "fell_back": torch.tensor(self.fell_back),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Partition:
        """The partition that `to_state` was called on."""
        return cls(state["index"], state["clean_probability"], state["clean"], bool(state["fell_back"]))


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
