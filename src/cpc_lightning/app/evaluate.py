"""mode=evaluate: measures a run's networks on its test set, or on another data set with classes of the same names."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cpc_lightning.analysis.evaluation import Evaluation, bins_of, evaluate, matched, scaled
from cpc_lightning.analysis.evaluation_figures import confusion_figure, reliability_figure
from cpc_lightning.app.build import build
from cpc_lightning.app.figures import write as write_figures
from cpc_lightning.app.fitting import PHOTOS, settled
from cpc_lightning.app.judged import place_of
from cpc_lightning.app.launch import process_number
from cpc_lightning.app.modes import mode_settings, one, switch
from cpc_lightning.app.of_run import with_typed
from cpc_lightning.app.predict import check_typed, device_of
from cpc_lightning.datasets.dataset import ImageDataset, Images, Split
from cpc_lightning.errors import count_of, one_line, require, require_integer
from cpc_lightning.files import atomic_write
from cpc_lightning.inference.build import require_own
from cpc_lightning.inference.checkpoint_file import checkpoint_of, home_of
from cpc_lightning.inference.model import TrainedModel, read_model
from cpc_lightning.report.evaluation import print_evaluation
from cpc_lightning.report.labels import inert
from cpc_lightning.report.new_folder import check_new_folder, new_folder
from cpc_lightning.training.loading import BatchLoader
from cpc_lightning.training.progress import counted

NUMBERS = "evaluation.json"  # within the output
TYPED = ("dataset", "trainer", "training.num_workers", "training.evaluation_batch_size", "features.weights")
"""Settings of the run that may be typed: what it is measured on, where and how fast."""
EVERY = "all"
"""The set that is all of a data set: what is to train on, too."""


def evaluation(arguments: Sequence[str]) -> int:
    """Measure, write and print; the exit code.

    Args:
        arguments: of the command line, options aside: `run=FOLDER|FILE.ckpt [set=test|val|train|all] [output=FOLDER]
            [overwrite=true] [trust=true]`, and settings of `TYPED`, such as dataset=imagefolder dataset.root=FOLDER.

    Raises:
        InputError: for a setting, a file or a folder that cannot be used; nothing is written then.
    """
    given, typed = mode_settings("evaluate", arguments)
    check_typed("evaluate", typed, TYPED)
    overwrite, trust = (switch(name, given.get(name, "false")) for name in ("overwrite", "trust"))
    text = one("run", given)
    output = place_of(one("output", given)) if "output" in given else home_of(checkpoint_of(text)) / "evaluation"
    check_new_folder(output, overwrite, NUMBERS)
    if process_number() > 0:
        return 0  # the first process measures
    model, dataset = opened(text, typed, trust)
    name = given.get("set", "test")
    probabilities, labels, left_out = judged(model, dataset, name, typed)
    found = evaluate(probabilities.mean(dim=0), labels)
    alone = [float((of_one.argmax(dim=1) == labels).double().mean()) for of_one in probabilities]
    numbers = as_numbers(found, model, alone) | {
        "run": str(checkpoint_of(text)), "dataset": dataset.name, "set": name, "left_out": left_out,
    }  # fmt: skip
    with new_folder(output, overwrite, NUMBERS) as folder:
        (folder / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")
        write_tables(folder, found, model.class_names)
        joined, temperature = probabilities.mean(dim=0), found.calibration.temperature
        after = None if temperature is None else bins_of(scaled(joined, temperature), labels)
        figures = {
            "confusion.svg": confusion_figure(found, model.class_names),
            "reliability.svg": reliability_figure(bins_of(joined, labels), after, found),
        }
        write_figures(figures, folder, "svg")
    print_evaluation(numbers)
    for line in remarks(numbers, left_out, found, model):
        print(one_line(line))
    print(one_line(str(output)))
    return 0


def opened(text: str, typed: Sequence[str], trust: bool) -> tuple[TrainedModel, ImageDataset]:
    """The model of a run, and the data set: its own, or the one that is typed."""
    of_data = [word for word in typed if word.split("=")[0].split(".")[0] == "dataset"]
    others = [word for word in typed if word not in of_data]
    model = read_model(text, trust, lambda settings: with_typed(settings, others))
    dataset = opened_data(model, of_data, trust)
    device, precision = device_of(model, others)
    shown = str(model.settings["trainer"]["precision"])
    require(precision is None, "trainer.precision", shown, "is float32 here, so that numbers can be compared")
    return model.to(device), dataset


def opened_data(model: TrainedModel, typed: Sequence[str], trust: bool) -> ImageDataset:
    """The data set of a run, or the one that is typed, which is the user's own choice."""
    if not any(word.startswith("dataset=") for word in typed):
        require_own("dataset", model.settings["dataset"], ("cpc_lightning.datasets",), trust)
    # What leaves the size of its images open has that of the run's; the model crops them as it needs them.
    dataset: ImageDataset = build(settled(with_typed(model.settings, typed), PHOTOS), "dataset", "train")
    return dataset


def judged(
    model: TrainedModel, dataset: ImageDataset, name: str, typed: Sequence[str] = ()
) -> tuple[Tensor, Tensor, dict[str, int]]:
    """What both networks say of a set.

    Args:
        model: on its device.
        dataset: that the set is of.
        name: "test", "val", "train" or `EVERY`.
        typed: settings of the command line.

    Returns:
        (2, n, K) float32 the softmax of network 1 and of network 2; (n,) int64 the labels as the model numbers them;
        and how many images are left out, by class, because the model does not know it.

    Raises:
        InputError: where there is no such set, or none of its classes is the model's.
    """
    sets: dict[str, list[Split]] = {"train": [dataset.train]}
    sets |= {part: [split] for part, split in dataset.evaluation.items()}
    sets[EVERY] = [split for splits in sets.values() for split in splits]
    require(name in sets, "set", name, f"is none of this data set's: {', '.join(sets)}")
    seen: list[Tensor] = []
    known: list[Tensor] = []
    left_out: dict[str, int] = {}
    for split in sets[name]:
        labels, unknown = matched(dataset.class_names, model.class_names, by_truth(split))
        left_out = {part: left_out.get(part, 0) + unknown.get(part, 0) for part in {**left_out, **unknown}}
        kept = torch.nonzero(labels >= 0).flatten()
        known.append(labels[kept])
        if len(kept):
            seen.append(both(model, model.prepared(split.images), kept, typed))
    theirs, ours = listed(dataset.class_names), listed(model.class_names)
    require(bool(seen), "dataset", theirs, f"has no image of any class of the run ({ours})")
    return torch.cat(seen, dim=1), torch.cat(known), left_out


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def by_truth(split: Split) -> Tensor:
    """(n,) what a prediction is held against: the true label where it is known, else the given one."""
    if split.true_labels is None:
        return split.labels
    return torch.where(split.true_labels == -1, split.labels, split.true_labels)


class Fetched(Dataset[Any]):
    """Images by position; an `InputError` names a file that cannot be read."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __getitems__(self, positions: list[int]) -> dict[str, Tensor]:
        """The batch at those positions."""
        return {"images": self._images.fetch(torch.tensor(positions, dtype=torch.int64))}


def both(model: TrainedModel, images: Images, positions: Tensor, typed: Sequence[str]) -> Tensor:
    """(2, n, K) the softmax of network 1 and of network 2 on the images at `positions` (n,)."""
    training = model.settings["training"]
    batches = [batch.tolist() for batch in torch.split(positions, training["evaluation_batch_size"])]
    workers = training["num_workers"] or 0
    require_integer("training.num_workers", workers, 0)
    loader = BatchLoader(Fetched(images), batch_sampler=batches, num_workers=workers)
    answers = (model.logits(batch["images"]) for batch in counted(loader, "evaluating"))
    return torch.cat([torch.stack(answer).softmax(dim=2).cpu() for answer in answers], dim=1)


# What is written ------------------------------------------------------------------------------------------------------


def as_numbers(found: Evaluation, model: TrainedModel, alone: Sequence[float]) -> dict[str, Any]:
    """What evaluation.json holds; null for what there is not. Shares are in [0, 1]."""
    return {
        "images": found.images,
        "accuracy": found.accuracy,
        "accuracy_low": found.interval[0],
        "accuracy_high": found.interval[1],
        "accuracy_1": alone[0],
        "accuracy_2": alone[1],
        "accuracy_top5": found.top5,
        "balanced_accuracy": found.balanced_accuracy,
        "calibration_error": found.calibration_error,
        "calibration": asdict(found.calibration),
        "classes": [
            {
                "class": name,
                "images": int(found.support[k]),
                "precision": number(found.precision[k]),
                "recall": number(found.recall[k]),
            }
            for k, name in enumerate(model.class_names)
        ],
        "confusion": found.confusion.tolist(),
    }


def number(value: float) -> float | None:
    """The number; None for NaN, which JSON does not have."""
    return None if value != value else float(value)


def write_tables(folder: Path, found: Evaluation, class_names: Sequence[str]) -> None:
    """classes.csv and confusion.csv (rows: the class, columns: what it is predicted as)."""
    names = [inert(name) for name in class_names]
    classes: list[list[object]] = [["class", "images", "precision", "recall"]]
    for k, name in enumerate(names):
        shares = ["" if value != value else f"{value:.6f}" for value in (found.precision[k], found.recall[k])]
        classes.append([name, int(found.support[k]), *shares])
    confusion = [["class", *names], *([name, *row] for name, row in zip(names, found.confusion.tolist(), strict=True))]
    for file, rows in (("classes.csv", classes), ("confusion.csv", confusion)):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        with atomic_write(folder / file) as opened:
            opened.write(text.getvalue().encode())


def remarks(
    numbers: Mapping[str, Any], left_out: Mapping[str, int], found: Evaluation, model: TrainedModel
) -> list[str]:
    """What a reader of the table has to know."""
    lines = []
    if left_out:
        images, classes = count_of(sum(left_out.values()), "image"), count_of(len(left_out), "class")
        shown = listed([f"{name} ({count:,})" for name, count in left_out.items()])
        lines.append(f"left out: {images} of {classes} that the run does not know: {shown}")
    absent = [name for name, images in zip(model.class_names, found.support, strict=True) if not images]
    if absent:
        what = "of the run's have no image here: predicted, they count as mistakes"
        lines.append(f"{count_of(len(absent), 'class')} {what} ({listed(absent)})")
    calibration = found.calibration
    if calibration.temperature is not None:
        how = f"fitted on {calibration.fitted_on:,} of the images, drawn at random; errors are of the other"
        lines.append(f"temperature {calibration.temperature:.3f}: {how} {calibration.measured_on:,}")
    return lines
