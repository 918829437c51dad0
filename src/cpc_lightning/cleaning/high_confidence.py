"""The cleaner of LongReMix: labels that look clean epoch after epoch, and then stay labeled.

Cordeiro et al., "LongReMix: Robust Learning with High Confidence Samples in a Noisy Label Environment", Pattern
Recognition 2023, and its published code (github.com/filipe-research/LongReMix, Train_cifar_longremix_stage1.py and
_stage2.py), from which the constants are.

Shapes: n samples looked at, N training samples, h epochs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from cpc_lightning.cleaning.evidence import Basis, CleaningResult, CleaningTask, Draw, Estimate, Evidence
from cpc_lightning.cleaning.gmm import GmmCleaner, class_agnostic_probability, class_aware_probability, scale_losses
from cpc_lightning.cleaning.partition import Partition, co_divide
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import require_integer, require_number, require_switch


class HighConfidenceCleaner:
    """In the first stage a label is clean that a loss mixture took for clean in each of the last `streak` epochs.

    Epochs of the warm-up count, as in the code; of a sample that is not always looked at (balanced draws), the last
    looks. The high-confidence set is the largest of network 1 in the second half of the first stage. In the second
    stage, which `methods/longremix.py` begins with new networks, the set is labeled whatever the mixture says, with a
    clean probability of 1, and so is what the mixture takes for clean; while the new networks warm up, all are labeled.

    The verdict is the mixture's. With a method that begins nothing anew the set is kept all the same.
    """

    active = True
    needs_true_labels = False
    needs_features = False

    def __init__(
        self,
        epochs: int,
        warmup_epochs: int,
        streak: int = 5,
        first_share: float = 0.5,
        class_aware: bool = False,
        threshold: float = 0.5,
        history_length: int = 1,
        class_floor: float = 0.0,
    ) -> None:
        """Take the settings.

        Args:
            epochs: of the whole run.
            warmup_epochs: W, at the begin of each stage.
            streak: zeta (--num_clean), epochs in a row.
            first_share: of all epochs, those of the first stage.
            class_aware: one mixture for each given class instead of one for all.
            threshold: tau of the mixture.
            history_length: how many epochs' losses are averaged (5 for 90 % noise).
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        require_integer("epochs", epochs, 1)
        require_integer("warmup_epochs", warmup_epochs, 1)
        require_integer("streak", streak, 1)
        require_switch("class_aware", class_aware)
        self.first_share, self.restart = first_share, first_stage(epochs, first_share)
        self.mixture = GmmCleaner(class_aware, threshold, history_length, class_floor)
        self.warmup_epochs, self.streak = warmup_epochs, streak
        self.threshold, self.history_length, self.class_floor = threshold, history_length, class_floor
        self._epochs = 0
        self._history: list[Tensor] = []  # newest last, each (2, n), min-max scaled
        self._streaks = torch.zeros(2, 0, dtype=torch.int32)  # by both networks, of each position in the training set
        self._looks = torch.zeros(0, dtype=torch.int32)
        self._kept = torch.zeros(0, dtype=torch.bool)  # the high-confidence set

    def remember(self, draw: Draw, seen: tuple[Evidence, Evidence]) -> None:
        """Count on the streaks of labels that look clean, end the others, and keep the set if it is the largest."""
        self._epochs += 1
        if self._epochs > self.restart:
            return
        index = draw.index.cpu()
        missing = max(0, int(index.max()) + 1 - len(self._looks)) if len(index) else 0
        self._streaks, self._looks, self._kept = (
            pad(t, (0, missing)) for t in (self._streaks, self._looks, self._kept)
        )
        self._looks[index] += 1
        scaled = torch.stack([scale_losses(evidence.losses.cpu()) for evidence in seen])
        self._history = [*self._history, scaled][-self.history_length :]
        for number, losses in enumerate(torch.stack(self._history).mean(dim=0)):
            clean = self._looks_clean(losses, draw.noisy_labels)
            self._streaks[number, index] = torch.where(clean, self._streaks[number, index] + 1, 0)
        certain = (self._looks > 0) & ~self._doubted(0)
        if 2 * self._epochs > self.restart and int(certain.sum()) >= int(self._kept.sum()):
            self._kept = certain  # of equally large ones the later, as in the code

    def _looks_clean(self, scaled: Tensor, noisy_labels: Tensor) -> Tensor:
        """(n,) bool, by a mixture fitted to scaled losses (n,)."""
        losses, labels = scaled.double().numpy(), noisy_labels.cpu().numpy()
        if self.mixture.class_aware:
            posterior, _ = class_aware_probability(losses, labels, 0)
        else:
            posterior, _ = class_agnostic_probability(losses, 0)
        return torch.from_numpy(posterior).float() > self.threshold

    def _doubted(self, network: int) -> Tensor:
        """(N,) bool, not clean in as many epochs in a row as it takes, nor in all so far."""
        return self._streaks[network] < self._looks.clamp(max=self.streak)

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide the task's samples for both networks."""
        first, second = (self.mixture.estimate(task, number) for number in (0, 1))
        partitions = (self._partition(task.draws[1 - r], r, e) for r, e in enumerate((first, second)))
        thresholds = {"gmm": self.threshold}
        scalars = {"high_confidence/labels": float(self._kept.sum())}
        return CleaningResult(
            (first, second), co_divide(*partitions), self.threshold, thresholds, scalars, class_floor=self.class_floor
        )

    def _partition(self, draw: Draw, network: int, estimate: Estimate) -> Partition:
        """The division of a draw by `network` (0 or 1), for its peer."""
        probability, index = estimate.clean_probability.cpu(), draw.index.cpu()
        again = self._epochs - self.restart
        if again < 0:
            doubted = _at(self._doubted(network), index)
            probability = torch.where(doubted, probability.clamp(max=self.threshold), probability)
        elif again < self.warmup_epochs:
            probability = torch.ones_like(probability)
        else:
            probability = torch.where(_at(self._kept, index), 1.0, probability)
        return Partition.from_probability(draw.index, probability, self.threshold)

    def judge(self, evidence: Evidence, draw: Draw, basis: Basis, head: PrototypeHead) -> Tensor:
        """Clean probability (n,) of samples outside the training set, by the mixture."""
        return self.mixture.judge(evidence, draw, basis, head)

    def state_dict(self) -> dict[str, Tensor]:
        """The epochs seen, the losses that are averaged (h, 2, n), the streaks (2, N), the looks and the set (N,)."""
        history = torch.stack(self._history) if self._history else torch.zeros(0, 2, 0)
        return {
            "epochs": torch.tensor(self._epochs),
            "history": history,
            "streaks": self._streaks.clone(),
            "looks": self._looks.clone(),
            "kept": self._kept.clone(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on from these."""
        self._epochs, self._history = int(state_dict["epochs"]), [*state_dict["history"]]
        self._streaks, self._looks = state_dict["streaks"].clone(), state_dict["looks"].clone()
        self._kept = state_dict["kept"].clone()


def first_stage(epochs: int, share: float) -> int:
    """How many of `epochs` the first stage has, at least one.

    Raises:
        InputError: `first_share` is not in (0, 1).
    """
    require_number("first_share", share, 0, 1, open_ends=True)
    return max(1, round(share * epochs))


def _at(marked: Tensor, index: Tensor) -> Tensor:
    """(n,) bool, `marked` (N,) at positions of which some may lie beyond it: those are not marked."""
    inside = index < len(marked)
    found = torch.zeros(len(index), dtype=torch.bool)
    found[inside] = marked[index[inside]]
    return found
