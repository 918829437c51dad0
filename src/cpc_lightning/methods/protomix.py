"""ProtoMix (RRL): a low-dimensional subspace in which views agree, classes gather, and neighbours share their labels.

Li, Xiong & Hoi, "Learning from Noisy Data with Robust Representation Learning", ICCV 2021, Section 3, which the CPC
paper calls ProtoMix, and its published code (github.com/salesforce/RRL, Model.py, Algorithm.py, config/), from which
the constants are. The code is followed where the paper leaves it open: first views alone are anchors of the consistency
loss, the reconstruction error moves the features too, mixup has one share a batch. Not as in the code: the first epoch,
not 100 steps before it, is cross-entropy and reconstruction alone; while no cleaner has set the prototypes, they are
the class means of the embeddings that the last epoch trained on, not of a pass of their own; BatchNorm sees mixed views
of the samples that are not chosen, too.

Shapes: B batch, K classes, D features, d embedding.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpc_lightning.backbones.network import Network
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import require_integer, require_number
from cpc_lightning.methods.contrast import (
    embed,
    instance_loss,
    mean_over,
    mix_within,
    similarities,
    soft_cross_entropy,
    targets_of,
)
from cpc_lightning.methods.memory import of_all
from cpc_lightning.methods.method import Beginning, Method, Step
from cpc_lightning.semisup.mixmatch import draw_share


class ProtoMix(Method):
    """One network whose projector leads to the subspace; L = L_ce + w_recon L_recon + w_cc L_cc + w_pc L_pc.

    L_ce: cross-entropy of weak views. L_recon: squared error of the features that a linear layer and a ReLU make of the
    embedding. L_cc (unsupervised consistency): a strong view is to be told from all other views of the batch. L_pc
    (mixup prototypical): mixed views are to lie between the prototypes of their labels. L_ce and L_pc are over the
    samples that the cleaner has chosen, with its labels; the other two over all.
    """

    trains_one = True
    takes_cleaner = True
    needs_cleaner = True
    mixes_sides = True
    many_views = True
    sums: Tensor

    def __init__(
        self,
        consistency_weight: float = 1.0,
        prototype_weight: float = 5.0,
        reconstruction_weight: float = 1.0,
        rampup_epochs: int = 0,
        temperature: float = 0.3,
        mixup_alpha: float = 8.0,
    ) -> None:
        """Take the settings.

        Args:
            consistency_weight: w_cc (w_inst).
            prototype_weight: w_pc (w_proto).
            reconstruction_weight: w_recon.
            rampup_epochs: over which w_pc comes from 1 to its value; 0: at once (ramp_epoch).
            temperature: tau.
            mixup_alpha: of the Beta distribution of mixup (alpha).

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_number("consistency_weight", consistency_weight, 0)
        require_number("prototype_weight", prototype_weight, 0)
        require_number("reconstruction_weight", reconstruction_weight, 0)
        require_integer("rampup_epochs", rampup_epochs, 0)
        require_number("temperature", temperature, 0, open_ends=True)
        require_number("mixup_alpha", mixup_alpha, 0.01)
        self.consistency_weight, self.prototype_weight = consistency_weight, prototype_weight
        self.reconstruction_weight, self.rampup_epochs = reconstruction_weight, rampup_epochs
        self.temperature, self.mixup_alpha = temperature, mixup_alpha

    def begin(self, beginning: Beginning) -> None:
        """Build the layer that reconstructs features."""
        head: PrototypeHead = beginning.networks[0].head
        projector = head.projector
        self.reconstruction = nn.Linear(projector.out_features, projector.in_features)
        self.register_buffer("sums", torch.zeros_like(head.prototypes))
        self.head_of_network = (head,)  # in a tuple: in checkpoints it is the network's

    def parameters_of(self, number: int) -> Iterable[nn.Parameter]:
        """Projector and reconstruction."""
        return (*self.head_of_network[0].projector.parameters(), *self.reconstruction.parameters())

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> bool:
        """Take the last epoch's class means as prototypes, unless a cleaner has set them."""
        (head,) = self.head_of_network
        if epoch > 0 and not bool(head.fitted):
            head.prototypes.copy_(F.normalize(self.sums, dim=1))
        self.sums.zero_()
        return False

    def prototype_weight_in(self, epoch: int) -> float:
        """w_pc in an epoch, counted from 0."""
        if self.rampup_epochs == 0:
            return self.prototype_weight
        return min(1 + epoch * (self.prototype_weight - 1) / self.rampup_epochs, self.prototype_weight)

    def losses(self, step: Step) -> dict[str, Tensor]:
        """L and its four parts."""
        network, epoch = step.network, int(step.epoch)
        network.train()
        targets, chosen = targets_of(step, len(network.head.prototypes))
        (weak,) = step.weak()
        features, logits = network.features_and_logits(weak)
        first = embed(network, features)
        self.gather(first, targets, chosen)
        classes = mean_over(chosen, soft_cross_entropy(logits, targets))
        error = self.reconstruction_error(network, features)
        if epoch == 0:  # there are no prototypes
            loss = classes + self.reconstruction_weight * error
            return {"loss": loss, "class_loss": classes, "reconstruction_loss": error}
        (strong,) = step.strong()
        features = network.backbone(strong)
        consistency = instance_loss(first, embed(network, features), self.temperature)
        error = error + self.reconstruction_error(network, features)
        prototypes = self.prototype_loss(network, torch.cat([weak, strong]), targets.repeat(2, 1), chosen.repeat(2))
        loss = classes + self.reconstruction_weight * error + self.consistency_weight * consistency
        return {
            "loss": loss + self.prototype_weight_in(epoch) * prototypes,
            "class_loss": classes,
            "reconstruction_loss": error,
            "consistency_loss": consistency,
            "prototype_loss": prototypes,
        }

    def reconstruction_error(self, network: Network, features: Tensor) -> Tensor:
        """L_recon: mean of (relu(W' (W v + b) + b') - v)^2 over features (B, D)."""
        rebuilt = F.relu(self.reconstruction(network.head.projector(features)).float())
        return (rebuilt - features.float()).square().mean()

    def prototype_loss(self, network: Network, views: Tensor, targets: Tensor, chosen: Tensor) -> Tensor:
        """L_pc: mean of -sum_k y_k log softmax_k(z c_k / tau) over mixed views whose samples are chosen.

        Args:
            network: that embeds them.
            views: (2 B, ...) both views of the batch.
            targets: (2 B, K).
            chosen: (2 B,) bool.
        """
        mixed, mixed_targets = mix_within(views, targets, chosen, draw_share(self.mixup_alpha))
        embedding = embed(network, network.backbone(mixed))
        scores = similarities(embedding, network.head.prototypes.detach()) / self.temperature
        return mean_over(chosen, soft_cross_entropy(scores, mixed_targets))

    @torch.no_grad()
    def gather(self, embeddings: Tensor, targets: Tensor, chosen: Tensor) -> None:
        """Add the chosen embeddings (B, d) to the sums of their classes."""
        shares = of_all(targets * chosen[:, None])
        self.sums += similarities(shares.t(), of_all(embeddings).t())

    def forwarded(self, risk: object) -> int:
        """A weak and a strong view, and both mixed."""
        return 4
