"""From a composed config to the parts of a run. What a part objects to becomes one line that names the setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from torch import nn

from cpc_lightning.app.settings import check_finite
from cpc_lightning.backbones.network import Network
from cpc_lightning.cleaning.evidence import Cleaner
from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import InputError, first_line, require, require_integer
from cpc_lightning.noise.noise import Noise, keep_certain
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.training.checkpoints import BEST, FOLDER, LAST, AtomicCheckpointIO
from cpc_lightning.training.distributed import starter
from cpc_lightning.views.views import Views

# Of the trainer: how the library works, not a choice. The number of epochs and the folder have settings of their own.
FIXED = {"reload_dataloaders_every_n_epochs": 1, "use_distributed_sampler": False, "num_sanity_val_steps": 0}
# What else of the trainer can be chosen without changing what an epoch is.
CHOICES = (
    "accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm", "precision", "deterministic", "benchmark",
    "max_epochs", "default_root_dir", "enable_progress_bar", "enable_model_summary", "log_every_n_steps", "profiler",
    "detect_anomaly", "inference_mode",
)  # fmt: skip
CUTS = ("limit_train_batches", "overfit_batches", "fast_dev_run", "max_steps", "val_check_interval")
PRECISIONS = ("auto", "32-true", "32", "bf16-mixed", "bf16", "16-mixed", "16")
MOST_EPOCHS = 100_000


def build(config: DictConfig, name: str, **more: Any) -> Any:
    """Instantiate the node `name`; what its constructor objects to becomes an `InputError` that names the setting."""
    node = OmegaConf.select(config, name)
    is_part = isinstance(node, DictConfig) and "_target_" in node
    require(is_part, name, node, "must be a group of settings whose _target_ says what to build")
    try:
        return instantiate(node, **more)
    except MissingMandatoryValue as error:
        raise InputError(str(error.full_key), "???", "must be given") from None
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause.within(name) from None
        raise InputError(name, settings_in(node), first_line(cause or error)) from error
    except (TypeError, OmegaConfBaseException) as error:  # a `_partial_` that is no switch, say
        raise InputError(name, settings_in(node), first_line(error)) from error


@contextmanager
def settings_of(group: str) -> Iterator[None]:
    """Name the settings of errors that come from inside from `group` on."""
    try:
        yield
    except InputError as error:
        raise error.within(group) from None


def settings_in(node: DictConfig) -> str:
    """The node's own settings in one line."""
    return str({name: node.get(name) for name in map(str, node) if not name.startswith("_")})


@dataclass(frozen=True)
class Method:
    """The parts of a run that need neither data nor device, and so can be checked before anything else.

    Attributes:
        cleaner: answers who is clean.
        risk: stage 2's loss.
        views: of images, weak and strong.
        noise: makes labels wrong on purpose.
        optimizers: what makes the optimizer of a network, the optimizer of a head, and the schedule.
    """

    cleaner: Cleaner
    risk: EmpiricalVicinalRisk
    views: Views
    noise: Noise
    optimizers: tuple[Any, Any, Any]


def make_method(config: DictConfig) -> Method:
    """Build those parts; raise `InputError` for the first setting that cannot be used."""
    check_settings(config)
    cleaner = build_part(config, "cleaner", "clean")
    check_lengths(config, cleaner)
    check_draw(config, cleaner)
    parts = (("semisup", "risk"), ("views", "weak"), ("noise", "corrupt"))
    risk, views, noise = (build_part(config, name, method) for name, method in parts)
    return Method(cleaner, risk, views, noise, make_optimizer_parts(config))


def build_part(config: DictConfig, name: str, method: str) -> Any:
    """`build`, of what must have the given method to do its work."""
    part = build(config, name)
    check_part(name, part, method)
    return part


def check_part(name: str, part: object, method: str) -> None:
    """Raise `InputError` where what was built for the group `name` cannot do its work."""
    built = type(part).__name__
    require(
        hasattr(part, method), f"{name}._target_", built, f"builds nothing that can be a {name} (it has no {method})"
    )


def check_settings(config: DictConfig) -> None:
    """Raise `InputError` for settings of the run as a whole that cannot be used."""
    alone = "must be train, or check: as mode=check, without -m"
    require(config.mode == "train", "mode", config.mode, alone)
    for name in ("seed", "noise_seed"):
        require_integer(name, config[name], 0)
        require(config[name] < 2**32, name, config[name], "must be below 2**32")
    require_integer("training.epochs", config.training.epochs, 1)
    require(
        config.training.epochs <= MOST_EPOCHS, "training.epochs", config.training.epochs,
        f"must be at most {MOST_EPOCHS}",
    )  # fmt: skip


def check_lengths(config: DictConfig, cleaner: Cleaner) -> None:
    """Raise `InputError` where warm-up leaves no epoch for stage 2."""
    epochs, warmup_epochs = config.training.epochs, config.training.warmup_epochs
    require_integer("training.warmup_epochs", warmup_epochs, 1)
    require(
        not cleaner.active or epochs > warmup_epochs,
        "training.epochs",
        epochs,
        f"must be more than training.warmup_epochs={warmup_epochs}, or there is no stage 2",
    )


def check_draw(config: DictConfig, cleaner: Cleaner) -> None:
    """Raise `InputError` where the losses of several epochs are asked for, and every epoch draws other samples."""
    require(
        config.training.balanced_batches is None or cleaner.history_length == 1,
        "cleaner.history_length",
        cleaner.history_length,
        "must be 1 with training.balanced_batches, which draws other samples every epoch",
    )


def check_views(views: Views, dataset: ImageDataset) -> None:
    """Raise `InputError` where the views do not fit the data set's images, rather than in the middle of an epoch."""
    image = dataset.train.images.fetch(torch.tensor([0]))
    with settings_of("views"):
        views.normalise(views.weak(image))
        views.evaluation(image)


def check_network(network: Network, views: Views, dataset: ImageDataset) -> None:
    """Raise `InputError` where the backbone cannot take the views, such as a transformer for another image size."""
    image = views.normalise(views.evaluation(dataset.train.images.fetch(torch.tensor([0]))))
    network.eval()
    try:
        with torch.no_grad():
            network(image)
    except (RuntimeError, AssertionError, ValueError) as error:  # what the layers of different libraries raise
        size, reason = f"{views.height} x {views.width}", first_line(error)
        raise InputError("backbone", "this network", f"cannot take images of {size}: {reason}") from error
    network.train()


def check_truth(cleaner: Cleaner, dataset: ImageDataset) -> None:
    """Raise `InputError` where the cleaner needs true labels that the data set does not have."""
    known = dataset.train.true_labels is not None and bool((dataset.train.true_labels != -1).all())
    require(
        known or not cleaner.needs_true_labels, "cleaner", "oracle",
        "needs the true label of every training sample, and this data set does not have them",
    )  # fmt: skip


def make_optimizer_parts(config: DictConfig) -> tuple[Any, Any, Any]:
    """What makes the optimizer of a network, the optimizer of a head, and the schedule; each tried out once."""
    check_finite("optimizer", config.optimizer)
    network, head, schedule = (build(config, f"optimizer.{name}") for name in ("network", "head", "schedule"))
    parameters = [nn.Parameter(torch.zeros(1))]
    for name, make in (("network", network), ("head", head), ("schedule", schedule)):
        try:
            made = make(network(parameters) if name == "schedule" else parameters)
            if name == "schedule":
                check_schedule(made, config.training.epochs)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer.{name}", settings_in(config.optimizer[name]), str(error)) from error
    return network, head, schedule


def check_schedule(schedule: Any, epochs: int) -> None:
    """Raise `InputError` where the schedule gives an epoch a learning rate that is no number, or negative."""
    for epoch in range(epochs):
        rate = schedule.get_last_lr()[0]
        fine = 0 <= rate < float("inf")
        require(
            fine,
            "optimizer.schedule",
            f"a learning rate of {rate} in epoch {epoch}",
            "must not be negative or infinite",
        )
        schedule.optimizer.step()  # or torch warns that the schedule is ahead of it
        schedule.step()


def add_noise(dataset: ImageDataset, noise: Noise, seed: int) -> ImageDataset:
    """The data set with noisy training labels."""
    with settings_of("noise"):
        return replace(dataset, train=keep_certain(dataset.train, noise.corrupt(dataset, seed)))


def make_network(config: DictConfig, dataset: ImageDataset) -> Network:
    """One network for the data set's images and classes."""
    channels = dataset.train.images.fetch(torch.tensor([0])).shape[1]
    make_backbone = build(config, "backbone")
    require(callable(make_backbone), "backbone._partial_", config.backbone.get("_partial_"), "must be true")
    try:
        with settings_of("backbone"):
            backbone = make_backbone(in_channels=channels)
    except (RuntimeError, MemoryError, TypeError) as error:  # more weights than memory, or no `name`, say
        raise InputError("backbone", settings_in(config.backbone), first_line(error)) from error
    return Network(backbone, len(dataset.class_names), config.embedding_size)


def process_count(trainer: DictConfig) -> int:
    """How many processes `trainer.devices` asks for on this machine: a number, a list of GPUs, or auto (all GPUs)."""
    devices, on_gpu = trainer.devices, trainer.accelerator != "cpu" and torch.cuda.is_available()
    if devices in ("auto", -1):
        return torch.cuda.device_count() if on_gpu else 1
    if isinstance(devices, ListConfig):
        return len(devices)
    require_integer("trainer.devices", devices, 1)
    return int(devices)


def check_processes(trainer: DictConfig) -> None:
    """Raise `InputError` where the processes that there are, or are asked for, cannot train one model together."""
    together, started, count = "strategy" in trainer, starter(), process_count(trainer)
    require(together or started is None, "trainer", started, "has started several processes, which need trainer=ddp")
    require(
        together or count == 1,
        "trainer.devices", trainer.devices, "several processes need trainer=ddp",
    )  # fmt: skip
    require(
        trainer.get("num_nodes", 1) == 1 or started is not None,
        "trainer.num_nodes", trainer.get("num_nodes"), "several machines need torchrun or srun on each of them",
    )  # fmt: skip
    require(
        not trainer.sync_batchnorm or (trainer.accelerator != "cpu" and torch.cuda.is_available()),
        "trainer.sync_batchnorm", trainer.sync_batchnorm, "works on GPUs only: torch has no such BatchNorm for CPUs",
    )  # fmt: skip


def check_trainer(config: DictConfig) -> None:
    """Raise `InputError` for arguments of Lightning's Trainer under which an epoch would not be what it is here."""
    trainer = config.trainer
    for name in map(str, trainer):
        if name.startswith("_") or name in (*CHOICES, *FIXED):
            continue
        reason = "is not for co-training, whose two networks, optimizers and checkpoints the library steps itself"
        if name in CUTS:
            reason = "would end epochs before network 2, which trains last: use training.limit_batches"
        raise InputError(f"trainer.{name}", trainer[name], reason)
    require(
        str(trainer.precision) in PRECISIONS,
        "trainer.precision", trainer.precision, f"must be one of {', '.join(PRECISIONS)}",
    )  # fmt: skip
    if "strategy" in trainer:
        require(isinstance(trainer.strategy, DictConfig), "trainer.strategy", trainer.strategy, "use trainer=ddp")
        if trainer.strategy.get("timeout") is not None:
            wait = build(config, "trainer.strategy.timeout")
            above = isinstance(wait, timedelta) and wait > timedelta()
            minutes = trainer.strategy.timeout.get("minutes")
            require(above, "trainer.strategy.timeout.minutes", minutes, "must be above 0")


def make_trainer(config: DictConfig, callbacks: list[pl.Callback], best_by: str | None = "test/accuracy") -> pl.Trainer:
    """The trainer, with the run's own callbacks before the configured ones, which may look at what stage 1 found.

    Args:
        config: a composed config.
        callbacks: the run's own.
        best_by: the metric that chooses best.ckpt; None where a callback writes it.
    """
    check_trainer(config)
    require(
        config.trainer.accelerator != "gpu" or torch.cuda.is_available(),
        "trainer.accelerator", "gpu", "no CUDA device can be used here; trainer=cpu needs none",
    )  # fmt: skip
    devices = config.trainer.devices
    require(
        config.trainer.accelerator == "cpu" or not isinstance(devices, int) or not torch.cuda.is_available()
        or devices <= torch.cuda.device_count(),
        "trainer.devices", devices, f"there are {torch.cuda.device_count()} CUDA devices here",
    )  # fmt: skip
    check_processes(config.trainer)
    fixed = {**FIXED, "max_epochs": config.training.epochs, "default_root_dir": config.run_dir}
    for name, value in fixed.items():
        same = name not in config.trainer or config.trainer[name] == value
        require(same, f"trainer.{name}", config.trainer.get(name), f"must be {value}: the library relies on it")
    require(not isinstance(devices, bool), "trainer.devices", devices, "must be a number of devices")
    config.trainer.precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    folder = Path(config.run_dir) / FOLDER
    # By itself: what `save_last` writes beside the best one stays as it is in epochs that bring no better one.
    checkpoints = [ModelCheckpoint(folder, LAST, save_on_train_epoch_end=True, enable_version_counter=False)]
    if best_by is not None:
        best = ModelCheckpoint(
            folder, BEST, monitor=best_by, mode="max", save_on_train_epoch_end=True, enable_version_counter=False
        )
        checkpoints.insert(0, best)
    loggers = [build(config, f"logger.{name}") for name in config.logger]
    extra = [build(config, f"callbacks.{name}") for name in config.callbacks]
    for group, kind, parts in (("logger", Logger, loggers), ("callbacks", pl.Callback, extra)):
        for name, part in zip(config[group], parts, strict=True):
            built = type(part).__name__
            require(isinstance(part, kind), f"{group}.{name}._target_", built, f"must build a {kind.__name__}")
    trainer: pl.Trainer = build(
        config, "trainer", callbacks=[*callbacks, *extra, *checkpoints], logger=loggers, plugins=[AtomicCheckpointIO()]
    )
    check_part("trainer", trainer, "fit")
    return trainer


def choose_precision(precision: str, accelerator: str) -> str:
    """`precision`, with "auto" resolved: "bf16-mixed" where the device has bfloat16 arithmetic, else "32-true"."""
    if precision != "auto":
        return precision
    if accelerator != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Asked of the processor: torch has bfloat16 without such instructions as well, but slower than float32.
        has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        native = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if native else "32-true"
