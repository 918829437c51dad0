"""The probe: regression out of fold, a transition matrix, neighbours, on fixed features or on the networks' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Estimate
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.neighbours import require_comparable
from cpc_lightning.cleaning.noise_rate import NoiseEstimate, estimate_noise
from cpc_lightning.cleaning.partition import Partition, co_divide
from cpc_lightning.cleaning.posterior import DECAYS, Posterior, infer_true_classes
from cpc_lightning.errors import require, require_integer, require_number, require_switch


class ProbeCleaner:
    """Judges each label by a model that has not seen it, and by the sample's neighbours (`cleaning.posterior`).

    On a data set of features (`dataset=embeddings`, `features=...`) it judges by those, once for all epochs: networks
    learn wrong labels by heart, these features cannot. On images it judges by the features of the peer network, anew in
    every stage 1, with the decays that the first one has chosen: to choose takes half of the fits.

    With `soft_targets` the networks train on all samples, each on the probability of every class given its features,
    its neighbours and its label. Without, the data is divided as by any cleaner.
    """

    active = True
    needs_true_labels = False
    needs_features = True
    history_length = 1

    def __init__(
        self,
        threshold: float = 0.5,
        soft_targets: bool = True,
        folds: int = 5,
        neighbours: int = 30,
        decays: Sequence[float] = DECAYS,
        rounds: int = 2,
        class_balance: float = 0.0,
        fold_seed: int = 0,
        class_floor: float = 0.0,
    ) -> None:
        """Take the settings.

        Args:
            threshold: a label is clean where its posterior is above.
            soft_targets: whether networks train on the posteriors of all samples.
            folds: parts of the training set that take turns in being judged.
            neighbours: k, of each sample.
            decays: weights of the squared norm in the regressions; the data chooses.
            rounds: of forward-corrected regression.
            class_balance: b in [0, 1]: a sample is drawn in proportion to n_y^-b, n_y the expected number of samples of
                its most probable class; 1 shows all classes equally often.
            fold_seed: of the division into folds, the same in every epoch.
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        require_number("threshold", threshold, 0, 1, open_ends=True)
        require_switch("soft_targets", soft_targets)
        require_integer("folds", folds, 2)
        require_integer("neighbours", neighbours, 1)
        several = isinstance(decays, Sequence) and not isinstance(decays, str) and len(decays) > 0
        require(several, "decays", decays, "must be a list of numbers")
        for decay in decays:
            require_number("decays", decay, 0, open_ends=True)
        require_integer("rounds", rounds, 1)
        require_number("class_balance", class_balance, 0, 1)
        require_integer("fold_seed", fold_seed, 0)
        check_floor(class_floor)
        self.threshold, self.soft_targets, self.class_balance = threshold, soft_targets, class_balance
        self.folds, self.neighbours, self.decays, self.rounds = folds, neighbours, tuple(decays), rounds
        self.fold_seed, self.class_floor = fold_seed, class_floor
        self._known: tuple[Tensor, Tensor, Tensor, Posterior] | None = None
        self._noise: tuple[Sequence[Posterior], NoiseEstimate] | None = None
        self._chosen: dict[int, tuple[float, ...]] = {}  # decays of each network's regressions, on images

    def require_comparable(self, samples: int, of_vectors: bool) -> None:
        """Raise `InputError` where so many cannot be compared with each other; features of images are, too."""
        require_comparable(samples, "neighbours", self.neighbours)

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Judge the task's samples; both networks' answers are the same where features are fixed."""
        classes = len(task.heads[0].prototypes)
        estimates, partitions, every, labels = [], [], [], []
        for number in (0, 1):
            judged = task.draws[1 - number]  # network 1 judges what network 2 trains on
            if task.vectors is None:
                features = task.judging[number].features
                found = self._infer(features, judged.noisy_labels, classes, self._chosen.get(number, self.decays))
                self._chosen[number] = tuple(sorted({*found.decays}))
            else:
                found = self._infer_once(task.vectors, judged.index, judged.noisy_labels, classes)
            clean = found.posterior.gather(1, judged.noisy_labels[:, None]).squeeze(1).clamp(0, 1)
            estimates.append(Estimate(clean))
            partitions.append(self._partition(judged.index, clean, found))
            every.append(found)
            labels.append(judged.noisy_labels)
        noise = self._estimate_noise(every, labels)
        recall = min(one.recall for one in every)
        scalars = noise.scalars | ({"stage1/neighbour_recall": recall} if recall < 1 else {})
        first, second = estimates
        return CleaningResult(
            (first, second), co_divide(*partitions), self.threshold, {}, scalars, self.class_floor, noise
        )

    def _estimate_noise(self, found: list[Posterior], labels: list[Tensor]) -> NoiseEstimate:
        """Once for what was inferred once."""
        if found[0] is found[1]:
            found, labels = found[:1], labels[:1]
        if self._noise is None or self._noise[0][0] is not found[0]:
            self._noise = found, estimate_noise(found, labels, self.fold_seed)
        return self._noise[1]

    def _partition(self, index: Tensor, clean: Tensor, found: Posterior) -> Partition:
        if not self.soft_targets:
            return Partition.from_probability(index, clean, self.threshold)
        weights = None
        if self.class_balance:
            expected = found.posterior.sum(dim=0)
            weights = expected[found.posterior.argmax(dim=1)].clamp(min=1).pow(-self.class_balance)
        every = torch.ones(len(index))
        return Partition(index, every, every.bool(), targets=found.posterior, weights=weights)

    def _infer(self, features: Tensor, labels: Tensor, classes: int, decays: Sequence[float]) -> Posterior:
        return infer_true_classes(
            features, labels, classes, self.fold_seed, self.folds, self.neighbours, decays, self.rounds
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The decays that were chosen for each network's features."""
        return {str(number): torch.tensor(chosen, dtype=torch.float64) for number, chosen in self._chosen.items()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self._chosen = {int(number): tuple(chosen.tolist()) for number, chosen in state_dict.items()}

    def _infer_once(self, vectors: Tensor, index: Tensor, labels: Tensor, classes: int) -> Posterior:
        """What was inferred last time, where features and labels are still the same."""
        known = self._known
        if (
            known is None
            or known[0] is not vectors
            or not (torch.equal(known[1], index) and torch.equal(known[2], labels))
        ):
            chosen = vectors if len(index) == len(vectors) else vectors[index]
            known = self._known = (vectors, index, labels, self._infer(chosen, labels, classes, self.decays))
        return known[3]
