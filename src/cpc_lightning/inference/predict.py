"""Predicts on any number of images in constant memory: decoded in worker processes, computed in batches.

Shapes: B batch, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cpc_lightning.datasets.reading.levels import UnreadableImageError
from cpc_lightning.features.store import Claims
from cpc_lightning.inference.inputs import BLOCK, Input, blocks
from cpc_lightning.inference.model import TrainedModel
from cpc_lightning.inference.predictions import Blocks, Predicted
from cpc_lightning.training.displays import Artist, find_display
from cpc_lightning.training.loading import BatchLoader
from cpc_lightning.training.pace import Left
from cpc_lightning.training.status import Status

TOP = 5
PAUSE = 0.2
"""Seconds between two looks at what other processes compute."""


@dataclass(frozen=True)
class Wanted:
    """A batch to fetch: of which block, from which row of the input on, these names."""

    block: int
    start: int
    names: Sequence[str]


class FetchedImages(Dataset[Any]):
    """Images by name, decoded; those that cannot be read are zeros.

    Args:
        model: decodes.
        given: knows the files.
    """

    def __init__(self, model: TrainedModel, given: Input) -> None:
        self._given, self._decode = given, model.decode  # not the model, which worker processes would copy

    def __getitems__(self, wanted: Wanted) -> dict[str, Any]:
        """The batch, and for each of its images why it cannot be read, or ""."""
        found = self._given.vectors(wanted.start, len(wanted.names))
        errors = [""] * len(wanted.names)
        if found is None:
            assert self._decode is not None, "vectors are not decoded"
            images = []
            for row, name in enumerate(wanted.names):
                try:
                    images.append(self._decode(self._given.file(name)))
                except UnreadableImageError as error:
                    errors[row] = str(error)
                    images.append(self._decode.nothing)
            found = torch.stack(images)
        return {"images": found, "errors": errors, "wanted": wanted}


class Work:
    """The batches of the blocks that are still to be computed, and that no other process computes.

    Args:
        given: the input.
        kept: the blocks that are there.
        claims: tells other processes.
        batch_size: images at a time.
    """

    def __init__(self, given: Input, kept: Blocks, claims: Claims, batch_size: int) -> None:
        self._given, self._kept, self._claims, self._batch_size = given, kept, claims, min(batch_size, BLOCK)
        self.left: list[int] = []  # blocks that others compute
        self.position = 0

    def ready(self) -> bool:
        """Whether a block that another process computed is to be had: it has ended without it. Forgets what is done."""
        self.left = [number for number in self.left if not self._kept.has(number)]
        return any(self._claims.take(number) for number in self.left)

    def __iter__(self) -> Iterator[Wanted]:
        self.left = []
        for number, names in enumerate(blocks(self._given)):
            self.position = number
            if self._kept.read(number, names) is not None:
                continue
            if not self._claims.take(number):
                self.left.append(number)
                continue
            if self._kept.read(number, names) is not None:  # by another process, between these two looks
                self._claims.release(number)
                continue
            for at in range(0, len(names), self._batch_size):
                yield Wanted(number, number * BLOCK + at, names[at : at + self._batch_size])


def predict(
    model: TrainedModel,
    given: Input,
    kept: Blocks,
    total: int,
    batch_size: int,
    workers: int,
    precision: torch.dtype | None = None,
    first: bool = True,
) -> None:
    """Compute the blocks that are missing, together with other processes; return when all are there.

    Args:
        model: on its device.
        given: the input.
        kept: the blocks; `begin` has made their folder.
        total: how many images there are, for the progress bar.
        batch_size: images at a time.
        workers: processes that decode; 0: this one does.
        precision: as for `TrainedModel.logits`.
        first: whether this is the process that puts the output together: others need not wait for the last blocks.
    """
    with Claims(cast(Any, kept)) as claims:
        work = Work(given, kept, claims, batch_size)
        loader = BatchLoader(FetchedImages(model, given), batch_sampler=cast(Any, work), num_workers=workers)
        with shown(work, total) if first else nullcontext():
            while True:
                compute(model, loader, kept, claims, precision)
                if not first:
                    return
                while not (ready := work.ready()) and work.left:
                    time.sleep(PAUSE)
                if not ready:
                    return


def compute(
    model: TrainedModel, loader: BatchLoader, kept: Blocks, claims: Claims, precision: torch.dtype | None
) -> None:
    """One round: each block that the loader fetches is computed and kept."""
    parts: list[Predicted] = []
    number = -1
    for batch in loader:
        wanted: Wanted = batch["wanted"]
        if wanted.block != number and parts:
            kept.write(number, joined(parts))
            claims.release(number)
            parts = []
        number = wanted.block
        parts.append(answer(model, batch, precision))
    if parts:
        kept.write(number, joined(parts))
        claims.release(number)


def answer(model: TrainedModel, batch: dict[str, Any], precision: torch.dtype | None) -> Predicted:
    """What the model says of a batch."""
    errors: list[str] = batch["errors"]
    if all(errors):
        nothing: list[list[Any]] = [[] for _ in errors]
        return Predicted(list(batch["wanted"].names), errors, nothing, nothing)
    probabilities = model.probabilities(batch["images"], precision)
    chances, classes = ranked(probabilities)
    return Predicted(
        list(batch["wanted"].names), errors,
        [[] if error else row for row, error in zip(classes, errors, strict=True)],
        [[] if error else row for row, error in zip(chances, errors, strict=True)],
    )  # fmt: skip


def ranked(probabilities: Tensor) -> tuple[list[list[float]], list[list[int]]]:
    """The `TOP` largest probabilities of each row (B, K), to six digits, and their classes; of equals the first."""
    order = torch.argsort(probabilities, dim=1, descending=True, stable=True)[:, :TOP]
    chances = probabilities.gather(1, order).double()
    return [[round(value, 6) for value in row] for row in chances.tolist()], order.tolist()


def joined(parts: Sequence[Predicted]) -> Predicted:
    """The batches of a block as one."""
    return Predicted(*([item for part in parts for item in getattr(part, name)] for name in Predicted.__annotations__))


@contextmanager
def shown(work: Work, total: int) -> Iterator[None]:
    """Within the block a progress bar shows how far the work is: how many blocks are past, whoever computes them.

    Args:
        work: of this process.
        total: images.
    """
    count, begin = -(-total // BLOCK), time.monotonic()

    def status() -> Status:
        done = min(work.position, count)
        seconds = (time.monotonic() - begin) * (count - done)
        left = Left(seconds / done, at_least=False) if done else None
        return Status("", "predicting", share=done / count, run_left=left)

    artist = Artist(find_display(leave=False), status)
    try:
        yield
    finally:
        artist.close()
