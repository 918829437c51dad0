"""Explains failures of the machine: a worker process died, a GPU's memory ran out, a logger cannot log."""

from __future__ import annotations

import re
import sys
import traceback

import torch

from cpc_lightning.errors import first_line
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.loading import worker_trouble

UNHARMED = "the last checkpoint is unharmed"


def machine_failure(error: BaseException, datamodule: CoTrainingDataModule, epoch: int) -> str | None:
    """What `error` means, as one line with the setting to change; None where the machine is not at fault.

    Args:
        error: what ended the training.
        datamodule: of the run, whose sizes it names.
        epoch: the one that was trained, from 0.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return out_of_memory(error, datamodule, epoch)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return (
            f"training.batch_size={datamodule.batch_size}: this machine's memory ran out; a smaller one, or fewer "
            f"training.num_workers, now {datamodule.num_workers}; mode=check estimates what fits; {UNHARMED}"
        )
    if isinstance(error, RuntimeError) and (died := lost_worker(str(error))):
        return f"{worker_trouble(datamodule.num_workers, died)}; {UNHARMED}"
    wandb = sys.modules.get("wandb")
    if wandb is not None and isinstance(error, getattr(wandb, "Error", ())):
        return f"logger=wandb: {first_line(error)}; logger.wandb.offline=true needs neither key nor network"
    return None


def lost_worker(message: str) -> str | None:
    """How a worker died, where torch's `message` says that one did."""
    if re.search(r"DataLoader worker \(pid", message) is None:  # "Caught KeyError in DataLoader worker" is a defect
        return None
    killed = re.search(r"killed by signal: ([^.]+)\.", message)
    if killed is None:
        return "one ended unexpectedly"
    why = "it wrote to shared memory that is full" if killed[1] == "Bus error" else "often memory has run out"
    return f"one was ended by a signal ({killed[1]}; {why})"


def out_of_memory(error: BaseException, datamodule: CoTrainingDataModule, epoch: int) -> str:
    """Which batch was too large, and half of it; where it was none, what else takes less."""
    functions = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
    if "training_step" in functions:
        of_warmup = epoch < datamodule.warmup_epochs and datamodule.warmup_batch_size != datamodule.batch_size
        name, size = "warmup_batch_size" if of_warmup else "batch_size", datamodule.batch_size_in(epoch)
    elif "features_and_logits" in functions:
        name, size = "evaluation_batch_size", datamodule.evaluation_batch_size
    else:
        return f"trainer.accelerator=gpu: its memory ran out; a smaller backbone, or another GPU; {UNHARMED}"
    half = max(size // 2, 1)
    return (
        f"training.{name}={size}: the GPU's memory ran out; training.{name}={half} takes about half of it, "
        f"and mode=check estimates what fits; {UNHARMED}"
    )
