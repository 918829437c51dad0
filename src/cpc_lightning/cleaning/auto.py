"""A cleaner that chooses what the paper chose by hand: mixture, threshold, weight of the unlabeled loss.

It decides once, at the end of the warm-up, by predictions out of fold from the networks' own features
(`cleaning.noise_rate`). The rules follow the cells of the paper's table and of AugDesc's (conf/experiment/); between
two cells, the limit is halfway. Rates are those of the paper, where the new label may be the true one
(`nominal_rate`).

* On features that do not change it takes the probe. No sample is left unlabeled (docs/features.md).
* On images it takes prototypes. If mistakes go evenly to all classes, each class gets a mixture of its own
  (`cpc_awr`), as in CIFAR's symmetric cells and on WebVision. If they go mostly to one other class, the paper takes
  one mixture for all classes (`cpc_agn`: CIFAR-10's asymmetric cell, Clothing1M). But on the digits this loses 10
  points and more. So in this case, and if there are too few wrong labels to tell, it takes the mixture that agrees
  better with the posteriors out of fold (mean squared difference). If a class is too small for a mixture of its own
  (`ENOUGH`), it is one for all.
* The threshold is 0.5, with the losses of this epoch. At 90 % noise (from 85 % on) the mixture's threshold is 0.6,
  with the mean of five epochs' losses.
* lambda_u is 0 if mistakes go to one class, and below 35 % noise (CIFAR-10: 0 at 20 %, 25 at 50 % and 80 %, 50 at 90
  %). With fifty classes or more it is 25 at 20 % and 150 from 50 % on (CIFAR-100). Below 10 % it is always 0, because
  so few wrong labels do not show which classes they go to.
* Prototypes learn for 5 % of all epochs before they divide the data; 10 % with fifty classes or more and at least 80
  % noise (CIFAR-100).

Under asymmetric noise the paper adds a confidence penalty to the warm-up. At that time nothing is known about the
noise, so it stays as it is set (`training.confidence_penalty`).

Shapes: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cpc_lightning.cleaning.cpc import CpcCleaner
from cpc_lightning.cleaning.evidence import Advice, Basis, CleaningResult, CleaningTask, Draw, Evidence, JudgesOthers
from cpc_lightning.cleaning.floor import check_floor
from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.cleaning.neighbours import require_comparable
from cpc_lightning.cleaning.noise_rate import NoiseEstimate, estimate_noise
from cpc_lightning.cleaning.posterior import Posterior, infer_true_classes
from cpc_lightning.cleaning.probe import ProbeCleaner
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.errors import require_integer

ENOUGH = 50
"""Labels of the smallest class from which on each class gets a mixture of its own: ten for each of its parameters.

The paper's smallest have 500; on the digits, with 91 to 144, it helps in short runs (benchmarks/auto.py)."""

TO_ONE_CLASS = 0.3
"""Concentration (`NoiseEstimate`) from which on mistakes go mostly to one class: at random it is below 0.1."""

MANY = 50
"""Classes from which on constants are those of CIFAR-100."""

MOST = 10_000
"""Samples, and 100 of each class, that suffice to estimate the noise of images."""


def nominal_rate(rate: float, classes: int) -> float:
    """The rate as the paper counts symmetric noise, whose new label may be the true one: r K / (K - 1), at most 1."""
    return min(1.0, rate * classes / (classes - 1)) if classes > 1 else rate


def choose(estimate: NoiseEstimate, class_sizes: Sequence[int], misfits: tuple[float, float] | None = None) -> Advice:
    """What the rules above say.

    Args:
        estimate: of the wrong labels.
        class_sizes: how many labels each class is given.
        misfits: how far the clean probabilities of one mixture for all classes, and of one for each, are from the
            posteriors out of fold; None on features that do not change, where there are no mixtures.
    """
    classes, smallest = len(class_sizes), min(size for size in class_sizes if size > 0)
    rate = nominal_rate(estimate.rate, classes)
    about = (
        f"{_percent(estimate.rate)} of the labels look wrong ({_percent(estimate.low)} to {_percent(estimate.high)})"
    )
    if misfits is None:
        why = "the features do not change, so that a model which has not seen a label can judge it"
        return Advice("probe", False, 0.5, 1, 0.05, 0.0, f"{about}; {why}")
    one_sided = estimate.concentration > TO_ONE_CLASS and rate >= 0.1
    even = rate >= 0.1 and not one_sided
    class_aware = smallest >= ENOUGH and (even or misfits[1] < misfits[0])
    extreme, many = rate > 0.85, classes >= MANY
    if one_sided or rate < 0.1:
        lambda_u = 0.0
    elif many:
        lambda_u = 25.0 if rate < 0.35 else 150.0
    else:
        lambda_u = 0.0 if rate < 0.35 else 50.0 if extreme else 25.0
    if rate < 0.1:
        how = "too few to say how they err"
    elif one_sided:
        how = "mostly to one other class each"
    else:
        how = "spread over all classes"
    if smallest < ENOUGH:
        how += f"; the smallest class has {smallest:,} labels, too few for a mixture of its own"
    elif not even:
        how += f"; one mixture for {'each class' if class_aware else 'all classes'} fits better"
    return Advice(
        "cpc_awr" if class_aware else "cpc_agn", class_aware, 0.6 if extreme else 0.5, 5 if extreme else 1,
        0.1 if many and rate > 0.75 else 0.05, lambda_u, f"{about}, {how}",
    )  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


class AutoCleaner:
    """Estimates the noise at the end of warm-up, and takes the cleaner that the rules of this module name, for good.

    Attributes:
        advice: what was chosen; None before. A resumed run gives it back, and all processes take the first one's.
    """

    active = True
    needs_true_labels = False
    needs_features = True

    def __init__(
        self,
        history_length: int = 5,
        steps: int = 2000,
        folds: int = 5,
        neighbours: int = 30,
        class_floor: float = 0.2,
    ) -> None:
        """Take the settings.

        Args:
            history_length: how many recorded losses are averaged where very many labels are wrong, and kept for that.
            steps: SGD steps on the prototypes in each stage 1.
            folds: parts of the training set that take turns in being judged.
            neighbours: of each sample, in features.
            class_floor: see `cleaning.floor`.

        Raises:
            InputError: a setting cannot be used.
        """
        require_integer("history_length", history_length, minimum=1)
        require_integer("steps", steps, minimum=1)
        require_integer("folds", folds, 2)
        require_integer("neighbours", neighbours, 1)
        check_floor(class_floor)
        self.history_length, self.steps, self.folds, self.neighbours = history_length, steps, folds, neighbours
        self.class_floor = class_floor
        self.noise: NoiseEstimate | None = None
        self._advice: Advice | None = None
        self._chosen: CpcCleaner | ProbeCleaner | None = None

    @property
    def advice(self) -> Advice | None:
        """What was chosen; None before."""
        return self._advice

    @advice.setter
    def advice(self, advice: Advice) -> None:
        if advice != self._advice:
            self._advice, self._chosen = advice, self._build(advice)

    def _build(self, advice: Advice) -> CpcCleaner | ProbeCleaner:
        if advice.cleaner == "probe":
            return ProbeCleaner(
                advice.threshold, folds=self.folds, neighbours=self.neighbours, class_floor=self.class_floor
            )
        return CpcCleaner(
            advice.class_aware, threshold=0.5, gmm_threshold=advice.threshold,
            history_length=min(advice.history_length, self.history_length), warmup_share=advice.warmup_share,
            steps=self.steps, class_floor=self.class_floor,
        )  # fmt: skip

    def clean(self, task: CleaningTask) -> CleaningResult:
        """Divide as the chosen cleaner does; choose it first, if that has not been done."""
        if self._advice is None:
            self._decide(task)
        assert self._chosen is not None
        result = self._chosen.clean(task)
        noise = result.noise or self.noise
        scalars = result.scalars | ({} if noise is None else noise.scalars)
        return replace(result, noise=noise, advice=self._advice, scalars=scalars)

    def require_comparable(self, samples: int, of_vectors: bool) -> None:
        """Raise `InputError` where so many vectors cannot be compared with each other; of images some are."""
        if of_vectors:
            require_comparable(samples, "neighbours", self.neighbours)

    def judge(self, evidence: Evidence, draw: Draw, basis: Basis, head: PrototypeHead) -> Tensor:
        """Clean probability (n,) of samples outside the training set, by the chosen cleaner; NaN where it has none."""
        if isinstance(self._chosen, JudgesOthers):
            return self._chosen.judge(evidence, draw, basis, head)
        return torch.full_like(evidence.losses, torch.nan)

    def _decide(self, task: CleaningTask) -> None:
        classes = len(task.heads[0].prototypes)
        sizes = torch.bincount(task.draws[0].noisy_labels, minlength=classes).tolist()
        if task.vectors is not None:
            probe = ProbeCleaner(folds=self.folds, neighbours=self.neighbours, class_floor=self.class_floor)
            self.noise = probe.clean(task).noise
            assert self.noise is not None
            self._advice, self._chosen = choose(self.noise, sizes), probe  # which knows the answer
            return
        found, labels, shares, misfits = [], [], [], torch.zeros(2)
        for number in (0, 1):
            judged, seen = task.draws[1 - number].noisy_labels, task.judging[number]  # a network judges its peer's draw
            rows = some_of(len(judged), max(MOST, 100 * classes), task.seed)
            found.append(self._infer(seen.features[rows], judged[rows], classes))
            labels.append(judged[rows])
            right = found[-1].posterior.gather(1, labels[-1][:, None]).squeeze(1)
            mixtures = [GmmCleaner(aware).estimate(task, number).clean_probability.cpu() for aware in (False, True)]
            misfits += torch.stack([(clean[rows] - right).square().mean() / 2 for clean in mixtures])
            shares.append(1 - float(mixtures[0].mean()))
        self.noise = estimate_noise(found, labels, task.seed, sum(shares) / 2)
        self.advice = choose(self.noise, sizes, (float(misfits[0]), float(misfits[1])))

    def _infer(self, features: Tensor, labels: Tensor, classes: int) -> Posterior:
        return infer_true_classes(features, labels, classes, folds=self.folds, neighbours=self.neighbours)


def some_of(count: int, most: int, seed: int) -> Tensor:
    """Positions of at most `most` of `count` samples, int64, ascending, the same for the same seed."""
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values
