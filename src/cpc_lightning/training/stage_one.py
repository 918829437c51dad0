"""Stage 1 under Lightning: look at the training set with both networks, ask the cleaner, divide for the next epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from cpc_lightning.analysis.metrics import cleaner_metrics, estimate_agreement, ks_deviating_share
from cpc_lightning.cleaning.evidence import Cleaner, CleaningResult, CleaningTask, Draw, Evidence
from cpc_lightning.cleaning.gmm import scale_losses
from cpc_lightning.cleaning.trusted import believe
from cpc_lightning.datasets.dataset import UNKNOWN
from cpc_lightning.errors import TrainingError
from cpc_lightning.report.labels import LabelReport
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.distributed import broadcast_object, broadcast_tensors, gather_by_index
from cpc_lightning.training.module import CoTrainingModule

FIELDS = ("losses", "given_probability", "predicted", "confidence", "features")
"""What a pass tells of `Evidence`."""

HALF_BEYOND = 1 << 28
"""Where there are more features of one network than these 2^28 (1 GiB), they are kept in half precision."""

HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Verdict:
    """What a stage 1 found out about n training samples.

    Attributes:
        epoch: the number of epochs trained when it was found.
        draws: the samples that network 1 and network 2 train on next; after the last epoch, all.
        judging: what network 1 says of network 2's draw, and network 2 of network 1's; without the features.
        result: the cleaner's answer; None where there is no cleaner.
        suggested: (n,) int64 the class with the largest mean softmax of both networks, of each sample looked at.
        confidence: (n,) that largest mean softmax.
    """

    epoch: int
    draws: tuple[Draw, Draw]
    judging: tuple[Evidence, Evidence]
    result: CleaningResult | None
    suggested: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class Observation:
    """One evaluation pass of both networks over n training samples.

    Attributes:
        index: (n,) int64 positions in the training set, ascending.
        evidence: of network 1 and network 2, with an empty loss history. Only the first process, which fits, has the
            features; on the others they are (n, 0).
        suggested: (n,) int64 the class with the largest mean softmax of both networks.
        confidence: (n,) that largest mean softmax.
    """

    index: Tensor
    evidence: tuple[Evidence, Evidence]
    suggested: Tensor
    confidence: Tensor

    def of(self, network: int, draw: Draw) -> Evidence:
        """What `network` (0 or 1) says of the samples in `draw`, all of which were looked at."""
        seen = self.evidence[network]
        if len(draw.index) == len(self.index):
            return seen
        rows = torch.searchsorted(self.index, draw.index)
        return replace(seen, **{name: getattr(seen, name)[rows] for name in FIELDS})


class Columns:
    """What one process finds out about its samples, batch by batch, each quantity in one tensor from the start.

    A list of batches would be copied to become one tensor, and features are the largest thing of a run.
    """

    def __init__(self, mine: int, count: int) -> None:
        """Make room for `mine` samples of this process, out of `count` of all processes."""
        self.mine, self.count = mine, count
        self._done = 0
        self._columns: dict[str, Tensor] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Take a batch's values, each (B, ...), by name; the same names in every batch."""
        rows = len(next(iter(values.values())))
        for name, column in values.items():
            if name not in self._columns:
                self._columns[name] = torch.empty((self.mine, *column.shape[1:]), dtype=self._dtype(column))
            if self._columns[name].dtype == torch.float16:
                column = column.clamp(-HALF_MAX, HALF_MAX)
            self._columns[name][self._done : self._done + rows] = column
        self._done += rows

    def gather(self, device: torch.device) -> dict[str, Tensor]:
        """The values of all samples in their order, each (n, ...); features on the first process only."""
        rows = self._columns.pop("row")
        return {
            name: gather_by_index(
                self._columns.pop(name), rows, self.count, device, everywhere=not name.startswith("features")
            )
            for name in list(self._columns)
        }

    def _dtype(self, column: Tensor) -> torch.dtype:
        """Half precision for what is large: a rule of sizes alone, so that every machine computes the same."""
        large = column.is_floating_point() and self.count * math.prod(column.shape[1:]) > HALF_BEYOND
        return torch.float16 if large else column.dtype


class StageOne(pl.Callback):
    """Stage 1: looks at the whole training set with both networks and divides it for the next epoch.

    Runs at the end of an epoch, because Lightning builds the next epoch's loader before any hook of that epoch. The
    call at the end of the last epoch gives the final verdict on the labels.

    Attributes:
        cleaner: answers who is clean.
        verdict: the last stage 1's; None before the first.
    """

    def __init__(self, cleaner: Cleaner, seed: int) -> None:
        """Take the cleaner, and the seed of its fits and draws."""
        self.cleaner, self.seed = cleaner, seed
        self.verdict: Verdict | None = None
        self._loss_history: list[Tensor] = []  # newest last, each (2, N), min-max scaled
        self._final: dict[str, Any] | None = None  # what the last epoch's verdict says of every label

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Divide the data once the warm-up is over; without an active cleaner only look, at the very end."""
        module = cast(CoTrainingModule, pl_module)
        datamodule = cast(CoTrainingDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        trained = trainer.current_epoch + 1
        if not (trained >= module.warmup_epochs if self.cleaner.active else trained == trainer.max_epochs):
            return
        begin = time.monotonic()
        self.verdict = None  # or two of them would be in memory
        index = datamodule.draws(trained)
        if trained == trainer.max_epochs:  # the final verdict is on every label
            index = (datamodule.labeled,) * 2
        trusted = datamodule.trusted
        first, second = (
            Draw(i, datamodule.noisy_labels[i], datamodule.true_labels[i], None if trusted is None else trusted[i])
            for i in index
        )
        draws = first, second
        others = datamodule.unlabeled if trained == trainer.max_epochs else index[0][:0]  # only to suggest labels
        seen = self._observe(trainer, module, datamodule, torch.unique(torch.cat([*index, others])))
        judging = self._with_history((seen.of(0, draws[1]), seen.of(1, draws[0])))
        result = None
        if self.cleaner.active:
            progress = (trained - module.warmup_epochs) / cast(int, trainer.max_epochs)
            learning = seen.of(0, draws[0]), seen.of(1, draws[1])
            result = self._divide(trainer, module, draws, judging, learning, progress, trained)
            datamodule.partitions = result.partitions
            values = measure_result(result, draws)
            if trained == module.warmup_epochs:
                values |= measure_losses(judging, draws)
            for name, value in values.items():
                pl_module.log(name, value)
        light = replace(judging[0], features=torch.empty(0)), replace(judging[1], features=torch.empty(0))
        self.verdict = Verdict(trained, draws, light, result, seen.suggested, seen.confidence)
        if trained == trainer.max_epochs:
            self._final = {
                "clean_probabilities": result and on_every_label(result, draws, len(datamodule.noisy_labels)),
                "threshold": result and result.threshold,
                "suggested": seen.suggested,
                "confidence": seen.confidence,
            }
        pl_module.log("stage1/seconds", time.monotonic() - begin)

    @torch.no_grad()
    def _observe(
        self, trainer: pl.Trainer, module: CoTrainingModule, datamodule: CoTrainingDataModule, index: Tensor
    ) -> Observation:
        """One pass over the samples at `index` in eval mode gives losses, predictions and features of both networks."""
        broadcast_tensors(list(module.networks.buffers()))  # DDP leaves BatchNorm statistics of ranks apart
        module.eval()
        columns = Columns(len(range(trainer.global_rank, len(index), trainer.world_size)), len(index))
        for batch in datamodule.evidence_dataloader(index):
            images, labels = (batch[name].to(module.device, non_blocking=True) for name in ("images", "labels"))
            with trainer.precision_plugin.forward_context():
                answers = module.features_and_logits(images)
            seen = observe_batch(answers, labels.clamp(min=0), self.cleaner.needs_features)
            columns.add({"row": torch.searchsorted(index, batch["index"]), **seen})
        module.train()
        seen = columns.gather(module.device)
        for number in (1, 2):
            wrong = index[~seen[f"finite_{number}"].bool()]
            if len(wrong):
                raise TrainingError(
                    f"network {number} gives no finite answer for {len(wrong)} samples (the first is {int(wrong[0])}) "
                    f"at the end of epoch {trainer.current_epoch}; the last checkpoint is unharmed"
                )
        none = torch.empty(0, len(index))
        if not self.cleaner.needs_features:
            seen |= {"features_1": none.t(), "features_2": none.t()}
        first, second = (
            Evidence(loss_history=none, **{name: seen[f"{name}_{number}"] for name in FIELDS}) for number in (1, 2)
        )
        return Observation(index, (first, second), seen["suggested"], seen["confidence"])

    def _with_history(self, judging: tuple[Evidence, Evidence]) -> tuple[Evidence, Evidence]:
        """Record the scaled losses of this epoch, and give the evidence those of the last epochs."""
        scaled = torch.stack([scale_losses(evidence.losses) for evidence in judging])
        self._loss_history = [*self._loss_history, scaled][-self.cleaner.history_length :]
        history = torch.stack(self._loss_history)
        first, second = (replace(evidence, loss_history=history[:, r]) for r, evidence in enumerate(judging))
        return first, second

    def _divide(
        self,
        trainer: pl.Trainer,
        module: CoTrainingModule,
        draws: tuple[Draw, Draw],
        judging: tuple[Evidence, Evidence],
        learning: tuple[Evidence, Evidence],
        progress: float,
        epoch: int,
    ) -> CleaningResult:
        """Have the first process fit, and give all processes its answer: fits differ between machines."""
        heads = (module.network(0).head, module.network(1).head)
        result = None
        if trainer.is_global_zero:
            seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
            optimizers = (trainer.optimizers[2], trainer.optimizers[3])
            task = CleaningTask(draws, judging, learning, heads, optimizers, progress, seed)
            result = believe(self.cleaner.clean(task), draws)
            for number, partition in enumerate(result.partitions, start=1):
                if partition.fell_back:
                    rank_zero_warn(
                        f"epoch {epoch}: no label looked clean to train network {number} on; "
                        f"it goes on with the {len(partition.labeled)} that looked cleanest"
                    )
        broadcast_tensors([*heads[0].state_dict().values(), *heads[1].state_dict().values()])
        return cast(CleaningResult, broadcast_object(result))

    def label_report(self, datamodule: CoTrainingDataModule) -> LabelReport:
        """The final verdict on every training label, for people."""
        if self._final is None:
            raise RuntimeError("the last epoch is not over, so there is no final verdict on the labels")
        return LabelReport(
            noisy_labels=datamodule.noisy_labels,
            true_labels=datamodule.true_labels,
            class_names=datamodule.dataset.class_names,
            paths=datamodule.dataset.train.paths,
            rows=datamodule.dataset.train.rows,
            trusted=datamodule.trusted,
            **self._final,
        )

    def state_dict(self) -> dict[str, Any]:
        """The loss history, which the next fit may average over; after the last epoch, the final verdict.

        A run that is stopped after its last checkpoint still has to report.
        """
        return {"loss_history": self._loss_history, "final": self._final}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._loss_history, self._final = list(state_dict["loss_history"]), state_dict["final"]


def on_every_label(result: CleaningResult, draws: tuple[Draw, Draw], count: int) -> Tensor:
    """(2, N) the clean probabilities by both networks, of N = `count` samples; NaN for those that were not judged."""
    probabilities = torch.full((2, count), torch.nan)
    for number, (estimate, judged) in enumerate(zip(result.estimates, reversed(draws), strict=True)):
        probabilities[number, judged.index] = estimate.clean_probability.cpu()
    return probabilities


def observe_batch(
    answers: Sequence[tuple[Tensor, Tensor]], labels: Tensor, keep_features: bool = True
) -> dict[str, Tensor]:
    """What stage 1 keeps of a batch.

    That is the fields of `Evidence` for each network ("losses_1"), whether they are finite ("finite_1", 0 or 1), and
    what both suggest.

    Args:
        answers: features (B, D) and logits (B, K) of network 1 and network 2.
        labels: (B,) int64 given labels.
        keep_features: whether "features_1" and "features_2" are among it.
    """
    seen: dict[str, Tensor] = {}
    mean = torch.zeros((), device=labels.device)
    for number, (features, logits) in enumerate(answers, start=1):
        probabilities = logits.float().softmax(dim=1)
        mean = mean + probabilities / len(answers)
        seen[f"losses_{number}"] = F.cross_entropy(logits.float(), labels, reduction="none")
        seen[f"given_probability_{number}"] = probabilities.gather(1, labels[:, None]).squeeze(1)
        seen[f"confidence_{number}"], seen[f"predicted_{number}"] = probabilities.max(dim=1)
        if keep_features:
            seen[f"features_{number}"] = features.float()
        finite = torch.isfinite(seen[f"losses_{number}"]) & torch.isfinite(features).all(dim=1)
        seen[f"finite_{number}"] = finite.long()  # what every backend sends
    seen["confidence"], seen["suggested"] = mean.max(dim=1)
    return seen


def measure_result(result: CleaningResult, draws: tuple[Draw, Draw]) -> dict[str, float]:
    """What is worth logging of a division, by metric name.

    "gmm/..." and "cpc/..." hold AUC, precision, recall and share kept of the mixture's and the prototypes' clean
    probability: by network 1 ("_1"), by network 2 ("_2") and joined, that is of the mean of both, or, where they judge
    different draws, of both draws together. What does not apply is left out.
    """
    values: dict[str, float] = dict(result.scalars)
    for number, partition in enumerate(result.partitions, start=1):
        values[f"partition/labeled_{number}"] = len(partition.labeled)
        values[f"partition/unlabeled_{number}"] = len(partition.unlabeled)
    for source in ("gmm", "cpc"):
        pair = [getattr(estimate, source) for estimate in result.estimates]
        if any(probability is None for probability in pair):
            continue
        judged = draws[1], draws[0]
        noisy, true = ([getattr(draw, kind) for draw in judged] for kind in ("noisy_labels", "true_labels"))
        if torch.equal(draws[0].index, draws[1].index):
            joined = (pair[0] + pair[1]) / 2, noisy[0], true[0]
        else:
            joined = torch.cat(pair), torch.cat(noisy), torch.cat(true)
        rows = {"_1": (pair[0], noisy[0], true[0]), "_2": (pair[1], noisy[1], true[1]), "": joined}
        for suffix, (probability, noisy_labels, true_labels) in rows.items():
            kept = probability > result.thresholds[source]
            measured = cleaner_metrics(probability, kept, noisy_labels, true_labels)
            values |= {f"{source}/{name}{suffix}": value for name, value in measured.items() if value is not None}
    for number, estimate in enumerate(result.estimates, start=1):
        if estimate.gmm is not None and estimate.cpc is not None:
            agreement = estimate_agreement(
                estimate.gmm, estimate.cpc, result.thresholds["gmm"], result.thresholds["cpc"]
            )
            values |= {f"gmm_cpc/{name}_{number}": value for name, value in agreement.items()}
    return values


def measure_losses(judging: tuple[Evidence, Evidence], draws: tuple[Draw, Draw]) -> dict[str, float]:
    """How far classes differ in their losses at the end of the warm-up (Figure 1), by metric name.

    "losses/ks_deviating_clean_1" is the share of classes whose rightly labeled samples have other losses than all
    rightly labeled samples have, by network 1; "..._noisy_1" that among the wrongly labeled ones; "..._2" by network 2.
    What has no sample of known truth is left out.
    """
    values: dict[str, float] = {}
    for number, (evidence, draw) in enumerate(zip(judging, reversed(draws), strict=True), start=1):
        right, known = draw.noisy_labels == draw.true_labels, draw.true_labels != UNKNOWN
        for kind, rows in (("clean", right), ("noisy", known & ~right)):
            share = ks_deviating_share(evidence.losses[rows], draw.noisy_labels[rows])
            if share is not None:
                values[f"losses/ks_deviating_{kind}_{number}"] = share
    return values
