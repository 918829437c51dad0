"""The cleaner of SSR+: relabel what a network is sure of, then ask the nearest neighbours.

Feng et al., "SSR: An Efficient and Robust Framework for Learning with Unknown Label Noise", BMVC 2022, and its
published code (github.com/MrChenFeng/SSR_BMVC2022, main_cifar.py and utils/funcs.py), from which the constants are.

Shapes: n samples looked at, D features, K classes, k neighbours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Draw, Estimate, Evidence
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.neighbours import BLOCK, nearest, require_comparable
from cpc_lightning.cleaning.partition import Partition, co_divide, require_finite
from cpc_lightning.errors import require_integer, require_number


class KnnCleaner:
    """Clean is what most of a sample's neighbours are called, where each class has the same say.

    Labels of which a network is sure that they are another class (softmax above `relabel_above`) become that class, for
    this stage 1 only. Then each sample's k nearest by the cosine of features, itself among them, vote with these
    labels; a class's votes count by 1 over its share of all labels. The ratio of its label's votes to the most votes,
    at least `select_from`, is what SSR trains on. It trains on the new label, without refinement and with each class
    equally often: so does the partition here. SSR+ adds a loss of its own (consistency of features), which is no matter
    of the cleaner.

    The verdict is about the given label: its ratio, or, where it was replaced, the softmax that the network leaves it.
    """

    active = True
    needs_true_labels = False
    needs_features = True
    history_length = 1

    def __init__(
        self,
        neighbours: int = 200,
        relabel_above: float = 0.9,
        select_from: float = 1.0,
        class_balance: float = 1.0,
        class_floor: float = 0.0,
    ) -> None:
        """Take the settings.

        Args:
            neighbours: k (--k); all samples where there are fewer.
            relabel_above: theta_r (--theta_r); 1 relabels nothing.
            select_from: theta_s (--theta_s); 1 wants the label to have the most votes.
            class_balance: b in [0, 1]: a sample is drawn in proportion to n_y^-b, n_y the number of labeled samples of
                its class; 1 shows all classes equally often, as ClassBalancedSampler of the code does.
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        require_integer("neighbours", neighbours, 1)
        require_number("relabel_above", relabel_above, 0, 1)
        require_number("select_from", select_from, 0, 1)
        require_number("class_balance", class_balance, 0, 1)
        check_floor(class_floor)
        self.neighbours, self.relabel_above, self.class_balance = neighbours, relabel_above, class_balance
        # The contract's threshold is one to be above, SSR's one to reach: the next smaller float32.
        self.threshold = max(0.0, float(np.nextafter(np.float32(select_from), np.float32(-1))))
        self.class_floor = class_floor

    def require_comparable(self, samples: int, of_vectors: bool) -> None:
        """Raise `InputError` where so many cannot be compared with each other; features of images are, too."""
        require_comparable(samples, "neighbours", self.neighbours)

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples for both networks.

        Raises:
            ValueError: a feature or a softmax is not finite; the message names the sample.
        """
        judged = task.of_each(self._judge)
        (first, by_first, _), (second, by_second, _) = judged
        scalars = {f"knn/relabeled_{number}": share for number, (_, _, share) in enumerate(judged, start=1)}
        partitions = co_divide(by_first, by_second)
        return CleaningResult((first, second), partitions, self.threshold, {}, scalars, class_floor=self.class_floor)

    def _judge(self, task: CleaningTask, number: int) -> tuple[Estimate, Partition, float]:
        """What network `number` (0 or 1) says of its peer's draw: verdict, division, share of changed labels."""
        judged, seen, classes = task.draws[1 - number], task.judging[number], len(task.heads[0].prototypes)
        require_finite(seen.confidence, "largest softmax", judged.index)
        require_finite(seen.features.float().sum(dim=1), "sum of features", judged.index)
        labels = relabel(seen, judged.noisy_labels, self.relabel_above)
        ratios = label_ratios(seen.features, labels, classes, self.neighbours)
        mine, given = (ratios.gather(1, y[:, None].cpu()).squeeze(1) for y in (labels, judged.noisy_labels))
        changed = (labels != judged.noisy_labels).cpu()
        estimate = Estimate(torch.where(changed, seen.given_probability.cpu(), given))
        return estimate, self._partition(judged, labels, mine, classes), float(changed.float().mean())

    def _partition(self, draw: Draw, labels: Tensor, ratio: Tensor, classes: int) -> Partition:
        divided = Partition.from_probability(draw.index, ratio, self.threshold)
        labels = labels.to(divided.clean.device)
        counts = torch.bincount(labels[divided.clean], minlength=classes).clamp(min=1)
        weights = counts[labels].float().pow(-self.class_balance) if self.class_balance else None
        return replace(divided, targets=F.one_hot(labels, classes).float(), weights=weights)


def relabel(evidence: Evidence, noisy_labels: Tensor, above: float) -> Tensor:
    """The given labels (n,), but the predicted class where its softmax is above `above`."""
    return torch.where(evidence.confidence > above, evidence.predicted, noisy_labels)


def label_ratios(features: Tensor, labels: Tensor, classes: int, neighbours: int) -> Tensor:
    """(n, K) float32, the balanced votes for each class as a share of the largest of the sample; 1 for that class.

    Votes are counts, divided by the class's share of all labels. Where all n samples are neighbours, all classes have
    the same, and every ratio is 1: then nobody can tell.

    Args:
        features: (n, D) of any floating point and on any device.
        labels: (n,) int64 that neighbours vote with.
        classes: K.
        neighbours: k, oneself included; n where that is less.
    """
    labels = labels.cpu()
    own = F.one_hot(labels, classes).double()
    share = own.mean(dim=0)
    votes = own
    if min(neighbours, len(labels)) > 1:
        near = nearest(features.float().cpu(), neighbours - 1).near
        step = max(1, BLOCK // near.shape[1])
        counted = [
            torch.zeros(len(rows), classes, dtype=torch.float64).scatter_add_(
                1, labels[rows], torch.ones(rows.shape, dtype=torch.float64)
            )
            for rows in torch.split(near, step)
        ]
        votes = own + torch.cat(counted)
    balanced = torch.where(share > 0, votes / share, 0)
    return (balanced / balanced.amax(dim=1, keepdim=True)).float()  # in float32, rounding leaves ties at 1
