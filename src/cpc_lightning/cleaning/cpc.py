"""The class prototype-based cleaner, CPC (Section 4)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from cpc_lightning.cleaning.evidence import Basis, CleaningResult, CleaningTask, Draw, Estimate, Evidence
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.cleaning.prototypes import (
    PrototypeFit,
    PrototypeHead,
    confident_predictions,
    fit_prototypes,
    settling_span,
)
from cpc_lightning.errors import require_integer, require_number, require_switch


class CpcCleaner:
    """CPC: q = s(v' c_y), from prototypes that every stage 1 trains on from where the last one left them.

    Prototypes of a network learn from the mixture of its peer (q' > `gmm_threshold` is X, the rest U), on the network's
    own features. Stage 2 starts with the mixtures' partition while the prototypes learn, for the first e epochs after
    the network warm-up, e = `warmup_share` of all epochs, rounded up (5 % of 450 is 22.5: 23 epochs).

    Deliberately unlike the paper (A.2.1), which trains prototypes with the network's learning rate, batch and schedule
    and leaves open for how long: here a stage 1 takes up to `steps` steps of `batch_size` at one rate, whatever the
    data set, on standardised features (docs/paper.md).
    """

    active = True
    needs_true_labels = False
    needs_features = True

    def __init__(
        self,
        class_aware: bool,
        threshold: float = 0.5,
        gmm_threshold: float | None = None,
        history_length: int = 1,
        warmup_share: float = 0.05,
        alpha: float = 0.0,
        steps: int = 2000,
        batch_size: int = 128,
        tolerance: float = 0.01,
        standardise_features: bool = True,
        class_floor: float = 0.0,
    ) -> None:
        """Take the settings.

        Args:
            class_aware: the mixture that teaches the prototypes is fitted for each given class (`cpc_awr`).
            threshold: tau for q.
            gmm_threshold: tau for q', where it differs.
            history_length: how many epochs' losses the mixture averages.
            warmup_share: e, as a share of all epochs in [0, 1].
            alpha: weight of L_P (Eq. 5).
            steps: SGD steps for each network and stage 1.
            batch_size: of those steps.
            tolerance: end them once a look at the loss finds it lower by less than this share (`settling_span`); 0
                takes them all.
            standardise_features: shift and scale features to mean 0 and standard deviation 1 before the projector. The
                paper does not.
            class_floor: share of each class's labels that is always trained on (`cleaning.floor`).

        Raises:
            InputError: a setting cannot be used.
        """
        gmm_threshold = threshold if gmm_threshold is None else gmm_threshold
        require_number("threshold", threshold, 0, 1, open_ends=True)
        require_number("gmm_threshold", gmm_threshold, 0, 1, open_ends=True)
        require_number("warmup_share", warmup_share, 0, 1)
        require_number("alpha", alpha, 0)
        require_integer("steps", steps, minimum=1)
        require_integer("batch_size", batch_size, minimum=1)
        require_number("tolerance", tolerance, 0, 1)
        check_floor(class_floor)
        require_switch("standardise_features", standardise_features)
        self.gmm = GmmCleaner(class_aware, gmm_threshold, history_length)
        self.history_length = history_length
        self.threshold = threshold
        self.warmup_share = warmup_share
        self.alpha = alpha
        self.steps = steps
        self.batch_size = batch_size
        self.tolerance = tolerance
        self.standardise_features, self.class_floor = standardise_features, class_floor

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Train both networks' prototypes, in place, then divide the task's samples for both networks."""
        by_gmm = self.gmm.estimate(task, 0), self.gmm.estimate(task, 1)
        first, first_fit = self._estimate(task, 0, by_gmm)
        second, second_fit = self._estimate(task, 1, by_gmm)
        threshold = self.gmm.threshold if self.warming_up(task.progress) else self.threshold
        partitions = task.divide((first, second), threshold)
        scalars = {
            "prototypes/loss_1": first_fit.loss,
            "prototypes/loss_2": second_fit.loss,
            "prototypes/steps_1": float(first_fit.steps),
            "prototypes/steps_2": float(second_fit.steps),
        }
        thresholds = {"gmm": self.gmm.threshold, "cpc": self.threshold}
        return CleaningResult((first, second), partitions, threshold, thresholds, scalars, self.class_floor)

    def judge(self, evidence: Evidence, draw: Draw, basis: Basis, head: PrototypeHead) -> Tensor:
        """Clean probability (n,) of samples outside the training set: q, or q' while the mixture still divides."""
        if self.warming_up(basis.progress):
            return self.gmm.judge(evidence, draw, basis, head)
        return head.clean_probability(evidence.features, draw.noisy_labels)

    def expected_steps(self, samples: int) -> int:
        """How many steps a fit on so many samples will take: all without a tolerance, with one about three looks."""
        return self.steps if self.tolerance == 0 else min(self.steps, 3 * settling_span(samples, self.batch_size))

    def warming_up(self, progress: float) -> bool:
        """Whether, at `progress`, the mixtures still divide the data while the prototypes learn."""
        # 0.05 + 0.1 is 0.15000000000000002: a rounding error must not cost or add an epoch.
        return progress < self.warmup_share - 1e-9

    def _estimate(
        self, task: CleaningTask, network: int, by_gmm: tuple[Estimate, Estimate]
    ) -> tuple[Estimate, PrototypeFit]:
        """Train the prototypes of `network` (0 or 1) on the peer's mixture; q from them, q' from its own mixture."""
        learnt, judged, head = task.learning[network], task.judging[network], task.heads[network]
        noisy_labels = task.draws[network].noisy_labels
        labeled = by_gmm[1 - network].clean_probability > self.gmm.threshold
        confident = confident_predictions(
            learnt.given_probability, learnt.predicted, learnt.confidence, noisy_labels, labeled, len(head.prototypes)
        )
        if self.standardise_features:
            head.standardise_to(learnt.features)
        fit = fit_prototypes(
            head,
            task.optimizers[network],
            learnt.features,
            noisy_labels,
            labeled,
            confident,
            learnt.predicted,
            alpha=self.alpha,
            steps=self.steps,
            batch_size=self.batch_size,
            seed=2 * task.seed + network,  # apart for both networks, and from those of any other task
            tolerance=self.tolerance,
        )
        q = head.clean_probability(judged.features, task.draws[1 - network].noisy_labels)
        own = by_gmm[network]
        divides = own.clean_probability if self.warming_up(task.progress) else q
        return replace(own, clean_probability=divides, cpc=q), fit
