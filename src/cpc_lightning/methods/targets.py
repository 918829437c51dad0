"""Targets that a method remembers of each sample (Liu et al. 2020), and the judge that ranks labels by them.

Shapes: N samples, n judged, B batch, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Estimate
from cpc_lightning.errors import require_number
from cpc_lightning.methods.memory import SampleMemory

HALF = 0.5
"""Above it the given label has more of a target than any other class."""

SMALLEST = 1e-4
"""Softmax is cut off at it and at 1 - it, so that the logarithm of 1 - <p, t> is finite (ELR/model/loss.py)."""


def require_ensembling(lambda_elr: float, beta: float) -> None:
    """Raise `InputError` for a weight of the regulariser below 0, or a momentum of the targets outside of [0, 1)."""
    require_number("lambda_elr", lambda_elr, 0)
    require_number("beta", beta, 0, 1 - 1e-6)


def clamped(logits: Tensor) -> Tensor:
    """Softmax of logits (B, K), cut off at both ends: (B, K) float32, whose rows sum to about 1."""
    return logits.float().softmax(dim=1).clamp(SMALLEST, 1 - SMALLEST)


def ensembled(targets: Tensor, probabilities: Tensor, beta: float) -> Tensor:
    """Temporal ensembling: beta t + (1 - beta) p / sum(p) (Liu et al., Eq. 9). Both (B, K); no gradient."""
    probabilities = probabilities.detach()
    return beta * targets + (1 - beta) * probabilities / probabilities.sum(dim=1, keepdim=True)


def early_learning_regulariser(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of log(1 - <p, t>) (Liu et al., Eq. 6): the smaller, the nearer a prediction is to its target.

    Args:
        probabilities: (B, K) of `clamped`.
        targets: (B, K), rows sum to 1 at most.
    """
    return (1 - (probabilities * targets).sum(dim=1)).log().mean()


def label_share(targets: Tensor, labels: Tensor) -> Tensor:
    """t_y / (t_y + the largest t_k of another class), (n,) float32 in [0, 1]; 0.5 where both are 0.

    Unlike t_y it does not depend on how far targets have grown, nor on how many classes share the rest.

    Args:
        targets: (n, K), not below 0.
        labels: (n,) int64 given labels y.
    """
    given = targets.gather(1, labels[:, None])
    others = targets.scatter(1, labels[:, None], -torch.inf).amax(dim=1, keepdim=True)
    total = given + others
    return torch.where(total > 0, given / total, HALF).squeeze(1).float()


class TargetJudge:
    """Ranks labels by the targets of their samples: clean is the label that the target favours.

    Attributes:
        memories: the targets that network 1 and network 2 learn; the same one twice of a method with one network.
    """

    active = True
    needs_true_labels = False
    needs_features = False
    history_length = 1

    def __init__(self) -> None:
        self.memories: tuple[SampleMemory, SampleMemory] | None = None

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Judge the task's samples. What network 2 learns is what network 1 says of them, and the reverse.

        Samples that were never trained on have no target: they are judged by what the network predicts now.
        """
        if self.memories is None:
            raise RuntimeError("the method has not begun: there are no targets")
        estimates = []
        for number in (0, 1):
            judged, memory = task.draws[1 - number], self.memories[1 - number]
            targets = memory.read(judged.index.to(memory.rows.device)).cpu()
            labels, said = judged.noisy_labels.cpu(), task.judging[number]
            given, best = said.given_probability.cpu(), said.confidence.cpu()
            # The second largest probability is not kept: a label that is predicted has at least half.
            now = torch.where(said.predicted.cpu() == labels, (1 + given) / 2, given / (given + best))
            known = (targets > 0).any(dim=1)
            estimates.append(Estimate(torch.where(known, label_share(targets, labels), now)))
        first, second = estimates
        return CleaningResult((first, second), task.divide((first, second), HALF), HALF, {}, {})
