"""Builds the parts of a run for `mode=check`, without downloads, and has them examined."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from cpc_lightning.app.build import build, settings_of_features
from cpc_lightning.app.compose import Composed
from cpc_lightning.app.folders import check_writable
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.trainer import make_trainer, process_count, uses_gpu
from cpc_lightning.backbones.network import Network
from cpc_lightning.backbones.weights import DownloadError, without_downloads
from cpc_lightning.checkup.examine import examine
from cpc_lightning.checkup.findings import Finding, Findings
from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import InputError
from cpc_lightning.features.features import Features


def rehearse(composed: Composed) -> list[Finding]:
    """Everything that can be found out about the run, in the order in which it is looked at. Nothing is written.

    Raises:
        InputError: for what must be mended before anything is built: an interpolation that refers to nothing, a switch
            that is neither true nor false.
    """
    findings = Findings()
    folder = findings.attempt("run folder", lambda: check_writable("hydra.run.dir", composed.config))
    settings = composed.settings(str(folder)) | {"mode": "train"}
    parts = Rehearsal(settings, composed.usual)
    parts.check_kinds(switches=True)
    examine(parts, folder, findings)
    return findings.rows


class Rehearsal(Parts):
    """The parts of a run that is only tried out.

    Attributes:
        downloads: whether data sets would have been allowed to download.
        left_out: says that the backbone's weights would be downloaded, so that it is tried without; None otherwise.
        features_left_out: the same of the network that computes features.
        features_found: what features there are to compute; "" where none are asked for, or they are not known yet.
    """

    def __init__(self, settings: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
        offline = without_download(settings)
        super().__init__(offline, usual=usual)
        self.downloads = offline != settings
        self.left_out: DownloadError | None = None
        self.features_left_out: DownloadError | None = None
        self.features_found = ""

    @cached_property
    def clean_dataset(self) -> ImageDataset:  # type: ignore[override]
        """The data set; where files that cannot be read are to be skipped, without decoding a million to find them."""
        node = self.settings["dataset"]
        if node.get("on_bad_image") == "skip":
            try:  # "error" looks at small sets only
                quick: ImageDataset = build({"dataset": {**node, "on_bad_image": "error"}}, "dataset", "train")
                return quick
            except InputError as error:
                if not error.setting.endswith("on_bad_image"):
                    raise
        dataset: ImageDataset = build(self.settings, "dataset", "train")
        return dataset

    @cached_property
    def dataset(self) -> ImageDataset:
        """As in a run, but for features that are not there yet, which are zeros; without downloads."""
        images = self.noisy_images
        try:
            with settings_of_features(), without_downloads():
                dataset, self.features_found = self.features.preview(images)
        except DownloadError as error:
            self.features_left_out = error
            self.settings["features"] = {**self.settings["features"], "weights": None}
            features: Features = build(self.settings, "features", "extract")
            with settings_of_features():
                dataset, _ = features.preview(images)
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
