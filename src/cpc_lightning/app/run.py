"""Runs training, from ready parts to the written report."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_warn

from cpc_lightning.app.ahead import announce
from cpc_lightning.app.folders import with_folder
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.rehearsal import faster_ways
from cpc_lightning.app.report import REPORT, gather, write
from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import InputError, TrainingError, first_line, one_line
from cpc_lightning.files import atomic_write, remove_stale
from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.report.ending import lost_by_dividing, print_findings, print_summary, warnings_of
from cpc_lightning.report.findings import never_divided
from cpc_lightning.report.labels import LabelReport
from cpc_lightning.report.run_folder import read_run_folder
from cpc_lightning.report.summary import summarise, write_summary
from cpc_lightning.report.tables import write_bad_images, write_classes, write_matrix
from cpc_lightning.training.checkpoints import BEST, FOLDER, LAST, OVERRIDES, bring_checkpoints
from cpc_lightning.training.failures import machine_failure
from cpc_lightning.training.held_out import held_out_reports
from cpc_lightning.training.progress import close_progress
from cpc_lightning.training.warmup_losses import bring_warmup_losses
from cpc_lightning.training.weights_and_biases import EpochWandb, finish_wandb

PAGE = Path("report", "index.html")
"""What shows the verdict to people, in the run's folder."""

MATRIX = "transition_matrix.csv"

OUTPUTS = {  # which are named at the end, where they are there
    "report/index.html": "the page: look at the labels and decide about them",
    "labels.csv": "the verdict on every training label",
    "labels_test.csv": "the same for the test images",
    MATRIX: "P(given label | true class) as estimated, for noise=matrix",
    "metrics.csv": "the numbers of every epoch",
    "summary.json": "the numbers above, and more",
    "classes.json": "the names of the classes: label k is item k",
    "checkpoints/": "the networks: best.ckpt, last.ckpt",
    "config.yaml": "all settings; versions.json beside it",
}
PACKAGES = ("cpc-lightning", "torch", "torchvision", "pytorch-lightning", "hydra-core", "scikit-learn", "numpy")


def run(config: DictConfig | Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train, evaluate and report.

    From a script or a notebook:

        with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):
            config = hydra.compose("config", ["dataset=digits", "noise=symmetric"], return_hydra_config=True)
        summary = run(config)

    Args:
        config: composed of `conf/config.yaml`; or its settings in plain containers, `run_dir` among them. Set `run_dir`
            to choose the run's folder. Where it is not set, that is the folder which the command line would name, or,
            in a config without Hydra's own part (`return_hydra_config`), `runs/TIME`.
        overrides: what the user changed; the summary holds it, so that a sweep's table can name its rows.

    Returns:
        The summary, as written to summary.json.

    Raises:
        InputError: for a setting, file or folder that cannot be used, before any training.
        TrainingError: if a loss becomes infinite or NaN, a checkpoint cannot be written, a worker process dies, or a
            GPU's memory runs out.
    """
    return run_parts(Parts(with_folder(config) if isinstance(config, DictConfig) else config, overrides).ready())


def run_parts(parts: Parts, show: bool = True) -> dict[str, Any]:
    """`run`, of parts that are ready; without `show` nothing is printed at the end."""
    folder, trainer, table, overrides = Path(parts.settings["run_dir"]), parts.trainer, parts.table, parts.overrides
    checkpoint = None if parts.begun is None else parts.begun.checkpoint
    if trainer.is_global_zero:
        for place in (folder, folder / FOLDER):
            remove_stale(place)
        record_settings(folder, parts.settings, overrides)
        record_data(folder, parts.dataset)
        for line in filter(None, (parts.choice, *parts.set_aside)):
            print(one_line(line), file=sys.stderr)
        if checkpoint is not None:
            newest = Path(parts.settings["resume"], FOLDER, f"{LAST}.ckpt")
            if checkpoint.stem != LAST and newest.exists():
                rank_zero_warn(one_line(f"{newest} is not whole: the run goes on from {checkpoint.name}"))
            bring_checkpoints(checkpoint, folder / FOLDER)
            bring_warmup_losses(checkpoint, folder)
    try:
        announce(parts, faster_ways)
        trainer.fit(parts.module, parts.datamodule, ckpt_path=checkpoint, weights_only=True)
        report = write_verdict(parts)  # before the other sets, which may have a file that cannot be read
        held_out = held_out_reports(trainer, parts.module, parts.datamodule, parts.stage_one)
        if trainer.is_global_zero:
            for name, labels in held_out.items():
                labels.write(folder / f"labels_{name}.csv")
        selected = parts.select.test(trainer, parts.module, parts.datamodule) if parts.select else {}
        seconds = table.seconds_before + time.monotonic() - parts.begin
        chosen = None if parts.stage_one.advice is None else str(parts.stage_one.advice)
        summary = summarise(table.rows, report, held_out, selected, seconds, chosen) | {"overrides": overrides}
        if trainer.is_global_zero:
            write_summary(folder / "summary.json", summary)
            write_report(parts)
            for logger in trainer.loggers:
                if isinstance(logger, EpochWandb):
                    logger.conclude(summary, folder / PAGE)
            finish_wandb()  # which has much to say
            close_progress(trainer)
            if show:
                print_ending(folder, report, summary, advise=type(parts.method) is CoDivide)
        return summary
    except Exception as error:
        if parts.stage_one.concluded and not while_restoring(error):
            write_verdict(parts)  # what fails after the last epoch, such as a logger, costs no verdict
        if reason := machine_failure(error, parts.datamodule, trainer.current_epoch):
            raise TrainingError(reason) from error
        if isinstance(error, MisconfigurationException) or "conditioned on metric" in str(error):
            # a metric that there is not, say, or what works with one optimizer only
            raise InputError("callbacks", list(parts.settings["callbacks"] or ()), first_line(error)) from error
        refuse_unloadable(error, checkpoint)
        raise
    finally:
        close_progress(trainer)
        finish_wandb()


def print_ending(folder: Path, report: LabelReport, summary: Mapping[str, Any], advise: bool = True) -> None:
    """Print what a run in `folder` has found, and what it leaves there; with `advise`, whether dividing has helped."""
    page = folder / PAGE
    here = Path.cwd()
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    print_findings(report, page if page.is_file() else None)
    there = {name: meaning for name, meaning in OUTPUTS.items() if (folder / name).exists()}
    if not (folder / FOLDER / f"{BEST}.ckpt").exists():  # nothing is tested
        there[f"{FOLDER}/"] = f"{LAST}.ckpt"
    of_division = [lost_by_dividing(summary), never_divided(summary)] if advise else []
    warnings = [*warnings_of(report), *(line for line in of_division if line is not None)]
    print_summary(summary, {"folder": str(shown), **there}, warnings=warnings)


def write_verdict(parts: Parts) -> LabelReport:
    """Write metrics.csv and labels.csv; the verdict on the labels."""
    report = parts.stage_one.label_report(parts.datamodule)
    if parts.trainer.is_global_zero:
        parts.table.write()
        report.write(Path(parts.settings["run_dir"], "labels.csv"))
        if report.noise is not None:
            write_matrix(Path(parts.settings["run_dir"], MATRIX), report.noise.transition_matrix)
    return report


def write_report(parts: Parts) -> None:
    """Build the page from what the run has left, unless `report` says no; what is in its way costs the run nothing."""
    folder = parts.settings["run_dir"]
    if not parts.settings["report"]:
        return
    alone = parts.trainer.world_size == 1  # or its data module would serve this process's share
    try:
        material = gather(read_run_folder(folder), parts if alone else None)
        write(material, Path(folder, REPORT))
    except Exception as error:  # also a defect of the page, or memory that it has not: the run has all else by now
        why = error if isinstance(error, InputError) else f"{type(error).__name__}: {first_line(error)}"
        rank_zero_warn(one_line(f"there is no page ({why}); mode=report run={folder} tries again"))


def while_restoring(error: BaseException) -> bool:
    """Whether `error` was raised while Lightning gave the parts of a run their saved states back."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_globals.get("__name__", "").endswith("checkpoint_connector")
        and frame.f_code.co_name.startswith(("resume", "restore", "_restore"))
        for frame in frames
    )


def refuse_unloadable(error: Exception, checkpoint: Any) -> None:
    """Raise `InputError` where `error` is that Lightning could not give the parts of a run what `checkpoint` holds."""
    if not isinstance(error, InputError) and while_restoring(error):
        reason = f"cannot be loaded ({type(error).__name__}: {str(error)[:200]})"
        raise InputError("resume", str(checkpoint), reason) from error


def record_settings(folder: Path, settings: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Write what the user changed, all settings and the versions of what computes."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / OVERRIDES) as file:  # to begin anew from, until there is a checkpoint
        file.write(json.dumps(list(overrides)).encode())
    with atomic_write(folder / "config.yaml") as file:
        file.write(OmegaConf.to_yaml(OmegaConf.create(dict(settings))).encode())
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    write_summary(folder / "versions.json", {"python": platform.python_version(), **versions})


def record_data(folder: Path, dataset: ImageDataset) -> None:
    """Write the classes' names, and the images that were left out, if any."""
    write_classes(folder / "classes.json", dataset.class_names)
    if dataset.left_out:
        write_bad_images(folder / "bad_images.csv", dataset.left_out)
        rank_zero_warn(f"images that cannot be read are left out: {len(dataset.left_out)}, listed in bad_images.csv")
    for line in dataset.remarks:
        rank_zero_warn(one_line(line))
