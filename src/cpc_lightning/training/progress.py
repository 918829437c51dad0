"""The progress bar: one line for all that a run does, with the time left for the epoch and for the whole run."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar

from cpc_lightning.errors import one_line, require_switch
from cpc_lightning.training.datamodule import datamodule_of
from cpc_lightning.training.displays import Artist, find_display
from cpc_lightning.training.pace import (
    EVALUATION,
    HELD_OUT,
    REST,
    STAGE_ONE,
    STAGE_TWO,
    WARMUP,
    Left,
    Likeness,
    Pace,
    epoch_parts,
    parts_after,
)  # fmt: skip
from cpc_lightning.training.status import Status

JOB = "CPC_LIGHTNING_JOB"
"""The variable that says which job of a sweep this process works on: "job 2 of 12"."""

T = TypeVar("T")

_open: list[RunProgress] = []
"""The bar that is drawn now, if any: there is never a second one."""


class RunProgress(ProgressBar):
    """Shows how far a run is, on the first process alone.

    In a terminal that is a bar at its bottom, in a notebook one changing output, anywhere else a line now and then, on
    standard error. It covers training, evaluation, stage 1 and what comes after the last epoch. Lightning's class has
    it that there is no other.
    """

    def __init__(self, leave: bool = False) -> None:
        """Take whether a line of every epoch stays above the bar."""
        super().__init__()
        require_switch("leave", leave)
        self.leave = leave
        self._artist: Artist | None = None
        self._pace = Pace({})
        self._wanted = True
        self._epochs, self._epoch, self._warmup_epochs = 1, 0, cast("int | None", None)
        self._later: tuple[str, ...] = ()  # parts of this epoch after the present one
        self._part, self._doing, self._steps, self._done = "", "", 0, 0
        self._epoch_begin = self._part_begin = self._first_step = self._last_step = time.monotonic()
        self._noted = 0.0  # seconds of this epoch that are in parts of their own
        self._share, self._measured = 0.0, ""
        self._expected: Mapping[str, float] = {}

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take how long each part is expected to take, which serves until it was timed."""
        self._expected = seconds

    # Lightning's own switches
    def enable(self) -> None:
        """Show."""
        self._wanted = True

    def disable(self) -> None:
        """Do not show."""
        self._wanted = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar, which has the streams redirected."""
        print(*args, **kwargs)

    # What a run goes through ------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out what there is to do, and begin to show it."""
        data = datamodule_of(trainer)
        self._epochs, self._warmup_epochs = cast(int, trainer.max_epochs), data.warmup_epochs or None
        sizes = {name: len(split) for name, split in data.dataset.evaluation.items()}
        watched = sum(sizes[name] for name in data.dataset.watched) or 1
        steps = [data.most_steps(epoch, trainer.world_size) for epoch in (0, data.warmup_epochs)]
        self._pace = Pace(
            {
                STAGE_TWO: Likeness(WARMUP, min(1.0, steps[1] / max(steps[0], 1))),
                STAGE_ONE: Likeness(EVALUATION, len(data.dataset.train) / watched),
                HELD_OUT: Likeness(EVALUATION, sum(sizes.values()) / watched, sure=True),
            }
        )
        for part, seconds in self._expected.items():
            self._pace.suppose(part, seconds)
        self._epoch, self._part, self._doing, self._share = trainer.current_epoch, "", "", 0.0
        if trainer.is_global_zero and self._wanted and self._artist is None:
            self._artist = Artist(find_display(self.leave), self.status)
            _open.append(self)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin an epoch; what the last one took beyond its parts is known by now."""
        now = time.monotonic()
        if trainer.current_epoch > self._epoch:
            self._pace.note(REST, max(0.0, now - self._epoch_begin - self._noted))
        self._epoch, self._epoch_begin, self._noted, self._share = trainer.current_epoch, now, 0.0, 0.0
        part, *later = epoch_parts(self._epoch, self._epochs, self._warmup_epochs)
        self._later = tuple(later)
        self._begin(part, "network 1", int(trainer.num_training_batches))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Note which network trains."""
        self._doing = f"network {int(batch['network']) + 1}"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count a step."""
        self._advance()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the evaluation."""
        if self._artist is not None:
            self._next(EVALUATION, "evaluation", sum(int(number) for number in trainer.num_val_batches))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, index: int, set: int = 0
    ) -> None:
        """Count a batch."""
        self._advance()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note how the networks did."""
        name = f"{next(iter(cast(Any, pl_module).evaluation_names), 'test')}/accuracy"
        if name in trainer.callback_metrics:
            self._measured = f"{one_line(name.replace('/', ' '))} {float(trainer.callback_metrics[name]):.2f} %"
        following = self._later[:1] or (REST,)
        self._next(following[0], following[0], 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The epoch is over but for its checkpoint. Listed after stage 1."""
        if "train/loss" in trainer.callback_metrics:  # of mode=pretrain, which evaluates nothing
            self._measured = f"loss {float(trainer.callback_metrics['train/loss']):.3f}"
        self._next(REST, "saving", 0)
        if self._artist is not None and trainer.current_epoch + 1 < self._epochs:
            self._artist.keep(replace(self.status(), doing="", share=None))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the evaluation of the selected networks."""
        self.doing("selected networks", sum(int(number) for number in trainer.num_test_batches))

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, index: int, set: int = 0
    ) -> None:
        """Count a batch."""
        self._advance()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All epochs are over."""
        self._epoch = self._epochs
        self.doing("finishing")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take the bar away, so that what went wrong has the terminal to itself."""
        self.close()

    def close(self) -> None:
        """Take the bar away; the run is over."""
        if self._artist is not None:
            self._artist.close()
            self._artist = None
            _open.remove(self)

    # What it learns ---------------------------------------------------------------------------------------------------

    def doing(self, what: str, steps: int = 0) -> None:
        """Say what is done now, within the present part of an epoch or after the last one, and in how many steps."""
        if self._epoch >= self._epochs:
            self._begin(HELD_OUT, what, steps)
        self._doing = what

    def through(self, batches: Iterable[T], what: str) -> Iterator[T]:
        """The batches, counted as they are taken."""
        self.doing(what, len(cast(Any, batches)))
        for batch in batches:
            yield batch
            self._advance()

    def _next(self, part: str, doing: str, steps: int) -> None:
        """End the present part, whose time is known by now, and begin another."""
        if self._part not in ("", REST):
            took = time.monotonic() - self._part_begin
            self._noted += took
            self._pace.note(self._part, self._extrapolated() or took)
        self._later = self._later[self._later.index(part) + 1 :] if part in self._later else ()
        self._begin(part, doing, steps)

    def _begin(self, part: str, doing: str, steps: int) -> None:
        self._steps = 0  # the thread that draws may look at any moment
        self._part, self._doing, self._done, self._part_begin = part, doing, 0, time.monotonic()
        self._steps = steps

    def _advance(self) -> None:
        self._last_step = time.monotonic()
        if self._done == 0:
            self._first_step = self._last_step
        self._done += 1

    def _extrapolated(self) -> float | None:
        """How long the present part takes by the steps that were timed; the first one is slow, and says little."""
        done, steps = self._done, self._steps
        if self._part not in (WARMUP, STAGE_TWO, EVALUATION) or done < 3 or not steps:
            return None
        return (self._last_step - self._first_step) / (done - 1) * steps

    def status(self) -> Status:
        """Where the run is now. Asked by the thread that draws, while the run goes on."""
        job, done, steps = one_line(os.environ.get(JOB, "")), self._done, self._steps
        if self._epoch >= self._epochs:
            share = min(1.0, done / steps) if steps else None
            return Status(job, f"{self._epochs} epochs done", self._doing, share, measured=self._measured)
        now, whole = time.monotonic(), self._extrapolated()
        if whole is not None:
            self._pace.suppose(self._part, whole)
        expected = self._pace.expected(self._part) if whole is None else Left(whole, at_least=False)
        of_part = Left(max(0.0, expected.seconds - (now - self._part_begin)), expected.at_least)
        epoch_left = of_part + self._pace.total(Counter(self._later))
        run_left = epoch_left + self._pace.total(parts_after(self._epoch, self._epochs, self._warmup_epochs))
        in_epoch = now - self._epoch_begin
        if epoch_left.seconds > 0:
            self._share = max(self._share, in_epoch / (in_epoch + epoch_left.seconds))
        told = run_left.seconds > 0
        return Status(
            job, f"epoch {self._epoch + 1}/{self._epochs}", self._doing, self._share if told else None,
            epoch_left if told else None, run_left if told else None, self._measured,
        )  # fmt: skip


def progress_of(trainer: pl.Trainer) -> RunProgress | None:
    """The progress bar of a run; None where it has none, or another."""
    bar = trainer.progress_bar_callback
    return bar if isinstance(bar, RunProgress) else None


def shown(trainer: pl.Trainer, batches: Iterable[T], what: str) -> Iterable[T]:
    """The batches, counted by the progress bar if the run has one."""
    bar = progress_of(trainer)
    return batches if bar is None else bar.through(batches, what)


def counted(batches: Iterable[T], what: str) -> Iterator[T]:
    """The batches of a pass, counted by the bar of the run whose part it is, or else by one of its own."""
    if _open:
        yield from _open[0].through(batches, what)
        return
    count, done = len(cast(Any, batches)), 0
    first = latest = time.monotonic()

    def status() -> Status:
        rate = (latest - first) / (done - 1) if done > 1 else None
        left = None if rate is None else Left(rate * (count - done), at_least=False)
        return Status("", what, share=done / count if count else None, run_left=left)

    artist = Artist(find_display(leave=False), status)
    try:
        for batch in batches:
            yield batch
            latest, done = time.monotonic(), done + 1
            first = latest if done == 1 else first
    finally:
        artist.close()


def say_doing(trainer: pl.Trainer, what: str) -> None:
    """Have the progress bar, if the run has one, say what is done now."""
    bar = progress_of(trainer)
    if bar is not None:
        bar.doing(what)


def close_progress(trainer: pl.Trainer) -> None:
    """Take the progress bar away, if the run has one."""
    bar = progress_of(trainer)
    if bar is not None:
        bar.close()
