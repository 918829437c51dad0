"""The cleaner of ProMix: of every class the same number of labels of smallest loss, and what networks are sure of.

Xiao et al., "ProMix: Combating Label Noise via Maximizing Clean Sample Utility", IJCAI 2023, and its published code
(github.com/Justherozen/ProMix, `eval_train` in Train_promix.py, and run.sh), from which the constants are.

Shapes: n samples looked at, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Draw, Estimate, Evidence
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.partition import Partition, require_finite
from cpc_lightning.errors import require_number


class SmallLossCleaner:
    """Selects rho n / K labels of each class, rounded up: those of smallest loss, all of a class that has no more.

    All samples are on the labeled side, with a clean probability of 1 where they are selected and else of 0: the method
    `promix` adds in every step what its network agrees with by then. Each network selects for itself, as in the code
    (other cleaners here have it select for its peer).

    The verdict takes a label for clean that is selected or has a softmax above tau. Its clean probability is half that
    softmax, and one half more where the label is selected.
    """

    active = True
    needs_true_labels = False
    needs_features = False
    history_length = 1

    def __init__(
        self,
        share_from: float = 0.5,
        share_to: float = 0.5,
        ramp_share: float = 1 / 12,
        matched_above: float = 0.99,
        class_floor: float = 0.0,
    ) -> None:
        """Take the settings.

        Args:
            share_from: rho at the end of the warm-up (--rho_range).
            share_to: rho after the ramp.
            ramp_share: of all epochs, those over which rho goes from one to the other; the code counts its 50 of 600
                from the begin of the run, this from the end of the warm-up.
            matched_above: tau (--tau), for the verdict alone.
            class_floor: share of each class's labels that is selected at least: those of smallest loss, by the network
                itself, so that `cleaning.floor`, where its peer decides, has nothing left to do.

        Raises:
            InputError: a setting cannot be used.
        """
        require_number("share_from", share_from, 0, 1)
        require_number("share_to", share_to, 0, 1)
        require_number("ramp_share", ramp_share, 0, 1)
        require_number("matched_above", matched_above, 0, 1, open_ends=True)
        check_floor(class_floor)
        self.share_from, self.share_to, self.ramp_share = share_from, share_to, ramp_share
        self.matched_above, self.threshold, self.class_floor = matched_above, matched_above / 2, class_floor

    def share(self, progress: float) -> float:
        """Rho after so many epochs since the warm-up, as a share of all."""
        done = 1.0 if progress >= self.ramp_share else progress / self.ramp_share
        return self.share_from + (self.share_to - self.share_from) * done

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples for both networks.

        Raises:
            ValueError: a loss is not finite; the message names the sample.
        """
        classes, share = len(task.heads[0].prototypes), self.share(task.progress)
        estimates, partitions = [], []
        for number in (0, 1):
            judged, seen = task.draws[1 - number], task.judging[number]
            estimates.append(self._estimate(judged, seen, classes, share))
            own = task.draws[number]
            chosen = select(own, task.learning[number], classes, share, self.class_floor).to(own.index.device)
            partitions.append(Partition(own.index, chosen.float(), torch.ones_like(chosen)))
        (first, second), (for_first, for_second) = estimates, partitions
        return CleaningResult((first, second), (for_first, for_second), self.threshold, {}, {"small_loss/share": share})

    def _estimate(self, draw: Draw, seen: Evidence, classes: int, share: float) -> Estimate:
        chosen = select(draw, seen, classes, share, self.class_floor)
        # Selected ones have 1 / 2 at least; others are above tau / 2 where their softmax is above tau.
        return Estimate((seen.given_probability + chosen.to(seen.given_probability)) / 2)


def select(draw: Draw, seen: Evidence, classes: int, share: float, floor: float = 0.0) -> Tensor:
    """(n,) bool, of each class the labels of smallest loss: share * n / K of them, rounded up, at least one.

    Of equals, the earlier ones.

    Args:
        draw: n samples.
        seen: what a network says of them.
        classes: K.
        share: rho.
        floor: least share of a class's own labels.
    """
    require_finite(seen.losses, "loss", draw.index)
    labels = draw.noisy_labels.to(seen.losses.device)
    order = torch.argsort(seen.losses, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]  # class by class, the smallest first
    counts = torch.bincount(labels, minlength=classes)
    least = (floor * counts.double()).sub(1e-9).ceil().long()
    wanted = least.clamp(min=max(1, math.ceil(round(share * len(labels) / classes, 9))))
    place = torch.arange(len(labels), device=order.device) - (counts.cumsum(0) - counts)[labels[order]]
    chosen = torch.zeros(len(labels), dtype=torch.bool, device=order.device)
    chosen[order] = place < wanted[labels[order]]
    return chosen
