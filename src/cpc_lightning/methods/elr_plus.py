"""ELR+: ELR with two networks, whose averages make each other's targets, and mixup.

Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020, Section 4.4, and its
published code (github.com/shengliu66/ELR, ELR_plus/model/loss.py, trainer/trainer.py, utils/util.py and
config_*.json), from which the constants are. Where the paper is silent or says otherwise the code is followed: lambda
of mixup is at least 0.5, averages are of parameters alone and guess in train mode, and the momentum of an average, or
lambda, may grow. Unlike the code, averages begin as their networks do, not as networks of their own; by the growing
momentum nothing is left of either within a few steps.

Shapes: N samples, B batch, K classes.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpc_lightning.errors import require_integer, require_number, require_switch
from cpc_lightning.methods.memory import SampleMemory
from cpc_lightning.methods.method import Beginning, Method, Step
from cpc_lightning.methods.targets import (
    TargetJudge,
    clamped,
    early_learning_regulariser,
    ensembled,
    require_ensembling,
)
from cpc_lightning.semisup.evr import soft_cross_entropy
from cpc_lightning.semisup.mixmatch import draw_mixup_lambda, mixup


class ElrPlus(Method):
    """Two networks in turn; each learns mixed views, labels and targets, the targets from its peer's average.

    At the end labels are ranked by the targets.
    """

    weak_views_alone = True
    judge: TargetJudge
    steps: Tensor

    def __init__(
        self,
        lambda_elr: float = 3.0,
        beta: float = 0.7,
        mixup_alpha: float = 1.0,
        average_momentum: float = 0.997,
        average_rampup_steps: int | None = 40_000,
        lambda_rampup_steps: int = 0,
        refine_labels: bool = False,
    ) -> None:
        """Take the settings.

        Args:
            lambda_elr: lambda, the weight of the regulariser (Eq. 6).
            beta: momentum of the targets, in [0, 1).
            mixup_alpha: of the Beta distribution of mixup; at least 0.01 (see `draw_mixup_lambda`).
            average_momentum: gamma, of the averaged weights, in [0, 1) (--ema_alpha).
            average_rampup_steps: steps of a network over which it grows from e^-5 of itself (ema_step); None: it is the
                true average of all steps until that is slower (ema_update).
            lambda_rampup_steps: steps of a network over which lambda grows from e^-5 of itself (coef_step); 0: none.
            refine_labels: multiply mixed labels by the targets and normalise them: the code's way with 100 classes.

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_ensembling(lambda_elr, beta)
        require_number("mixup_alpha", mixup_alpha, 0.01)
        require_number("average_momentum", average_momentum, 0, 1 - 1e-6)
        if average_rampup_steps is not None:
            require_integer("average_rampup_steps", average_rampup_steps, 0)
        require_integer("lambda_rampup_steps", lambda_rampup_steps, 0)
        require_switch("refine_labels", refine_labels)
        self.lambda_elr, self.beta, self.mixup_alpha = lambda_elr, beta, mixup_alpha
        self.average_momentum, self.average_rampup_steps = average_momentum, average_rampup_steps
        self.lambda_rampup_steps, self.refine_labels = lambda_rampup_steps, refine_labels
        self.judge = TargetJudge()

    def begin(self, beginning: Beginning) -> None:
        """Begin with averages that are the networks, targets of 0 and no steps."""
        copies = [copy.deepcopy(network).requires_grad_(False) for network in beginning.networks]
        self.averages = nn.ModuleList(copies)
        zeros = torch.zeros(beginning.num_samples, beginning.num_classes)
        first, second = SampleMemory(zeros), SampleMemory(zeros.clone())
        self.targets = nn.ModuleList([first, second])
        self.judge.memories = (first, second)
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Soft cross-entropy + lambda log(1 - <p, t>) on mixed views; targets are of the views before mixup."""
        memory, average = self.targets[step.number], self.averages[1 - step.number]
        (images,) = step.weak()
        step.network.train()
        average.train()
        with torch.no_grad():
            guesses = average(images).float().softmax(dim=1)
        made = ensembled(memory.read(step.index), guesses, self.beta)  # type: ignore[operator]
        memory.write(step.index, made)  # type: ignore[operator]

        labels = F.one_hot(step.labels, made.shape[1]).float()
        mixup_lambda = draw_mixup_lambda(self.mixup_alpha)
        partners = torch.randperm(len(images)).to(images.device, non_blocking=True)
        mixed, labels = mixup(images, labels, mixup_lambda, partners)
        targets = mixup_lambda * made + (1 - mixup_lambda) * made[partners]
        if self.refine_labels:
            labels = refined(labels, targets)
        logits = step.network(mixed).float()
        regulariser = early_learning_regulariser(clamped(logits), targets)
        weight = self.lambda_elr * growth(self.steps[step.number] + 1, self.lambda_rampup_steps)
        return {"loss": soft_cross_entropy(logits, labels) + weight * regulariser, "elr": regulariser}

    def after_step(self, step: Step) -> None:
        """Have the average of the network that was trained follow it."""
        self.steps[step.number] += 1
        weight = 1 - self.momentum(self.steps[step.number])
        with torch.no_grad():
            pairs = zip(self.averages[step.number].parameters(), step.network.parameters(), strict=True)
            for average, parameter in pairs:
                average.lerp_(parameter, weight.to(parameter.dtype))

    def momentum(self, steps: Tensor) -> Tensor:
        """The average's momentum after that many steps, from 1 on (update_ema_variables)."""
        if self.average_rampup_steps is None:
            return (1 - 1 / (steps + 1)).clamp(max=self.average_momentum)
        return self.average_momentum * growth(steps + 1, self.average_rampup_steps)


def growth(steps: Tensor, length: int) -> Tensor:
    """exp(-5 (1 - t)^2), t = steps / length, at most 1; 1 where `length` is 0 (sigmoid_rampup). A float32 scalar."""
    share = (steps / max(length, 1)).clamp(max=1) if length else torch.ones_like(steps, dtype=torch.float32)
    return torch.exp(-5 * (1 - share).square())


def refined(labels: Tensor, targets: Tensor) -> Tensor:
    """Labels times targets, both (B, K), rows normalised to 1; where nothing is left, the labels."""
    product = labels * targets
    total = product.sum(dim=1, keepdim=True)
    return torch.where(total > 0, product / total, labels)
