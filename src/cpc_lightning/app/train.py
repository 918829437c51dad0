"""One run, from its config to its report."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import wandb
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_warn

from cpc_lightning.analysis.metrics import noise_rate, summarise_accuracy
from cpc_lightning.app.building import (
    add_noise,
    build_part,
    check_network,
    check_truth,
    check_views,
    choose_precision,
    make_method,
    make_network,
    make_trainer,
    settings_of,
)
from cpc_lightning.app.settings import plain_settings
from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import InputError
from cpc_lightning.files import atomic_write, remove_stale
from cpc_lightning.report.labels import LabelReport
from cpc_lightning.report.summary import print_summary, write_summary
from cpc_lightning.report.tables import write_bad_images, write_classes
from cpc_lightning.training.callbacks import EpochTable
from cpc_lightning.training.checkpoints import (
    BEST,
    FOLDER,
    OVERRIDES,
    RECORD,
    RunRecord,
    bring_checkpoints,
    check_same_config,
    check_same_data,
    check_unused,
    find_checkpoint,
    read_checkpoint,
    run_folder,
)
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.training.selection import VALIDATION, SelectNetworks
from cpc_lightning.training.stage_one import StageOne

OUTPUTS = {
    "labels.csv": "the verdict on every training label",
    "metrics.csv": "every epoch",
    "summary.json": "the numbers above",
    "classes.json": "the classes' names; label k is its item k",
    "checkpoints/": "best.ckpt, last.ckpt",
    "config.yaml": "all settings; versions.json beside it",
}
PACKAGES = ("cpc-lightning", "torch", "torchvision", "pytorch-lightning", "hydra-core", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Prepared:
    """A run of which nothing has been computed or written yet.

    Attributes:
        trainer, module, datamodule: Lightning's three, ready to fit.
        stage_one, select, table: the callbacks that know the verdict on the labels, the networks that the set "val"
            selects (None without such a set), and every epoch's metrics.
        rates: noise rates, for every row of the metrics and for the summary.
        checkpoint: where to continue from; None: from the beginning.
    """

    trainer: pl.Trainer
    module: CoTrainingModule
    datamodule: CoTrainingDataModule
    stage_one: StageOne
    select: SelectNetworks | None
    table: EpochTable
    rates: dict[str, float | None]
    checkpoint: Path | None


def run(config: DictConfig, overrides: list[str] | None = None, dataset: ImageDataset | None = None) -> dict[str, Any]:
    """Train, evaluate and report.

    Args:
        config: a composed config, as `conf/config.yaml` describes it.
        overrides: what the user changed; the summary holds it, so that a sweep's table can name its rows.
        dataset: the config's, noise included, where it is open already.

    Returns:
        The summary, as written to summary.json.

    Raises:
        InputError: for a setting, file or folder that cannot be used, before any training.
        TrainingError: if a loss becomes infinite or NaN, or a checkpoint cannot be written.
    """
    begin = time.monotonic()
    folder = Path(config.run_dir)
    overrides = [text for text in overrides or [] if not text.startswith("resume=")]
    parts = prepare(config, overrides, dataset)
    trainer, datamodule, table = parts.trainer, parts.datamodule, parts.table
    if trainer.is_global_zero:
        for place in (folder, folder / FOLDER):
            remove_stale(place)
        record_settings(folder, config, overrides)
        record_data(folder, datamodule.dataset)
        if parts.checkpoint is not None:
            bring_checkpoints(parts.checkpoint, folder / FOLDER)
    try:
        trainer.fit(parts.module, datamodule, ckpt_path=parts.checkpoint, weights_only=True)
        report = parts.stage_one.label_report(datamodule)
        if trainer.is_global_zero:  # before the test, which may find a file that cannot be read
            table.write()
            report.write(folder / "labels.csv")
        selected = parts.select.test(trainer, parts.module, datamodule) if parts.select else {}
    except Exception as error:
        if isinstance(error, InputError) or not while_restoring(error):
            raise
        reason = f"cannot be loaded ({type(error).__name__}: {str(error)[:200]})"
        raise InputError("resume", str(parts.checkpoint), reason) from error
    finally:
        wandb.finish()  # or the next job of a sweep logs into this one's run

    seconds = table.seconds_before + time.monotonic() - begin
    summary = summarise(config, table, report, parts.rates, selected, seconds) | {"overrides": overrides}
    if trainer.is_global_zero:
        write_summary(folder / "summary.json", summary)
        print_summary(summary, {"folder": str(folder), **OUTPUTS})
    return summary


def prepare(config: DictConfig, overrides: Sequence[str] = (), dataset: ImageDataset | None = None) -> Prepared:
    """Everything up to training: builds all parts, and writes nothing.

    Args:
        config: as for `run`.
        overrides: as for `run`.
        dataset: the config's, noise included, where it is open already.

    Raises:
        InputError: for a setting, file or folder that cannot be used.
    """
    method = make_method(config)
    if "precision" in config.trainer:  # what "auto" means here is what a resumed run is compared with
        config.trainer.precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    plain = plain_settings(config)
    checkpoint = None if config.resume is None else find_checkpoint(config.resume)
    saved = None if checkpoint is None else read_checkpoint(checkpoint)
    if saved is not None:
        check_same_config(saved[RECORD]["config"], plain)
    check_unused(Path(config.run_dir), None if config.resume is None else run_folder(config.resume, checkpoint))

    pl.seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    if dataset is None:
        clean = build_part(config, "dataset", "train")
        dataset = add_noise(clean, method.noise, config.noise_seed)
    if saved is not None:
        check_same_data(saved[RECORD]["data"], saved[CoTrainingDataModule.__name__]["noisy_labels"], dataset)
    check_views(method.views, dataset)
    check_truth(method.cleaner, dataset)
    networks = [make_network(config, dataset) for _ in range(2)]
    check_network(networks[0], method.views, dataset)
    with settings_of("training"):
        datamodule = CoTrainingDataModule(
            dataset, config.training.batch_size, config.seed, config.training.evaluation_batch_size,
            config.training.limit_batches, config.training.num_workers, config.training.balanced_batches,
            method.views.per_image, config.training.warmup_epochs if method.cleaner.active else 0,
            config.training.warmup_batch_size,
        )  # fmt: skip
        module = CoTrainingModule(
            networks, method.risk, method.views, *method.optimizers, len(dataset.class_names),
            config.training.warmup_epochs,
            tuple(dataset.watched),
            config.training.confidence_penalty if method.cleaner.active else 0.0,  # it prepares a division of the data
            config.seed, config.training.channels_last, config.training.compile,
            config.training.warmup_policy if method.cleaner.active else None,
        )  # fmt: skip

    rates = {
        "noise/rate_nominal": method.noise.nominal_rate,
        "noise/rate_actual": noise_rate(datamodule.noisy_labels, datamodule.true_labels),
    }
    stage_one, table = StageOne(method.cleaner, config.seed), EpochTable(Path(config.run_dir) / "metrics.csv", rates)
    select = SelectNetworks(Path(config.run_dir, FOLDER, f"{BEST}.ckpt")) if VALIDATION in dataset.watched else None
    callbacks = [stage_one, *([select] if select else []), table, RunRecord(plain, overrides, dataset)]
    trainer = make_trainer(config, callbacks, best_by=None if select else "test/accuracy")
    return Prepared(trainer, module, datamodule, stage_one, select, table, rates, checkpoint)


def while_restoring(error: BaseException) -> bool:
    """Whether `error` was raised while Lightning gave the parts of a run their saved states back."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_globals.get("__name__", "").endswith("checkpoint_connector")
        and frame.f_code.co_name.startswith(("resume", "restore", "_restore"))
        for frame in frames
    )


def record_settings(folder: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Write what the user changed, the resolved config and the versions of what computes."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / OVERRIDES) as file:  # to begin anew from, until there is a checkpoint
        file.write(json.dumps(list(overrides)).encode())
    with atomic_write(folder / "config.yaml") as file:
        file.write(OmegaConf.to_yaml(config, resolve=True).encode())
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    write_summary(folder / "versions.json", {"python": platform.python_version(), **versions})


def record_data(folder: Path, dataset: ImageDataset) -> None:
    """Write the classes' names, and the images that were left out, if any."""
    write_classes(folder / "classes.json", dataset.class_names)
    if dataset.left_out:
        write_bad_images(folder / "bad_images.csv", dataset.left_out)
        rank_zero_warn(f"images that cannot be read are left out: {len(dataset.left_out)}, listed in bad_images.csv")


def summarise(
    config: DictConfig,
    table: EpochTable,
    report: LabelReport,
    rates: dict[str, float | None],
    selected: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """The run in a few numbers; None where one does not apply. The cleaner's are those of the final verdict.

    Accuracies of both networks together, in percent, are named after their set: "test_accuracy_best",
    "test_accuracy_top5_best", "ilsvrc12_accuracy_best", ... "test_accuracy_selected" is that of the networks that the
    set "val" selects; "test_prototype_accuracy_last", ... are those of class prototypes as classifiers.
    "ks_deviating_clean_1", ... are the shares of classes of Figure 1, at the end of the warm-up.
    """
    last = table.rows[-1]
    measured = [name for name in last if name.endswith(("/accuracy", "/accuracy_top5", "/prototype_accuracy"))]
    return {
        **{
            f"{name.replace('/', '_')}_{key}": value
            for name in dict.fromkeys(("test/accuracy", *measured))
            for key, value in summarise_accuracy(list(table.column(name))).items()
        },
        "test_accuracy_selected": None,
        **{f"{name.replace('/', '_')}_selected": v for name, v in selected.items() if name[-2:] not in ("_1", "_2")},
        **{f"cleaner_{m}_{c}": last.get(f"{c}/{m}") for c in ("gmm", "cpc") for m in ("auc", "precision", "recall")},
        **{
            f"ks_deviating_{of}": next(iter(table.column(f"losses/ks_deviating_{of}")), None)
            for of in ("clean_1", "clean_2", "noisy_1", "noisy_2")
        },
        "noise_rate_nominal": rates["noise/rate_nominal"],
        "noise_rate_actual": rates["noise/rate_actual"],
        "suspected_labels": None if report.suspected is None else int(report.suspected.sum()),
        "training_samples": len(report.noisy_labels),
        "epochs": len(table.rows),
        "seconds": seconds,
    }
