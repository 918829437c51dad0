"""The callback that runs stage 1: observe the training set, ask the cleaner, set the partitions of the next epoch."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from cpc_lightning.cleaning.evidence import (
    Advice,
    Basis,
    Chooses,
    Cleaner,
    CleaningResult,
    CleaningTask,
    Draw,
    Evidence,
    Keeps,
    Remembers,
)
from cpc_lightning.cleaning.floor import keep_floor
from cpc_lightning.cleaning.gmm import scale_losses
from cpc_lightning.cleaning.noise_rate import NoiseEstimate
from cpc_lightning.cleaning.trusted import believe
from cpc_lightning.datasets.dataset import UNLABELED, Vectors
from cpc_lightning.report.labels import LabelReport
from cpc_lightning.training.datamodule import CoTrainingDataModule, datamodule_of
from cpc_lightning.training.distributed import broadcast_object, broadcast_tensors
from cpc_lightning.training.dividing import gain_of, is_asked
from cpc_lightning.training.measures import measure_losses, measure_result
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.training.observation import Observation, observe
from cpc_lightning.training.progress import say_doing
from cpc_lightning.training.verdict import Verdict, bases_of, of_each_network, on_every_label


class StageOne(pl.Callback):
    """Stage 1: looks at the whole training set with both networks and divides it for the next epoch.

    Runs at the end of an epoch, because Lightning builds the next epoch's loader before any hook of that epoch. The
    call at the end of the last epoch gives the final verdict on the labels.

    Attributes:
        cleaner: answers who is clean; where it divides nothing, what the method ranks labels with at the end.
        divides: whether the cleaner divides the data after every epoch.
        verdict: the last stage 1's; None before the first.
        noise: what the cleaner last estimated of the wrong labels; None where it estimates nothing.
        advice: what a cleaner that chooses for itself has chosen; None before, and for others.
    """

    def __init__(self, cleaner: Cleaner, seed: int, judge: Cleaner | None = None) -> None:
        """Take the parts.

        Args:
            cleaner: answers who is clean.
            seed: of its fits and draws.
            judge: who says at the end what labels to trust, where the cleaner never divides the data; None: nobody.
        """
        self.divides, self.seed = cleaner.active, seed
        self.cleaner = cleaner if cleaner.active or judge is None else judge
        self.verdict: Verdict | None = None
        self.noise: NoiseEstimate | None = None
        self.advice: Advice | None = None
        self._trained = 0  # epochs, in this process
        self._waited = 0  # epochs that the division was put off by
        self._remembered = 0  # the last epoch that the cleaner was shown
        self._loss_history: list[Tensor] = []  # newest last, each (2, N), min-max scaled
        self._final: dict[str, Any] | None = None  # what the last epoch's verdict says of every label

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the learner follow what was chosen before the run was interrupted."""
        self._follow(cast(CoTrainingModule, pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Divide the data once the warm-up is over; where nothing divides it only look, at the very end.

        The warm-up may go on for as long as it does not pay to divide (`training.dividing`). If it lasts to the end,
        the cleaner is asked once, for the verdict.
        """
        module = cast(CoTrainingModule, pl_module)
        if module.began_anew:
            self._loss_history = []  # of networks that are no more
        self._trained = trainer.current_epoch + 1
        final = self._trained == trainer.max_epochs
        due = self._trained >= module.warmup_epochs if self.divides else final
        asks = final or is_asked(self._trained, module.warmup_epochs, cast(int, trainer.max_epochs))
        if due and not asks and self._waits(datamodule_of(trainer)):
            self._waited, due = self._waited + 1, False
        if not due:
            self._remember_warmup(trainer, module)
            return
        begin = time.monotonic()
        for name, value in self._judge(trainer, module, final).items():
            if not (module.method.trains_one and name.endswith("_2")):  # which is network 1
                pl_module.log(name, value)
        pl_module.log("stage1/seconds", time.monotonic() - begin)
        if final:
            self._final = self._conclusion(module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the final verdict where a callback, such as early stopping, ends the run before its last epoch."""
        if self._final is not None or not self._trained:
            return
        every, module = datamodule_of(trainer).noisy_labels, cast(CoTrainingModule, pl_module)
        if self.verdict is None or self.verdict.epoch != self._trained or len(self.verdict.suggested) < len(every):
            self._judge(trainer, module, final=True)
        self._final = self._conclusion(module)

    def _remember_warmup(self, trainer: pl.Trainer, module: CoTrainingModule) -> None:
        """Have a cleaner that remembers see an epoch that ends without a stage 1."""
        if isinstance(self.cleaner, Remembers):
            datamodule = datamodule_of(trainer)
            features, keeps = self.cleaner.needs_features, self.divides and module.method.keeps
            self._remember(datamodule, observe(trainer, module, datamodule.labeled, features, keeps))

    def _remember(self, datamodule: CoTrainingDataModule, seen: Observation) -> None:
        """Give a cleaner that remembers what was seen of the samples that have a label, once an epoch."""
        if isinstance(self.cleaner, Remembers) and self._remembered != self._trained:
            self._remembered = self._trained
            index = seen.index[datamodule.noisy_labels[seen.index] != UNLABELED]
            draw = Draw(index, datamodule.noisy_labels[index], datamodule.true_labels[index])
            first, second = (replace(seen.of(r, draw), features=torch.empty(len(index), 0)) for r in (0, 1))
            self.cleaner.remember(draw, (first, second))

    def _judge(self, trainer: pl.Trainer, module: CoTrainingModule, final: bool) -> dict[str, float]:
        """Observe, ask the cleaner, and set the next partitions and `verdict`; what is worth logging of it, by name.

        Args:
            trainer: whose data and optimizers it takes.
            module: the networks.
            final: look at every label, not only at those that are trained on next.
        """
        datamodule = datamodule_of(trainer)
        self.verdict = None  # or two of them would be in memory
        index = (datamodule.labeled,) * 2 if final else datamodule.draws(self._trained)
        trusted = datamodule.trusted
        first, second = (
            Draw(i, datamodule.noisy_labels[i], datamodule.true_labels[i], None if trusted is None else trusted[i])
            for i in index
        )
        draws = first, second
        # To suggest labels in the end, and to guess on.
        others = datamodule.unlabeled if final or module.method.keeps else index[0][:0]
        waiting = self._waits(datamodule)
        asks = waiting and not final  # nothing is trained on a last division
        features, keeps = asks or self.cleaner.needs_features, self.divides and module.method.keeps
        seen = observe(trainer, module, torch.unique(torch.cat([*index, others])), features, keeps)
        self._remember(datamodule, seen)
        judging = self._with_history((seen.of(0, draws[1]), seen.of(1, draws[0])))
        result: CleaningResult | None = None
        values: dict[str, float] = {}
        waits = waiting and not (asks and self._pays(trainer, module, draws[1], judging[0], values))
        if waits and not final:
            self._waited += 1
            return values
        ends_warmup = self.divides and datamodule.partitions is None
        since = 0 if waits else self._trained - module.warmup_epochs - self._waited
        progress = max(0.0, since / cast(int, trainer.max_epochs))
        if self.cleaner.active:
            learning = seen.of(0, draws[0]), seen.of(1, draws[1])
            say_doing(trainer, "stage 1, dividing")
            result = self._divide(trainer, module, draws, judging, learning, progress, self._trained)
            if self.divides and not waits:
                datamodule.partitions = result.partitions
                if waiting:
                    module.method.divided(module.warmup_epochs + self._waited)
            self._take(trainer, module, result)
            values |= measure_result(result, draws)
            if waits or not self.divides:
                values = {name: value for name, value in values.items() if not name.startswith("partition/")}
            if ends_warmup:
                values |= measure_losses(judging, draws)
        light = replace(judging[0], features=torch.empty(0)), replace(judging[1], features=torch.empty(0))
        self.verdict = Verdict(
            self._trained, draws, light, result, seen.suggested, seen.confidence, progress, ends_warmup
        )
        return values

    def _waits(self, datamodule: CoTrainingDataModule) -> bool:
        """Whether the data have not been divided, and are not to be before it pays."""
        return self.divides and datamodule.waits and datamodule.partitions is None

    def _pays(
        self, trainer: pl.Trainer, module: CoTrainingModule, draw: Draw, seen: Evidence, values: dict[str, float]
    ) -> bool:
        """Whether it pays to divide, as the first process finds it; adds what tells it to `values`."""
        gain = None
        if trainer.is_global_zero:
            say_doing(trainer, "stage 1, asking whether to divide")
            gain = gain_of(draw, seen, module.network(0).classifier.out_features, self.seed)
        values["stage1/effective_gain"] = found = cast(float, broadcast_object(gain))
        return found > 1

    def _take(self, trainer: pl.Trainer, module: CoTrainingModule, result: CleaningResult) -> None:
        """Keep what the cleaner says of the noise and what it has chosen, and say the latter once."""
        self.noise = result.noise
        if result.advice is not None and result.advice != self.advice:
            self.advice = result.advice
            self._follow(module)
            if trainer.is_global_zero:
                kept = module.method.follow(self.advice.lambda_u)
                own = "" if kept == self.advice.lambda_u else f" (semisup.lambda_u={kept:g} is set, and stays)"
                print(f"chosen: {self.advice}{own}")

    def _follow(self, module: CoTrainingModule) -> None:
        """Give the choice to this process's cleaner and learner, and say when the data were divided."""
        if self._waited:
            module.method.divided(module.warmup_epochs + self._waited)
        if self.advice is not None and isinstance(self.cleaner, Chooses):
            self.cleaner.advice, self.cleaner.noise = self.advice, self.noise
            module.method.follow(self.advice.lambda_u)

    def _conclusion(self, module: CoTrainingModule) -> dict[str, Any]:
        """What the present verdict, on every label, says of each of them."""
        verdict = cast(Verdict, self.verdict)
        result, clean = verdict.result, None
        if result is not None:
            clean = of_each_network(on_every_label(result, verdict.draws, len(verdict.suggested)), module)
        return {
            "clean_probabilities": clean,
            "threshold": result and result.threshold,
            "suggested": verdict.suggested,
            "confidence": verdict.confidence,
            "bases": result and [basis.to_state() for basis in bases_of(verdict, result)],
        }

    def _with_history(self, judging: tuple[Evidence, Evidence]) -> tuple[Evidence, Evidence]:
        """Record the scaled losses of this epoch, and give the evidence those of the last ones that were recorded."""
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
            images = datamodule_of(trainer).dataset.train.images
            vectors = images.vectors if isinstance(images, Vectors) else None
            classifiers = (module.network(0).classifier, module.network(1).classifier)
            task = CleaningTask(draws, judging, learning, heads, optimizers, progress, seed, vectors, classifiers)
            result = keep_floor(believe(self.cleaner.clean(task), draws), draws)
            for number, partition in enumerate(result.partitions, start=1):
                if partition.fell_back:
                    rank_zero_warn(
                        f"epoch {epoch}: no label looked clean to train network {number} on; "
                        f"it goes on with the {len(partition.labeled)} that looked cleanest"
                    )
        broadcast_tensors([*heads[0].state_dict().values(), *heads[1].state_dict().values()])
        return cast(CleaningResult, broadcast_object(result))

    @property
    def concluded(self) -> bool:
        """Whether there is a final verdict on the labels."""
        return self._final is not None

    def label_report(self, datamodule: CoTrainingDataModule) -> LabelReport:
        """The final verdict on every training label, for people."""
        if self._final is None:
            raise RuntimeError("the last epoch is not over, so there is no final verdict on the labels")
        final = {name: value for name, value in self._final.items() if name != "bases"}
        return LabelReport(
            noisy_labels=datamodule.noisy_labels,
            true_labels=datamodule.true_labels,
            class_names=datamodule.dataset.class_names,
            paths=datamodule.dataset.train.paths,
            rows=datamodule.dataset.train.rows,
            trusted=datamodule.trusted,
            noise=self.noise,
            **final,
        )

    @property
    def bases(self) -> tuple[Basis, ...] | None:
        """What the final verdicts of network 1 and network 2 rest on; None without an active cleaner."""
        states = (self._final or {}).get("bases")  # not in checkpoints of before there was a verdict on held-out images
        return states and tuple(Basis.from_state(state) for state in states)

    def state_dict(self) -> dict[str, Any]:
        """The loss history, which the next fit may average over; after the last epoch, the final verdict.

        A run that is stopped after its last checkpoint still has to report. Beside them what was estimated of the noise
        and chosen by it, and what the cleaner keeps.
        """
        return {
            "loss_history": self._loss_history,
            "waited": self._waited,
            "final": self._final,
            "noise": self.noise and self.noise.to_state(),
            "advice": self.advice and self.advice.to_state(),
            "cleaner": self.cleaner.state_dict() if isinstance(self.cleaner, Keeps) else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._loss_history, self._final = list(state_dict["loss_history"]), state_dict["final"]
        self._waited = state_dict.get("waited", 0)  # older checkpoints have none of these
        noise, advice = state_dict.get("noise"), state_dict.get("advice")
        self.noise = noise and NoiseEstimate.from_state(noise)
        self.advice = advice and Advice.from_state(advice)
        if self.advice is not None and isinstance(self.cleaner, Chooses):
            self.cleaner.advice, self.cleaner.noise = self.advice, self.noise
        kept = state_dict.get("cleaner")  # nor this
        if kept is not None and isinstance(self.cleaner, Keeps):
            self.cleaner.load_state_dict(kept)
