"""Estimates how long a run still takes from the time of its own parts: warm-up and stage 2, say, are timed apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WARMUP, STAGE_TWO, EVALUATION, STAGE_ONE, REST, HELD_OUT = (
    "warm-up", "stage 2", "evaluation", "stage 1", "the rest", "held-out images"
)  # fmt: skip
"""The parts: training in an epoch of either kind, what follows it, and the passes after the last epoch."""


@dataclass(frozen=True)
class Left:
    """A duration that is expected.

    Attributes:
        seconds: how long.
        at_least: whether a part of it has not been timed yet, so that it may well be longer.
    """

    seconds: float
    at_least: bool

    def __add__(self, other: Left) -> Left:
        return Left(self.seconds + other.seconds, self.at_least or other.at_least)


@dataclass(frozen=True)
class Likeness:
    """What a part counts as until it has been timed: `factor` times the part `part`; `sure` where that is about right.

    Otherwise it is less than is to be expected.
    """

    part: str
    factor: float
    sure: bool = False


class Pace:
    """The durations of a run's parts.

    Until a part has been timed it counts as what it is like, such as an epoch of stage 2 as one of warm-up: of those it
    trains with more images a step, on guesses that cost passes too, so that the time left is "at least" so long.
    """

    def __init__(self, likenesses: Mapping[str, Likeness]) -> None:
        """Take what a part is like, by part; what has no likeness and was not timed counts nothing."""
        self.likenesses = likenesses
        self._timed: dict[str, tuple[float, ...]] = {}
        self._supposed: dict[str, float] = {}

    def note(self, part: str, seconds: float) -> None:
        """Remember how long the part took; of several times the last two count: a machine's load changes."""
        self._timed[part] = (*self._timed.get(part, ()), seconds)[-2:]

    def suppose(self, part: str, seconds: float) -> None:
        """Take the present part to need so long, by the share of it that is done. That serves until it was timed."""
        self._supposed[part] = seconds

    def expected(self, part: str) -> Left:
        """How long the part will take."""
        if part in self._timed:
            times = self._timed[part]
            return Left(sum(times) / len(times), at_least=False)
        if part in self._supposed:
            return Left(self._supposed[part], at_least=False)
        likeness = self.likenesses.get(part)
        if likeness is None:
            return Left(0.0, at_least=part != REST)
        other = self.expected(likeness.part)
        return Left(other.seconds * likeness.factor, other.at_least or not likeness.sure)

    def total(self, counts: Mapping[str, int]) -> Left:
        """How long the parts will take together, each as often as `counts` says."""
        total = Left(0.0, at_least=False)
        for part, count in counts.items():
            one = self.expected(part)
            total += Left(count * one.seconds, one.at_least and count > 0)
        return total


def epoch_parts(epoch: int, epochs: int, warmup_epochs: int | None) -> tuple[str, ...]:
    """The parts of an epoch, in their order.

    Args:
        epoch: from 0.
        epochs: how many there are.
        warmup_epochs: W; None without a cleaner, which makes every epoch train as in warm-up.
    """
    warmup = warmup_epochs is None or epoch < warmup_epochs
    divides = epoch + 1 == epochs or (warmup_epochs is not None and epoch + 1 >= warmup_epochs)
    return (WARMUP if warmup else STAGE_TWO, EVALUATION, *([STAGE_ONE] if divides else []), REST)


def parts_after(epoch: int, epochs: int, warmup_epochs: int | None) -> dict[str, int]:
    """How often each part comes in the epochs after `epoch`, and after the last one. Arguments as of `epoch_parts`."""
    count = epochs - 1 - epoch
    warmup = count if warmup_epochs is None else max(0, min(warmup_epochs, epochs) - (epoch + 1))
    divided = min(1, count) if warmup_epochs is None else epochs - max(epoch + 1, min(warmup_epochs, epochs) - 1)
    return {
        WARMUP: warmup,
        STAGE_TWO: count - warmup,
        EVALUATION: count,
        STAGE_ONE: divided,
        REST: count,
        HELD_OUT: 1,
    }
