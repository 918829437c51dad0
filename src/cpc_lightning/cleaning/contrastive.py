"""Class prototypes without a mixture: MoPro's prototypical contrastive objective (Table 5, A.3; Li et al. 2020b).

Shapes: n samples looked at, B batch, K classes, D features, d embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cpc_lightning.cleaning.evidence import Basis, CleaningResult, CleaningTask, Draw, Estimate, Evidence
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.prototypes import CHUNK, PrototypeHead
from cpc_lightning.errors import TrainingError, require_integer, require_number, require_switch

TEMPERATURE = 0.1
"""Of similarities; MoPro's train.py, --temperature."""

MOMENTUM = 0.999
"""Of the prototypes' moving average; MoPro's train.py, --proto_m."""

CLASSIFIER_SHARE = 0.5
"""Weight of the classifier's softmax in a corrected label, beside the prototypes'; MoPro's train.py, --alpha."""

PSEUDO_THRESHOLD = 0.8
"""A corrected label whose largest probability is above takes the given one's place; MoPro's train.py, --pseudo_th."""


class ContrastiveCleaner:
    """CPC without its mixture: prototypes that correct the labels that they learn from themselves.

    From MoPro's published code (train.py, model.py): embeddings of length 1; the loss, which trains the projector, a
    cross-entropy of the softmax over similarities to all prototypes; prototypes that are moving averages of their
    class's embeddings, kept at length 1; labels as given for the first 11 of 90 epochs, then corrected
    (`corrected_labels`); its constants. Not from it: its encoder's instance loss and second encoder, since gradients
    stop at v here, and its learning rate and steps, which are those of CPC's heads.

    The paper does not say how these prototypes divide the data. Here q is the softmax that they are trained with, of
    the given label, and it divides from the first stage 1 on: there is no mixture that could until they have learnt.
    """

    active = True
    needs_true_labels = False
    needs_features = True
    history_length = 1

    def __init__(
        self,
        threshold: float = 0.5,
        uncleaned_share: float = 11 / 90,
        steps: int = 2000,
        batch_size: int = 128,
        standardise_features: bool = True,
        class_floor: float = 0.0,
    ) -> None:
        """Take the settings.

        Args:
            threshold: tau for q.
            uncleaned_share: share of all epochs, after the networks' warm-up, in which prototypes learn from the given
                labels as they are.
            steps: SGD steps on the projector for each network and stage 1.
            batch_size: of those steps.
            standardise_features: as for `CpcCleaner`.
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        require_number("threshold", threshold, 0, 1, open_ends=True)
        require_number("uncleaned_share", uncleaned_share, 0, 1)
        require_integer("steps", steps, minimum=1)
        require_integer("batch_size", batch_size, minimum=1)
        check_floor(class_floor)
        require_switch("standardise_features", standardise_features)
        self.threshold = threshold
        self.uncleaned_share = uncleaned_share
        self.steps = steps
        self.batch_size = batch_size
        self.standardise_features, self.class_floor = standardise_features, class_floor

    def expected_steps(self, samples: int) -> int:
        """All of `steps`, whatever the number of samples."""
        return self.steps

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Train both networks' prototypes, in place, then divide the task's samples for both networks."""
        (first, first_loss), (second, second_loss) = self._estimate(task, 0), self._estimate(task, 1)
        partitions = task.divide((first, second), self.threshold)
        scalars = {"prototypes/loss_1": first_loss, "prototypes/loss_2": second_loss}
        scalars |= {f"prototypes/steps_{number}": float(self.steps) for number in (1, 2)}
        thresholds = {"cpc": self.threshold}
        return CleaningResult((first, second), partitions, self.threshold, thresholds, scalars, self.class_floor)

    def judge(self, evidence: Evidence, draw: Draw, basis: Basis, head: PrototypeHead) -> Tensor:
        """Clean probability q (n,) of samples outside the training set."""
        return label_probability(head, evidence.features, draw.noisy_labels)

    def _estimate(self, task: CleaningTask, network: int) -> tuple[Estimate, float]:
        """Train the prototypes of `network` (0 or 1) on its own draw; q of its peer's from them, and the last loss."""
        learnt, judged, head = task.learning[network], task.judging[network], task.heads[network]
        if self.standardise_features:
            head.standardise_to(learnt.features)
        loss = fit_contrastive(
            head,
            task.optimizers[network],
            learnt,
            task.draws[network].noisy_labels,
            correct=task.progress >= self.uncleaned_share - 1e-9,
            steps=self.steps,
            batch_size=self.batch_size,
            seed=2 * task.seed + network,
        )
        q = label_probability(head, judged.features, task.draws[1 - network].noisy_labels)
        return Estimate(q, cpc=q), loss


def corrected_labels(
    probabilities: Tensor, noisy_labels: Tensor, given: Tensor, predicted: Tensor, confidence: Tensor
) -> tuple[Tensor, Tensor]:
    """MoPro's labels, and which samples are learnt from.

    Softmax of classifier and of prototypes are averaged. The class whose mean is above `PSEUDO_THRESHOLD` is the label;
    else the given one, if its mean is above 1 / K; else the sample is left out. A mean above 0.8 of two takes more than
    0.6 from each, so that the class can only be the one that the classifier predicts: its whole softmax is not needed.

    Args:
        probabilities: (B, K) softmax of the prototypes.
        noisy_labels: (B,) int64 given labels.
        given: (B,) softmax of the given label by the classifier.
        predicted: (B,) int64 class with its largest softmax.
        confidence: (B,) that largest softmax.

    Returns:
        (B,) int64 labels and (B,) bool.
    """

    def mean(by_classifier: Tensor, classes: Tensor) -> Tensor:
        by_prototypes = probabilities.gather(1, classes[:, None]).squeeze(1)
        return CLASSIFIER_SHARE * by_classifier + (1 - CLASSIFIER_SHARE) * by_prototypes

    pseudo = mean(confidence, predicted) > PSEUDO_THRESHOLD
    kept = mean(given, noisy_labels) > 1 / probabilities.shape[1]
    return torch.where(pseudo, predicted, noisy_labels), kept | pseudo


def move_prototypes(
    prototypes: Tensor, embeddings: Tensor, labels: Tensor, used: Tensor, momentum: float = MOMENTUM
) -> None:
    """c_y = m c_y + (1 - m) v' for one sample after the other, in place; then every prototype at length 1.

    Args:
        prototypes: (K, d).
        embeddings: (B, d) in their order.
        labels: (B,) int64.
        used: (B,) bool, the samples that move one.
        momentum: m.
    """
    of_class = F.one_hot(labels, len(prototypes)) * used[:, None].to(prototypes.dtype)
    counts = of_class.sum(dim=0)
    later = ((counts - of_class.cumsum(dim=0)) * of_class).sum(dim=1)  # of the same class, after each sample
    prototypes.mul_(momentum ** counts[:, None])
    shares = torch.where(used, (1 - momentum) * momentum**later, 0)
    prototypes.index_add_(0, labels, shares[:, None] * embeddings)
    prototypes.copy_(F.normalize(prototypes, dim=1))


@torch.enable_grad()
def fit_contrastive(
    head: PrototypeHead,
    optimizer: torch.optim.Optimizer,
    evidence: Evidence,
    noisy_labels: Tensor,
    *,
    correct: bool,
    steps: int,
    batch_size: int,
    seed: int,
) -> float:
    """Train projector and prototypes from where they stand; an untrained head's prototypes begin at 0, as in MoPro.

    Before the first step of an untrained head, a pass over the samples gives each prototype its class's embeddings:
    MoPro's first epoch, which has no prototypical loss.

    Args:
        head: trained in place; its standardisation is used as it is.
        optimizer: of the head's parameters.
        evidence: what the network says of n samples.
        noisy_labels: (n,) int64 given labels.
        correct: whether labels are corrected.
        steps: optimizer steps to take.
        batch_size: B; the whole set if it is smaller.
        seed: of the order of samples.

    Returns:
        The mean loss over the last pass, or over all steps if there are fewer.

    Raises:
        TrainingError: the loss is not finite.
    """
    device, count = head.prototypes.device, len(noisy_labels)
    generator = torch.Generator().manual_seed(seed)
    size = min(batch_size, count)
    if not bool(head.fitted):
        with torch.no_grad():
            head.prototypes.zero_()
            for rows in torch.split(torch.randperm(count, generator=generator), size):
                embeddings = F.normalize(head.embed(evidence.features[rows].to(device)), dim=1)
                used = torch.ones(len(rows), dtype=torch.bool, device=device)
                move_prototypes(head.prototypes, embeddings, noisy_labels[rows].to(device), used)
    losses: list[Tensor] = []
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(left) < size:
            left = torch.cat([left, torch.randperm(count, generator=generator)])
        rows, left = left[:size], left[size:]
        values = (evidence.features, noisy_labels, evidence.given_probability, evidence.predicted, evidence.confidence)
        features, labels, given, predicted, confidence = (value[rows.to(value.device)].to(device) for value in values)
        embeddings = F.normalize(head.embed(features), dim=1)
        scores = embeddings @ head.prototypes.detach().t() / TEMPERATURE
        used = torch.ones_like(labels, dtype=torch.bool)
        if correct:
            labels, used = corrected_labels(scores.detach().softmax(dim=1), labels, given, predicted, confidence)
        # A sum, not a selection: whether there are any is not known on the host.
        each = F.cross_entropy(scores, labels, reduction="none")
        loss = torch.where(used, each, 0).sum() / used.sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()  # of the projector: prototypes have no gradient
        move_prototypes(head.prototypes.data, embeddings.detach(), labels, used)
        losses.append(loss.detach())
    mean = float(torch.stack(losses[-max(1, count // size) :]).mean())
    if not mean < float("inf"):
        raise TrainingError(f"the prototypes diverged: their loss is {mean}; lower their learning rate")
    optimizer.zero_grad(set_to_none=True)
    head.fitted.fill_(1)
    return mean


@torch.no_grad()
def label_probability(
    head: PrototypeHead, features: Tensor, noisy_labels: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Softmax over similarities to all prototypes, of the given label: (n,) on the features' device."""
    found = []
    for v, y in zip(torch.split(features, CHUNK), torch.split(noisy_labels, CHUNK), strict=True):
        scores = F.normalize(head.embed(v), dim=1) @ head.prototypes.t() / temperature
        found.append(scores.softmax(dim=1).gather(1, y.to(scores.device)[:, None]).squeeze(1).to(features.device))
    return torch.cat(found)
