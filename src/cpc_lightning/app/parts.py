"""Builds the parts of a run from its settings, each once, when it is first used."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from cpc_lightning.analysis.metrics import noise_rate
from cpc_lightning.app.build import blame, build, settings_of, settings_of_features
from cpc_lightning.app.compatibility import check_cleaner, check_network, check_views
from cpc_lightning.app.fitting import PHOTOS, as_recorded, cropped, fitted, left_open, settled
from cpc_lightning.app.launch import process_number
from cpc_lightning.app.optimizers import make_optimizers
from cpc_lightning.app.settings import check_kinds, check_run, select
from cpc_lightning.app.trainer import choose_accelerator, choose_precision, make_trainer, uses_gpu
from cpc_lightning.app.unread import check_read, check_views_unread, set_aside
from cpc_lightning.backbones.network import Network
from cpc_lightning.cleaning.evidence import Cleaner, ComparesSamples
from cpc_lightning.datasets.dataset import ImageDataset, Vectors
from cpc_lightning.datasets.reading.image_files import ImageFiles
from cpc_lightning.errors import InputError, require, require_number
from cpc_lightning.features.features import Features, NoFeatures
from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.methods.method import PENALTY, POLICY, Beginning, Method
from cpc_lightning.noise.noise import Noise, keep_certain
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.training.callbacks import EpochTable
from cpc_lightning.training.checkpoints import (
    BEST,
    FOLDER,
    RECORD,
    Begun,
    begun_from,
    check_unused,
    find_checkpoint,
    read_checkpoint,
    run_folder,
)
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.dividing import SCHEDULED
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.training.records import RunRecord, check_same_data
from cpc_lightning.training.same_run import as_begun, check_same_config
from cpc_lightning.training.selection import VALIDATION, SelectNetworks
from cpc_lightning.training.stage_one import StageOne
from cpc_lightning.training.warmup_losses import KeepWarmupLosses
from cpc_lightning.training.weights_and_biases import EpochWandb
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views


def part(name: str, method: str) -> Any:
    """The attribute that is what the node `name` builds, which must have the given method to do its work."""
    return cached_property(lambda self: build(self.settings, name, method))


class Parts:
    """The parts of one run.

    Every attribute is built from the settings when it is first read, and raises `InputError` for a setting, a file or a
    folder that cannot be used. How settings fit together is checked with the part that they would break. Nothing is
    computed or written.

    Attributes:
        settings: nested, in plain containers, resolved.
        usual: as the yaml files have them, which tell kinds; empty where nobody knows.
        overrides: what the user changed, for the run's record.
        begin: when this was made, by `time.monotonic`.
        risk: stage 2's loss.
        noise: makes labels wrong on purpose.
        clean_dataset: the data set as it comes; in Python it may be given, in the place of what the settings name.
        given: the settings as they came, but for the trainer's.
        left_open: names of settings that are null, for the images to decide on.
        undecided: whether they have not done so yet.
        choice: what they decided and why, in a line; "" where there was nothing to decide.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        overrides: Sequence[str] = (),
        usual: Mapping[str, Any] | None = None,
        dataset: ImageDataset | None = None,
    ) -> None:
        self.begin, self.usual = time.monotonic(), usual or {}
        if dataset is not None:
            self.clean_dataset = dataset
        trainer = dict(settings["trainer"])
        if "accelerator" in trainer:
            trainer["accelerator"] = choose_accelerator(trainer["accelerator"], "strategy" in trainer)
        if "precision" in trainer:  # what "auto" means here is what a resumed run is compared with
            trainer["precision"] = choose_precision(trainer["precision"], trainer.get("accelerator", "auto"))
        self.given, self.left_open = {**settings, "trainer": trainer}, left_open(settings)
        # Until the images are known, as for photos; and for good before a pretrained network, which learnt from such.
        self.settings: dict[str, Any] = settled(self.given, PHOTOS)
        self.choice, pretrained = "", select(settings, "backbone.weights") is not None
        self.undecided = {"views.size", "dataset.crop.resize"} <= self.left_open and not pretrained
        self.overrides = [text for text in overrides if not text.startswith("resume=")]

    def check_method(self) -> None:
        """Build the parts that need neither data nor device, so that their mistakes are told first.

        Kinds come last, because our own parts know their ranges too; but for switches such as `download`, which what
        is built may act upon.
        """
        self.check_run()
        self.check_kinds(switches=True)
        _ = self.method, self.cleaner, self.risk, self.features, self.views, self.noise, self.optimizers
        self.check_kinds()

    def check_run(self) -> None:
        """Raise `InputError` for settings of the run as a whole that cannot be used."""
        check_run(self.settings)

    def check_kinds(self, switches: bool = False) -> None:
        """Raise `InputError` for a value of a wrong kind, with `switches` for those alone that are true or false."""
        check_kinds(self.settings, self.usual, switches)

    def ready(self) -> Parts:
        """Build all parts, in the order in which mistakes are best told."""
        self.check_method()
        begun = self.begun
        self.check_neighbours()  # before features are computed
        dataset = self.dataset
        if begun is not None:
            check_same_data(begun.data, begun.noisy_labels, dataset)
        self.check_truth()
        _ = self.module, self.trainer
        return self

    risk: EmpiricalVicinalRisk = part("semisup", "risk")
    noise: Noise = part("noise", "corrupt")

    # The method -------------------------------------------------------------------------------------------------------

    @cached_property
    def method(self) -> Method:
        """How networks learn; it has not begun."""
        if "method" not in self.settings:  # a run of before there were several
            return CoDivide()
        method: Method = build(self.settings, "method", "losses")
        check_read(method, self.settings, self.usual, self.overrides)
        return method

    @cached_property
    def cleaner(self) -> Cleaner:
        """Answers who is clean."""
        self.check_run()
        cleaner: Cleaner = build(self.settings, "cleaner", "clean")
        check_cleaner(cleaner, self.method, self.settings, self.overrides)
        return cleaner

    @cached_property
    def views(self) -> Views | VectorViews:
        """Weak and strong, of images; of vectors, where that is what networks see (`features`, or `views: null`)."""
        of_images = self.settings["views"]
        name = "vector_views" if self.features.active or of_images is None else "views"
        if name == "vector_views":
            check_views_unread(self.settings, self.usual)
        else:
            build(self.settings, "vector_views", "weak")  # nothing uses it, but a mistake in it is told all the same
        views: Views | VectorViews = build(self.settings, name, "weak")
        return views

    @cached_property
    def optimizers(self) -> tuple[Any, Any, Any]:
        """What makes the optimizer of a network, the optimizer of a head, and the schedule."""
        return make_optimizers(self.settings, self.usual)

    @property
    def set_aside(self) -> list[str]:
        """In a line each, what the run makes no use of; see `unread.set_aside`."""
        return set_aside(self.method, self.cleaner, self.risk, self.views, self.settings, self.overrides)

    # Data and networks ------------------------------------------------------------------------------------------------

    @cached_property
    def begun(self) -> Begun | None:
        """The checkpoint to continue from, if any, of a run with these settings."""
        path, folder = self.settings["resume"], Path(self.settings["run_dir"])
        checkpoint = None if path is None else find_checkpoint(path)
        saved = None if checkpoint is None else read_checkpoint(checkpoint)
        if saved is not None:
            settings = as_recorded(self.settings, self.left_open, saved[RECORD]["config"])
            self.settle(as_begun(settings, saved[RECORD], self.overrides))
            check_same_config(saved[RECORD]["config"], self.settings)
        check_unused(folder, None if path is None else run_folder(path, checkpoint))
        return None if checkpoint is None or saved is None else begun_from(checkpoint, saved)

    @cached_property
    def features(self) -> Features:
        """Turns images into vectors, or leaves them as they are, as runs did before there were features."""
        if "features" not in self.settings:
            return NoFeatures()
        features: Features = build(self.settings, "features", "extract")
        return features

    def decided(self, dataset: ImageDataset) -> ImageDataset:
        """The data set in views that fit its images, where the settings leave their size open; then they have it."""
        if not self.left_open:
            return dataset
        if self.undecided and self.settings["resume"] is not None:
            _ = self.begun  # which knows
        images = dataset.train.images
        if self.undecided and not self.features.active and isinstance(images, ImageFiles):
            settings, self.choice = fitted(self.given, images)
            self.settle(settings)
        return cropped(dataset, build(self.settings, "dataset.crop"))

    def settle(self, settings: dict[str, Any]) -> None:
        """Have these settings, in which nothing is open, in place of the former ones."""
        changed = {name for name in settings if settings[name] != self.settings.get(name)}
        self.settings, self.undecided = settings, False
        groups = {"risk": ("semisup",), "views": ("views", "vector_views"), "optimizers": ("optimizer",)}
        for name in ("method", "cleaner", *groups):
            if changed & {*groups.get(name, (name,))}:
                self.__dict__.pop(name, None)  # built of the settings of before

    def share_data(self, other: Parts) -> None:
        """Take the images and labels of another run on the same data, in views as this one says; no list is read."""
        clean = self.decided(other.clean_dataset)
        crop = build(self.settings, "dataset.crop") if "crop" in self.settings["dataset"] else None
        self.clean_dataset, self.noisy_images = cropped(clean, crop), cropped(other.noisy_images, crop)

    @cached_property
    def clean_dataset(self) -> ImageDataset:
        """The data set as it comes."""
        return self.decided(build(self.settings, "dataset", "train"))

    @cached_property
    def noisy_images(self) -> ImageDataset:
        """The data set with its noisy training labels, as images."""
        clean, noise = self.clean_dataset, self.noise
        with settings_of("noise"):
            noisy = noise.corrupt(clean, self.settings["noise_seed"])
        return replace(clean, train=keep_certain(clean.train, noisy))

    @cached_property
    def dataset(self) -> ImageDataset:
        """The data set with its noisy training labels, and features in the place of its images where that is asked."""
        device = "cpu"
        if uses_gpu(self.settings["trainer"]):
            device = f"cuda:{process_number() % torch.cuda.device_count()}"
        with settings_of_features():
            self.features.prepare()
        images = self.noisy_images
        if self.features.active:  # whose computing may take hours: what cannot learn from them is told before
            with settings_of_features():
                tried = self.features.stand_in(images)
            check_network(self.make_network(tried), self.views, tried)
        with settings_of_features():
            return self.features.extract(images, device, quiet=process_number() > 0)

    def check_truth(self) -> None:
        """Raise `InputError` where the cleaner needs true labels that the data set does not have."""
        true_labels = self.dataset.train.true_labels
        known = true_labels is not None and bool((true_labels != -1).all())
        require(
            known or not self.cleaner.needs_true_labels, "cleaner", "oracle",
            "needs the true label of every training sample, and this data set does not have them",
        )  # fmt: skip

    def check_neighbours(self) -> None:
        """Raise `InputError` where the cleaner compares more samples with each other than it can as things are here."""
        cleaner, train = self.cleaner, self.noisy_images.train
        if isinstance(cleaner, ComparesSamples) and self.settings["training"]["balanced_batches"] is None:
            with settings_of("cleaner"):
                cleaner.require_comparable(len(train), self.features.active or isinstance(train.images, Vectors))

    @cached_property
    def networks(self) -> list[Network]:
        """Network 1 and network 2, initialised differently, from the run's seed; or one, twice."""
        _ = self.dataset
        pl.seed_everything(self.settings["seed"], workers=True, verbose=False)
        torch.set_float32_matmul_precision("high")
        check_views(self.views, self.dataset)
        networks = [self.make_network(self.dataset) for _ in range(1 if self.method.trains_one else 2)]
        networks = [networks[0], networks[-1]]
        check_network(networks[0], self.views, self.dataset)
        return networks

    def make_network(self, dataset: ImageDataset) -> Network:
        """One network for the images and classes of a data set."""
        channels = dataset.train.images.fetch(torch.tensor([0])).shape[1]
        make_backbone, node = build(self.settings, "backbone"), self.settings["backbone"]
        require(callable(make_backbone), "backbone._partial_", node.get("_partial_"), "must be true")
        try:
            with settings_of("backbone"):
                backbone = make_backbone(in_channels=channels)
        except (RuntimeError, MemoryError, TypeError) as error:  # more weights than memory, or no `name`, say
            raise blame("backbone", node, error) from error
        except InputError as error:
            if isinstance(dataset.train.images, Vectors) and error.setting == "backbone.in_channels":
                what = f"vectors of {channels} numbers, which this data set consists of: backbone=mlp does"
                raise InputError("backbone", "this network", f"cannot take {what}") from None
            raise
        return Network(backbone, len(dataset.class_names), self.settings["embedding_size"])

    # The Lightning layer ----------------------------------------------------------------------------------------------

    @cached_property
    def datamodule(self) -> CoTrainingDataModule:
        """Serves both networks."""
        training, dataset, views, cleaner = self.settings["training"], self.dataset, self.views, self.cleaner
        images = self.method.images_of(views, self.risk)
        with settings_of("training"):
            return CoTrainingDataModule(
                dataset, training["batch_size"], self.settings["seed"], training["evaluation_batch_size"],
                training["limit_batches"], training["num_workers"], training["balanced_batches"], images,
                training["warmup_epochs"] if cleaner.active else 0, training["warmup_batch_size"],
                training["full_epochs"], self.method,
                # Who knows the truth learns nothing by waiting.
                SCHEDULED if cleaner.needs_true_labels else training["divide_when"],
            )  # fmt: skip

    @cached_property
    def module(self) -> CoTrainingModule:
        """Trains the networks."""
        training, networks, num_classes = self.settings["training"], self.networks, len(self.dataset.class_names)
        _ = self.datamodule, self.risk, self.optimizers
        with settings_of("training"):
            self.method.begin(self.beginning(networks))
            return CoTrainingModule(
                networks, self.method, self.views, *self.optimizers, num_classes, training["warmup_epochs"],
                tuple(self.dataset.watched), self.settings["seed"], training["channels_last"], training["compile"],
            )  # fmt: skip

    def beginning(self, networks: Sequence[Network]) -> Beginning:
        """What the method begins with; raises `InputError` for a setting of `training`, named without it."""
        training, (first, second), divides = self.settings["training"], networks, self.cleaner.active
        penalty, policy = training[PENALTY], training[POLICY]
        require_number(PENALTY, penalty, 0.0)
        return Beginning(
            (first, second), self.views, self.risk, len(self.dataset.train), len(self.dataset.class_names),
            training["epochs"], training["warmup_epochs"],
            penalty if divides else 0.0, policy if divides else None,  # of what a warm-up prepares
        )  # fmt: skip

    @cached_property
    def stage_one(self) -> StageOne:
        """Knows the verdict on the labels."""
        return StageOne(self.cleaner, self.settings["seed"], self.method.judge)

    @cached_property
    def select(self) -> SelectNetworks | None:
        """Keeps the networks that the set "val" selects; None without such a set."""
        best = Path(self.settings["run_dir"], FOLDER, f"{BEST}.ckpt")
        return SelectNetworks(best) if VALIDATION in self.dataset.watched else None

    @cached_property
    def table(self) -> EpochTable:
        """Every epoch's metrics, each row with the noise rates."""
        actual = noise_rate(self.datamodule.noisy_labels, self.datamodule.true_labels)
        rates = {"noise/rate_nominal": self.noise.nominal_rate, "noise/rate_actual": actual}
        return EpochTable(Path(self.settings["run_dir"], "metrics.csv"), rates)

    @cached_property
    def trainer(self) -> pl.Trainer:
        """Lightning's trainer with the run's own callbacks."""
        losses = KeepWarmupLosses(self.settings["run_dir"], self.stage_one)
        own = [self.stage_one, losses, *([self.select] if self.select else []), self.table]
        record = RunRecord(self.settings, self.overrides, self.dataset)
        tested = "test" in self.dataset.watched and not self.select
        trainer = make_trainer(self.settings, [*own, record], "test/accuracy" if tested else None)
        for logger in trainer.loggers:
            if isinstance(logger, EpochWandb):
                logger.describe(self.settings, self.overrides)
        return trainer
