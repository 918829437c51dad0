"""Sends what stage 1 finds to W&B and TensorBoard: histograms, and the images with the most suspicious labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from cpc_lightning.cleaning.evidence import CLASS_AGNOSTIC, LossMixture
from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES, UNKNOWN, pictures_of
from cpc_lightning.errors import first_line, one_line, require_integer
from cpc_lightning.training.datamodule import datamodule_of
from cpc_lightning.training.stage_one import StageOne
from cpc_lightning.training.verdict import Verdict

BINS = 50


@dataclass(frozen=True)
class Histograms:
    """What a stage 1 says of the labels that one network judges.

    Attributes:
        network: 1 or 2.
        epoch: the one after which it was, from 0: that of the metrics.
        losses: (n,) float64 scaled to [0, 1].
        centres: (BINS,) the middles of the bins.
        densities: by name, each (BINS,): the losses, and the components of a class-agnostic mixture.
        clean_probabilities: (n,) float64; None without a cleaner.
    """

    network: int
    epoch: int
    losses: NDArray[np.float64]
    centres: NDArray[np.float64]
    densities: dict[str, list[float]]
    clean_probabilities: NDArray[np.float64] | None


@dataclass(frozen=True)
class Suspect:
    """A training sample whose label looks wrong. Names of classes are escaped; no true one where it is unknown."""

    index: int
    image: Tensor  # (C, H, W) uint8
    given: str
    clean_probability: float
    suggested: str
    confidence: float
    true: str | None

    @property
    def caption(self) -> str:
        """What to write below its picture."""
        return f"{self.index}: labeled {self.given}, looks like {self.suggested}"


@runtime_checkable
class Panel(Protocol):
    """A logger that can draw.

    Attributes:
        called: its name for people.
        troubles: what it raises where it cannot, such as for a folder that it may not write to.
    """

    @property
    def called(self) -> str: ...  # noqa: D102

    @property
    def troubles(self) -> tuple[type[Exception], ...]: ...  # noqa: D102

    def draw_histograms(self, histograms: Histograms) -> None:
        """Draw them, for their network and epoch."""

    def show_suspects(self, suspects: Sequence[Suspect], epoch: int) -> None:
        """Show their pictures and a table, after the last epoch."""


class Dashboard(pl.Callback):
    """Histograms of losses and clean probabilities every few epochs; at the end the most suspicious images."""

    def __init__(self, every_n_epochs: int = 5, suspects: int = 32) -> None:
        """Take how often to draw histograms, and how many images to show (0: none)."""
        require_integer("every_n_epochs", every_n_epochs, 1)
        require_integer("suspects", suspects, 0)
        self.every_n_epochs, self.suspects = every_n_epochs, suspects

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the histograms of this epoch's stage 1, if there was one and it is its turn."""
        verdict = _stage_one(trainer).verdict
        if verdict is None or verdict.epoch != trainer.current_epoch + 1:
            return
        if verdict.epoch % self.every_n_epochs == 0 or verdict.epoch == trainer.max_epochs:
            for panel in _panels(trainer):
                with _on_trouble(panel, "the histograms of stage 1"):
                    for network in (1, 2):
                        panel.draw_histograms(histograms_of(verdict, network))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the training samples whose labels look most wrong."""
        panels = _panels(trainer)
        if panels and (suspects := self._find(trainer)):
            for panel in panels:
                with _on_trouble(panel, "the suspicious labels, which labels.csv lists"):
                    panel.show_suspects(suspects, trainer.current_epoch - 1)

    def _find(self, trainer: pl.Trainer) -> list[Suspect]:
        datamodule = datamodule_of(trainer)
        report = _stage_one(trainer).label_report(datamodule)
        pictures = pictures_of(datamodule.dataset.train.images)
        if report.clean_probability is None or self.suspects == 0 or pictures is None:
            return []
        names = [one_line(name) for name in datamodule.dataset.class_names]
        worst = report.most_suspicious(self.suspects)
        columns = (
            report.noisy_labels, report.clean_probability, report.suggested, report.confidence, report.true_labels
        )  # fmt: skip
        images = pictures.fetch(worst)
        rows = zip(worst.tolist(), images, *(column[worst].tolist() for column in columns), strict=True)
        unknown = {UNKNOWN: None, NONE_OF_THE_CLASSES: "none"}
        return [
            Suspect(
                index, image, names[given], clean, names[suggested], sure, names[true] if true >= 0 else unknown[true]
            )
            for index, image, given, clean, suggested, sure, true in rows
        ]


def histograms_of(verdict: Verdict, network: int) -> Histograms:
    """What the verdict says of the labels that `network` (1 or 2) judges."""
    scaled = verdict.judging[network - 1].loss_history[-1].double().numpy()
    density, edges = np.histogram(scaled, bins=BINS, range=(0.0, 1.0), density=True)
    centres = (edges[:-1] + edges[1:]) / 2
    densities = {"losses": density.tolist()}
    estimate = None if verdict.result is None else verdict.result.estimates[network - 1]
    if estimate is not None and estimate.mixtures and CLASS_AGNOSTIC in estimate.mixtures:
        for component, name in enumerate(("clean component", "noisy component")):
            densities[name] = component_density(estimate.mixtures[CLASS_AGNOSTIC], component, centres).tolist()
    clean = None if estimate is None else estimate.clean_probability.double().cpu().numpy()
    return Histograms(network, verdict.epoch - 1, scaled, centres, densities, clean)


def component_density(mixture: LossMixture, component: int, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted density of one Gaussian of the mixture at the scaled losses `at`."""
    mean, variance, weight = mixture.means[component], mixture.variances[component], mixture.weights[component]
    return np.asarray(weight * np.exp(-((at - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance))


@contextmanager
def _on_trouble(panel: Panel, what: str) -> Iterator[None]:
    """Say that the logger does not show `what`: the run goes on."""
    try:
        yield
    except panel.troubles as error:
        rank_zero_warn(f"{panel.called} does not show {what}: {one_line(first_line(error))}")


def _stage_one(trainer: pl.Trainer) -> StageOne:
    return next(callback for callback in trainer.callbacks if isinstance(callback, StageOne))  # type: ignore[attr-defined]


def _panels(trainer: pl.Trainer) -> list[Panel]:
    """The loggers that can draw; none on processes other than the first."""
    return [logger for logger in trainer.loggers if isinstance(logger, Panel)] if trainer.is_global_zero else []
