"""The cleaner of ProtoMix (RRL): a sample's label is what its neighbours are called and what the network says of it.

Li, Xiong & Hoi, "Learning from Noisy Data with Robust Representation Learning", ICCV 2021, "noise cleaning with smooth
neighbors", and its published code (github.com/salesforce/RRL, Algorithm.py and config/), from which the constants are.

Shapes: n samples looked at, D features, d embedding, K classes, k neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Draw, Estimate
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.neighbours import nearest, require_comparable
from cpc_lightning.cleaning.partition import Partition, co_divide, require_finite
from cpc_lightning.cleaning.prototypes import CHUNK, PrototypeHead
from cpc_lightning.errors import require_integer, require_number


class NeighbourLabelsCleaner:
    """Soft labels that go from neighbour to neighbour, once each stage 1.

    The neighbours' soft labels of the last stage 1, weighted by exp(cosine / temperature), are averaged with the
    network's softmax. Where the given label then has more than `keep_above` (eta_0), it is the whole soft label: it is
    believed. A sample whose largest soft label is above `learn_above` (eta_1) is trained on, with that class as its
    label. Cosines are those of embeddings: of the features behind the projector of the network's head.

    The verdict is about the given label: what the soft label gives it, before it is believed. From the samples that are
    trained on come the head's prototypes, the means of their embeddings at length 1.
    """

    active = True
    needs_true_labels = False
    needs_features = True
    history_length = 1

    def __init__(
        self,
        neighbours: int = 200,
        keep_above: float = 0.1,
        learn_above: float = 0.9,
        temperature: float = 0.3,
        class_floor: float = 0.0,
    ) -> None:
        """Take the settings.

        Args:
            neighbours: k (n_neighbors); all samples where there are fewer.
            keep_above: eta_0 (low_th), in [0, 1).
            learn_above: eta_1 (high_th), in [0, 1).
            temperature: tau, of the neighbours' weights.
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        require_integer("neighbours", neighbours, 1)
        require_number("keep_above", keep_above, 0, 1 - 1e-6)
        require_number("learn_above", learn_above, 0, 1 - 1e-6)
        require_number("temperature", temperature, 0, open_ends=True)
        check_floor(class_floor)
        self.neighbours, self.temperature, self.class_floor = neighbours, temperature, class_floor
        self.threshold, self.learn_above = keep_above, learn_above
        self._last: dict[str, Tensor] = {}  # "index" and "soft_labels", of each network

    def require_comparable(self, samples: int, of_vectors: bool) -> None:
        """Raise `InputError` where so many cannot be compared with each other; embeddings of vectors are, too."""
        require_comparable(samples, "neighbours", self.neighbours)

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples for both networks; once, where they are the same one.

        Raises:
            ValueError: a feature is not finite; the message names the sample.
        """
        (first, by_first, changed), (second, by_second, _) = task.of_each(self._judge)
        partitions = co_divide(by_first, by_second)
        scalars = {"neighbour_labels/changed": changed}
        return CleaningResult((first, second), partitions, self.threshold, {}, scalars, class_floor=self.class_floor)

    def state_dict(self) -> dict[str, Tensor]:
        """The soft labels (n, K) of the last stage 1 by each network, and the samples' positions (n,)."""
        return dict(self._last)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on from these soft labels."""
        self._last = dict(state_dict)

    def _judge(self, task: CleaningTask, number: int) -> tuple[Estimate, Partition, float]:
        """What network `number` (0 or 1) says of its peer's draw: verdict, division, share of changed labels."""
        draw, embeddings, probabilities = look(task, number)
        given = draw.noisy_labels.cpu()
        before = self._before(number, draw.index.cpu(), given, probabilities)
        soft = (self._around(embeddings, before) + probabilities) / 2
        verdict = soft.gather(1, given[:, None]).squeeze(1)
        soft = believed(soft, given, verdict > self.threshold)
        self._last |= {f"index_{number}": draw.index.cpu().clone(), f"soft_labels_{number}": soft}
        confidence, labels = soft.max(dim=1)
        divided = Partition.from_probability(draw.index, confidence, self.learn_above)
        set_prototypes(task.heads[number], embeddings, labels, divided.clean.cpu())
        targets = F.one_hot(labels, soft.shape[1]).float().to(divided.clean.device)
        changed = float((labels != given)[divided.clean.cpu()].float().mean())
        return Estimate(verdict.clamp(0, 1)), replace(divided, targets=targets), changed

    def _before(self, number: int, index: Tensor, given: Tensor, probabilities: Tensor) -> Tensor:
        """(n, K) the soft labels that neighbours hand on: the last ones, or first ones if those are of other samples.

        At first the given label where its softmax is above `keep_above`, else the softmax.
        """
        last = self._last.get(f"index_{number}")
        if last is not None and torch.equal(last, index):
            return self._last[f"soft_labels_{number}"]
        by_network = probabilities.gather(1, given[:, None]).squeeze(1)
        return believed(probabilities, given, by_network > self.threshold)

    def _around(self, embeddings: Tensor, soft: Tensor) -> Tensor:
        """(n, K) the weighted mean of the neighbours' soft labels; one's own, without any neighbour."""
        if len(embeddings) < 2:
            return soft
        near = nearest(embeddings, self.neighbours)
        weights = F.softmax(near.cosines / self.temperature, dim=1)
        return torch.from_numpy(graph(near.near, weights) @ soft.numpy())


def look(task: CleaningTask, number: int) -> tuple[Draw, Tensor, Tensor]:
    """The draw that network `number` judges, its embeddings (n, d) of length 1 and its softmax (n, K); on the CPU.

    Raises:
        ValueError: a feature is not finite; the message names the sample.
    """
    draw, features, head = task.draws[1 - number], task.judging[number].features, task.heads[number]
    require_finite(features.float().sum(dim=1), "sum of features", draw.index)
    return draw, F.normalize(in_chunks(head.embed, features, head), dim=1), logits_of(task, number).softmax(dim=1)


def logits_of(task: CleaningTask, number: int) -> Tensor:
    """(n, K) float32 of the draw that network `number` judges, on the CPU."""
    assert task.classifiers is not None
    classifier = task.classifiers[number]
    return in_chunks(classifier, task.judging[number].features, classifier)


@torch.no_grad()
def in_chunks(function: Callable[[Tensor], Tensor], features: Tensor, module: nn.Module) -> Tensor:
    """What `function` makes of features (n, D) on the device of the module: (n, ...) float32 on the CPU."""
    parameter = next(module.parameters())
    return torch.cat([function(rows.to(parameter)).float().cpu() for rows in torch.split(features, CHUNK)])


def believed(soft: Tensor, given: Tensor, chosen: Tensor) -> Tensor:
    """Soft labels (n, K) that are the given label (n,) alone where chosen (n,) bool."""
    return torch.where(chosen[:, None], F.one_hot(given, soft.shape[1]).to(soft), soft)


def graph(near: Tensor, weights: Tensor) -> csr_matrix:
    """(n, n) sparse float32 with the weights (n, k) at the neighbours (n, k) of each row."""
    count, each = near.shape
    starts = each * torch.arange(count + 1)
    return csr_matrix((weights.float().flatten().numpy(), near.flatten().numpy(), starts.numpy()), (count, count))


@torch.no_grad()
def set_prototypes(head: PrototypeHead, embeddings: Tensor, labels: Tensor, chosen: Tensor) -> None:
    """Prototypes at the mean embedding of each class's chosen samples, at length 1; a class without any keeps its own.

    Args:
        head: whose prototypes are set, in place.
        embeddings: (n, d).
        labels: (n,) int64.
        chosen: (n,) bool.
    """
    sums = torch.zeros(head.prototypes.shape, dtype=torch.float64)
    sums.index_add_(0, labels[chosen], embeddings[chosen].double())
    means = F.normalize(sums, dim=1).to(head.prototypes)
    head.prototypes.copy_(torch.where(means.any(dim=1, keepdim=True), means, head.prototypes))
    head.fitted.fill_(1)
