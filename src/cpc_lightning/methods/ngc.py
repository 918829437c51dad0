"""NGC: what a graph of neighbours selects is learnt with mixup, and its classes are told apart in embeddings.

Wu et al., "NGC: A Unified Framework for Learning with Open-World Noisy Data", ICCV 2021, Section 3, and its published
code (github.com/alibaba/EssentialMC2, papers/ICCV2021-NGC: impls/networks.py, impls/solvers.py, configs/), from which
the constants are. Where the two differ the code is followed: similarities in the subgraph loss are not divided by a
temperature, those of the instance loss are (the paper divides both), and first views alone are anchors. Not as in the
code: BatchNorm sees mixed views of the samples that are not chosen, too.

Shapes: B batch, K classes, d embedding.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import require_number, require_switch
from cpc_lightning.methods.contrast import (
    embed,
    instance_loss,
    mean_over,
    mix_within,
    pair_logits,
    soft_cross_entropy,
    targets_of,
)
from cpc_lightning.methods.method import Beginning, Method, Step
from cpc_lightning.semisup.mixmatch import draw_share


class Ngc(Method):
    """One network; L = L_ce + w_inst L_inst + w_sub L_sub once the cleaner has divided the data, before that L_ce.

    L_ce: cross-entropy of mixed views, over the samples that the cleaner has chosen, with its labels. L_inst: an
    image's other view is to be told from all views of the batch. L_sub, the subgraph-level contrastive loss: and so
    are, with it, all views of chosen samples of the same label.
    """

    trains_one = True
    takes_cleaner = True
    needs_cleaner = True
    mixes_sides = True
    many_views = True

    def __init__(
        self,
        instance_weight: float = 1.0,
        subgraph_weight: float = 1.0,
        temperature: float = 0.3,
        subgraph_temperature: float = 1.0,
        mixup_alpha: float = 8.0,
        mix_strong: bool = True,
    ) -> None:
        """Take the settings.

        Args:
            instance_weight: w_inst.
            subgraph_weight: w_sub (w_sup).
            temperature: tau of the instance loss.
            subgraph_temperature: of the subgraph loss: 1 in the code, tau in the paper.
            mixup_alpha: of the Beta distribution of mixup (alpha).
            mix_strong: whether strong views are mixed and classified as well as weak ones (do_aug).

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_number("instance_weight", instance_weight, 0)
        require_number("subgraph_weight", subgraph_weight, 0)
        require_number("temperature", temperature, 0, open_ends=True)
        require_number("subgraph_temperature", subgraph_temperature, 0, open_ends=True)
        require_number("mixup_alpha", mixup_alpha, 0.01)
        require_switch("mix_strong", mix_strong)
        self.instance_weight, self.subgraph_weight = instance_weight, subgraph_weight
        self.temperature, self.subgraph_temperature = temperature, subgraph_temperature
        self.mixup_alpha, self.mix_strong = mixup_alpha, mix_strong

    def begin(self, beginning: Beginning) -> None:
        """Take the head, whose projector it trains."""
        head: PrototypeHead = beginning.networks[0].head
        self.head_of_network = (head,)  # in a tuple: in checkpoints it is the network's

    def parameters_of(self, number: int) -> Iterable[nn.Parameter]:
        """The projector."""
        return self.head_of_network[0].projector.parameters()

    def losses(self, step: Step) -> dict[str, Tensor]:
        """L and its parts."""
        network = step.network
        network.train()
        targets, chosen = targets_of(step, len(network.head.prototypes))
        weak, strong = step.weak(), step.strong()
        if self.mix_strong:
            views, mixed_chosen, mixed_targets = torch.cat([weak[0], strong[0]]), chosen.repeat(2), targets.repeat(2, 1)
        else:
            views, mixed_chosen, mixed_targets = weak[0], chosen, targets
        mixed, mixed_targets = mix_within(views, mixed_targets, mixed_chosen, draw_share(self.mixup_alpha))
        classes = mean_over(mixed_chosen, soft_cross_entropy(network(mixed), mixed_targets))
        if step.warmup:
            # Fused SGD cannot take a parameter that gets its first gradient after others: the projector's is 0.
            none = torch.stack([0.0 * parameter.sum() for parameter in self.parameters_of(0)]).sum()
            return {"loss": classes + none, "class_loss": classes}
        first, second = (embed(network, network.backbone(view)) for view in (weak[0], strong[0]))
        instance = instance_loss(first, second, self.temperature)
        subgraph = subgraph_loss(first, second, targets.argmax(dim=1), chosen, self.subgraph_temperature)
        return {
            "loss": classes + self.instance_weight * instance + self.subgraph_weight * subgraph,
            "class_loss": classes,
            "instance_loss": instance,
            "subgraph_loss": subgraph,
        }

    def forwarded(self, risk: object) -> int:
        """A weak and a strong view, and both, or the weak one, mixed."""
        return 4 if self.mix_strong else 3


def subgraph_loss(first: Tensor, second: Tensor, labels: Tensor, chosen: Tensor, temperature: float) -> Tensor:
    """Mean over first views of -mean over their positives of log softmax over all other views.

    A view's positives are the other view of its sample, and both views of each other sample of the same label where
    both samples are chosen.

    Args:
        first: (B, d) embeddings of the first views.
        second: (B, d) of the second ones.
        labels: (B,) int64.
        chosen: (B,) bool.
        temperature: that similarities are divided by.
    """
    own = torch.eye(len(first), dtype=torch.bool, device=first.device)
    alike = (labels[:, None] == labels) & chosen[:, None] & chosen
    positive = torch.cat([alike | own, alike & ~own], dim=1)
    log_softmax = pair_logits(first, second, temperature).log_softmax(dim=1)
    total = torch.where(positive, log_softmax, 0.0).sum(dim=1)
    return -(total / positive.sum(dim=1)).mean()
