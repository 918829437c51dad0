"""Co-teaching: of every batch each network learns the samples whose labels cost its peer least.

Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018, Algorithm
1, and its code (github.com/bhanML/Co-teaching, main.py and loss.py), whose schedule of the rate is followed.

Shapes: B batch, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.errors import require_integer, require_number
from cpc_lightning.methods.method import Method, Step


class CoTeaching(Method):
    """Two networks on the same batches; each passes on its small-loss samples (Algorithm 1, lines 4 to 7).

    At the end labels are ranked by a mixture over losses.
    """

    together = True
    weak_views_alone = True

    def __init__(self, forget_rate: float = 0.2, gradual_epochs: int = 10, exponent: float = 1.0) -> None:
        """Take the settings.

        Args:
            forget_rate: tau, the share of a batch that is left out in the end: the noise rate, which has to be guessed.
            gradual_epochs: T_k, epochs over which the share grows to it.
            exponent: c, of that growth: the share in epoch t, counted from 0, is tau (t / (T_k - 1))^c. With c = 1 that
                is the code's; the paper has (t / T_k)^c.

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_number("forget_rate", forget_rate, 0, 0.99)
        require_integer("gradual_epochs", gradual_epochs, 1)
        require_number("exponent", exponent, 0)
        self.forget_rate, self.gradual_epochs, self.exponent = forget_rate, gradual_epochs, exponent
        self.judge = GmmCleaner(class_aware=False)

    def forgotten(self, epoch: int) -> float:
        """The share of a batch that is left out in `epoch`, from 0."""
        grown = min(epoch / max(self.gradual_epochs - 1, 1), 1.0)
        return self.forget_rate * grown**self.exponent if grown else 0.0

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Each network's cross-entropy on the samples that its peer has chosen; both see the same view."""
        (images,) = step.weak()
        first, second = step.networks
        first.train()
        second.train()
        each = [F.cross_entropy(n(images).float(), step.labels, reduction="none") for n in (first, second)]
        kept = max(1, int((1 - self.forgotten(int(step.epoch))) * len(step.labels)))
        by_first, by_second = (torch.argsort(loss.detach(), stable=True)[:kept] for loss in each)
        loss_1, loss_2 = each[0][by_second].mean(), each[1][by_first].mean()
        return {"loss": loss_1 + loss_2, "loss_1": loss_1, "loss_2": loss_2}
