"""Loaders that live through a run: their workers stay, their batches change with the epoch's partitions."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.errors import InputError
from cpc_lightning.methods.method import Method
from cpc_lightning.training.datamodule import CoTrainingDataModule


class SignedImages(ArrayImages):
    """Images that carry the process that fetched them."""

    def fetch_views(self, positions, views, seed):
        images = super().fetch_views(positions, views, seed).to(torch.int64)
        images[:, :, :, 0, 0] = os.getpid()
        return images


@pytest.fixture
def dataset():
    pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 1, 2, 2)
    split = Split(SignedImages(pixels), torch.arange(40) % 4)
    return ImageDataset("set", tuple("abcd"), split, {"test": split})


def partition(labeled: list[int]) -> Partition:
    probability = torch.full((40,), 0.2)
    probability[labeled] = 0.9
    return Partition.from_probability(torch.arange(40), probability, 0.5)


def rounds(datamodule: CoTrainingDataModule) -> tuple[list[list[dict]], set[int]]:
    """The batches of a warm-up epoch and of two with different partitions, and the processes that fetched them."""
    epochs, processes = [], set()
    for division in (None, (range(8), range(12, 36)), (range(20), range(4))):
        datamodule.partitions = division and tuple(partition(list(labeled)) for labeled in division)
        loader = datamodule.train_dataloader()
        batches = list(loader)
        assert len(loader) == len(batches)
        processes |= {int(image) for batch in batches for image in batch["labeled_images"][:, :, 0, 0, 0].unique()}
        epochs.append(batches)
        evidence = datamodule.evidence_dataloader(torch.arange(5, 40))
        assert torch.cat([batch["index"] for batch in evidence]).tolist() == list(range(5, 40))
    return epochs, processes


SIZES = [
    # epoch, what is asked for, then batches of a network and samples a batch; 40 samples in 4 classes, 1 warm-up epoch
    (0, {}, 10, 4),
    (0, {"warmup_batch_size": 10}, 4, 10),
    (0, {"warmup_batch_size": 10, "limit_batches": 2}, 4, 10),  # WebVision's warm-up: the whole set, in its own batches
    (0, {"limit_batches": 0.5}, 10, 4),
    (
        0,
        {"warmup_batch_size": 8, "balanced_batches": 3},
        3,
        8,
    ),  # Clothing1M's: as many batches as later, of twice the size
    (1, {"warmup_batch_size": 10}, 10, 4),
    (1, {"warmup_batch_size": 10, "limit_batches": 2}, 2, 4),
    (1, {"warmup_batch_size": 8, "balanced_batches": 3}, 3, 4),
]


@pytest.mark.parametrize(("epoch", "asked", "steps", "size"), SIZES)
def test_warm_up_has_batches_of_its_own_and_is_not_cut(dataset, epoch, asked, steps, size):
    """The code of DivideMix and AugDesc: whole epochs, or 1,000 batches on Clothing1M, twice the size of stage 2's."""
    datamodule = CoTrainingDataModule(dataset, 4, seed=3, warmup_epochs=1, **asked)
    assert datamodule.most_steps(epoch, processes=1) == steps
    if epoch:
        drawn = datamodule.draws(epoch)
        datamodule.partitions = tuple(Partition.from_probability(i, torch.ones(len(i)), 0.5) for i in drawn)
    datamodule.trainer = SimpleNamespace(
        current_epoch=epoch, global_rank=0, world_size=1, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )
    batches = list(datamodule.train_dataloader())
    assert [batch["network"] for batch in batches] == [0] * steps + [1] * steps
    assert {len(batch["index"]) for batch in batches} == {size}
    assert {batch["warmup"] for batch in batches} == {epoch == 0}
    seen = torch.cat([batch["index"] for batch in batches[:steps]]).bincount(minlength=40)
    if "balanced_batches" in asked:
        assert seen.view(10, 4).sum(0).tolist() == [steps * size // 4] * 4
    elif epoch == 0:
        assert seen.tolist() == [1] * 40  # every sample once


@pytest.mark.parametrize(("full", "steps"), [(False, [3, 2]), (True, [10, 10])])
def test_full_epochs_have_as_many_steps_as_all_labels_fill(dataset, full, steps):
    datamodule = CoTrainingDataModule(dataset, 4, seed=3, warmup_epochs=1, full_epochs=full)
    first, second = torch.zeros(40), torch.zeros(40)
    first[:12], second[:8] = 1, 1
    datamodule.partitions = tuple(Partition.from_probability(torch.arange(40), p, 0.5) for p in (first, second))
    networks = [plan.network for plan in datamodule.sampler(1)]
    assert [networks.count(0), networks.count(1)] == steps


def test_a_method_may_ask_for_full_epochs_and_for_all_samples_on_the_unlabeled_side(dataset):
    """Epoch 2 alone is full, as the method says; every sample is once in two rounds of 20 on the unlabeled side."""

    class Asks(Method):
        all_unlabeled = True

        def whole_epoch(self, epoch):
            return epoch == 2

    datamodule = CoTrainingDataModule(dataset, 4, seed=3, warmup_epochs=1, method=Asks())
    datamodule.partitions = (partition(list(range(12))), partition(list(range(8))))
    plans = {epoch: list(datamodule.sampler(epoch)) for epoch in (1, 2)}
    assert [len(plans[1]), len(plans[2])] == [3 + 2, 10 + 10]
    for network in (0, 1):
        unlabeled = torch.cat([plan.unlabeled for plan in plans[2] if plan.network == network])
        assert unlabeled.sort().values.tolist() == list(range(40))
    assert {int(i) for plan in plans[2] for i in plan.labeled} == set(range(12))


def test_without_a_cleaner_there_is_no_warm_up(dataset):
    """`cleaner=none` trains plainly all along: batches of one size, each epoch cut as asked."""
    datamodule = CoTrainingDataModule(dataset, 4, seed=3, limit_batches=2, warmup_batch_size=10)
    batches = list(datamodule.train_dataloader())
    assert [len(batch["index"]) for batch in batches] == [4] * 4
    assert all(batch["warmup"] for batch in batches)  # that is, plain cross-entropy


@pytest.mark.parametrize(
    ("setting", "value"), [("warmup_batch_size", 1), ("warmup_batch_size", 2**16 + 1), ("warmup_batch_size", 2.5),
                           ("batch_size", 1), ("warmup_epochs", -1), ("full_epochs", 1)],
)  # fmt: skip
def test_sizes_out_of_range_are_named(dataset, setting, value):
    with pytest.raises(InputError) as caught:
        CoTrainingDataModule(dataset, **{"batch_size": 4, "seed": 1, setting: value})
    assert caught.value.setting == setting


def test_workers_outlive_a_change_of_partition_and_fetch_what_a_new_loader_would(dataset):
    datamodule = CoTrainingDataModule(dataset, batch_size=4, seed=3, evaluation_batch_size=16, num_workers=1)
    plain = CoTrainingDataModule(dataset, batch_size=4, seed=3, evaluation_batch_size=16)
    epochs, processes = rounds(datamodule)
    datamodule.teardown("fit")
    expected, main_process = rounds(plain)
    assert main_process == {os.getpid()}
    assert len(processes) == 1
    assert processes != main_process
    assert [len(batches) for batches in epochs] == [20, 8, 6]
    for batches, expected_batches in zip(epochs, expected, strict=True):
        for batch, expected_batch in zip(batches, expected_batches, strict=True):
            assert batch["network"] == expected_batch["network"]
            for name in ("index", "labels", "clean_probability", "unlabeled_index"):
                assert torch.equal(batch[name], expected_batch[name]), name
            assert torch.equal(batch["labeled_images"][..., 1, 1], expected_batch["labeled_images"][..., 1, 1])


def test_a_round_that_was_left_early_does_not_leak_into_the_next(dataset):
    datamodule = CoTrainingDataModule(dataset, batch_size=4, seed=3, num_workers=1)
    next(iter(datamodule.train_dataloader()))
    datamodule.partitions = partition(list(range(8))), partition(list(range(8)))
    indices = torch.cat([batch["index"] for batch in datamodule.train_dataloader()])
    datamodule.teardown("fit")
    assert sorted(indices[:8].tolist()) == list(range(8))


def test_labels_of_a_checkpoint_reach_the_workers(dataset):
    datamodule = CoTrainingDataModule(dataset, batch_size=4, seed=3, num_workers=1)
    list(datamodule.train_dataloader())
    datamodule.load_state_dict({"noisy_labels": torch.full((40,), 3), "partitions": None})
    labels = torch.cat([batch["labels"] for batch in datamodule.train_dataloader()])
    datamodule.teardown("fit")
    assert labels.unique().tolist() == [3]


def test_more_processes_than_images_are_refused(dataset):
    """A process without an image would not take part in what the others wait for."""
    datamodule = CoTrainingDataModule(dataset, 4, seed=1)
    datamodule.trainer = SimpleNamespace(world_size=40)
    datamodule.setup("fit")
    datamodule.trainer.world_size = 41
    with pytest.raises(
        InputError, match=r"trainer.devices=41: are more processes than there are images in train \(40\)"
    ):
        datamodule.setup("fit")


def test_a_run_on_the_cpu_pins_no_memory_though_there_is_a_gpu(dataset, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    datamodule = CoTrainingDataModule(dataset, 4, seed=1)
    for device, pinned in (("cpu", False), ("cuda", True)):
        root = SimpleNamespace(root_device=torch.device(device))
        datamodule.trainer = SimpleNamespace(current_epoch=0, global_rank=0, world_size=1, strategy=root)
        datamodule.teardown("fit")
        loaders = (
            datamodule.train_dataloader(),
            datamodule.test_dataloader(),
            datamodule.evidence_dataloader(torch.arange(9)),
        )
        assert [loader.pin_memory for loader in loaders] == [pinned] * 3


def at(dataset, epoch=0, rank=0, world_size=1, **more):
    """A data module in an epoch, as one of several processes."""
    datamodule = CoTrainingDataModule(dataset, 4, seed=3, **more)
    root = SimpleNamespace(root_device=torch.device("cpu"))
    datamodule.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=world_size, strategy=root)
    return datamodule


def trained_on(datamodule):
    return torch.cat([batch["index"] for batch in datamodule.train_dataloader()]).tolist()


def test_every_epoch_has_an_order_of_its_own(dataset):
    first, second, again = (trained_on(at(dataset, epoch)) for epoch in (0, 1, 0))
    assert first == again
    assert first != second
    assert sorted(first) == sorted(second) == sorted([*range(40), *range(40)])  # all samples, by each network


def test_the_limit_holds_for_each_network(dataset):
    loader = at(dataset, limit_batches=3).train_dataloader()
    assert [batch["network"] for batch in loader] == [0, 0, 0, 1, 1, 1]


def test_processes_share_what_there_is(dataset):
    """Two of them: together they train on all samples, look at each one once, and have draws of twice the size."""
    both = [at(dataset, rank=rank, world_size=2) for rank in (0, 1)]
    first, second = map(trained_on, both)
    assert sorted(first + second) == sorted([*range(40), *range(40)])
    looked_at = [torch.cat([b["index"] for b in d.evidence_dataloader(torch.arange(5, 40))]).tolist() for d in both]
    assert looked_at == [list(range(5, 40, 2)), list(range(6, 40, 2))]
    drawn = at(dataset, world_size=2, balanced_batches=2, warmup_epochs=1, warmup_batch_size=8)
    assert [[len(index) for index in drawn.draws(epoch)] for epoch in (0, 1)] == [[32, 32], [16, 16]]
