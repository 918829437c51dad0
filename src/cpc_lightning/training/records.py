"""The record of a run in its checkpoints: settings, overrides and data, compared when a run is resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import InputError, Stopped, require
from cpc_lightning.training.checkpoints import RECORD
from cpc_lightning.training.fingerprint import describe_data


def check_same_data(saved: Mapping[str, Any], noisy_labels: Tensor, dataset: ImageDataset) -> None:
    """Raise `InputError` where the data is not what the run to be continued trained on.

    Args:
        saved: what `describe_data` said then.
        noisy_labels: (N,) those of the run to be continued.
        dataset: the data set now, with its noisy labels.
    """
    now = describe_data(dataset)
    for name in ("training samples", "classes", "evaluation samples"):
        same = saved[name] == now[name]
        require(same, "dataset", f"{now[name]!r:.80} {name}", f"the run to resume has {saved[name]!r:.80}")
    if saved["labels"] != now["labels"]:
        whole = noisy_labels.shape == dataset.train.labels.shape and not torch.equal(noisy_labels, dataset.train.labels)
        require(whole, "resume", "noisy labels", "of the checkpoint are not those that its record tells of")
        differ = torch.nonzero(noisy_labels != dataset.train.labels).flatten().tolist()
        first = differ[0]
        ours, theirs = int(dataset.train.labels[first]), int(noisy_labels[first])
        expected = f"the run to resume has {theirs} there ({len(differ)} labels differ): other data or other noise"
        raise InputError("noise", f"label {ours} of sample {first}", expected)
    for part, digests in now["digests"].items():
        before = saved["digests"].get(part, {})
        for content in digests | before:
            same = before.get(content) == digests.get(content)
            expected = f"the run to resume has other {content} in {part}: a file was changed since"
            require(same, "dataset", dataset.name, expected)


class RunRecord(pl.Callback):
    """Puts into each checkpoint what it takes to continue from it, and checks nothing itself.

    Attributes:
        record: "config" (resolved), "overrides" and "data", in plain containers.
    """

    def __init__(self, config: Mapping[str, Any], overrides: Sequence[str], dataset: ImageDataset) -> None:
        """Take the record's parts.

        Args:
            config: resolved, in plain containers.
            overrides: what the user changed.
            dataset: what the run trains on.
        """
        self.record = {"config": dict(config), "overrides": list(overrides), "data": describe_data(dataset)}
        self._counts: tuple[int, int] | None = None  # of optimizers and schedules in the checkpoint
        self._on_sigterm: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remember the caller's answer to SIGTERM, before Lightning puts its own in place."""
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise `InputError` where the checkpoint has no state for each optimizer and schedule: Lightning counts none.

        Put the caller's answer to SIGTERM back: Lightning's talks to the other processes, which may not listen.
        """
        counts = (len(trainer.optimizers), len(trainer.lr_scheduler_configs))
        expected = "is no whole checkpoint (other optimizers or schedules than the run has)"
        require(self._counts in (None, counts), "resume", str(trainer.ckpt_path), expected)
        if callable(self._on_sigterm) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End the processes that this one has started, where a signal asks it to stop."""
        if isinstance(exception, Stopped) and trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(exception.signal)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the record."""
        checkpoint[RECORD] = self.record

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look for the best checkpoints in this run's folder; forget a choice whose file is not there."""
        self._counts = (len(checkpoint["optimizer_states"]), len(checkpoint["lr_schedulers"]))
        for kept in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].pop(kept.state_key, None)
            if state is None:
                continue
            state = moved(state, state["dirpath"], kept.dirpath)  # type: ignore[attr-defined]
            if Path(state["best_model_path"]).is_file():
                checkpoint["callbacks"][kept.state_key] = state


def moved(state: dict[str, Any], before: str, now: str) -> dict[str, Any]:
    """A checkpoint callback's state with its folder `before` replaced by `now`, in values and keys."""

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return {move(name): move(inner) for name, inner in value.items()}
        if isinstance(value, str) and value.startswith(before) and value[len(before) :][:1] in ("", "/", "\\"):
            return str(Path(now, *PureWindowsPath(value[len(before) :].lstrip("/\\")).parts))  # either system's path
        return value

    return move(state)  # type: ignore[no-any-return]
