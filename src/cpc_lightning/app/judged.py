"""Reads a run's verdicts and the data set that they belong to, for mode=labels and mode=apply."""

from __future__ import annotations

from pathlib import Path

from cpc_lightning.app.parts import Parts
from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import InputError, require
from cpc_lightning.report.labels import inert
from cpc_lightning.report.run_folder import RunFolder
from cpc_lightning.report.verdicts import LABELS, Verdicts, read_verdicts


def verdicts_of(run: RunFolder) -> Verdicts:
    """The run's verdicts; raises `InputError` where it has none, or labels.csv is garbled."""
    ended = (run.path / LABELS).exists()
    require(ended, "run", str(run.path), f"has no {LABELS}: the verdict comes with a run's end (resume=FOLDER)")
    return read_verdicts(run.path / LABELS, len(run.class_names) or None)


def data_of(parts: Parts, run: RunFolder, verdicts: Verdicts) -> ImageDataset:
    """The data set, opened again; raises `InputError` where it holds other images or labels than the run saw.

    Where networks saw features of its images, it has the images.
    """
    dataset = parts.noisy_images
    paths = [""] * len(dataset.train) if dataset.train.paths is None else [*map(inert, dataset.train.paths)]
    named = not run.class_names or tuple(run.class_names) == dataset.class_names
    same = (
        named and len(dataset.train) == len(verdicts) and dataset.train.labels.tolist() == verdicts.noisy_label.tolist()
    )
    changed = "was about other images or labels than its data set has now"
    require(same and paths == verdicts.path, "run", str(run.path), changed)
    return dataset


def place_of(text: str) -> Path:
    """The file or folder that a setting names, ~ being the home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # of nobody
        raise InputError("output", text, "names no folder") from error
