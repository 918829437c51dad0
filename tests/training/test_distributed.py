"""Three real processes (gloo) in one launch: what they gather, see, fit and train is what one process would."""

import os
import socket
from contextlib import nullcontext
from datetime import timedelta
from itertools import chain
from types import SimpleNamespace

import hydra
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from tests.runs import spawn
from tests.steps import module_of
from torch import nn

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.backbones.network import Network
from cpc_lightning.backbones.preact_resnet import small_resnet
from cpc_lightning.cleaning.cpc import CpcCleaner
from cpc_lightning.cleaning.reference import NoCleaner
from cpc_lightning.cleaning.wrong_events import WrongEventsCleaner
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.distributed import gather_by_index
from cpc_lightning.training.stage_one import StageOne

CPU = torch.device("cpu")
COUNT = 101  # neither even nor a multiple of three
WORLDS = (1, 2, 3)


class Flat(nn.Module):
    """A backbone without BatchNorm, whose gradient is an exact mean over samples."""

    feature_size = 64

    def forward(self, images):
        return images.flatten(1)


def numbers(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def parts(backbone):
    """Two networks (the same on every process), the data that they find easy but for each sixth label, the method."""
    with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):
        config = hydra.compose("config", ["run_dir=unused", "views.padding=0", "training.epochs=3"])
        config.training.warmup_epochs = 1
    method = Parts(plain(config))
    torch.manual_seed(0)
    networks = [Network(backbone(), 4, 16) for _ in range(2)]
    for first, second in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        second.data.copy_(first + 0.01 * second)  # so that both find the same labels easy
    images = ArrayImages(numbers(COUNT, 1, 8, 8))
    logits = sum(network.eval()(method.views.normalise(images.pixels)) for network in networks)
    labels = logits.argmax(dim=1)
    labels[1::6] = logits[1::6].argmin(dim=1)  # wrong ones, all in the second process's shard of 2 and of 3
    test = Split(ArrayImages(numbers(7, 1, 8, 8, seed=1)), torch.arange(7) % 4)
    dataset = ImageDataset("set", tuple("abcd"), Split(images, labels), {"test": test})
    return networks, dataset, method


def gathered(rank, world):
    """Rows of three kinds of numbers, most of them on the last process and none on the first."""
    mine = torch.tensor(
        [[4, 2, 0, 1, 3]] if world == 1 else [[], [2], [4, 0, 1, 3]][3 - world :][rank], dtype=torch.int64
    )
    mine = mine.flatten()
    values = {
        name: (mine[:, None] * torch.tensor([1, 10])).to(getattr(torch, name))
        for name in ("float16", "float32", "int64")
    }
    return {
        (name, everywhere): gather_by_index(v, mine, 5, CPU, everywhere=everywhere)
        for name, v in values.items()
        for everywhere in (True, False)
    }


def complains(rank, world):
    """A sample that two processes bring, and none brings another: all processes must see it, or some would wait."""
    try:
        gather_by_index(torch.zeros(1), torch.tensor([0]), world + 1, CPU, everywhere=False)
    except RuntimeError as error:
        return str(error)


class Listening(CpcCleaner):
    """Keeps the shapes of the features that it is given."""

    shapes = ()

    def clean(self, task):
        self.shapes = [tuple(evidence.features.shape) for evidence in task.judging]
        return super().clean(task)


def divided(rank, world):
    """Stage 1 alone, from equal weights; BatchNorm statistics of the other processes have drifted."""
    networks, dataset, method = parts(lambda: small_resnet(width=8))
    for network in networks:
        for parameter in network.classifier.parameters():
            parameter.data.mul_(20)
        for name, buffer in network.named_buffers():
            if rank and "running" in name:
                buffer.add_(1.0)
    datamodule, module = (
        CoTrainingDataModule(dataset, 12, seed=1, evaluation_batch_size=10),
        module_of(method, networks, 4, COUNT),
    )
    optimizers, _ = module.configure_optimizers()
    trainer = datamodule.trainer = SimpleNamespace(
        current_epoch=0, max_epochs=3, datamodule=datamodule, is_global_zero=rank == 0, global_rank=rank,
        world_size=world, precision_plugin=SimpleNamespace(forward_context=nullcontext), optimizers=optimizers,
        strategy=SimpleNamespace(root_device=torch.device("cpu")), progress_bar_callback=None,
    )  # fmt: skip
    logged = {}
    module.log = logged.__setitem__
    stage_one = StageOne(Listening(class_aware=False, steps=200, tolerance=0.0, warmup_share=1.0), seed=1)
    stage_one.on_train_epoch_end(trainer, module)
    verdict = stage_one.verdict
    return {
        "losses": torch.stack([evidence.losses for evidence in verdict.judging]),
        "q": torch.stack([estimate.cpc for estimate in verdict.result.estimates]),
        "confidence": verdict.confidence,
        "partitions": [p.to_state() for p in datamodule.partitions],
        "heads": [network.head.state_dict() for network in networks],
        "shapes": stage_one.cleaner.shapes,
        "logged": {name: value for name, value in logged.items() if "seconds" not in name},
    }


def remembered(rank, world):
    """A warm-up epoch and a stage 1 of a cleaner that remembers; labels that are wrong are in one process's shard."""
    networks, dataset, method = parts(Flat)
    datamodule, module = (
        CoTrainingDataModule(dataset, 12, seed=1, evaluation_batch_size=10),
        module_of(method, networks, 4, COUNT),
    )
    module.warmup_epochs = 2
    stage_one = StageOne(WrongEventsCleaner(class_aware=False), seed=1)
    module.log = lambda *_: None
    for epoch in (0, 1):
        trainer = datamodule.trainer = SimpleNamespace(
            current_epoch=epoch, max_epochs=3, datamodule=datamodule, is_global_zero=rank == 0, global_rank=rank,
            world_size=world, precision_plugin=SimpleNamespace(forward_context=nullcontext),
            optimizers=[None] * 4, strategy=SimpleNamespace(root_device=CPU), progress_bar_callback=None,
        )  # fmt: skip
        stage_one.on_train_epoch_end(trainer, module)
    return {
        "memory": stage_one.state_dict()["cleaner"],
        "partitions": [partition.to_state() for partition in datamodule.partitions],
    }


def trained(rank, world, backbone, cleaner, epochs):
    """A run under Lightning with a global batch of 12."""
    networks, dataset, method = parts(backbone)
    module, datamodule = module_of(method, networks, 4, COUNT), CoTrainingDataModule(dataset, 12 // world, seed=1)
    steps, draws, accuracies = [], [], []
    step, views = module.training_step, module.views.strong
    module.views.strong = lambda images: draws.append(torch.rand(1).item()) or views(images)

    def listen(batch, batch_idx):
        steps.append((module.current_epoch, batch["network"], batch["index"].tolist()))
        return step(batch, batch_idx)

    class Accuracy(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            accuracies.append({n: v.item() for n, v in trainer.callback_metrics.items() if "accuracy" in n})

    module.training_step = listen
    trainer = pl.Trainer(
        accelerator="cpu", devices=world, max_epochs=epochs, logger=False, enable_checkpointing=False,
        strategy=DDPStrategy(find_unused_parameters=True) if world > 1 else "auto", enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1, callbacks=[StageOne(cleaner, seed=1), Accuracy()],
    )  # fmt: skip
    trainer.fit(module, datamodule)
    return {"steps": steps, "draws": draws, "accuracies": accuracies, "weights": module.state_dict()}


def work(rank, port, folder):
    """One of three processes: takes part in a group of three, then of two, then is alone."""
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    found = {}
    for world in sorted(WORLDS, reverse=True):
        if rank >= world:
            continue
        if world > 1:
            os.environ |= {"MASTER_PORT": str(port + world), "WORLD_SIZE": str(world)}
            where = f"tcp://127.0.0.1:{port + world}"
            dist.init_process_group("gloo", where, timedelta(seconds=60), rank=rank, world_size=world)
        found[world] = {
            "gathered": gathered(rank, world),
            "complains": complains(rank, world),
            "divided": divided(rank, world),
            "remembered": remembered(rank, world),
            "linear": trained(rank, world, Flat, NoCleaner(), 1),
            "method": trained(rank, world, lambda: small_resnet(width=8), CpcCleaner(False, steps=20), 3),
        }
        if world > 1:
            dist.destroy_process_group()
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By the number of processes, what each of them found."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = min(free.getsockname()[1], 65000)
    spawn(work, (port, folder), 3)
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(3)]
    return {world: [ranks[rank][world] for rank in range(world)] for world in WORLDS}


pytestmark = [pytest.mark.ddp, pytest.mark.long]


def test_gathering_gives_all_or_the_first_each_row_once(found):
    for ranks in found.values():
        for rank, at in enumerate(ranks):
            for (name, everywhere), values in at["gathered"].items():
                assert values.dtype == getattr(torch, name)
                if everywhere or rank == 0:
                    assert values.tolist() == [[0, 0], [1, 10], [2, 20], [3, 30], [4, 40]]
                else:
                    assert values.shape == (5, 0)


def test_every_process_sees_that_a_sample_came_twice(found):
    assert found[1][0]["complains"] == "sample 1 was evaluated 0 times; each must be exactly once"
    for world in (2, 3):
        says = f"sample 0 was evaluated {world} times; each must be exactly once"
        assert [at["complains"] for at in found[world]] == [says] * world


def test_stage_1_of_several_processes_is_that_of_one(found):
    """Losses and predictions within 1e-5, prototypes, projectors and q within 1e-4, partitions exactly."""
    alone = found[1][0]["divided"]
    wrong = torch.arange(COUNT) % 6 == 1
    for partition in alone["partitions"]:  # what the set was made for: a whole side in one process's shard
        assert torch.equal(partition["clean"], ~wrong)
    for world in (2, 3):
        for rank, at in enumerate(found[world]):
            several = at["divided"]
            assert torch.allclose(several["losses"], alone["losses"], atol=1e-5)
            assert torch.allclose(several["confidence"], alone["confidence"], atol=1e-5)
            assert torch.allclose(several["q"], alone["q"], atol=1e-4)
            for ours, its in zip(several["partitions"], alone["partitions"], strict=True):
                assert torch.equal(ours["index"], its["index"])
                assert torch.equal(ours["clean"], its["clean"])
            for ours, its in zip(several["heads"], alone["heads"], strict=True):
                for name, value in its.items():
                    assert torch.allclose(ours[name], value, atol=1e-4), name
            assert several["shapes"] == (
                [(COUNT, 32)] * 2 if rank == 0 else ()
            )  # only the first has them all, and fits


def test_all_processes_hold_the_same_answer_to_the_last_bit(found):
    for world in (2, 3):
        first, *others = (at["divided"] for at in found[world])
        for other in others:
            assert other["logged"] == first["logged"]
            for key in ("losses", "q", "confidence"):
                assert torch.equal(other[key], first[key])
            for kind in ("partitions", "heads"):
                for ours, its in zip(other[kind], first[kind], strict=True):
                    assert all(torch.equal(ours[name], value) for name, value in its.items())


def test_every_process_remembers_what_one_would(found):
    alone = found[1][0]["remembered"]
    wrong = torch.arange(COUNT) % 6 == 1
    assert alone["memory"]["looks"].tolist() == [2] * COUNT
    assert (alone["memory"]["events"][:, wrong] == 2).all()
    for world in (2, 3):
        for at in found[world]:
            for name, value in alone["memory"].items():
                assert torch.equal(at["remembered"]["memory"][name], value), name
            for ours, its in zip(at["remembered"]["partitions"], alone["partitions"], strict=True):
                assert torch.equal(ours["clean"], its["clean"])


def test_the_gradient_is_that_of_the_global_batch(found):
    """Twelve samples a step, on one process or four on each of three: the same weights after 18 steps."""
    alone = found[1][0]["linear"]
    for world in (2, 3):
        for at in found[world]:
            for name, value in alone["weights"].items():
                assert torch.allclose(at["linear"]["weights"][name], value, atol=1e-6), name
        shares = [[indices for *_, indices in at["linear"]["steps"]] for at in found[world]]
        together = [list(chain(*step)) for step in zip(*shares, strict=True)]
        assert together == [indices for *_, indices in alone["steps"]]


def test_every_process_takes_the_same_steps_and_ends_with_the_same_model(found):
    for world in (2, 3):
        first, *others = (at["method"] for at in found[world])
        assert {epoch for epoch, *_ in first["steps"]} == {0, 1, 2}
        for other in others:
            assert [step[:2] for step in other["steps"]] == [step[:2] for step in first["steps"]]
            assert not set(other["draws"]) & set(first["draws"])  # views are drawn apart
            for name, value in first["weights"].items():  # BatchNorm statistics too
                assert torch.equal(other["weights"][name], value), name


def test_accuracy_counts_every_test_image_once(found):
    """Seven images: an accuracy in sevenths, and that of one process where the weights are the same."""
    alone = found[1][0]["linear"]["accuracies"]
    for world in WORLDS:
        for at in found[world]:
            assert at["linear"]["accuracies"] == alone
            for epoch in at["method"]["accuracies"]:
                for value in epoch.values():
                    assert value == pytest.approx(round(value * 7 / 100) * 100 / 7, abs=1e-4)
            of_prototypes = ["test/prototype_accuracy" in epoch for epoch in at["method"]["accuracies"]]
            assert of_prototypes == [False, True, True]  # stage 1 first fits them after the first evaluation
