"""Data loading: whole batches from lists of positions, one gather a batch.

`BatchLoader(CoTrainingDataset(...), batch_sampler=sampler)` takes their answers as they are.

Shapes: N samples, B batch, U unlabeled batch (B, or 0), C channels, H x W pixels; V is 1 for images of which all views
are made, or the number of views (the weak ones and then the strong ones, if those are others; one where a step before
the division takes one).
Where a data set consists of vectors, (D) float32 takes the place of (C, H, W) uint8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypedDict, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from cpc_lightning.datasets.dataset import Split
from cpc_lightning.errors import InputError, TrainingError
from cpc_lightning.training.samplers import BatchPlan
from cpc_lightning.views.views import VIEWS

T = TypeVar("T")


class TrainingBatch(TypedDict):
    """What one step of one network trains on.

    Keys:
        network: 0 or 1.
        warmup: whether this is a step of the warm-up.
        epoch_share: the share of the network's steps in this epoch that lie behind it.
        labeled_images: (V, B, C, H, W) uint8.
        labels: (B,) int64 given labels.
        clean_probability: (B,) float32.
        targets: (B, K) float32 what to learn in place of the labels; None: the labels.
        certain: whether these targets are all that there is to learn: nothing is unlabeled, and no probability below 1.
        unlabeled_images: (V, U, C, H, W) uint8.
        index: (B,) int64 positions of the labeled images in the training set.
        unlabeled_index: (U,) int64.
    """

    network: int
    warmup: bool
    epoch_share: float
    labeled_images: Tensor
    labels: Tensor
    clean_probability: Tensor
    targets: Tensor | None
    certain: bool
    unlabeled_images: Tensor
    index: Tensor
    unlabeled_index: Tensor


class EvaluationBatch(TypedDict):
    """Images (B, C, H, W) uint8, labels (B,) int64, index (B,) int64 positions in the set."""

    images: Tensor
    labels: Tensor
    index: Tensor


class CoTrainingDataset(Dataset[TrainingBatch]):
    """The training set as plans ask for it.

    Args:
        split: N images; its own labels are not looked at.
        noisy_labels: (N,) int64 given labels.
        views: of each image in stage 2 (`Method.images_of`).
        warmup_views: of each image before there is a division.
    """

    def __init__(self, split: Split, noisy_labels: Tensor, views: int = 2 * VIEWS, warmup_views: int = 1) -> None:
        _require_one_each(split, noisy_labels)
        self.images = split.images
        self.noisy_labels = noisy_labels
        self.views, self.warmup_views = views, warmup_views

    def __len__(self) -> int:
        return len(self.noisy_labels)

    def __getitems__(self, plan: BatchPlan) -> TrainingBatch:
        """The batch that `plan` describes."""
        views = self.warmup_views if plan.warmup else self.views
        labeled_images = self.images.fetch_views(plan.labeled, views, plan.seed)
        nothing = len(plan.unlabeled) == 0
        return {
            "network": plan.network,
            "warmup": plan.warmup,
            "epoch_share": plan.epoch_share,
            "labeled_images": labeled_images,
            "labels": self.noisy_labels[plan.labeled],
            "clean_probability": plan.clean_probability,
            "targets": plan.targets,
            "certain": plan.targets is not None and nothing and bool((plan.clean_probability == 1).all()),
            # Image files cannot stack zero images: the shape is the labeled side's.
            "unlabeled_images": (
                labeled_images[:, :0] if nothing else self.images.fetch_views(plan.unlabeled, views, plan.seed + 1)
            ),
            "index": plan.labeled,
            "unlabeled_index": plan.unlabeled,
        }


class EvaluationDataset(Dataset[EvaluationBatch]):
    """A split in order, for evaluation.

    Args:
        split: N images; its own labels are not looked at.
        labels: (N,) int64 labels to answer with: `split.labels`, or noisy ones.
    """

    def __init__(self, split: Split, labels: Tensor) -> None:
        _require_one_each(split, labels)
        self.images = split.images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, positions: list[int]) -> EvaluationBatch:
        """The batch at `positions`."""
        index = torch.tensor(positions, dtype=torch.int64)
        return {"images": self.images.fetch(index), "labels": self.labels[index], "index": index}


class Batches(Protocol):
    """What batches to fetch, in their order, and how many there are."""

    def __len__(self) -> int:
        """The number of batches."""

    def __iter__(self) -> Iterator[Any]:
        """What the data set's `__getitems__` takes, for one batch after another."""


class Agenda(Sampler[Any]):
    """A batch sampler whose batches are exchanged between two rounds, so that a loader's workers live through both.

    Attributes:
        batches: of the round that starts next.
    """

    def __init__(self) -> None:
        self.batches: Batches = ()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class BatchLoader(DataLoader[Any]):
    """A loader for data sets that answer whole batches.

    An `InputError` in a worker process, such as a file that cannot be read, arrives here as the same error: a plain
    `DataLoader` makes a traceback in a `RuntimeError` of it. So does a `TrainingError`, where the shared memory has no
    room for a batch: a plain `DataLoader` waits forever for that batch.

    Args:
        dataset: answers whole batches.
        more: as for `DataLoader`.
    """

    def __init__(self, dataset: Dataset[Any], **more: Any) -> None:
        super().__init__(_ErrorsAsAnswers(dataset), collate_fn=as_is, **more)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            batches = super().__iter__()
        except OSError as error:  # too many processes, or no room for what they say to each other
            found = f"they cannot be started ({error.strerror or error})"
            raise TrainingError(worker_trouble(self.num_workers, found)) from error
        for batch in batches:
            if isinstance(batch, (InputError, TrainingError)):
                raise batch
            yield batch


class _ErrorsAsAnswers(Dataset[Any]):
    """A data set whose errors are answers, which travel from worker processes as they are."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, wanted: Any) -> Any:
        try:
            batch = self.dataset.__getitems__(wanted)
            if (worker := get_worker_info()) is not None:
                share(batch, worker.num_workers)
            return batch
        except (InputError, TrainingError) as error:
            return error


def share(batch: Mapping[str, Any], num_workers: int) -> None:
    """Move the tensors of a worker's batch into the shared memory through which they travel.

    The queue would do so later, in a thread that prints what fails there and loses the batch.

    Raises:
        TrainingError: there is no room.
    """
    tensors = [value for value in batch.values() if isinstance(value, Tensor) and value.untyped_storage().nbytes() > 0]
    try:
        for tensor in tensors:
            tensor.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        needed = sum(tensor.nbytes for tensor in tensors)
        reason = str(error).rsplit(": ", 1)[-1]
        found = f"the shared memory (/dev/shm) has no room for another batch of {needed:,} bytes ({reason})"
        raise TrainingError(worker_trouble(num_workers, found)) from error


def worker_trouble(num_workers: int, found: str) -> str:
    """The line on worker processes that cannot go on."""
    advice = "fewer of them, or 0 for none; in a container, more shared memory (docker run --shm-size=8g)"
    return f"training.num_workers={num_workers}, processes that fetch batches: {found}; try {advice}"


def as_is(batch: T) -> T:
    """The collate function of a data set that answers whole batches. A function, not a lambda: workers unpickle it."""
    return batch


def _require_one_each(split: Split, labels: Tensor) -> None:
    if len(split.images) != len(labels):
        raise ValueError(f"{len(split.images)} images, {len(labels)} labels")
