"""Stage 2's loss: the empirical vicinal risk (Eq. 1, 11-13), MixMatch as in DivideMix on the views of AugDesc.

Shapes: B labeled and Bu unlabeled samples a batch, V views, K classes, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpc_lightning.errors import require_integer, require_number, require_switch
from cpc_lightning.semisup.mixmatch import co_guess, co_refine, draw_mixup_lambda, mixup


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-mean over rows of sum_k targets_k log softmax_k (l_X' of Eq. 11). Both (B, K); a float32 scalar."""
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows **and classes** of (softmax - target)^2 (l_U' of Eq. 11). Both (B, K); a float32 scalar."""
    return (logits.float().softmax(dim=1) - targets).square().mean()


def prior_penalty(logits: Tensor) -> Tensor:
    """KL(uniform || mean prediction) = sum_k (1/K) log((1/K) / mean_k): keeps classes from dying out.

    Args:
        logits: (B, K), all the rows to take the mean over.

    Returns:
        A float32 scalar, 0 where the mean prediction is uniform.
    """
    rows, num_classes = logits.shape
    prior = 1 / num_classes
    # The mean's logarithm is taken from log-probabilities: a class that no row predicts gives a large penalty, not inf.
    log_mean = F.log_softmax(logits.float(), dim=1).logsumexp(dim=0) - math.log(rows)
    return (prior * (math.log(prior) - log_mean)).sum()


def confidence_penalty(logits: Tensor) -> Tensor:
    """Mean over rows of sum_k p_k log p_k, the negative entropy; added to the loss in warm-up (asymmetric noise).

    Args:
        logits: (B, K).

    Returns:
        A float32 scalar in [-log K, 0].
    """
    log_probabilities = F.log_softmax(logits.float(), dim=1)
    return (log_probabilities.exp() * log_probabilities).sum(dim=1).mean()


def linear_rampup(epoch: float, warmup_epochs: float, rampup_epochs: float, maximum: float) -> float:
    """0 until the warm-up's end, then linear to `maximum` within `rampup_epochs`, then constant.

    Args:
        epoch: epochs done so far, fractional within an epoch (3.5 is the middle of the fourth).
        warmup_epochs: epochs of warm-up.
        rampup_epochs: length of the ramp; 0 is a step to `maximum`.
        maximum: the value at the end.
    """
    if rampup_epochs == 0:
        return maximum if epoch >= warmup_epochs else 0.0
    return maximum * min(max((epoch - warmup_epochs) / rampup_epochs, 0.0), 1.0)


@dataclass(frozen=True)
class SemisupBatch:
    """What one step of stage 2 trains on. All views are normalised floats on the network's device.

    Attributes:
        weak_labeled: (V, B, C, H, W).
        strong_labeled: (V, B, C, H, W).
        labels: (B,) int64 given labels.
        clean_probability: (B,) in [0, 1].
        weak_unlabeled: (V, Bu, C, H, W); Bu may be 0.
        strong_unlabeled: (V, Bu, C, H, W).
        targets: (B, K) what the labeled side is to learn in place of the given labels; None: those.
    """

    weak_labeled: Tensor
    strong_labeled: Tensor
    labels: Tensor
    clean_probability: Tensor
    weak_unlabeled: Tensor
    strong_unlabeled: Tensor
    targets: Tensor | None = None


@dataclass(frozen=True)
class EvrLosses:
    """The empirical vicinal risk and its parts, float32 scalars on the network's device.

    Attributes:
        total: labeled + lambda_u(t) unlabeled + prior_weight * penalty; the one to descend on.
        labeled: soft cross-entropy, l_X'.
        unlabeled: squared error, l_U', not yet weighted; 0 where the unlabeled half is not forwarded.
        penalty: `prior_penalty`.
        lambda_u: lambda_u(t), the weight of `unlabeled`.
    """

    total: Tensor
    labeled: Tensor
    unlabeled: Tensor
    penalty: Tensor
    lambda_u: float


class EmpiricalVicinalRisk:
    """Guesses targets with both networks, and measures the trained one on mixed strong views against them.

    Args:
        lambda_u: weight of the unlabeled loss at the ramp's end; None: what the cleaner chooses (`follow`).
        temperature: sharpening T of guessed and refined targets.
        mixup_alpha: of the Beta distribution of mixup; at least 0.01 (see `draw_mixup_lambda`).
        rampup_epochs: epochs after warm-up over which the weight grows from 0.
        forward_unlabeled: whether the unlabeled half is forwarded where `lambda_u` is 0 too, as DivideMix and AugDesc
            do on CIFAR (on Clothing1M and WebVision they do not): BatchNorm's statistics and the penalty's mean
            prediction then see it. Where `lambda_u` is above 0 it always is: its loss is measured there.
        prior_weight: of `prior_penalty`, which takes classes to be equally frequent; 1 in DivideMix and AugDesc.
        views: V, weak views that a step guesses on and strong ones that it trains on, of each image; 2 in MixMatch,
            DivideMix and AugDesc. Where nothing is to be guessed at most `Views.of_certain` are trained on.
        kept_guesses: guess with what the networks said of the image as it is in the last stage 1, which saves
            a step all forwards without gradient; not in the paper.

    Raises:
        InputError: if a setting is out of its range.
    """

    def __init__(
        self,
        lambda_u: float | None = 25.0,
        temperature: float = 0.5,
        mixup_alpha: float = 4.0,
        rampup_epochs: int = 16,
        forward_unlabeled: bool = False,
        prior_weight: float = 1.0,
        views: int = 2,
        kept_guesses: bool = False,
    ) -> None:
        if lambda_u is not None:
            require_number("lambda_u", lambda_u, 0)
        require_number("temperature", temperature, 0, open_ends=True)
        require_number("mixup_alpha", mixup_alpha, 0.01)
        require_integer("rampup_epochs", rampup_epochs, 0)
        require_switch("forward_unlabeled", forward_unlabeled)
        require_number("prior_weight", prior_weight, 0)
        require_integer("views", views, 1)
        require_switch("kept_guesses", kept_guesses)
        self.lambda_u, self.prior_weight = lambda_u, prior_weight
        self.temperature = temperature
        self.mixup_alpha = mixup_alpha
        self.rampup_epochs = rampup_epochs
        self.forward_unlabeled = forward_unlabeled
        self.views, self.kept_guesses = views, kept_guesses

    @property
    def forwards_unlabeled(self) -> bool:
        """Whether the unlabeled half is forwarded, for one reason or the other; True while nobody knows."""
        return self.forward_unlabeled or self.lambda_u is None or self.lambda_u > 0

    def follow(self, lambda_u: float) -> None:
        """Take the weight of the unlabeled loss that a cleaner has chosen, unless one was set."""
        if self.lambda_u is None:
            self.lambda_u = lambda_u

    def __call__(
        self,
        network: nn.Module,
        peer: nn.Module,
        batch: SemisupBatch,
        epoch: float,
        warmup_epochs: int,
        generator: torch.Generator | None = None,
    ) -> EvrLosses:
        """Guess, then risk: the losses of one step that trains `network`. Arguments as in `guess` and `risk`."""
        targets_labeled, targets_unlabeled = self.guess(
            network,
            peer,
            batch.weak_labeled,
            batch.weak_unlabeled,
            batch.labels,
            batch.clean_probability,
            batch.targets,
        )
        return self.risk(
            network,
            batch.strong_labeled,
            targets_labeled,
            batch.strong_unlabeled,
            targets_unlabeled,
            epoch,
            warmup_epochs,
            generator,
        )

    @torch.no_grad()
    def guess(
        self,
        network: nn.Module,
        peer: nn.Module,
        weak_labeled: Tensor,
        weak_unlabeled: Tensor,
        labels: Tensor,
        clean_probability: Tensor,
        targets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The targets to train on: co-refined for the labeled side, co-guessed for the unlabeled one. No gradient.

        The trained network is set to train mode, so that its BatchNorm statistics see the weak views, and forwards each
        view of each side by itself: a forward is one BatchNorm batch, and the method's are B images of one view. The
        peer is fixed: it runs in eval mode, where rows do not influence each other, so that its views go through
        in one forward; it has no part in the labeled side. The modes of the peer's modules are put back afterwards.

        Args:
            network: the one being trained, images (B, C, H, W) -> logits (B, K).
            peer: the other one.
            weak_labeled: (V, B, C, H, W) float.
            weak_unlabeled: (V, Bu, C, H, W) float; Bu may be 0.
            labels: (B,) int64 given labels.
            clean_probability: (B,) in [0, 1].
            targets: (B, K) in place of the one-hot labels.

        Returns:
            (B, K) and (Bu, K) float32 targets.
        """
        network.train()
        views, unlabeled = weak_unlabeled.shape[:2]
        both = None
        if unlabeled:
            own = torch.stack([probabilities_of(network, view) for view in weak_unlabeled])
            with eval_mode(peer):
                others = probabilities_of(peer, weak_unlabeled.flatten(0, 1)).reshape(views, unlabeled, -1)
            both = torch.cat([own, others])
        refining = torch.stack([probabilities_of(network, view) for view in weak_labeled])
        if both is None:
            both = refining[:, :0]
        # Under autocast, older torch hands the weights cast here, without gradient, on to the training forward, and the
        # network does not train (pytorch issues 105211 and 158232).
        torch.clear_autocast_cache()
        return self.targets_of(refining, both, labels, clean_probability, targets)

    def targets_of(
        self,
        own: Tensor,
        both: Tensor,
        labels: Tensor,
        clean_probability: Tensor,
        targets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What `guess` answers, of softmaxes that are at hand.

        Args:
            own: (V, B, K) of the network that is trained, of the labeled side.
            both: (M, Bu, K) of both networks, of the unlabeled side; Bu may be 0.
            labels: (B,) int64 given labels.
            clean_probability: (B,) in [0, 1].
            targets: (B, K) in place of the one-hot labels.

        Returns:
            (B, K) and (Bu, K) float32 targets.
        """
        given = F.one_hot(labels, own.shape[2]).float() if targets is None else targets.float()
        refined = co_refine(given, clean_probability.float(), own.float(), self.temperature)
        return refined, co_guess(both.float(), self.temperature)

    def risk(
        self,
        network: nn.Module,
        strong_labeled: Tensor,
        targets_labeled: Tensor,
        strong_unlabeled: Tensor,
        targets_unlabeled: Tensor,
        epoch: float,
        warmup_epochs: int,
        generator: torch.Generator | None = None,
    ) -> EvrLosses:
        """The empirical vicinal risk of the trained network (Eq. 11): one forward over mixed strong views.

        All V (B + Bu) strong views are mixed (Eq. 12-13) with one lambda and one permutation across both sides; the
        rows whose own image is labeled form the labeled half.

        Args:
            network: the one being trained; set to train mode.
            strong_labeled: (V, B, C, H, W) float.
            targets_labeled: (B, K).
            strong_unlabeled: (V, Bu, C, H, W) float; Bu may be 0.
            targets_unlabeled: (Bu, K).
            epoch: epochs done so far, fractional, warm-up included.
            warmup_epochs: epochs of warm-up.
            generator: a CPU generator for lambda and the permutation.

        Returns:
            The losses; the penalty's mean prediction is over all forwarded rows.
        """
        network.train()
        views, labeled, unlabeled = len(strong_labeled), strong_labeled.shape[1], strong_unlabeled.shape[1]
        images = torch.cat([strong_labeled.flatten(0, 1), strong_unlabeled.flatten(0, 1)])
        targets = torch.cat([targets_labeled.repeat(views, 1), targets_unlabeled.repeat(views, 1)])

        mixup_lambda = draw_mixup_lambda(self.mixup_alpha, generator)
        permutation = torch.randperm(len(images), generator=generator).to(images.device, non_blocking=True)
        boundary = views * labeled
        forwarded = len(images) if self.forwards_unlabeled else boundary
        mixed_images, mixed_targets = mixup(images, targets, mixup_lambda, permutation[:forwarded])
        logits = network(mixed_images)

        labeled_loss = soft_cross_entropy(logits[:boundary], mixed_targets[:boundary])
        if self.lambda_u is None:
            raise RuntimeError("lambda_u was left to the cleaner, and it has chosen none")
        lambda_u = linear_rampup(epoch, warmup_epochs, self.rampup_epochs, self.lambda_u)
        if unlabeled and forwarded > boundary:
            unlabeled_loss = squared_error(logits[boundary:], mixed_targets[boundary:])
        else:
            unlabeled_loss = torch.zeros_like(labeled_loss)
        penalty = prior_penalty(logits)
        total = labeled_loss + lambda_u * unlabeled_loss + self.prior_weight * penalty
        return EvrLosses(total, labeled_loss.detach(), unlabeled_loss.detach(), penalty.detach(), lambda_u)


def probabilities_of(network: nn.Module, images: Tensor) -> Tensor:
    """Softmax of the network's logits, (B, K) float32 for images (B, C, H, W)."""
    logits: Tensor = network(images)
    return logits.float().softmax(dim=1)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """`network` in eval mode; afterwards each of its modules is back in the mode that it was in."""
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, was_training in training.items():
            module.training = was_training
