"""What a stage 1 has found out, and what it says of every training label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cpc_lightning.cleaning.evidence import Basis, CleaningResult, Draw, Evidence
from cpc_lightning.training.module import CoTrainingModule


@dataclass(frozen=True)
class Verdict:
    """What a stage 1 found out about n training samples.

    Attributes:
        epoch: the number of epochs trained when it was found.
        draws: the samples that network 1 and network 2 train on next; after the last epoch, all.
        judging: what network 1 says of network 2's draw, and network 2 of network 1's; without the features.
        result: the cleaner's answer; None where there is no cleaner.
        suggested: (n,) int64 the class with the largest mean softmax of both networks, of each sample looked at.
        confidence: (n,) that largest mean softmax.
        progress: as in `CleaningTask`.
        ends_warmup: whether the data were divided for the first time, or would have been.
    """

    epoch: int
    draws: tuple[Draw, Draw]
    judging: tuple[Evidence, Evidence]
    result: CleaningResult | None
    suggested: Tensor
    confidence: Tensor
    progress: float
    ends_warmup: bool


def on_every_label(result: CleaningResult, draws: tuple[Draw, Draw], count: int) -> Tensor:
    """(2, N) the clean probabilities by both networks, of N = `count` samples; NaN for those that were not judged."""
    probabilities = torch.full((2, count), torch.nan)
    for number, (estimate, judged) in enumerate(zip(result.estimates, reversed(draws), strict=True)):
        probabilities[number, judged.index] = estimate.clean_probability.cpu()
    return probabilities


def of_each_network(clean: Tensor, module: CoTrainingModule) -> Tensor:
    """Clean probabilities (2, N), in place, with NaN as those of network 2 where the method trains one network."""
    if module.method.trains_one:
        clean[1] = torch.nan
    return clean


def bases_of(verdict: Verdict, result: CleaningResult) -> list[Basis]:
    """What the verdicts of network 1 and network 2 rest on."""
    bases = []
    for evidence, estimate in zip(verdict.judging, result.estimates, strict=True):
        low, high = torch.aminmax(evidence.losses)
        bases.append(Basis((float(low), float(high)), estimate.mixtures, verdict.progress))
    return bases
