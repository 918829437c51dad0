"""ELR: the network is held to what it said of a sample early on, before it learns wrong labels by heart.

Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020, and its published code
(github.com/shengliu66/ELR, ELR/model/loss.py and ELR/config_*.json), from which the constants are. Where they differ
the code is followed: it cuts softmax off at both ends before it is ensembled.

Shapes: N samples, B batch, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cpc_lightning.methods.memory import SampleMemory
from cpc_lightning.methods.method import Beginning, Method, Step
from cpc_lightning.methods.targets import (
    TargetJudge,
    clamped,
    early_learning_regulariser,
    ensembled,
    require_ensembling,
)


class Elr(Method):
    """One network, cross-entropy + lambda mean log(1 - <p, t>) (Eq. 6), t the ensembled predictions (Eq. 9).

    The gradient of a sample with respect to its logits is p - y + lambda p (<p, t> - t) / (1 - <p, t>) (Lemma 2). At
    the end labels are ranked by t.
    """

    trains_one = True
    weak_views_alone = True
    judge: TargetJudge

    def __init__(self, lambda_elr: float = 3.0, beta: float = 0.7) -> None:
        """Take the settings.

        Args:
            lambda_elr: lambda, the weight of the regulariser; 0 is plain cross-entropy.
            beta: momentum of the targets, in [0, 1).

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_ensembling(lambda_elr, beta)
        self.lambda_elr, self.beta, self.judge = lambda_elr, beta, TargetJudge()

    def begin(self, beginning: Beginning) -> None:
        """Begin with targets of 0."""
        self.targets = SampleMemory(torch.zeros(beginning.num_samples, beginning.num_classes))
        self.judge.memories = (self.targets, self.targets)

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Both terms, on one weak view each; the targets take in what the network says of it first."""
        step.network.train()
        (images,) = step.weak()
        logits = step.network(images).float()
        probabilities = clamped(logits)
        targets = ensembled(self.targets.read(step.index), probabilities, self.beta)
        self.targets.write(step.index, targets)
        cross_entropy = F.cross_entropy(logits, step.labels)
        regulariser = early_learning_regulariser(probabilities, targets)
        return {"loss": cross_entropy + self.lambda_elr * regulariser, "elr": regulariser}
