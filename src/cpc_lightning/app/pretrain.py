"""mode=pretrain: one backbone learns from the images alone, and becomes the start of both networks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

from cpc_lightning.app.ahead import command
from cpc_lightning.app.build import build, settings_of
from cpc_lightning.app.compatibility import check_network, check_views
from cpc_lightning.app.options import PLAIN, quoted
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.rehearsal import without
from cpc_lightning.app.run import record_settings, refuse_unloadable
from cpc_lightning.app.settings import check_run, select
from cpc_lightning.app.trainer import make_trainer, process_count
from cpc_lightning.backbones.fitting import WIDTH, is_small
from cpc_lightning.datasets.dataset import ImageDataset, Vectors
from cpc_lightning.errors import TrainingError, count_of, one_line, require
from cpc_lightning.files import atomic_write, remove_stale
from cpc_lightning.pretraining.simclr import SimCLR
from cpc_lightning.report.summary import write_summary
from cpc_lightning.training.callbacks import EpochTable
from cpc_lightning.training.checkpoints import FOLDER
from cpc_lightning.training.failures import machine_failure
from cpc_lightning.training.pretraining import PretrainingModule, pretraining_data, without_labels
from cpc_lightning.training.progress import close_progress
from cpc_lightning.training.records import RunRecord, check_same_data
from cpc_lightning.training.weights_and_biases import finish_wandb
from cpc_lightning.views.views import Views

MODE = "pretrain"
WEIGHTS = "backbone.pt"
"""The backbone's state_dict, in the run's folder."""


class PretrainingParts(Parts):
    """The parts of a pretraining. Those of the training to come are tried out with them, but for what its data tells.

    Attributes:
        objective: what the backbone descends on.
    """

    def check_run(self) -> None:
        """As before a training."""
        check_run(self.settings | {"mode": "train"})

    def ready(self) -> PretrainingParts:
        """Build all parts, in the order in which mistakes are best told."""
        self.check_method()
        _ = self.objective
        self.check_images()
        begun = self.begun
        if begun is not None:
            check_same_data(begun.data, begun.noisy_labels, self.images)
        _ = self.module, self.trainer
        return self

    def check_images(self) -> None:
        """Raise `InputError` where the networks will not see images, or cannot start from a file."""
        what = f"mode={MODE} learns from images, by views of them"
        require(not self.features.active, "features", type(self.features).__name__, f"{what}: take features=none")
        vectors = isinstance(self.noisy_images.train.images, Vectors)
        require(not vectors, "dataset", self.noisy_images.name, f"consists of vectors, and {what}")
        expected = "has no setting `weights`, by which a training starts from what was learnt"
        require("weights" in self.settings["backbone"], "backbone", self.settings["backbone"]["_target_"], expected)

    @cached_property
    def objective(self) -> SimCLR:
        """See above; it begins with the module."""
        objective: SimCLR = build(self.settings, "pretraining", "begin")
        return objective

    @cached_property
    def images(self) -> ImageDataset:
        """The training's own images, foreign ones that noise has mixed in included, without labels."""
        return without_labels(self.noisy_images)

    @cached_property
    def strong_views(self) -> Views:
        """The run's views, with the policy that the pretraining has for itself, if any."""
        views, policy = self.views, self.objective.policy
        assert isinstance(views, Views)
        with settings_of("pretraining"):
            return views if policy is None else views.with_policy(policy)

    @cached_property
    def processes(self) -> int:
        """How many train together."""
        trainer = self.settings["trainer"]
        return process_count(trainer) * int(trainer.get("num_nodes", 1))

    @cached_property
    def datamodule(self) -> Any:
        """Serves the images."""
        batch_size, workers = self.objective.batch_size, self.settings["training"]["num_workers"]
        with settings_of("pretraining"):
            return pretraining_data(self.images, batch_size, self.processes, self.settings["seed"], workers)

    @cached_property
    def module(self) -> Any:
        """Trains the backbone, whose first weights are those that network 1 of a run with this seed would have."""
        training, data, seed = self.settings["training"], self.datamodule, self.settings["seed"]
        pl.seed_everything(seed, workers=True, verbose=False)
        torch.set_float32_matmul_precision("high")
        check_views(self.strong_views, self.images)
        network = self.make_network(self.images)
        check_network(network, self.strong_views, self.images)
        self.objective.begin(network.classifier.in_features)
        steps = self.objective.epochs * data.limit_batches
        with settings_of("training"):
            return PretrainingModule(
                network.backbone, self.objective, self.strong_views, steps, seed, training["channels_last"],
                training["compile"],
            )  # fmt: skip

    @cached_property
    def table(self) -> EpochTable:
        """Every epoch's loss."""
        return EpochTable(Path(self.settings["run_dir"], "metrics.csv"), {})

    @cached_property
    def trainer(self) -> pl.Trainer:
        """Lightning's trainer; the dashboard has nothing to show."""
        callbacks = {name: node for name, node in self.settings["callbacks"].items() if name != "dashboard"}
        record = RunRecord(self.settings, self.overrides, self.images)
        settings = self.settings | {"callbacks": callbacks}
        return make_trainer(settings, [self.table, record], None, self.objective.epochs)


def pretrain(settings: Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train a backbone; what it was, as written to summary.json. Arguments and errors as of `run`."""
    return pretrain_parts(PretrainingParts(settings, overrides).ready())


def pretrain_parts(parts: PretrainingParts) -> dict[str, Any]:
    """`pretrain`, of parts that are ready."""
    folder, trainer, table = Path(parts.settings["run_dir"]), parts.trainer, parts.table
    checkpoint = None if parts.begun is None else parts.begun.checkpoint
    if trainer.is_global_zero:
        for place in (folder, folder / FOLDER):
            remove_stale(place)
        record_settings(folder, parts.settings, parts.overrides)
        if parts.strong_views.strong_are_weak or parts.strong_views.policy is None:
            advice = "pretraining.policy=imagenet, cifar10 (for photos) or symbols (for signs) makes stronger ones"
            rank_zero_warn(one_line(f"views differ by crops and flips alone, which teaches little; {advice}"))
    try:
        trainer.fit(parts.module, parts.datamodule, ckpt_path=checkpoint, weights_only=True)
        summary = {
            "images": len(parts.images.train), "epochs": len(table.rows), "loss_first": table.rows[0]["train/loss"],
            "loss_last": table.rows[-1]["train/loss"],
            "seconds": table.seconds_before + time.monotonic() - parts.begin, "overrides": parts.overrides,
        }  # fmt: skip
        if trainer.is_global_zero:
            with atomic_write(folder / WEIGHTS) as file:
                torch.save(weights_of(parts.module), file)
            write_summary(folder / "summary.json", summary)
            close_progress(trainer)
            print_ending(parts, summary)
        return summary
    except Exception as error:
        if reason := machine_failure(error, parts.datamodule, trainer.current_epoch):
            raise TrainingError(reason.replace("training.batch_size", "pretraining.batch_size")) from error
        refuse_unloadable(error, checkpoint)
        raise
    finally:
        close_progress(trainer)
        finish_wandb()


def weights_of(module: PretrainingModule) -> dict[str, torch.Tensor]:
    """The backbone's state_dict, on the CPU, in the usual order of memory."""
    return {name: value.detach().cpu().contiguous() for name, value in module.backbone.state_dict().items()}


def print_ending(parts: PretrainingParts, summary: Mapping[str, Any]) -> None:
    """Print how it went, and the command to go on with."""
    folder, here = Path(parts.settings["run_dir"]), Path.cwd()
    shown = (folder.relative_to(here) if folder.is_relative_to(here) else folder) / WEIGHTS
    loss = f"loss {summary['loss_first']:.3f} in the first epoch, {summary['loss_last']:.3f} in the last"
    of = f"{count_of(summary['images'], 'image')}, {count_of(summary['epochs'], 'epoch')}, {loss}"
    print(one_line(f"{shown}: a backbone that no label has taught ({of}; {summary['seconds']:.0f} s)"))
    print(f"to train both networks from it: {command(going_on(parts, str(shown)))}")


def going_on(parts: PretrainingParts, weights: str) -> list[str]:
    """All that is to be typed for the training that starts from the file `weights`."""
    typed = without(parts.overrides, "mode", "resume", "hydra.run", "pretraining", "backbone.weights")
    open_ones = [*parts.left_open]
    if by_size(parts.settings):  # with weights, backbone=auto means the network of torchvision's
        typed = without(typed, "backbone", "embedding_size")
        open_ones.append("embedding_size")
        typed += ["backbone=small_resnet", f"backbone.width={WIDTH}"]
    # Nor does a training that starts from given weights ask the images how large they are.
    sizes = [f"{name}={select(parts.settings, name)}" for name in sorted(open_ones) if name != "backbone.size"]
    return [*typed, *sizes, f"backbone.weights={weights if PLAIN.fullmatch(weights) else quoted(weights)}"]


def by_size(settings: Mapping[str, Any]) -> bool:
    """Whether the backbone is the one that `fitting_backbone` chooses for small views."""
    node = settings["backbone"]
    chosen = str(node["_target_"]).endswith(".fitting_backbone") and node["name"] is None and node["weights"] is None
    return chosen and is_small(node["size"])
