"""Whether dividing the data pays, read off what the networks know of the labels, without true ones.

A network that is trained on n labels, of which the share p is right and the wrong ones contradict each other, sees a
mean gradient that is p times as long as that of true labels, among noise of the same size: as if it had n p^2 true
labels. Dividing pays where there are more of these after than before. Where networks know little, they take hard images
for wrong labels, and would lose more by leaving these out than they gain (docs/cleaners.md).

What is right is told by a model out of fold on a network's own features (`cleaning.posterior`). It sees wrong labels
long before the network's losses do, but it too takes ignorance for noise: then it believes that far fewer labels are
right than the mixture of the losses does. In doubt, the larger of both shares counts. Where its features tell labels no
better than the classes' frequencies do, it cannot say anything, and nothing is gained.

Shapes: n labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cpc_lightning.cleaning.auto import MOST, some_of
from cpc_lightning.cleaning.evidence import Draw, Evidence
from cpc_lightning.cleaning.gmm import class_aware_probability, scale_losses
from cpc_lightning.cleaning.posterior import infer_true_classes
from cpc_lightning.cleaning.transition import beyond_chance

SCHEDULED, PAYING = "scheduled", "paying"
WHEN = (SCHEDULED, PAYING)
"""Values of `training.divide_when`: after `training.warmup_epochs`; or then, but not before it pays."""

FEW = 20
"""Labels a class, in the mean, below which nothing is divided: with about ten, plain training was better."""


def effective_gain(right: Tensor, by_mixture: float) -> float:
    """How many times as many labels a network has, in effect, once those that look wrong are left out.

    Args:
        right: (n,) the probability of each given label being right.
        by_mixture: share of the labels that the mixture of losses takes for right.

    Returns:
        s p^2 / q^2: of the labels that look right, their share s and the mean p of `right`; q the mean of `right` over
        all labels, or `by_mixture` where that is more.
    """
    kept = right > 0.5
    before = max(float(right.mean()), by_mixture)
    if not kept.any():
        return 0.0
    return float(kept.float().mean()) * float(right[kept].mean()) ** 2 / before**2


def gain_of(draw: Draw, seen: Evidence, classes: int, seed: int) -> float:
    """`effective_gain`, by the features and losses of one network; 0 where these cannot tell.

    That is with fewer than `FEW` labels a class, and where the given labels are not more likely to a model that has not
    seen them than by how often their classes are given, by two standard errors.

    Args:
        draw: the labels that it judges; of very many, some are looked at.
        seen: what it says of them, with features (n, D).
        classes: K.
        seed: of the mixtures, and of what is looked at.
    """
    if len(draw.index) < FEW * classes:
        return 0.0
    rows = some_of(len(draw.index), max(MOST, 100 * classes), seed)
    labels, losses = draw.noisy_labels[rows], scale_losses(seen.losses.float())[rows]
    found = infer_true_classes(seen.features[rows], labels, classes)
    frequent = torch.bincount(labels, minlength=classes)[labels] / len(labels)
    told = found.given.gather(1, labels[:, None]).squeeze(1).clamp(min=1e-12).log() - frequent.log()
    if beyond_chance(told, torch.full_like(told, 1 / len(told)), errors=2) < 0:
        return 0.0
    right = found.posterior.gather(1, labels[:, None]).squeeze(1)
    by_mixture, _ = class_aware_probability(losses.cpu().numpy(), labels.numpy(), seed)
    return effective_gain(right, float(by_mixture.mean()))


def is_asked(trained: int, warmup_epochs: int, epochs: int) -> bool:
    """Whether to look after `trained` of all `epochs`: after 0, 1, 2, 4, 8, ... more than `warmup_epochs`.

    And after every tenth of them; looking takes time. But not in the second half: then features have learnt by heart
    the labels that they are asked about (on clip art it was said to pay after 20 of 24 epochs, and did not).
    """
    waited = trained - warmup_epochs
    if waited > 0 and 2 * trained > epochs:
        return False
    return waited & (waited - 1) == 0 or waited % max(1, epochs // 10) == 0
