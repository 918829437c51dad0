"""The cleaner of PLReMix: one mixture over two losses, the classifier's and the prototypes'.

Liu et al., "PLReMix: Combating Noisy Labels with Pseudo-Label Relaxed Contrastive Representation Learning", WACV 2025,
and its published code (github.com/lxysl/PLReMix, `gmm_selection` in utils/train_utils.py), from which the constants
are.

Shapes: n samples looked at.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from cpc_lightning.cleaning.cpc import CpcCleaner
from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Estimate
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.gmm import Array, scale_losses, two_gaussians
from cpc_lightning.cleaning.partition import require_finite
from cpc_lightning.errors import require_number


class Mixture2dCleaner:
    """Joins the two evidences of CPC: two Gaussians with full covariance over cross-entropy and prototype loss.

    The prototypes are CPC's own, taught by its loss mixture (`cleaning.cpc`), and their loss is -log q, q = s(v' c_y).
    PLReMix has other ones, moving averages that a contrastive loss of the networks shapes, and the cross-entropy of
    their softmax. Both losses are scaled to [0, 1] over the set. The clean component is the one whose mean has the
    smaller sum of squares. For the first e epochs, while the prototypes learn, the loss mixture divides, as in CPC.
    """

    active = True
    needs_true_labels = False
    needs_features = True

    def __init__(
        self,
        class_aware: bool = False,
        threshold: float = 0.5,
        history_length: int = 1,
        warmup_share: float = 0.05,
        steps: int = 2000,
        batch_size: int = 128,
        tolerance: float = 0.01,
        standardise_features: bool = True,
        class_floor: float = 0.0,
    ) -> None:
        """Take the settings.

        Args:
            class_aware: the mixture that teaches the prototypes is fitted for each given class. The two-dimensional one
                is always one for all classes, as in the code.
            threshold: tau (--p_threshold), of the loss mixture too.
            history_length: how many epochs' losses are averaged.
            warmup_share: e, as a share of all epochs in [0, 1].
            steps: SGD steps on the prototypes for each network and stage 1.
            batch_size: of those steps.
            tolerance: as for `CpcCleaner`.
            standardise_features: as for `CpcCleaner`.
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        require_number("threshold", threshold, 0, 1, open_ends=True)
        check_floor(class_floor)
        self.prototypes = CpcCleaner(
            class_aware, threshold, None, history_length, warmup_share, 0.0, steps, batch_size, tolerance,
            standardise_features,
        )  # fmt: skip
        self.threshold, self.history_length, self.class_floor = threshold, history_length, class_floor

    @property
    def steps(self) -> int:
        """The most SGD steps on the prototypes of a network in a stage 1."""
        return self.prototypes.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self.prototypes.steps = steps

    def expected_steps(self, samples: int) -> int:
        """As for `CpcCleaner`."""
        return self.prototypes.expected_steps(samples)

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Train both networks' prototypes, in place, then divide the task's samples for both networks.

        Raises:
            ValueError: a loss is not finite; the message names the sample.
        """
        by_cpc = self.prototypes.clean(task)
        if self.prototypes.warming_up(task.progress):
            chances = [estimate.clean_probability for estimate in by_cpc.estimates]
        else:
            chances = [self._joint(task, number, by_cpc.estimates[number]) for number in (0, 1)]
        first, second = (Estimate(chance) for chance in chances)
        partitions = task.divide((first, second), self.threshold)
        return replace(
            by_cpc, estimates=(first, second), partitions=partitions, threshold=self.threshold, thresholds={},
            class_floor=self.class_floor,
        )  # fmt: skip

    def _joint(self, task: CleaningTask, number: int, estimate: Estimate) -> Tensor:
        """Clean probability of the samples that network `number` (0 or 1) judges."""
        assert estimate.cpc is not None
        scaled = task.judging[number].loss_history[-self.history_length :].mean(dim=0).cpu()
        return joint_probability(scaled, prototype_losses(estimate.cpc.cpu()), task.draws[1 - number].index, task.seed)


def prototype_losses(probability: Tensor) -> Tensor:
    """-log q (n,) of the prototypes' clean probability q (n,); where q rounds to 0, of the smallest normal float32."""
    return -probability.clamp(min=torch.finfo(torch.float32).tiny).log()


def joint_probability(losses: Tensor, prototype_losses: Tensor, index: Tensor, seed: int) -> Tensor:
    """Posterior of the component of small losses, (n,) float32.

    Args:
        losses: (n,) scaled cross-entropy.
        prototype_losses: (n,) of the prototypes, not scaled.
        index: (n,) positions in the training set, to name samples by.
        seed: of scikit-learn's initialisation.

    Raises:
        ValueError: a loss is not finite.
    """
    require_finite(losses, "scaled loss", index)
    require_finite(prototype_losses, "prototype loss", index)
    pairs = torch.stack([scale_losses(losses), scale_losses(prototype_losses)], dim=1).double().numpy()
    return torch.from_numpy(fit_pairs(pairs, seed)).float()


def fit_pairs(pairs: Array, seed: int) -> Array:
    """The posterior (n,) float64 of the component whose mean is nearer to (0, 0).

    Pairs that are all equal (a single sample's, too) speak against no label: all 1.

    Args:
        pairs: (n, 2) scaled losses.
        seed: of scikit-learn's initialisation.
    """
    if len(pairs) == 0 or not np.ptp(pairs, axis=0).any():
        return np.ones(len(pairs))
    with threadpool_limits(1):
        model = two_gaussians(pairs, seed)
    clean = int(np.square(model.means_).sum(axis=1).argmin())
    posterior: Array = model.predict_proba(pairs)[:, clean]
    return posterior
