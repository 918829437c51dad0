"""The cleaner of NGC: labels spread over a graph of nearest neighbours, and the largest piece of each class is kept.

Wu et al., "NGC: A Unified Framework for Learning with Open-World Noisy Data", ICCV 2021, Section 3, and its published
code (github.com/alibaba/EssentialMC2, papers/ICCV2021-NGC: impls/solvers.py, configs/ and, for components,
impls/CalcLargestConnectedComponentsIds.cpp), from which the constants are. The code is followed where the paper leaves
it open: each class's labels are scaled to a sum of 1 before they spread. Not as in the code: labels first spread, and
logits are first averaged, after warm-up; negative cosines are no edges; a class of which nothing is kept takes no
sample of another.

Shapes: n samples looked at, d embedding, K classes, k neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix, diags
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Estimate
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.neighbour_labels import believed, graph, logits_of, look, set_prototypes
from cpc_lightning.cleaning.neighbours import nearest, require_comparable
from cpc_lightning.cleaning.partition import Partition, co_divide
from cpc_lightning.errors import require_integer, require_number, require_switch

POWER = 3
"""An edge's weight is its cosine to the power of it."""

SPREAD = 0.5
"""How much of a sample's label comes from its neighbours, in each of the rounds of spreading."""

ROUNDS = 20
"""Of spreading: what is left out is below 0.5^20 of a label. The code solves the same equations by 20 steps of CG."""

KEPT = 0.6
"""Share of the last stage 1's averaged logits in those of this one (ensemble_alpha)."""


class GraphCleaner:
    """Soft labels from a graph, and of each class the samples that hang together in it.

    Edges join a sample with its k most alike by the cosine of embeddings, those of the features behind the projector of
    the network's head. Labels spread over it from those of the samples that were kept last, and from the network's
    softmax, of logits averaged over stages 1, for the others; at first from the given labels. Where the given label
    then has more than `keep_above`, it is believed. Confidence: a sample's largest soft label must be above
    `learn_above`. Geometry: of the confident samples of a class, those in the largest component of edges that both ends
    chose are trained on, with the class as their label.

    The verdict is about the given label: its soft label, before it is believed.
    """

    active = True
    needs_true_labels = False
    needs_features = True
    history_length = 1

    def __init__(
        self,
        neighbours: int = 30,
        keep_above: float = 0.1,
        learn_above: float = 0.7,
        largest_component: bool = True,
        class_floor: float = 0.0,
    ) -> None:
        """Take the settings.

        Args:
            neighbours: k (knn_neighbors); all samples where there are fewer.
            keep_above: of the given label's soft label (low_threshold), in [0, 1).
            learn_above: of the largest soft label (high_threshold), in [0, 1).
            largest_component: whether geometry selects, after confidence.
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        require_integer("neighbours", neighbours, 1)
        require_number("keep_above", keep_above, 0, 1 - 1e-6)
        require_number("learn_above", learn_above, 0, 1 - 1e-6)
        require_switch("largest_component", largest_component)
        check_floor(class_floor)
        self.neighbours, self.largest_component, self.class_floor = neighbours, largest_component, class_floor
        self.threshold, self.learn_above = keep_above, learn_above
        self._last: dict[str, Tensor] = {}

    def require_comparable(self, samples: int, of_vectors: bool) -> None:
        """Raise `InputError` where so many cannot be compared with each other; embeddings of vectors are, too."""
        require_comparable(samples, "neighbours", self.neighbours)

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples for both networks; once, where they are the same one.

        Raises:
            ValueError: a feature is not finite; the message names the sample.
        """
        (first, by_first, scalars), (second, by_second, _) = task.of_each(self._judge)
        partitions = co_divide(by_first, by_second)
        return CleaningResult((first, second), partitions, self.threshold, {}, scalars, class_floor=self.class_floor)

    def state_dict(self) -> dict[str, Tensor]:
        """Of each network's last stage 1: positions, averaged logits, how many are in them, labels, who was kept."""
        return dict(self._last)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        self._last = dict(state_dict)

    def _judge(self, task: CleaningTask, number: int) -> tuple[Estimate, Partition, dict[str, float]]:
        """What network `number` (0 or 1) says of its peer's draw: verdict, division, what is worth logging."""
        draw, embeddings, _ = look(task, number)
        given, index = draw.noisy_labels.cpu(), draw.index.cpu()
        logits = logits_of(task, number)
        names = ("index", "logits", "looks", "labels", "kept")
        before = [self._last.get(f"{name}_{number}") for name in names]
        known, averaged, looks, labels, kept = before
        sources = F.one_hot(given, logits.shape[1]).float()
        if known is None or not torch.equal(known, index):
            averaged, looks = (1 - KEPT) * logits, torch.ones((), dtype=torch.int64)
        else:
            assert averaged is not None
            assert looks is not None
            assert labels is not None
            assert kept is not None
            averaged, looks = KEPT * averaged + (1 - KEPT) * logits, looks + 1
            sources = believed((averaged / (1 - KEPT ** int(looks))).softmax(dim=1), labels, kept)
        near, cosines = torch.empty(len(given), 0, dtype=torch.int64), torch.empty(len(given), 0)
        if len(given) > 1:
            near, cosines, _ = nearest(embeddings, self.neighbours)
        soft = spread(near, cosines, sources)
        verdict = soft.gather(1, given[:, None]).squeeze(1)
        soft = believed(soft, given, verdict > self.threshold)
        confidence, labels = soft.max(dim=1)
        confident = confidence > self.learn_above
        kept = largest_pieces(near, labels, confident) if self.largest_component else confident
        divided = Partition.from_probability(
            draw.index, torch.where(kept, confidence, self.learn_above * confidence), self.learn_above
        )
        self._last |= {
            f"{name}_{number}": value for name, value in zip(names, (index, averaged, looks, labels, kept), strict=True)
        }
        set_prototypes(task.heads[number], embeddings, labels, kept)
        targets = F.one_hot(labels, soft.shape[1]).float().to(divided.clean.device)
        scalars = {
            "graph/confident": float(confident.float().mean()),
            "graph/kept": float(kept.float().mean()),
            "graph/changed": float((labels != given)[divided.clean.cpu()].float().mean()),
        }
        return Estimate(verdict.clamp(0, 1)), replace(divided, targets=targets), scalars


def spread(near: Tensor, cosines: Tensor, sources: Tensor) -> Tensor:
    """Soft labels (n, K), rows that sum to 1: the solution of (1 - SPREAD S) Z = Y.

    S = D^-1/2 W D^-1/2, W = A + A', A the cosines to the power of `POWER` at each sample's neighbours, D the sums of
    rows of W; Y the sources with columns that sum to 1. Nothing in Z is negative.

    Args:
        near: (n, k) int64 neighbours.
        cosines: (n, k).
        sources: (n, K) labels, rows that sum to 1.
    """
    start = (sources.double() / sources.double().sum(dim=0).clamp(min=1e-12)).numpy()
    edges = graph(near, cosines.clamp(min=0) ** POWER).astype(np.float64)
    edges = edges + edges.T
    degrees = np.asarray(edges.sum(axis=1)).ravel()
    scale = diags(1 / np.sqrt(np.where(degrees > 0, degrees, 1)))
    edges = (scale @ edges @ scale).tocsr()
    labels = start
    for _ in range(ROUNDS):
        labels = start + SPREAD * (edges @ labels)
    soft = torch.from_numpy(labels)
    return (soft / soft.sum(dim=1, keepdim=True)).float()


def largest_pieces(near: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
    """(n,) bool: of each class's chosen samples, those in the largest component; of equal ones, the earliest.

    Two samples are joined where each is a neighbour of the other and both are chosen, with the same label.

    Args:
        near: (n, k) int64 neighbours.
        labels: (n,) int64.
        chosen: (n,) bool.
    """
    same = chosen[:, None] & chosen[near] & (labels[near] == labels[:, None])
    edges: csr_matrix = graph(near, same.float())
    edges.eliminate_zeros()
    piece = torch.from_numpy(connected_components(edges.multiply(edges.T), directed=False)[1].astype(np.int64))
    sizes = torch.bincount(piece[chosen], minlength=int(piece.max()) + 1 if len(piece) else 0)
    size = torch.where(chosen, sizes[piece], 0)
    largest = torch.zeros(int(labels.max()) + 1 if len(labels) else 0, dtype=torch.int64)
    largest.scatter_reduce_(0, labels, size, "amax")
    first = torch.full_like(largest, len(labels))
    position = torch.where(chosen & (size == largest[labels]), torch.arange(len(labels)), len(labels))
    first.scatter_reduce_(0, labels, position, "amin")
    best = torch.cat([piece, torch.tensor([-1])])[first]  # of each class; no sample's, where nothing is chosen
    return chosen & (piece == best[labels])
