"""One run, from its config to its report."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import wandb
from omegaconf import DictConfig, OmegaConf

from cpc_lightning.building import (
    add_noise,
    build,
    check_truth,
    check_views,
    make_method,
    make_network,
    make_trainer,
    settings_of,
)
from cpc_lightning.callbacks import EpochTable
from cpc_lightning.data.dataset import ImageDataset
from cpc_lightning.datamodule import CoTrainingDataModule
from cpc_lightning.files import atomic_write
from cpc_lightning.metrics import noise_rate, summarise_accuracy
from cpc_lightning.module import CoTrainingModule
from cpc_lightning.report.labels import LabelReport
from cpc_lightning.report.summary import print_summary, write_summary
from cpc_lightning.stage_one import StageOne

OUTPUTS = {
    "labels.csv": "the verdict on every training label",
    "metrics.csv": "every epoch",
    "summary.json": "the numbers above",
    "checkpoints/": "best.ckpt, last.ckpt",
    "config.yaml": "all settings; versions.json beside it",
}
PACKAGES = ("cpc-lightning", "torch", "torchvision", "pytorch-lightning", "hydra-core", "scikit-learn", "numpy")


def run(config: DictConfig, overrides: list[str] | None = None) -> dict[str, Any]:
    """Train, evaluate and report.

    Args:
        config: a composed config, as `conf/config.yaml` describes it.
        overrides: what the user changed; the summary holds it, so that a sweep's table can name its rows.

    Returns:
        The summary, as written to summary.json.

    Raises:
        InputError: for a setting, file or folder that cannot be used, before any training.
        TrainingError: if a loss becomes infinite or NaN.
    """
    begin = time.monotonic()
    folder = Path(config.run_dir)
    method = make_method(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")

    dataset: ImageDataset = add_noise(build(config, "dataset"), method.noise, config.noise_seed)
    check_views(method.views, dataset)
    check_truth(method.cleaner, dataset)
    networks = [make_network(config, dataset) for _ in range(2)]
    with settings_of("training"):
        datamodule = CoTrainingDataModule(
            dataset, config.training.batch_size, config.seed, config.training.evaluation_batch_size,
            config.training.limit_batches, config.training.num_workers, config.training.balanced_batches,
        )  # fmt: skip
        module = CoTrainingModule(
            networks, method.risk, method.views, *method.optimizers, len(dataset.class_names),
            config.training.warmup_epochs,
            tuple(dataset.evaluation),
            config.training.confidence_penalty if method.cleaner.active else 0.0,  # it prepares a division of the data
            config.seed, config.training.channels_last, config.training.compile,
        )  # fmt: skip

    rates = {
        "noise/rate_nominal": method.noise.nominal_rate,
        "noise/rate_actual": noise_rate(datamodule.noisy_labels, datamodule.true_labels),
    }
    stage_one, table = StageOne(method.cleaner, config.seed), EpochTable(folder / "metrics.csv", rates)
    trainer = make_trainer(config, [stage_one, table])
    if trainer.is_global_zero:
        record_settings(folder, config)
    try:
        trainer.fit(module, datamodule, ckpt_path=config.resume)
    finally:
        wandb.finish()  # or the next job of a sweep logs into this one's run

    report = stage_one.label_report(datamodule)
    summary = summarise(config, table, report, rates, time.monotonic() - begin) | {"overrides": overrides or []}
    if trainer.is_global_zero:
        report.write(folder / "labels.csv")
        write_summary(folder / "summary.json", summary)
        print_summary(summary, {"folder": str(folder), **OUTPUTS})
    return summary


def record_settings(folder: Path, config: DictConfig) -> None:
    """Write the resolved config and the versions of what computes."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "config.yaml") as file:
        file.write(OmegaConf.to_yaml(config, resolve=True).encode())
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    write_summary(folder / "versions.json", {"python": platform.python_version(), **versions})


def summarise(
    config: DictConfig, table: EpochTable, report: LabelReport, rates: dict[str, float | None], seconds: float
) -> dict[str, Any]:
    """The run in a few numbers; None where one does not apply. The cleaner's are those of the final verdict."""
    last = table.rows[-1]
    accuracy = summarise_accuracy(list(table.column("test/accuracy")))
    return {
        **{f"test_accuracy_{name}": value for name, value in accuracy.items()},
        **{f"cleaner_{m}_{c}": last.get(f"{c}/{m}") for c in ("gmm", "cpc") for m in ("auc", "precision", "recall")},
        "noise_rate_nominal": rates["noise/rate_nominal"],
        "noise_rate_actual": rates["noise/rate_actual"],
        "suspected_labels": None if report.suspected is None else int(report.suspected.sum()),
        "training_samples": len(report.noisy_labels),
        "epochs": len(table.rows),
        "seconds": seconds,
    }
