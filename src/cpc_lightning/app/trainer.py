"""Checks the settings of Lightning's Trainer against this machine, and makes the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar
from pytorch_lightning.loggers import Logger

from cpc_lightning.app.build import build
from cpc_lightning.app.launch import starter
from cpc_lightning.errors import InputError, require, require_integer
from cpc_lightning.training.checkpoints import BEST, FOLDER, LAST, AtomicCheckpointIO

# How the library works, not a choice. The number of epochs and the folder have settings of their own.
FIXED = {"reload_dataloaders_every_n_epochs": 1, "use_distributed_sampler": False, "num_sanity_val_steps": 0}
# What else can be chosen without changing what an epoch is.
CHOICES = (
    "accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm", "precision", "deterministic", "benchmark",
    "max_epochs", "default_root_dir", "enable_progress_bar", "enable_model_summary", "log_every_n_steps", "profiler",
    "detect_anomaly", "inference_mode",
)  # fmt: skip
CUTS = ("limit_train_batches", "overfit_batches", "fast_dev_run", "max_steps", "val_check_interval")
PRECISIONS = ("auto", "32-true", "32", "bf16-mixed", "bf16", "16-mixed", "16")


def make_trainer(
    settings: Mapping[str, Any],
    callbacks: Sequence[pl.Callback],
    best_by: str | None = "test/accuracy",
    epochs: int | None = None,
) -> pl.Trainer:
    """The trainer, with the run's own callbacks before the configured ones, which may look at what stage 1 found.

    Args:
        settings: nested, in plain containers.
        callbacks: the run's own.
        best_by: the metric that chooses best.ckpt; None where a callback writes it, or nothing does.
        epochs: how many; None: `training.epochs`.

    Raises:
        InputError: for arguments under which an epoch would not be what it is here, or for what this machine lacks.
    """
    check_arguments(settings)
    check_devices(settings["trainer"])
    folder = Path(settings["run_dir"]) / FOLDER
    # By itself: what `save_last` writes beside the best one stays as it is in epochs that bring no better one.
    checkpoints = [ModelCheckpoint(folder, LAST, save_on_train_epoch_end=True, enable_version_counter=False)]
    if best_by is not None:
        best = ModelCheckpoint(
            folder, BEST, monitor=best_by, mode="max", save_on_train_epoch_end=True, enable_version_counter=False
        )
        checkpoints.insert(0, best)
    parts: dict[str, list[Any]] = {}
    for group, kind in (("logger", Logger), ("callbacks", pl.Callback)):
        parts[group] = [build(settings, f"{group}.{name}") for name in settings[group]]
        for name, part in zip(settings[group], parts[group], strict=True):
            built = type(part).__name__
            require(isinstance(part, kind), f"{group}.{name}._target_", built, f"must build a {kind.__name__}")
    if not settings["trainer"].get("enable_progress_bar", True):
        parts["callbacks"] = [part for part in parts["callbacks"] if not isinstance(part, ProgressBar)]
    trainer: pl.Trainer = build(
        settings, "trainer", "fit", callbacks=[*callbacks, *parts["callbacks"], *checkpoints], logger=parts["logger"],
        plugins=[AtomicCheckpointIO()], **({} if epochs is None else {"max_epochs": epochs}),
    )  # fmt: skip
    return trainer


def check_arguments(settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for arguments of Lightning's Trainer under which an epoch would not be what it is here."""
    trainer = settings["trainer"]
    fixed = {**FIXED, "max_epochs": settings["training"]["epochs"], "default_root_dir": settings["run_dir"]}
    for name, value in trainer.items():
        if name.startswith("_") or name in (*CHOICES, *FIXED):
            continue
        reason = "is not for co-training, whose two networks, optimizers and checkpoints the library steps itself"
        if name in CUTS:
            reason = "would end epochs before network 2, which trains last: use training.limit_batches"
        raise InputError(f"trainer.{name}", value, reason)
    for name, value in fixed.items():
        same = trainer.get(name, value) == value
        require(same, f"trainer.{name}", trainer.get(name), f"must be {value}: the library relies on it")
    precision = trainer["precision"]
    require(str(precision) in PRECISIONS, "trainer.precision", precision, f"must be one of {', '.join(PRECISIONS)}")
    if "strategy" in trainer:
        strategy = trainer["strategy"]
        require(isinstance(strategy, Mapping), "trainer.strategy", strategy, "use trainer=ddp")
        if strategy.get("timeout") is not None:
            wait = build(settings, "trainer.strategy.timeout")
            above = isinstance(wait, timedelta) and wait > timedelta()
            minutes = strategy["timeout"].get("minutes")
            require(above, "trainer.strategy.timeout.minutes", minutes, "must be above 0")


def check_devices(trainer: Mapping[str, Any]) -> None:
    """Raise `InputError` for devices that are not there, or processes that cannot train one model together."""
    devices, accelerator, gpus = trainer["devices"], trainer["accelerator"], torch.cuda.is_available()
    missing = "no CUDA device can be used here; trainer=cpu needs none"
    require(accelerator != "gpu" or gpus, "trainer.accelerator", accelerator, missing)
    missing = "no GPU of Apple's (MPS) can be used here; trainer=cpu needs none"
    require(accelerator != "mps" or torch.backends.mps.is_available(), "trainer.accelerator", accelerator, missing)
    count, there = process_count(trainer), torch.cuda.device_count()
    enough = accelerator == "cpu" or not gpus or not isinstance(devices, int) or devices <= there
    require(enough, "trainer.devices", devices, f"there are {there} CUDA devices here")
    together, started = "strategy" in trainer, starter()
    require(together or started is None, "trainer", started, "has started several processes, which need trainer=ddp")
    require(together or count == 1, "trainer.devices", devices, "several processes need trainer=ddp")
    nodes, several = trainer.get("num_nodes", 1), "several machines need torchrun or srun on each of them"
    require(nodes == 1 or started is not None, "trainer.num_nodes", nodes, several)
    require(
        not trainer["sync_batchnorm"] or uses_gpu(trainer),
        "trainer.sync_batchnorm", trainer["sync_batchnorm"], "works on GPUs only: torch has no such BatchNorm for CPUs",
    )  # fmt: skip


def uses_gpu(trainer: Mapping[str, Any]) -> bool:
    """Whether the run trains on a CUDA GPU, which has a memory of its own; an Apple GPU (mps) shares the main one."""
    return trainer["accelerator"] not in ("cpu", "mps") and torch.cuda.is_available()


def process_count(trainer: Mapping[str, Any]) -> int:
    """How many processes `trainer.devices` asks for on this machine: a number, a list of GPUs, or auto (all GPUs)."""
    devices = trainer["devices"]
    if devices in ("auto", -1):
        return torch.cuda.device_count() if uses_gpu(trainer) else 1
    if isinstance(devices, list):
        return len(devices)
    require_integer("trainer.devices", devices, 1)
    return int(devices)


def choose_accelerator(accelerator: str, together: bool) -> str:
    """`accelerator`, with "auto" resolved: CUDA GPUs, an Apple GPU (which trains alone), or the CPU."""
    if accelerator != "auto":
        return accelerator
    if torch.cuda.is_available():
        return "gpu"
    return "mps" if torch.backends.mps.is_available() and not together else "cpu"


def choose_precision(precision: str, accelerator: str) -> str:
    """`precision`, with "auto" resolved: "bf16-mixed" where the device has bfloat16 arithmetic, else "32-true".

    On an Apple GPU (mps) it is "32-true": nobody has measured there what narrower numbers gain.
    """
    if precision != "auto":
        return precision
    if accelerator == "mps":
        return "32-true"
    if accelerator != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Asked of the processor: torch has bfloat16 without such instructions as well, but slower than float32.
        has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        native = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if native else "32-true"
