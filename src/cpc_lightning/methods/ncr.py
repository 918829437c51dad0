"""NCR: the prediction of a sample is to be that of its neighbours within the batch.

Iscen et al., "Learning with Neighbor Consistency for Noisy Labels", CVPR 2022, and its published code
(github.com/google-research/scenic, projects/ncr: loss.py, base_model.py, utils.py and configs/), from which the
constants are. CPC's Tables 1 and 2 call it "NCR (Huang et al., 2021)", but their numbers are those of Iscen et al.;
Huang et al. ("Learning with Noisy Correspondence for Cross-modal Matching", NeurIPS 2021) match images with texts. On
CIFAR these numbers are of NCR together with ELR's regulariser (Liu et al. 2020), on WebVision and Clothing1M of NCR
with mixup and stronger views.

Where paper and code differ the code is followed: the divergence is KL(neighbours | prediction) times T^2, gradients
reach the neighbours and the similarities too, and negative similarities count 0. Neighbours are sought in the batch of
a process, in the code in that of all.

Shapes: N samples, B batch, K classes, D features, k neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.errors import require, require_integer, require_number
from cpc_lightning.methods.memory import SampleMemory
from cpc_lightning.methods.method import Beginning, Method, Step
from cpc_lightning.methods.targets import clamped, early_learning_regulariser, ensembled, require_ensembling
from cpc_lightning.semisup.evr import soft_cross_entropy

SMALLEST = 1e-16
"""Probabilities are not below it where their logarithm is taken (loss.py, epsilon)."""


class Ncr(Method):
    """One network, (1 - alpha) cross-entropy + alpha NCR (Eq. 4) from an epoch on, before it cross-entropy alone.

    At the end a mixture over losses ranks the labels.
    """

    trains_one = True
    weak_views_alone = True

    def __init__(
        self,
        alpha: float = 0.3,
        neighbours: int = 10,
        temperature: float = 2.0,
        start_epoch: int = 10,
        mixup_alpha: float = 0.0,
        lambda_elr: float = 0.0,
        beta: float = 0.7,
    ) -> None:
        """Take the settings.

        Args:
            alpha: weight of the neighbours, in [0, 1] (loss_weight).
            neighbours: k, oneself not counted; all others of the batch where they are fewer.
            temperature: T, of the softmax on both sides.
            start_epoch: e, how many epochs come before, in which features become worth comparing.
            mixup_alpha: of the Beta distribution of mixup, drawn for each image; 0: none.
            lambda_elr: weight of ELR's regulariser, which is added; 0: none. Not together with mixup.
            beta: momentum of its targets, in [0, 1).

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_number("alpha", alpha, 0, 1)
        require_integer("neighbours", neighbours, 1)
        require_number("temperature", temperature, 0, open_ends=True)
        require_integer("start_epoch", start_epoch, 0)
        require_number("mixup_alpha", mixup_alpha, 0)
        require(mixup_alpha == 0 or mixup_alpha >= 0.01, "mixup_alpha", mixup_alpha, "must be 0, or at least 0.01")
        require_ensembling(lambda_elr, beta)
        either = "must be 0 with mixup (mixup_alpha), whose images no sample's target is of"
        require(not (mixup_alpha and lambda_elr), "lambda_elr", lambda_elr, either)
        self.alpha, self.neighbours, self.temperature, self.start_epoch = alpha, neighbours, temperature, start_epoch
        self.mixup_alpha, self.lambda_elr, self.beta = mixup_alpha, lambda_elr, beta
        self.judge = GmmCleaner(class_aware=False)

    def begin(self, beginning: Beginning) -> None:
        """Begin with targets of 0, where ELR's regulariser needs some."""
        if self.lambda_elr:
            self.targets = SampleMemory(torch.zeros(beginning.num_samples, beginning.num_classes))

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Cross-entropy, neighbours and, where asked for, ELR's regulariser, on one weak view each."""
        step.network.train()
        (images,) = step.weak()
        labels = F.one_hot(step.labels, step.network.classifier.out_features).float()
        if self.mixup_alpha:
            images, labels = mixed(images, labels, self.mixup_alpha)
        features, logits = step.network.features_and_logits(images)
        features, logits = features.float(), logits.float()
        loss, parts = soft_cross_entropy(logits, labels), {}
        if step.epoch >= self.start_epoch:
            with torch.autocast(logits.device.type, enabled=False):  # it would round the similarities
                parts["ncr"] = neighbour_consistency(features, logits, self.neighbours, self.temperature)
            loss = (1 - self.alpha) * loss + self.alpha * parts["ncr"]
        if self.lambda_elr:
            probabilities = clamped(logits)
            targets = ensembled(self.targets.read(step.index), probabilities, self.beta)
            self.targets.write(step.index, targets)
            parts["elr"] = early_learning_regulariser(probabilities, targets)
            loss = loss + self.lambda_elr * parts["elr"]
        return {"loss": loss, **parts}


def neighbour_consistency(features: Tensor, logits: Tensor, neighbours: int, temperature: float) -> Tensor:
    """Mean over the batch of T^2 KL(sum_j w_j softmax(z_j / T) | softmax(z_i / T)), j the neighbours of i (Eq. 3).

    w_j is the cosine of the features, not below 0, as a share of all k. A sample that is like none of them adds 0.

    Args:
        features: (B, D) float32.
        logits: (B, K) float32.
        neighbours: k; B - 1 where that is less.
        temperature: T.
    """
    unit = F.normalize(features, dim=1, eps=1e-6)
    oneself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    similarity = (unit @ unit.T).masked_fill(oneself, -torch.inf)
    best = similarity.topk(min(neighbours, len(unit) - 1), dim=1)
    weights = torch.zeros_like(similarity).scatter(1, best.indices, best.values.clamp(min=0))
    total = weights.sum(dim=1, keepdim=True)
    weights = weights / torch.where(total > 0, total, 1)
    theirs = weights @ (logits / temperature).softmax(dim=1)
    own = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * (theirs * (theirs.clamp(min=SMALLEST).log() - own)).sum(dim=1).mean()


def mixed(images: Tensor, labels: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Each image and label (B, K) mixed with those of its counterpart from the batch's other end (utils.py, mixup).

    The image's own share is max(l, 1 - l), l ~ Beta(alpha, alpha), drawn for each on the CPU.
    """
    drawn = torch.distributions.Beta(alpha, alpha).sample((len(images),))
    own = torch.maximum(drawn, 1 - drawn).to(images.device, non_blocking=True)
    for_images = own.view(-1, *[1] * (images.ndim - 1))
    return images.flip(0).lerp(images, for_images), labels.flip(0).lerp(labels, own[:, None])
