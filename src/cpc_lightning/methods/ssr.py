"""SSR+: cross-entropy with mixup on samples that neighbours select, and consistent features of all samples.

Feng et al., "SSR: An Efficient and Robust Framework for Learning with Unknown Label Noise", BMVC 2022, and its
published code (github.com/MrChenFeng/SSR_BMVC2022, main_cifar.py and utils/funcs.py), from which the constants are. Who
is relabeled and who is selected says the cleaner `knn`. Where the paper is silent the code is followed: the loss of
features has the strong view predict the weak one and not the reverse, and an epoch has as many steps as all samples
fill, while the selected ones go round.

One thing differs. The code selects by a network that has learnt nothing before its first epoch; here the warm-up
(`training.warmup_epochs`, 1 in the experiments) learns all labels by the same loss.

Shapes: B batch, K classes, D features, d embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpc_lightning.errors import require_integer, require_number
from cpc_lightning.methods.method import Beginning, Method, Step
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk, soft_cross_entropy
from cpc_lightning.semisup.mixmatch import draw_mixup_lambda, mixup
from cpc_lightning.views.views import VIEWS


class Ssr(Method):
    """One network: L_CE of mixed strong views of selected samples, and lambda_fc times L_FC of all samples.

    L_FC = -mean cos(h(f(v_strong)), f(v_weak)), v features, f the projector, h the predictor; no gradient flows through
    the weak view.
    """

    trains_one = True
    takes_cleaner = True
    needs_cleaner = True
    many_views = True
    all_unlabeled = True

    def __init__(
        self,
        consistency_weight: float = 1.0,
        mixup_alpha: float = 4.0,
        hidden_size: int = 256,
        projection_size: int = 128,
    ) -> None:
        """Take the settings.

        Args:
            consistency_weight: lambda_fc (--lambda_fc); 0 is SSR without the plus.
            mixup_alpha: of the Beta distribution of mixup.
            hidden_size: width of the one hidden layer of projector and predictor.
            projection_size: d, numbers of a projected feature.

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_number("consistency_weight", consistency_weight, 0)
        require_number("mixup_alpha", mixup_alpha, 0.01)
        require_integer("hidden_size", hidden_size, 1)
        require_integer("projection_size", projection_size, 1)
        self.consistency_weight, self.mixup_alpha = consistency_weight, mixup_alpha
        self.hidden_size, self.projection_size = hidden_size, projection_size

    def begin(self, beginning: Beginning) -> None:
        """Make projector and predictor."""
        size = beginning.networks[0].classifier.in_features
        self.projector = two_layers(size, self.hidden_size, self.projection_size)
        self.predictor = two_layers(self.projection_size, self.hidden_size, self.projection_size)

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Cross-entropy of the selected samples and consistency of all; in warm-up both of all, by given label."""
        step.network.train()
        supervised = self.supervised_loss(step)
        if not self.consistency_weight:
            return {"loss": supervised, "labeled_loss": supervised}
        consistency = self.consistency_loss(step)
        loss = supervised + self.consistency_weight * consistency
        return {"loss": loss, "labeled_loss": supervised, "consistency_loss": consistency}

    def supervised_loss(self, step: Step) -> Tensor:
        """Soft cross-entropy of two strong views of each labeled sample, all 2B mixed with one lambda."""
        images, classes = step.strong(VIEWS).flatten(0, 1), step.network.classifier.out_features
        targets = F.one_hot(step.labels, classes).float() if step.targets is None else step.targets
        partners = torch.randperm(len(images)).to(images.device, non_blocking=True)
        mixed, mixed_targets = mixup(images, targets.repeat(VIEWS, 1), draw_mixup_lambda(self.mixup_alpha), partners)
        return soft_cross_entropy(step.network(mixed), mixed_targets)

    def consistency_loss(self, step: Step) -> Tensor:
        """L_FC on a batch of all samples: the unlabeled side; in warm-up, where there is none, the labeled one."""
        unlabeled = not step.warmup
        (weak,), (strong,) = step.weak(unlabeled=unlabeled), step.strong(unlabeled=unlabeled)
        with torch.no_grad():  # in train mode: the code lets BatchNorm's statistics see these views, too
            towards = self.projector(step.network.features_and_logits(weak)[0])
        # As in `EmpiricalVicinalRisk.guess`: older torch would train on the weights cast above, without gradient.
        torch.clear_autocast_cache()
        predicted = self.predictor(self.projector(step.network.features_and_logits(strong)[0]))
        return -F.cosine_similarity(predicted.float(), towards.float(), dim=1).mean()

    def parameters_of(self, number: int) -> list[nn.Parameter]:
        """Those of projector and predictor, of the one network that steps."""
        return [*self.projector.parameters(), *self.predictor.parameters()] if number == 0 else []

    def whole_epoch(self, epoch: int) -> bool:
        """Every epoch goes over all samples."""
        return True

    def forwarded(self, risk: EmpiricalVicinalRisk) -> int:
        """Two mixed views, and a strong one of another sample."""
        return VIEWS + bool(self.consistency_weight)


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A linear layer, BatchNorm, ReLU and another linear layer: (B, `inputs`) -> (B, `outputs`)."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))
