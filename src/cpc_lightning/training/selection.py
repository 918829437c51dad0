"""Model selection on a clean validation set, for each network by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from torch import Tensor

from cpc_lightning.training.checkpoints import SELECTED
from cpc_lightning.training.distributed import broadcast_tensors
from cpc_lightning.training.module import CoTrainingModule

VALIDATION = "val"


class SelectNetworks(pl.Callback):
    """Keeps the state of each network from the epoch in which that network did best on the set "val".

    The two may come from different epochs. best.ckpt holds them together; the rest of it is the run's state when the
    later one was found, so that no run can go on from it: it is marked. They are also part of every checkpoint, so that
    a resumed run knows them.

    Attributes:
        accuracy: on "val", in percent, of network 1 and of network 2 as they are kept.
        epoch: the epochs they are from.
    """

    def __init__(self, path: str | Path) -> None:
        """Take the file to save the two to."""
        self.path = Path(path)
        self.accuracy, self.epoch = [float("-inf")] * 2, [-1, -1]
        self._states: list[dict[str, Tensor]] = [{}, {}]
        self._within = False  # whether the module's networks are the selected ones

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look whether this epoch's networks are the best so far. Listed after stage 1, which trains their heads."""
        module = cast(CoTrainingModule, pl_module)
        numbers = (1, 1) if module.method.trains_one else (1, 2)
        measured = [float(trainer.callback_metrics[f"{VALIDATION}/accuracy_{number}"]) for number in numbers]
        better = [number for number in (0, 1) if measured[number] > self.accuracy[number]]
        for number in better:
            network = module.network(number)
            broadcast_tensors(list(network.buffers()))  # DDP leaves BatchNorm statistics of ranks apart
            self._states[number] = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
            self.accuracy[number], self.epoch[number] = measured[number], trainer.current_epoch
        if better:
            with self.selected(module):
                trainer.save_checkpoint(self.path, weights_only=False)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Mark best.ckpt, whose networks are of other epochs than its optimizers."""
        if self._within:
            checkpoint[SELECTED] = True

    @contextmanager
    def selected(self, module: CoTrainingModule) -> Iterator[None]:
        """Within the block the module's networks are the selected ones."""
        networks = [module.network(number) for number in (0, 1)]
        present = [{name: value.detach().clone() for name, value in n.state_dict().items()} for n in networks]
        for network, state in zip(networks, self._states, strict=True):
            network.load_state_dict(state)
        self._within = True
        try:
            yield
        finally:
            self._within = False
            for network, state in zip(networks, present, strict=True):
                network.load_state_dict(state)

    def test(
        self, trainer: pl.Trainer, module: CoTrainingModule, datamodule: pl.LightningDataModule
    ) -> dict[str, float]:
        """Evaluate the selected networks once on the set "test"; the metrics, by name."""
        with self.selected(module):
            (measured,) = trainer.test(module, datamodule, verbose=False, weights_only=True)
        return dict(measured)

    def state_dict(self) -> dict[str, Any]:
        """The two networks and where they come from, in plain containers."""
        return {"accuracy": self.accuracy, "epoch": self.epoch, "networks": self._states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.accuracy, self.epoch = list(state_dict["accuracy"]), list(state_dict["epoch"])
        self._states = list(state_dict["networks"])
