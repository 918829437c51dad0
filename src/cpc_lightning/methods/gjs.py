"""GJS: label and predictions of two views are to agree, by the generalised Jensen-Shannon divergence.

Englesson & Azizpour, "Generalized Jensen-Shannon Divergence Loss for Learning with Noisy Labels", NeurIPS 2021, and its
published code (github.com/ErikEnglesson/GJS, losses.py and scripts/*/gjs*.yaml), from which the constants are. The code
cuts the mean distribution off at 1e-7; here logarithms are summed, which needs no such bound.

Shapes: V views, B batch, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.errors import require_number, require_switch
from cpc_lightning.methods.method import Method, Step
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.views.views import VIEWS


class Gjs(Method):
    """One network, the generalised Jensen-Shannon divergence of label and two strong views.

    The label weighs pi_1, each view (1 - pi_1) / 2. It is between cross-entropy (pi_1 towards 0) and mean absolute
    error (towards 1). At the end a mixture over losses ranks the labels.
    """

    trains_one = True
    many_views = True

    def __init__(self, label_weight: float = 0.3, scaled: bool = True) -> None:
        """Take the settings.

        Args:
            label_weight: pi_1, in (0, 1); the more labels are wrong, the smaller.
            scaled: divide by Z = -(1 - pi_1) log(1 - pi_1), so that pi_1 changes the loss's form, not its size (code:
                JSWCS; not on WebVision: JSWC).

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_number("label_weight", label_weight, 0, 1, open_ends=True)
        require_switch("scaled", scaled)
        self.label_weight, self.scaled = label_weight, scaled
        self.judge = GmmCleaner(class_aware=False)

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The divergence on two strong views; each is a batch of its own for BatchNorm, as in the code."""
        step.network.train()
        logits = torch.stack([step.network(images).float() for images in step.strong(VIEWS)])
        loss = generalised_jensen_shannon(logits, step.labels, self.label_weight)
        return {"loss": loss / scale(self.label_weight) if self.scaled else loss}

    def forwarded(self, risk: EmpiricalVicinalRisk) -> int:
        """Both views."""
        return VIEWS


def generalised_jensen_shannon(logits: Tensor, labels: Tensor, label_weight: float) -> Tensor:
    """Mean over the batch of pi_1 KL(e_y | m) + sum_v pi_v KL(p_v | m), m = pi_1 e_y + sum_v pi_v p_v (Section 3).

    Args:
        logits: (V, B, K) float32.
        labels: (B,) int64 y.
        label_weight: pi_1; views share the rest equally.
    """
    view_weight = (1 - label_weight) / len(logits)
    log_probabilities = F.log_softmax(logits, dim=2)
    log_mean = log_probabilities.logsumexp(dim=0) + math.log(view_weight)  # (B, K), but for the label
    given = log_mean.gather(1, labels[:, None])
    given = torch.logaddexp(given, torch.full_like(given, math.log(label_weight)))
    log_mean = log_mean.scatter(1, labels[:, None], given)
    of_views = (log_probabilities.exp() * (log_probabilities - log_mean)).sum(dim=2).sum(dim=0)
    return (view_weight * of_views - label_weight * given.squeeze(1)).mean()


def scale(label_weight: float) -> float:
    """Z = -(1 - pi_1) log(1 - pi_1) (Section 3): the divergence, so divided, is cross-entropy for pi_1 near 0."""
    return -(1 - label_weight) * math.log1p(-label_weight)
