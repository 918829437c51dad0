"""The workloads that the benchmarks measure, and this library's parts for them, as a run puts them together."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from measure import DEVICE
from omegaconf import DictConfig

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.app.trainer import choose_precision
from cpc_lightning.cleaning.evidence import CleaningTask, Draw, Evidence
from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.cleaning.prototypes import CHUNK, PrototypeHead
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.datasets.fashion_mnist import fashion_mnist
from cpc_lightning.methods.method import Beginning
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.training.observation import HALF_BEYOND

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning, module="pytorch_lightning")


@dataclass(frozen=True)
class Workload:
    """A network and its data.

    Attributes:
        title: for tables.
        overrides: of the configuration.
        classes: K.
        full_samples: N of the full data set.
        features: D.
        batch_size: labeled images a step.
        pixels: height and width of random images; None: the images of Fashion-MNIST.
    """

    title: str
    overrides: tuple[str, ...]
    classes: int
    full_samples: int
    features: int
    batch_size: int
    pixels: int | None = 32


USUAL = ("preact", "small")
"""What is measured by default; of `resnet50` a step takes a CPU minutes."""
WORKLOADS = {
    "preact": Workload(
        "PreAct ResNet-18, 32x32x3 random images",
        ("backbone=preact_resnet18", "views.size=32", "views.padding=4", "views.mean=[0.4914,0.4822,0.4465]",
         "views.std=[0.2023,0.1994,0.2010]"),
        classes=100, full_samples=50_000, features=512, batch_size=64,
    ),
    "small": Workload(
        "small_resnet, Fashion-MNIST", (), classes=10, full_samples=60_000, features=128, batch_size=128, pixels=None,
    ),
    "resnet50": Workload(
        "ResNet-50, 224x224x3 random images",
        ("backbone=resnet50", "views.size=224", "views.padding=28", "views.policy=imagenet",
         "views.mean=[0.485,0.456,0.406]", "views.std=[0.229,0.224,0.225]"),
        classes=14, full_samples=64_000, features=2048, batch_size=32, pixels=224,
    ),
}  # fmt: skip


def compose(workload: Workload, *overrides: str) -> DictConfig:
    """The configuration of a run on the workload; 3 epochs, the first one in warm-up."""
    trainer = "gpu" if DEVICE.type == "cuda" else "cpu"
    with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):
        return hydra.compose(
            "config",
            ["run_dir=unused", "dataset=fashion_mnist", f"trainer={trainer}", "callbacks=none", "training.epochs=3",
             "training.warmup_epochs=1", "optimizer.schedule.milestones=[2]",
             f"training.batch_size={workload.batch_size}",
             *workload.overrides, *overrides],
        )  # fmt: skip


def load(workload: Workload, samples: int) -> ImageDataset:
    """The first `samples` images to train on, and as many or a thousand to test on."""
    tested = min(samples, 1000)
    if workload.pixels is None:
        whole = fashion_mnist()
        pixels, labels = whole.train.images.fetch(torch.arange(samples)), whole.train.labels[:samples]
    else:
        generator = torch.Generator().manual_seed(0)
        size = (samples, 3, workload.pixels, workload.pixels)
        pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
        labels = torch.arange(samples) % workload.classes
    names = tuple(map(str, range(workload.classes)))
    test = Split(ArrayImages(pixels[:tested]), labels[:tested])
    return ImageDataset("benchmark", names, Split(ArrayImages(pixels), labels, labels), {"test": test})


def halves(samples: int) -> tuple[Partition, Partition]:
    """Every other sample labeled, for both networks."""
    probability = torch.tensor([0.9, 0.1]).repeat(samples // 2)
    partition = Partition.from_probability(torch.arange(samples), probability, 0.5)
    return partition, partition


def make_parts(config: DictConfig, dataset: ImageDataset) -> tuple[CoTrainingModule, CoTrainingDataModule, Any]:
    """Module, data module and method, as `cpc_lightning.app.run.run` makes them."""
    method = Parts(plain(config))
    pl.seed_everything(config.seed, verbose=False)
    networks = [method.make_network(dataset) for _ in range(2)]
    training = config.training
    datamodule = CoTrainingDataModule(
        dataset, training.batch_size, config.seed, training.evaluation_batch_size, training.limit_batches,
        training.num_workers, views=method.views.per_image,
    )  # fmt: skip
    classes = len(dataset.class_names)
    method.method.begin(
        Beginning(
            (networks[0], networks[1]), method.views, method.risk, len(dataset.train), classes, training.epochs,
            training.warmup_epochs,
        )
    )  # fmt: skip
    module = CoTrainingModule(
        networks, method.method, method.views, *method.optimizers, classes, training.warmup_epochs, ("test",),
        config.seed, training.channels_last, training.compile,
    )  # fmt: skip
    return module, datamodule, method


def quiet_trainer(config: DictConfig, callbacks: list[pl.Callback]) -> pl.Trainer:
    """A trainer for one epoch that logs, validates and saves nothing."""
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    return pl.Trainer(
        accelerator=config.trainer.accelerator, devices=1, precision=precision,
        benchmark=config.trainer.get("benchmark"), max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
        use_distributed_sampler=False, reload_dataloaders_every_n_epochs=1, callbacks=callbacks,
    )  # fmt: skip


def make_task(samples: int, classes: int, features: int, embedding: int = 64) -> CleaningTask:
    """What stage 1's fits get of `samples` samples: half of the labels wrong, features that know the true class."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(classes, (samples,), generator=generator)
    wrong = torch.rand(samples, generator=generator) < 0.5
    noisy = torch.where(wrong, torch.randint(classes, (samples,), generator=generator), true)
    centres = torch.randn(classes, features, generator=generator)
    large = samples * features > HALF_BEYOND
    seen = torch.empty(samples, features, dtype=torch.float16 if large else torch.float32)
    for rows, classes_of in zip(seen.split(CHUNK), true.split(CHUNK), strict=True):
        rows.copy_(torch.randn(rows.shape, generator=generator).mul_(2).add_(centres[classes_of]))
    losses = torch.where(noisy == true, 0.5, 3.0).mul_(torch.rand(samples, generator=generator).add_(0.5))
    scaled = (losses - losses.min()) / (losses.max() - losses.min())
    evidence = Evidence(
        losses, scaled[None], torch.exp(-losses), true, torch.rand(samples, generator=generator), seen.to(DEVICE)
    )
    draw = Draw(torch.arange(samples), noisy, true)
    heads = (
        PrototypeHead(features, embedding, classes).to(DEVICE),
        PrototypeHead(features, embedding, classes).to(DEVICE),
    )
    optimizers = [torch.optim.SGD(head.parameters(), lr=0.02, momentum=0.9, fused=True) for head in heads]
    return CleaningTask(
        (draw, draw), (evidence, evidence), (evidence, evidence), heads, (optimizers[0], optimizers[1]), 0.5, 0
    )
