"""Logs loss histograms and suspicious images to Weights & Biases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import wandb
from numpy.typing import NDArray
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_warn

from cpc_lightning.cleaning.evidence import CLASS_AGNOSTIC, LossMixture
from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES, UNKNOWN, UNLABELED, pictures_of
from cpc_lightning.errors import first_line, one_line, require_integer
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.stage_one import StageOne, Verdict

BINS = 50


class WandbDashboard(pl.Callback):
    """Histograms of the losses every few epochs; at the end the most suspicious images, with their pictures."""

    def __init__(self, every_n_epochs: int = 5, suspects: int = 32) -> None:
        """Take how often to draw histograms, and how many images to show (0: none)."""
        require_integer("every_n_epochs", every_n_epochs, 1)
        require_integer("suspects", suspects, 0)
        self.every_n_epochs, self.suspects = every_n_epochs, suspects

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the histogram of this epoch's stage 1, if there was one and it is its turn."""
        verdict = _stage_one(trainer).verdict
        if verdict is None or verdict.epoch != trainer.current_epoch + 1:
            return
        if verdict.epoch % self.every_n_epochs == 0 or verdict.epoch == trainer.max_epochs:
            with _on_trouble("the histograms of the losses"):
                self._draw(trainer, verdict)

    def _draw(self, trainer: pl.Trainer, verdict: Verdict) -> None:
        for run in _runs(trainer):
            run.log({f"losses/network_{n}": _histogram(verdict, n - 1) for n in (1, 2)}, commit=False)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the training samples whose labels look most wrong."""
        stage_one, datamodule = _stage_one(trainer), cast(CoTrainingDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        report = stage_one.label_report(datamodule)
        pictures = pictures_of(datamodule.dataset.train.images)
        if report.clean_probability is None or self.suspects == 0 or pictures is None:
            return
        names = [one_line(name) for name in datamodule.dataset.class_names]
        worst = report.clean_probability.argsort(stable=True)[: self.suspects]
        worst = worst[report.noisy_labels[worst] != UNLABELED]
        images = pictures.fetch(worst)
        confidence, suggested = report.confidence[worst], report.suggested[worst]
        rows = list(
            zip(
                worst.tolist(), images, report.noisy_labels[worst].tolist(), report.clean_probability[worst].tolist(),
                suggested.tolist(), confidence.tolist(), report.true_labels[worst].tolist(), strict=True,
            )
        )  # fmt: skip
        with _on_trouble("the suspicious labels, which labels.csv lists"):
            self._show(trainer, rows, names)

    def _show(self, trainer: pl.Trainer, rows: list[tuple[Any, ...]], names: list[str]) -> None:
        """Log a table of `rows` and their pictures; `names` are the classes'."""
        for run in _runs(trainer):
            table = wandb.Table(
                ["index", "image", "noisy_label", "clean_probability", "suggested_label", "confidence", "true_label"]
            )
            pictures = []
            for index, image, noisy, clean, suggestion, sure, true in rows:
                pixels = image.permute(1, 2, 0).squeeze(-1).numpy()
                truth = {UNKNOWN: None, NONE_OF_THE_CLASSES: "none"}.get(true) if true < 0 else names[true]
                table.add_data(index, wandb.Image(pixels), names[noisy], clean, names[suggestion], sure, truth)
                caption = f"{index}: labeled {names[noisy]}, looks like {names[suggestion]}"
                pictures.append(wandb.Image(pixels, caption=caption))
            # Offline, a table's pictures wait in wandb's own folder; those logged by themselves lie with the run.
            run.log({"suspicious_labels": table, "suspicious_images": pictures})


@contextmanager
def _on_trouble(what: str) -> Iterator[None]:
    """Say that W&B does not show `what`, such as for a folder of its own that it may not write to: the run goes on."""
    try:
        yield
    except (OSError, wandb.Error) as error:
        rank_zero_warn(f"W&B does not show {what}: {one_line(first_line(error))}")


def _stage_one(trainer: pl.Trainer) -> StageOne:
    return next(callback for callback in trainer.callbacks if isinstance(callback, StageOne))  # type: ignore[attr-defined]


def _runs(trainer: pl.Trainer) -> list[Any]:
    """The W&B runs to log to; none on processes other than the first."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _histogram(verdict: Verdict, network: int) -> Any:
    """The density of the scaled losses of `network`, and of the two components of its mixture."""
    scaled = verdict.judging[network].loss_history[-1].double().numpy()
    density, edges = np.histogram(scaled, bins=BINS, range=(0.0, 1.0), density=True)
    centres = (edges[:-1] + edges[1:]) / 2
    series, keys = [density.tolist()], ["losses"]
    mixtures = None if verdict.result is None else verdict.result.estimates[network].mixtures
    if mixtures and CLASS_AGNOSTIC in mixtures:
        mixture = mixtures[CLASS_AGNOSTIC]
        series += [component_density(mixture, component, centres).tolist() for component in (0, 1)]
        keys += ["clean component", "noisy component"]
    title = f"Scaled losses, network {network + 1}, epoch {verdict.epoch}"
    return wandb.plot.line_series(centres.tolist(), series, keys=keys, title=title, xname="scaled loss")


def component_density(mixture: LossMixture, component: int, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted density of one Gaussian of the mixture at the scaled losses `at`."""
    mean, variance, weight = mixture.means[component], mixture.variances[component], mixture.weights[component]
    return np.asarray(weight * np.exp(-((at - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance))
