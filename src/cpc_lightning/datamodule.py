"""The data side of Lightning: which samples each network trains on, this epoch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.data.dataset import ImageDataset
from cpc_lightning.data.loading import CoTrainingDataset, EvaluationDataset, as_is
from cpc_lightning.data.samplers import CoTrainingSampler, NetworkShare, checked_limit, shard, warmup_share
from cpc_lightning.errors import require_integer


class CoTrainingDataModule(pl.LightningDataModule):
    """Serves both networks from one training loader: first all batches of network 1, then all of network 2.

    `partitions` decides what they train on. While it is None (network warm-up, or no cleaner), both train on all
    samples. Stage 1 writes it, this class only reads it; it is part of the checkpoint, as are the noisy labels.

    Attributes:
        noisy_labels: (N,) int64 the labels to train on.
        true_labels: (N,) int64, -1 where unknown. For metrics only.
        partitions: for network 1 and network 2, or None.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        seed: int,
        evaluation_batch_size: int = 512,
        limit_batches: int | float | None = None,
        num_workers: int = 0,
    ) -> None:
        """Take the data and how to batch it.

        Args:
            dataset: what to train on, noise included.
            batch_size: labeled samples a step and process; as many unlabeled ones come along in stage 2.
            seed: of the batches' order.
            evaluation_batch_size: images a forward pass in stage 1 and in evaluation.
            limit_batches: at most so many batches an epoch and network; a float is a share of them. None: all.
            num_workers: processes that fetch batches; 0: the main process does.
        """
        super().__init__()
        require_integer("batch_size", batch_size, 2)
        require_integer("evaluation_batch_size", evaluation_batch_size, 1)
        require_integer("num_workers", num_workers, 0)
        self.dataset, self.noisy_labels = dataset, dataset.train.labels
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.limit_batches, self.num_workers, self.seed = checked_limit(limit_batches), num_workers, seed
        true_labels = dataset.train.true_labels
        self.true_labels = torch.full_like(self.noisy_labels, -1) if true_labels is None else true_labels
        self.partitions: tuple[Partition, Partition] | None = None

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches for the current epoch, from the current partitions."""
        if self.partitions is None:
            everything = warmup_share(torch.arange(len(self.noisy_labels)))
            shares = (everything, everything)
        else:
            first, second = (NetworkShare(p.labeled, p.labeled_probability, p.unlabeled) for p in self.partitions)
            shares = (first, second)
        sampler = CoTrainingSampler(
            shares,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=self.trainer.current_epoch if self.trainer else 0,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            limit_batches=self.limit_batches,
        )
        return self._loader(CoTrainingDataset(self.dataset.train, self.noisy_labels), sampler)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """One loader for each evaluation set, in their order."""
        return [self._evaluation_loader(EvaluationDataset(s, s.labels)) for s in self.dataset.evaluation.values()]

    def evidence_dataloader(self) -> DataLoader[Any]:
        """This process's share of the whole training set, in order and with the noisy labels: what stage 1 looks at."""
        return self._evaluation_loader(EvaluationDataset(self.dataset.train, self.noisy_labels))

    def _evaluation_loader(self, dataset: EvaluationDataset) -> DataLoader[Any]:
        rank = self.trainer.global_rank if self.trainer else 0
        world_size = self.trainer.world_size if self.trainer else 1
        mine = shard(len(dataset), rank, world_size)  # each sample on exactly one process
        size = self.evaluation_batch_size
        return self._loader(dataset, [list(mine[start : start + size]) for start in range(0, len(mine), size)])

    def _loader(self, dataset: Any, batches: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=as_is,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # or each iterator takes a draw from the epoch's stream
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors: the noisy labels and the partitions."""
        partitions = None if self.partitions is None else [p.to_state() for p in self.partitions]
        return {"noisy_labels": self.noisy_labels, "partitions": partitions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.noisy_labels = state_dict["noisy_labels"]
        saved = state_dict["partitions"]
        self.partitions = None if saved is None else tuple(Partition.from_state(state) for state in saved)  # type: ignore[assignment]
