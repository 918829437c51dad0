"""Times a few steps of each kind, to tell how long a run will take.

All is done with copies, and the random generators are put back: a run that was timed gives the results of one that was
not. That is why it is a trial, and not the run's own first steps: those of stage 2, which cost the most, come late.

Shapes: N samples, n of them, B batch, D features, K classes.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cpc_lightning.cleaning.evidence import Cleaner, CleaningTask, Draw, Evidence, Remembers, TakesSteps
from cpc_lightning.datasets.dataset import Vectors, pictures_of
from cpc_lightning.files import usable_cores
from cpc_lightning.report.gallery import time_to_draw
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.training.samplers import BatchPlan

BUDGET = 0.6
"""Seconds that a trial of one kind of work is to take; a pass over the smallest piece may take longer."""
REPEATS = 5
"""Passes at most over a piece that is as large as the run's own."""
FEWEST = 2
"""Images a step at least: BatchNorm needs two."""
FEWEST_JUDGED = 125
"""Samples that a cleaner judges at first, or all."""
FEW_PICTURES = 8
"""Pictures that are drawn as those of the page are."""
FEW_STEPS = 50
"""Steps of a cleaner that takes many."""
WRONG = 0.3
"""Share of the labels that look wrong to the networks of a trial."""

T = TypeVar("T")


@dataclass(frozen=True)
class Costs:
    """What a run's pieces of work take, in seconds.

    Attributes:
        warmup: a step of one network in warm-up, its batch included.
        stage_two: likewise in stage 2; 0 without a cleaner.
        look: an image in an evaluation pass of both networks.
        first_cleaning: the cleaner's answer in the first stage 1, the pass aside; 0 without a cleaner.
        cleaning: likewise in the following ones: what fixed features tell is computed once.
        divides: whether the cleaner leaves samples unlabeled, so that their number decides on the steps of stage 2.
        remembers: whether the networks look at all samples after every epoch of the warm-up too.
        within: a picture within the page of the run, read and drawn; 0 without pictures.
        beside: a picture in a sheet beside the page; sheets are drawn on all cores.
    """

    warmup: float
    stage_two: float
    look: float
    first_cleaning: float
    cleaning: float
    divides: bool
    remembers: bool = False
    within: float = 0.0
    beside: float = 0.0


def try_out(
    module: CoTrainingModule,
    datamodule: CoTrainingDataModule,
    cleaner: Cleaner,
    device: torch.device,
    context: Callable[[], AbstractContextManager[None]],
    processes: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    page: bool = True,
) -> Costs:
    """Time the work of a run, on copies of its parts.

    Args:
        module: the networks.
        datamodule: serves the images; its loaders and their workers are not started.
        cleaner: answers who is clean.
        device: that is to train.
        context: what a forward pass is to be in, for its precision.
        processes: of the run, on this machine.
        clock: in seconds.
        page: whether there will be one.
    """
    with as_they_were(device):
        return Trial(module, datamodule, cleaner, device, context, processes, clock).costs(page)


class Trial:
    """Times the work of a run on copies of its parts; see `try_out`."""

    def __init__(
        self,
        module: CoTrainingModule,
        datamodule: CoTrainingDataModule,
        cleaner: Cleaner,
        device: torch.device,
        context: Callable[[], AbstractContextManager[None]],
        processes: int,
        clock: Callable[[], float],
    ) -> None:
        self.module, self.cleaner = copy.deepcopy(module).to(device), copy.deepcopy(cleaner)
        self.data, self.device, self.context = datamodule, device, context
        self.processes, self.clock = processes, clock
        self.optimizers = self.module.configure_optimizers()[0]
        self.generator = torch.Generator().manual_seed(0)
        self.order = datamodule.labeled[torch.randperm(len(datamodule.labeled), generator=self.generator)]

    def costs(self, page: bool) -> Costs:
        """Time everything, the pictures of the page where there will be one."""
        classes, first, again = self._cleaning() if self.cleaner.active else (None, 0.0, 0.0)
        stage_two = self._step(False, classes) if self.cleaner.active else 0.0
        remembers = isinstance(self.cleaner, Remembers)
        pictures = self._pictures() if page else (0.0, 0.0)
        return Costs(self._step(True), stage_two, self._look(), first, again, classes is None, remembers, *pictures)

    def _some(self, count: int, begin: int = 0) -> Tensor:
        """Positions (n,) of labeled samples, at random but always the same; a small set goes round."""
        return self.order[torch.arange(begin, begin + count) % len(self.order)]

    def _step(self, warmup: bool, classes: int | None = None) -> float:
        """Seconds of a step of one network with its batch; on soft targets of K = `classes`, if given."""
        data = self.data
        dataset = data.training_dataset()
        size = data.batch_size_in(0) if warmup else data.batch_size

        def batch_of(count: int) -> dict[str, Any]:
            targets = None if classes is None else torch.full((count, classes), 1 / classes)
            unlabeled = self._some(0 if warmup or classes is not None else count, count)
            certain = torch.full((count,), 0.9)
            plan = BatchPlan(0, self._some(count), certain, unlabeled, warmup, 0.0, 0, targets)
            return dict(dataset.__getitems__(plan))

        def step(batch: dict[str, Any]) -> None:
            batch = {name: self._placed(value) for name, value in batch.items()}
            with self.context():
                loss = self.module.method.losses(self.module.step_of(batch))["loss"]
            self.optimizers[0].zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizers[0].step()

        self.module.train()
        return self._together(self._timed(step, batch_of, size), self._timed(batch_of, int, size))

    def _look(self) -> float:
        """Seconds of an image in an evaluation pass."""
        size = min(self.data.evaluation_batch_size, len(self.order))

        def fetch(count: int) -> Tensor:
            return self.data.dataset.train.images.fetch(self._some(count))

        @torch.no_grad()
        def look(images: Tensor) -> None:
            with self.context():
                self.module.features_and_logits(self._placed(images))

        self.module.eval()
        return self._together(self._timed(look, fetch, size), self._timed(fetch, int, size)) / size

    def _pictures(self) -> tuple[float, float]:
        """Seconds of a picture within the page of the run, and of one beside it."""
        images = pictures_of(self.data.dataset.train.images)
        if images is None:
            return 0.0, 0.0
        return time_to_draw(images, self._some(FEW_PICTURES).tolist(), self.clock)

    def _cleaning(self) -> tuple[int | None, float, float]:
        """K where networks learn soft targets, else None; seconds of the first answer on all samples, and of others."""
        cleaner, full = self.cleaner, len(self.data.draws(self.data.warmup_epochs)[0])
        tasks: list[CleaningTask] = []

        def task_of(count: int) -> CleaningTask:
            tasks.append(self._task(count))
            return tasks[-1]

        def again() -> tuple[float, Tensor | None]:
            begin = self._now()
            partition = cleaner.clean(tasks[-1]).partitions[0]
            return self._now() - begin, partition.targets

        steps = 0
        if isinstance(cleaner, TakesSteps):  # few of them now, and what each one more takes
            steps, cleaner.steps = cleaner.expected_steps(full), min(cleaner.steps, FEW_STEPS)
        first = self._timed(cleaner.clean, task_of, full, FEWEST_JUDGED, repeats=1)
        second, targets = again()
        classes = None if targets is None else targets.shape[1]
        if isinstance(cleaner, TakesSteps):
            few, cleaner.steps = cleaner.steps, 5 * cleaner.steps
            first += max(0.0, again()[0] - second) / (4 * few) * (steps - few)
            return classes, first, first
        second *= full / len(tasks[-1].draws[0].index)
        if second > first / 2:  # or else it has remembered
            first = second = (first + second) / 2
        return classes, first, second

    def _task(self, count: int) -> CleaningTask:
        """What a stage 1 after warm-up might ask about `count` samples: some labels look wrong, with larger losses."""
        data, classes, generator = self.data, len(self.data.dataset.class_names), self.generator
        index, width = self._some(count), self.module.network(0).classifier.in_features
        labels, images = data.noisy_labels[index], data.dataset.train.images

        def clustered(kinds: Tensor, size: int) -> Tensor:
            centres = torch.randn(classes, size, generator=generator)
            return centres[kinds] + torch.randn(count, size, generator=generator)

        def evidence() -> Evidence:
            wrong = torch.rand(count, generator=generator) < WRONG
            predicted = torch.where(wrong, torch.randint(classes, (count,), generator=generator), labels)
            losses = torch.where(predicted == labels, 0.3, 2.0) * (0.2 + torch.rand(count, generator=generator))
            features = clustered(predicted, width if self.cleaner.needs_features else 0).to(self.device)
            history = ((losses - losses.min()) / losses.max()).expand(self.cleaner.history_length, -1)
            return Evidence(losses, history, (-losses).exp(), predicted, (-losses / 2).exp(), features)

        vectors = images.vectors[index] if isinstance(images, Vectors) else None
        if vectors is not None and not vectors.any():  # they are not computed yet
            vectors = F.normalize(clustered(labels, vectors.shape[1]))
        draw = Draw(torch.arange(count), labels, data.true_labels[index])
        judging = evidence(), evidence()
        heads = self.module.network(0).head, self.module.network(1).head
        optimizers = self.optimizers[2], self.optimizers[3]
        classifiers = self.module.network(0).classifier, self.module.network(1).classifier
        return CleaningTask((draw, draw), judging, judging, heads, optimizers, 0.0, 0, vectors, classifiers)

    def _placed(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, Tensor) else value

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock()

    def _timed(
        self,
        work: Callable[[T], object],
        prepare: Callable[[int], T],
        full: int,
        smallest: int = FEWEST,
        repeats: int = REPEATS,
    ) -> float:
        """Seconds of `work` on a piece of the size `full`, as far as `BUDGET` reaches.

        Pieces twice as large as the last one are tried, two at least, up to `full`; where the time is not enough for
        that, the last two tell what a larger one takes.

        Args:
            work: what is timed, on what `prepare` gives for a size.
            prepare: not timed.
            full: the size in the run.
            smallest: to begin with.
            repeats: passes at most over a piece of the size `full`, of which the median counts; 1: of a smaller
                piece, too, one pass is what counts.
        """
        begin, size, pieces = self._now(), min(smallest, full), list[tuple[int, float]]()
        self._pass(work, prepare, size)  # not counted: the first one of any work is slow
        while size < full:
            seconds = self._pass(work, prepare, size)
            if pieces and repeats > 1 and seconds > BUDGET / 4:  # a busy machine stops, and that would be multiplied
                seconds = min(seconds, self._pass(work, prepare, size))
            pieces.append((size, seconds))
            if len(pieces) > 1 and seconds > BUDGET / 4:
                return extrapolated(pieces, full)
            size = min(2 * size, full)
        times = [self._pass(work, prepare, full)]
        while len(times) < repeats and self._now() - begin < BUDGET:
            times.append(self._pass(work, prepare, full))
        return median(times[1:] or times)  # the first of this size is slow, too

    def _pass(self, work: Callable[[T], object], prepare: Callable[[int], T], size: int) -> float:
        thing = prepare(size)
        begin = self._now()
        work(thing)
        return self._now() - begin

    def _together(self, work: float, fetching: float) -> float:
        """Seconds of a step whose batch other processes fetch meanwhile, perhaps on the same processors."""
        workers, cores = self.data.num_workers, usable_cores()
        if workers == 0:
            return work + fetching
        busy = work * torch.get_num_threads() if self.device.type == "cpu" else 0.0
        return max(work, fetching / workers, (busy + fetching) * self.processes / cores)


def extrapolated(pieces: Sequence[tuple[int, float]], full: int) -> float:
    """Seconds of a piece of the size `full`, by what smaller ones took.

    What is beyond the largest of them costs what the last two tell, but at least a quarter of what that one suggests,
    and at most twice that.

    Args:
        pieces: their sizes, growing, and seconds; two at least.
        full: see above.
    """
    (before, less), (size, seconds) = pieces[-2:]
    each = seconds / size
    return seconds + (full - size) * min(max((seconds - less) / (size - before), each / 4), 2 * each)


@contextmanager
def as_they_were(device: torch.device) -> Iterator[None]:
    """Put all random generators back in the end."""
    ours, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002, others may draw from it
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    random.setstate(ours)
    np.random.set_state(numpys)  # noqa: NPY002
