"""The LightningDataModule: batches of both networks, from the current partitions."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.datasets.dataset import UNKNOWN, UNLABELED, ImageDataset, Vectors
from cpc_lightning.errors import require, require_integer, require_switch
from cpc_lightning.files import usable_cores
from cpc_lightning.methods.method import Method
from cpc_lightning.training.dividing import PAYING, SCHEDULED, WHEN
from cpc_lightning.training.loading import Agenda, Batches, BatchLoader, CoTrainingDataset, EvaluationDataset
from cpc_lightning.training.samplers import CoTrainingSampler, NetworkShare, balanced_draw, checked_limit, warmup_share
from cpc_lightning.views.views import VIEWS

LARGEST_BATCH = 2**16

LEAST = 1e-6
"""The clean probability of a labeled sample where both sides are one, if its own is below."""


class CoTrainingDataModule(pl.LightningDataModule):
    """Serves both networks from one training loader: first all batches of network 1, then all of network 2.

    Where a method has one network, or trains both together, there are those of network 1 alone.

    `partitions` decides what they train on. While it is None (network warm-up, or no cleaner), both train on all
    samples, or on a draw of them. Stage 1 writes it, this class only reads it; it is part of the checkpoint, as are the
    noisy labels. Warm-up has a batch size of its own and is never cut short.

    Attributes:
        noisy_labels: (N,) int64 the labels to train on; -1 for images without one, which are only ever on the
            unlabeled side.
        true_labels: (N,) int64, as in `Split`; -1 where unknown. For metrics only.
        trusted: (N,) bool, as in `Split`.
        partitions: for network 1 and network 2, or None.
        waits: whether the data are not divided before it pays.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        seed: int,
        evaluation_batch_size: int = 512,
        limit_batches: int | float | None = None,
        num_workers: int | None = 0,
        balanced_batches: int | None = None,
        views: int = 2 * VIEWS,
        warmup_epochs: int = 0,
        warmup_batch_size: int | None = None,
        full_epochs: bool = False,
        method: Method | None = None,
        divide_when: str = SCHEDULED,
    ) -> None:
        """Take the data and how to batch it.

        Args:
            dataset: what to train on, noise included.
            batch_size: labeled samples a step and process; as many unlabeled ones come along in stage 2.
            seed: of the batches' order.
            evaluation_batch_size: images a forward pass in stage 1 and in evaluation.
            limit_batches: at most so many batches an epoch and network after warm-up; a float is a share of them. None:
                all.
            num_workers: processes that fetch batches, for each set of images; they live as long as the run. 0: the
                main process fetches; None: as many as there are processors.
            balanced_batches: if given, each epoch and network draws its own class-balanced part of the training set
                (Clothing1M): so many batches, of their size in warm-up and of that in stage 2, which the loss pass goes
                over too.
            views: of each image in stage 2, where they are cropped before they form a batch (`Method.images_of`).
            warmup_epochs: W, how many epochs are warm-up; 0 without a cleaner, which has nothing to warm up for.
            warmup_batch_size: samples a step and process in warm-up. None: as `batch_size`.
            full_epochs: whether a network takes as many steps in an epoch of stage 2 as if all samples were on the
                labeled side, which then goes round more than once. False: as many as it takes to see the labeled side
                once, as in DivideMix and CPC; the fewer labels look clean, the fewer they are.
            method: what it takes of its batches; None: batches of either network, each side by itself.
            divide_when: "scheduled", after `warmup_epochs`; "paying", then, but not before it pays
                (`training.dividing`).
        """
        super().__init__()
        warmup_batch_size = batch_size if warmup_batch_size is None else warmup_batch_size
        sizes = {"batch_size": batch_size, "warmup_batch_size": warmup_batch_size}
        for name, size in {**sizes, "evaluation_batch_size": evaluation_batch_size}.items():
            require_integer(name, size, 2 if name in sizes else 1)  # BatchNorm needs two
            require(size <= LARGEST_BATCH, name, size, f"must be at most {LARGEST_BATCH}")
        require_integer("warmup_epochs", warmup_epochs, 0)
        num_workers = usable_cores() if num_workers is None else num_workers
        require_integer("num_workers", num_workers, 0)
        most = max(32, 4 * usable_cores())  # a loader starts them all, for each set of images
        require(num_workers <= most, "num_workers", num_workers, f"must be at most {most} on this machine")
        if balanced_batches is not None:
            require_integer("balanced_batches", balanced_batches, 1)
        self.dataset, self.noisy_labels = dataset, dataset.train.labels
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.limit_batches, self.num_workers, self.seed = checked_limit(limit_batches), num_workers, seed
        require_switch("full_epochs", full_epochs)
        self.balanced_batches, self.views, self.full_epochs = balanced_batches, views, full_epochs
        self.warmup_epochs, self.warmup_batch_size = warmup_epochs, warmup_batch_size
        self.method = Method() if method is None else method
        require(divide_when in WHEN, "divide_when", divide_when, f"must be one of {', '.join(WHEN)}")
        may_wait = self.method.may_wait and not isinstance(dataset.train.images, Vectors)
        self.waits = divide_when == PAYING and may_wait and warmup_epochs > 0
        true_labels = dataset.train.true_labels
        self.true_labels = torch.full_like(self.noisy_labels, UNKNOWN) if true_labels is None else true_labels
        self.trusted = dataset.train.trusted
        self.partitions: tuple[Partition, Partition] | None = None
        self._loaders: dict[str, DataLoader[Any]] = {}

    def setup(self, stage: str) -> None:
        """Raise `InputError` where a process would have no image of a set to look at: the others would wait for it."""
        for name, split in {"train": self.dataset.train, **self.dataset.evaluation}.items():
            few = f"are more processes than there are images in {name} ({len(split)})"
            require(len(split) >= self._world_size, "trainer.devices", self._world_size, few)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches for the current epoch, from the current partitions."""
        sampler = self.sampler(self.trainer.current_epoch if self.trainer else 0)
        return self._loader("train", self.training_dataset(), sampler)

    def training_dataset(self) -> CoTrainingDataset:
        """The training set as the sampler's plans ask for it."""
        return CoTrainingDataset(self.dataset.train, self.noisy_labels, self.views, self.warmup_views)

    def sampler(self, epoch: int) -> CoTrainingSampler:
        """The steps of both networks in `epoch`, from the current partitions."""
        if self.partitions is None:
            first, second = (warmup_share(index) for index in self.draws(epoch))
        elif self.method.mixes_sides:
            first, second = (mixed_share(p) for p in self.partitions)
        else:
            first, second = (
                NetworkShare(
                    p.labeled,
                    p.labeled_probability,
                    torch.cat([p.index if self.method.all_unlabeled else p.unlabeled, self.unlabeled]),
                    p.labeled_targets,
                    p.labeled_weights,
                )
                for p in self.partitions
            )
        if self.alone:
            second = warmup_share(self.labeled[:0])
        return CoTrainingSampler(
            (first, second),
            batch_size=self.batch_size_in(epoch),
            seed=self.seed,
            epoch=epoch,
            rank=self._rank,
            world_size=self._world_size,
            limit_batches=None if epoch < self.warmup_epochs else self.limit_batches,
            epoch_size=len(self.draws(epoch)[0]) if self.is_full(epoch) else None,
        )

    @property
    def labeled(self) -> Tensor:
        """Positions of the images that come with a label, int64, ascending."""
        return torch.nonzero(self.noisy_labels != UNLABELED).flatten()

    @property
    def alone(self) -> bool:
        """Whether there are no batches of network 2."""
        return self.method.trains_one or self.method.together

    @property
    def warmup_views(self) -> int:
        """Of each image, before there is a division."""
        return self.views if self.method.many_views else 1

    @property
    def turns(self) -> int:
        """How many networks have batches of their own in an epoch."""
        return 1 if self.alone else 2

    def most_steps(self, epoch: int, processes: int) -> int:
        """How many steps a network takes in `epoch` with that many processes, where all samples are labeled."""
        share = warmup_share(self.draws(epoch)[0])
        limit = None if epoch < self.warmup_epochs else self.limit_batches
        return CoTrainingSampler(
            (share, share), self.batch_size_in(epoch), self.seed, epoch, 0, processes, limit
        ).steps(0)

    def is_full(self, epoch: int) -> bool:
        """Whether `epoch` has as many steps as if all samples were on the labeled side."""
        return self.full_epochs or self.method.mixes_sides or self.method.whole_epoch(epoch)

    def batch_size_in(self, epoch: int) -> int:
        """Labeled samples a step and process in `epoch`."""
        return self.warmup_batch_size if epoch < self.warmup_epochs else self.batch_size

    @property
    def unlabeled(self) -> Tensor:
        """Positions of the images that come without one, int64, ascending."""
        return torch.nonzero(self.noisy_labels == UNLABELED).flatten()

    def draws(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Positions of the labeled samples that network 1 and network 2 train on in `epoch`, int64, ascending.

        All that have a label, and then one and the same tensor twice, unless `balanced_batches` is given.
        """
        everything = self.labeled
        if self.balanced_batches is None:
            return everything, everything
        size = self.balanced_batches * self.batch_size_in(epoch) * self._world_size
        classes = len(self.dataset.class_names)
        labels = self.noisy_labels[everything]
        first, second = (
            everything[balanced_draw(labels, size, classes, self.seed, epoch, r)] for r in (0, 0 if self.alone else 1)
        )
        return first, second

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """One loader for each evaluation set that is watched, in their order."""
        return [self.evaluation_dataloader(name) for name in self.dataset.watched]

    def test_dataloader(self) -> DataLoader[Any]:
        """A loader for the evaluation set "test"."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, name: str) -> DataLoader[Any]:
        """This process's share of the evaluation set of that name, in order."""
        split = self.dataset.evaluation[name]
        dataset = EvaluationDataset(split, split.labels)
        return self._evaluation_loader(f"evaluation/{name}", dataset, torch.arange(len(split)))

    def evidence_dataloader(self, index: Tensor) -> DataLoader[Any]:
        """This process's share of the training samples at `index` (n,), in order and with the noisy labels."""
        return self._evaluation_loader("evidence", EvaluationDataset(self.dataset.train, self.noisy_labels), index)

    def _evaluation_loader(self, name: str, dataset: EvaluationDataset, index: Tensor) -> DataLoader[Any]:
        mine = index[self._rank :: self._world_size]  # each sample on exactly one process
        return self._loader(name, dataset, [batch.tolist() for batch in torch.split(mine, self.evaluation_batch_size)])

    def _loader(self, name: str, dataset: Any, batches: Batches) -> DataLoader[Any]:
        """The loader of that name, with `batches` for its next round: one for all epochs, for the sake of its workers.

        Lightning asks for new loaders every epoch, because the batches are others. What the workers hold, images and
        labels, stays.
        """
        if name not in self._loaders:
            self._loaders[name] = BatchLoader(
                dataset,
                batch_sampler=Agenda(),
                num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0,
                pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
                generator=torch.Generator().manual_seed(self.seed),  # or rounds take draws from the epoch's stream
            )
        cast(Agenda, self._loaders[name].batch_sampler).batches = batches
        return self._loaders[name]

    def teardown(self, stage: str) -> None:
        """End the worker processes."""
        self._loaders.clear()

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors: the noisy labels and the partitions."""
        partitions = None if self.partitions is None else [p.to_state() for p in self.partitions]
        return {"noisy_labels": self.noisy_labels, "partitions": partitions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._loaders.clear()  # they hold the labels from before
        self.noisy_labels = state_dict["noisy_labels"]
        saved = state_dict["partitions"]
        self.partitions = None if saved is None else tuple(Partition.from_state(state) for state in saved)  # type: ignore[assignment]


def mixed_share(partition: Partition) -> NetworkShare:
    """All samples of a partition as one side; a clean probability of 0 is that of an unlabeled one, and of no other."""
    trusted = torch.where(partition.clean, partition.clean_probability.clamp(min=LEAST), 0.0)
    targets = None if partition.targets is None else partition.targets.float()
    return NetworkShare(partition.index, trusted, partition.index[:0], targets)


def datamodule_of(trainer: pl.Trainer) -> CoTrainingDataModule:
    """The trainer's data module, by its kind."""
    return cast(CoTrainingDataModule, trainer.datamodule)  # type: ignore[attr-defined]
