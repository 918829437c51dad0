"""MoPro: momentum prototypes that correct labels while the network learns, beside two contrastive losses.

Li, Xiong & Hoi, "MoPro: Webly Supervised Learning with Momentum Prototypes", ICLR 2021, Section 3, and its published
code (github.com/salesforce/MoPro, model.py, train.py, resnet.py), from which the constants are.

Where the two differ the code is followed: corrected labels are the classifier's targets too, and the moving average
runs over a batch's samples before a prototype is brought back to length 1. Not as in the code: the projector is one
linear layer, that of the network's head, so that prototypes are measured and kept with the network (the code has a
hidden layer of 2,048); processes do not shuffle their images for BatchNorm; the queue holds at most half as many images
as there are, or it would hold an image's own former embeddings, which it is to be told from. Its strong views are
`views.policy=jitter`, which `experiment=mopro/webvision` takes.

Shapes: N samples, B batch, K classes, D features, d embedding, Q queue.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpc_lightning.cleaning.contrastive import label_probability, move_prototypes
from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Estimate
from cpc_lightning.errors import require, require_integer, require_number
from cpc_lightning.methods.contrast import embed, mean_over, similarities
from cpc_lightning.methods.memory import of_all
from cpc_lightning.methods.method import Beginning, Method, Step


class MoPro(Method):
    """One network, its moving average, a queue of embeddings, and a prototype of each class.

    A step sees a weak view with the network and a strong one with its moving average. Its loss is the cross-entropy of
    the classifier, plus that of the softmax over similarities to prototypes (prototypical contrastive loss), plus that
    of telling the strong view of the same image from the queue (instance contrastive loss). The first epoch has no
    prototypical loss; later the labels of both losses are corrected, and samples that look like no class are left out
    of them (Section 3, "noise correction").

    At the end labels are ranked by the soft label that corrects them.
    """

    trains_one = True
    many_views = True
    queue: Tensor
    place: Tensor

    def __init__(
        self,
        instance_weight: float = 1.0,
        prototype_weight: float = 1.0,
        temperature: float = 0.1,
        network_momentum: float = 0.999,
        prototype_momentum: float = 0.999,
        queue_size: int = 8192,
        uncleaned_share: float = 11 / 90,
        classifier_share: float = 0.5,
        pseudo_threshold: float = 0.8,
    ) -> None:
        """Take the settings.

        Args:
            instance_weight: of the instance contrastive loss (--w-inst).
            prototype_weight: of the prototypical contrastive loss (--w-proto).
            temperature: tau, that similarities are divided by (--temperature).
            network_momentum: of the averaged network (--moco_m).
            prototype_momentum: m, of the prototypes (--proto_m).
            queue_size: Q, embeddings of former images that the instance loss tells from the right one (--moco_queue);
                fewer where there are less than 2 Q samples.
            uncleaned_share: share of all epochs in which labels are learnt as they are (--start_clean_epoch of
                --epochs).
            classifier_share: alpha, weight of the classifier's softmax in a soft label, beside the prototypes'
                (--alpha).
            pseudo_threshold: T, the class whose soft label is above becomes the label (--pseudo_th).

        Raises:
            InputError: a setting is out of its range.
        """
        super().__init__()
        require_number("instance_weight", instance_weight, 0)
        require_number("prototype_weight", prototype_weight, 0)
        require_number("temperature", temperature, 0, open_ends=True)
        for name, value in {"network_momentum": network_momentum, "prototype_momentum": prototype_momentum}.items():
            require_number(name, value, 0)
            require(value < 1, name, value, "must be below 1")
        require_integer("queue_size", queue_size, 1)
        require_number("uncleaned_share", uncleaned_share, 0, 1)
        require_number("classifier_share", classifier_share, 0, 1)
        require_number("pseudo_threshold", pseudo_threshold, 0.5, 1)
        self.instance_weight, self.prototype_weight = instance_weight, prototype_weight
        self.temperature, self.queue_size, self.uncleaned_share = temperature, queue_size, uncleaned_share
        self.network_momentum, self.prototype_momentum = network_momentum, prototype_momentum
        self.classifier_share, self.pseudo_threshold = classifier_share, pseudo_threshold
        self.judge = SoftLabels(classifier_share, temperature)

    def begin(self, beginning: Beginning) -> None:
        """Copy the network, fill the queue at random, and have prototypes begin at 0."""
        network = beginning.networks[0]
        self.queue_size = max(1, min(self.queue_size, beginning.num_samples // 2))
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        size = network.head.projector.out_features
        self.register_buffer("queue", F.normalize(torch.randn(self.queue_size, size), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        network.head.prototypes.data.zero_()
        network.head.fitted.fill_(1)
        self.cleaning_from = self.uncleaned_share * beginning.epochs
        self.head_of_network = (network.head,)  # in a tuple: in checkpoints it is the network's

    def parameters_of(self, number: int) -> Iterable[nn.Parameter]:
        """The projector."""
        return self.head_of_network[0].projector.parameters()

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Cross-entropy, instance and prototypical contrastive loss; queue and prototypes move."""
        head, epoch = step.network.head, int(step.epoch)
        step.network.train()
        self.averaged.train()
        (weak,), (strong,) = step.weak(), step.strong()
        features, logits = step.network.features_and_logits(weak)
        logits, query = logits.float(), embed(step.network, features)
        with torch.no_grad():
            key = embed(self.averaged, self.averaged.features_and_logits(strong)[0])
        instance = self.instance_loss(query, key)
        scores = similarities(query, head.prototypes.detach()) / self.temperature
        labels, used = step.labels, torch.ones_like(step.labels, dtype=torch.bool)
        if epoch >= max(1, self.cleaning_from - 1e-9):  # before the second epoch there are no prototypes
            labels, used = self.corrected(scores.detach(), logits.detach(), labels)
        classes = mean_over(used, F.cross_entropy(logits, labels, reduction="none"))
        prototypes = mean_over(used, F.cross_entropy(scores, labels, reduction="none"))
        with torch.no_grad():
            moved = of_all(query), of_all(labels), of_all(used)
            move_prototypes(head.prototypes.data, *moved, self.prototype_momentum)
            self.enqueue(of_all(key))
        loss = classes + self.instance_weight * instance
        if epoch > 0:
            loss = loss + self.prototype_weight * prototypes
        return {
            "loss": loss,
            "class_loss": classes,
            "instance_loss": instance,
            "prototype_loss": prototypes,
            "learnt_share": used.float().mean(),
        }

    def instance_loss(self, query: Tensor, key: Tensor) -> Tensor:
        """Mean of -log exp(z z' / t) / (exp(z z' / t) + sum over the queue of exp(z q / t)).

        Args:
            query: (B, d) z.
            key: (B, d) z', of the same images.
        """
        right = (query * key).sum(dim=1, keepdim=True)
        logits = torch.cat([right, similarities(query, self.queue.clone())], dim=1) / self.temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))

    def corrected(self, scores: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) corrected labels, and (B,) bool, whether a sample is learnt from, by scores and logits (B, K)."""
        share = self.classifier_share
        soft = share * logits.softmax(dim=1) + (1 - share) * scores.softmax(dim=1)
        confidence, predicted = soft.max(dim=1)
        pseudo = confidence > self.pseudo_threshold
        supported = soft.gather(1, labels[:, None]).squeeze(1) > 1 / soft.shape[1]
        return torch.where(pseudo, predicted, labels), pseudo | supported

    def enqueue(self, keys: Tensor) -> None:
        """Put the last keys (B, d) in the place of the oldest ones."""
        keys = keys[-self.queue_size :]
        places = (self.place + torch.arange(len(keys), device=keys.device)) % self.queue_size
        self.queue[places] = keys
        self.place.copy_((self.place + len(keys)) % self.queue_size)

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Move the averaged network's weights; BatchNorm's statistics are its own."""
        for averaged, now in zip(self.averaged.parameters(), step.network.parameters(), strict=True):
            averaged.lerp_(now, 1 - self.network_momentum)


class SoftLabels:
    """Ranks labels by MoPro's soft label of the given class; above 1 / K it is trained on.

    alpha p + (1 - alpha) s, of the softmax p of the classifier and s over similarities to prototypes.
    """

    active = True
    needs_true_labels = False
    needs_features = True
    history_length = 1

    def __init__(self, classifier_share: float, temperature: float) -> None:
        """Take alpha, and what similarities are divided by."""
        self.classifier_share, self.temperature = classifier_share, temperature

    def clean(self, task: CleaningTask) -> CleaningResult:
        """The soft label by each network, and the division at 1 / K."""
        first, second = self._estimate(task, 0), self._estimate(task, 1)
        threshold = 1 / len(task.heads[0].prototypes)
        return CleaningResult((first, second), task.divide((first, second), threshold), threshold, {}, {})

    def _estimate(self, task: CleaningTask, network: int) -> Estimate:
        seen, labels = task.judging[network], task.draws[1 - network].noisy_labels
        by_prototypes = label_probability(task.heads[network], seen.features, labels, self.temperature)
        share, by_classifier = self.classifier_share, seen.given_probability.to(by_prototypes.device)
        return Estimate((share * by_classifier + (1 - share) * by_prototypes).float().clamp(0, 1))
