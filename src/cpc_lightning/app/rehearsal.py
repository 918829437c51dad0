"""Builds the parts of a run for `mode=check`, without downloads, and has them examined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf

from cpc_lightning.app.ahead import command, forecast_of, is_long, sentence
from cpc_lightning.app.build import build, settings_of_features
from cpc_lightning.app.compose import Composed, compose
from cpc_lightning.app.folders import check_writable, with_folder
from cpc_lightning.app.options import quoted
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.trainer import make_trainer, process_count, uses_gpu
from cpc_lightning.backbones.network import Network
from cpc_lightning.backbones.weights import DownloadError, without_downloads
from cpc_lightning.checkup.examine import examine
from cpc_lightning.checkup.findings import Finding, Findings
from cpc_lightning.datasets.dataset import ImageDataset, Vectors
from cpc_lightning.errors import InputError, first_line
from cpc_lightning.features.features import Features
from cpc_lightning.training.forecast import Forecast

METHOD = (
    "backbone", "features", "cleaner", "training", "semisup", "method", "optimizer", "views", "dataset.crop",
    "embedding_size", "vector_views",
)  # fmt: skip
"""What `experiment=photos` brings itself."""
SMALL = 64
"""Side that images are scaled to, to be quick."""


def rehearse(composed: Composed) -> list[Finding]:
    """Everything that can be found out about the run, in the order in which it is looked at. Nothing is written.

    Raises:
        InputError: for what must be mended before anything is built: an interpolation that refers to nothing, a switch
            that is neither true nor false.
    """
    findings = Findings()
    folder = findings.attempt("run folder", lambda: check_writable("hydra.run.dir", composed.config))
    settings = composed.settings(str(folder)) | {"mode": "train"}
    overrides = OmegaConf.to_container(composed.config.hydra.overrides.task, resolve=False)
    parts = Rehearsal(settings, composed.usual, cast(list[str], overrides))
    parts.check_kinds(switches=True)
    if examine(parts, folder, findings):
        findings.rows += time_ahead(parts)
    return findings.rows


def time_ahead(parts: Rehearsal) -> list[Finding]:
    """How long the run will take, and how it would take less time, where it takes long."""
    try:
        found = forecast_of(parts, parts.features_seconds)
    except Exception as error:  # of any network or cleaner
        return [Finding("time", "warning", f"cannot be told: {first_line(error)}")]
    ways = faster_ways(parts, found) if is_long(parts, found) else []
    rows = [Finding("time", "warning" if is_long(parts, found) else "ok", sentence(found))]
    return rows + [Finding("faster", "ok", way.words, command(texts)) for way, texts in ways]


def faster_ways(parts: Parts, found: Forecast) -> list[tuple[Forecast, list[str]]]:
    """Settings with which a run takes half the time or less, and how long, the quickest first.

    Args:
        parts: of the run, ready.
        found: how long it takes as it is.
    """
    ways: list[tuple[Forecast, list[str]]] = []
    folder = quoted(str(Path(parts.settings["run_dir"], "faster")))  # which is not made
    for texts in candidates(parts):
        try:
            rehearsal = Rehearsal(with_folder(compose([*texts, f"run_dir={folder}"])), overrides=texts)
            if rehearsal.settings["dataset"]["_target_"] == parts.settings["dataset"]["_target_"]:
                rehearsal.share_data(parts)
            way = forecast_of(rehearsal.ready(), rehearsal.features_seconds)
        except InputError:  # these settings do not go with the others
            continue
        if way.total < found.total / 2:
            ways.append((way, texts))
    return sorted(ways, key=lambda way: way[0].total)


def candidates(parts: Parts) -> list[list[str]]:
    """What may be faster than the run of these parts, as all that is to be typed for it."""
    typed, settings = without(parts.overrides, "mode", "resume", "hydra.run"), parts.settings
    of_images = not isinstance(parts.dataset.train.images, Vectors)
    found: list[list[str]] = []
    if torch.cuda.is_available() and not uses_gpu(settings["trainer"]):
        found.append([*without(typed, "trainer"), "trainer=gpu"])
    if of_images and "experiment" not in map(name_of, typed):
        found.append([*without(typed, *METHOD), "experiment=photos"])
        found.append([*without(typed, "backbone", "embedding_size"), "backbone=small_resnet"])
        if "crop" in settings["dataset"] and settings["dataset"]["crop"]["resize"] > SMALL:
            own = without(typed, "backbone", "embedding_size", "views.size", "dataset.crop")
            found.append(
                [*own, "backbone=small_resnet", f"views.size={SMALL * 7 // 8}", f"dataset.crop.resize={SMALL}"]
            )
    return found


def name_of(override: str) -> str:
    """The name of what the override sets."""
    return override.partition("=")[0].lstrip("+~")


def without(overrides: Iterable[str], *groups: str) -> list[str]:
    """The overrides that choose none of these groups, and set nothing in them."""
    return [
        text for text in overrides
        if not any(name_of(text) == group or name_of(text).startswith(f"{group}.") for group in groups)
    ]  # fmt: skip


class Rehearsal(Parts):
    """The parts of a run that is only tried out.

    Attributes:
        downloads: whether data sets would have been allowed to download.
        left_out: says that the backbone's weights would be downloaded, so that it is tried without; None otherwise.
        features_left_out: the same of the network that computes features.
        features_found: what features there are to compute; "" where none are asked for, or they are not known yet.
        features_seconds: how long that takes.
    """

    def __init__(
        self, settings: Mapping[str, Any], usual: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
    ) -> None:
        offline = without_download(settings)
        super().__init__(offline, overrides, usual)
        self.downloads = offline != settings
        self.left_out: DownloadError | None = None
        self.features_left_out: DownloadError | None = None
        self.features_found, self.features_seconds = "", 0.0

    @cached_property
    def clean_dataset(self) -> ImageDataset:
        """The data set; where files that cannot be read are to be skipped, without decoding a million to find them."""
        node = self.settings["dataset"]
        if node.get("on_bad_image") == "skip":
            try:  # "error" looks at small sets only
                quick: ImageDataset = build({"dataset": {**node, "on_bad_image": "error"}}, "dataset", "train")
                return self.decided(quick)
            except InputError as error:
                if not error.setting.endswith("on_bad_image"):
                    raise
        return self.decided(build(self.settings, "dataset", "train"))

    @cached_property
    def dataset(self) -> ImageDataset:
        """As in a run, but for features that are not there yet, which are zeros; without downloads."""
        images = self.noisy_images
        try:
            with settings_of_features(), without_downloads():
                dataset, self.features_found, self.features_seconds = self.features.preview(images)
        except DownloadError as error:
            self.features_left_out = error
            self.settings["features"] = {**self.settings["features"], "weights": None}
            features: Features = build(self.settings, "features", "extract")
            with settings_of_features():
                dataset, _, self.features_seconds = features.preview(images)
        return dataset

    def make_network(self, dataset: ImageDataset) -> Network:
        """As in a run, but without weights that it would have to download."""
        try:
            with without_downloads():
                return super().make_network(dataset)
        except DownloadError as error:
            self.left_out = error
            self.settings["backbone"] = {**self.settings["backbone"], "weights": None}
            return super().make_network(dataset)

    @property
    def processes(self) -> int:
        """How many processes the trainer asks for; raises `InputError` where this machine cannot give them."""
        make_trainer(self.settings, [])
        return process_count(self.settings["trainer"])

    @property
    def on_gpu(self) -> bool:
        """Whether the run trains on a GPU."""
        return uses_gpu(self.settings["trainer"])


def without_download(node: Any) -> Any:
    """The node, and those within it, with `download` switched off."""
    if not isinstance(node, Mapping):
        return node
    return {
        name: False if name == "download" and inner is True else without_download(inner) for name, inner in node.items()
    }
