"""Small finished runs that tests of mode=predict, evaluate and export use, and the files that they look at."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from tests.conftest import SMALL
from tests.datasets.image_trees import picture

from cpc_lightning.app.command_line import main

PLAIN = ("callbacks=none", "trainer.precision=32-true", "report=false")


def run_on_digits(folder: Path) -> Path:
    """Three epochs on the digits."""
    assert main([*SMALL, "cleaner=gmm_agn", "noise.rate=0.2", f"hydra.run.dir={folder}"]) == 0
    return folder


def run_on_photos(folder: Path, root: Path, *more: str) -> Path:
    """Two epochs on photos in folders of classes, of sizes of their own."""
    settings = [
        "dataset=imagefolder", f"dataset.root={root}", "backbone=small_resnet", "backbone.width=8", "embedding_size=16",
        "views.size=16", "dataset.crop.resize=20", "training.batch_size=4", "training.warmup_epochs=1",
        "training.divide_when=scheduled", "training.num_workers=0", "training.epochs=2",
        "optimizer.schedule.milestones=[1]", "cleaner=gmm_agn", *PLAIN,
    ]  # fmt: skip
    assert main([*settings, *more, f"hydra.run.dir={folder}"]) == 0
    return folder


def run_on_features(folder: Path, root: Path) -> Path:
    """Three epochs on features of a network of the tests' own."""
    settings = [
        "experiment=photos", "features=module", "features.network._target_=tests.features.networks.Patches",
        "features.size=16", f"features.folder={folder.parent}/features", f"dataset.root={root}", "cleaner=gmm_agn",
        "training.epochs=3", "training.warmup_epochs=1", "training.batch_size=8", "optimizer.schedule.milestones=[2]",
        "backbone.width=32", "embedding_size=8", *PLAIN,
    ]  # fmt: skip
    assert main([*settings, f"hydra.run.dir={folder}"]) == 0
    return folder


def run_on_vectors(folder: Path, file: Path) -> Path:
    """Three epochs on the digits' pixels as vectors."""
    settings = [
        "dataset=embeddings", f"dataset.file={file}", "training.epochs=3", "training.warmup_epochs=1",
        "optimizer.schedule.milestones=[2]", "backbone.width=32", "embedding_size=8", "cleaner=gmm_agn", *PLAIN,
    ]  # fmt: skip
    assert main([*settings, f"hydra.run.dir={folder}"]) == 0
    return folder


def write_photos(root: Path, counts: dict[str, int]) -> Path:
    """Photos in a folder for each class; each class has a brightness of its own."""
    for place, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(100 * place + number, shade=95 * place).save(root / name / f"{number}.png")
    return root


def write_digits(folder: Path, count: int = 600) -> list[str]:
    """The first digits as files 8 pixels wide, in the order of scikit-learn; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{k:04}_{target}.png" for k, target in enumerate(load_digits().target[:count])]
    for name, image in zip(names, load_digits().images, strict=False):
        Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)).save(folder / name)
    return names


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a csv file."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
