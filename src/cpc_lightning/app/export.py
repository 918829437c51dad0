"""mode=export: writes a run's networks, preprocessing and classes as one file that runs without this library."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpc_lightning.analysis.evaluation import matched
from cpc_lightning.app.evaluate import by_truth, opened_data
from cpc_lightning.app.judged import place_of
from cpc_lightning.app.launch import process_number
from cpc_lightning.app.modes import check_free, mode_settings, one, switch
from cpc_lightning.app.of_run import with_typed
from cpc_lightning.app.predict import check_typed
from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.errors import one_line, require
from cpc_lightning.inference.checkpoint_file import checkpoint_of, home_of
from cpc_lightning.inference.deployed import Deployed
from cpc_lightning.inference.export import (
    CALIBRATION,
    Session,
    described_anew,
    largest_difference,
    onnx_bytes,
    onnx_session,
    program_bytes,
    program_session,
    quantised,
    require_onnx,
    to_program,
    write,
)
from cpc_lightning.inference.model import TrainedModel, read_model

ENDINGS: Mapping[str, str] = {"onnx": ".onnx", "torch": ".pt2"}
PRECISIONS: Mapping[str, str] = {"fp32": "float32", "fp16": "half precision", "int8": "8-bit numbers"}
NETWORKS = ("both", "best")
TYPED = ("dataset", "features.weights")
"""Settings of the run that may be typed: where the images lie that an inexact file is measured on."""
BATCH = 64


def export(arguments: Sequence[str]) -> int:
    """Write the file, check it, and print how it differs from the run's networks; the exit code.

    Args:
        arguments: of the command line, options aside: `run=FOLDER|FILE.ckpt format=onnx|torch [output=FILE]
            [networks=both|best] [precision=fp32|fp16|int8] [overwrite=true] [trust=true]`, and settings of `TYPED`.

    Raises:
        InputError: for a setting, a file or a folder that cannot be used; nothing is written then.
    """
    given, typed = mode_settings("export", arguments)
    check_typed("export", typed, TYPED)
    form = choice("format", given.get("format", "(not set)"), tuple(ENDINGS))
    precision = choice("precision", given.get("precision", "fp32"), tuple(PRECISIONS))
    which = choice("networks", given.get("networks", "both"), NETWORKS)
    overwrite, trust = (switch(name, given.get(name, "false")) for name in ("overwrite", "trust"))
    require(form == "onnx" or precision == "fp32", "precision", precision, "is for format=onnx")
    text = one("run", given)
    home = home_of(checkpoint_of(text))
    output = place_of(one("output", given)) if "output" in given else home / f"model{ENDINGS[form]}"
    ending = ENDINGS[form]
    require(output.suffix.lower() == ending, "output", str(output), f"must end in {ending}, with format={form}")
    require(not output.is_dir(), "output", str(output), "is a folder: name a file")
    check_free(output, overwrite)
    if form == "onnx":
        require_onnx("format", form)
    if process_number() > 0:
        return 0  # the first process writes
    of_data = [word for word in typed if word.split("=")[0].split(".")[0] == "dataset"]
    others = [word for word in typed if word not in of_data]
    model = read_model(text, trust, lambda settings: with_typed(settings, others))
    dataset = opened_data(model, of_data, trust) if precision != "fp32" else None
    chosen, said = choose(model, which)
    about = described(model, chosen, precision, text)
    content, run = made(model, form, precision, chosen, about, dataset)
    far = largest_difference(model, run, chosen, precision == "fp16", exact=precision != "int8")
    if dataset is not None:
        measured = measure(model, dataset, run, chosen)
        about |= {"test_accuracy": measured[0], "test_accuracy_float32": measured[1], "test_images": measured[2]}
        content = described_anew(content, about)
        exact, ours, count = 100 * measured[1], 100 * measured[0], measured[2]
        said.append(f"test accuracy: {ours:.2f} % in {PRECISIONS[precision]}, {exact:.2f} % in float32 (n = {count:,})")
    write(output, content)
    size = len(content) / 1e6
    kinds = "" if model.crop is None else f", {far[1]:.1g} where images are scaled"
    print(one_line(f"{output}: {len(chosen)} of {1 if model.alone else 2} networks, {size:.1f} MB"))
    print("\n".join(map(one_line, [f"probabilities differ from the run's by up to {far[0]:.1g}{kinds}", *said])))
    return 0


def choice(name: str, text: str, known: Sequence[str]) -> str:
    """The value of a setting that is one of a few; raises `InputError` for another."""
    require(text in known, name, text, f"must be one of {', '.join(known)}")
    return text


def choose(model: TrainedModel, which: str) -> tuple[tuple[int, ...], list[str]]:
    """Which networks, and what leaving one out loses, as far as the run has measured it."""
    if model.alone:
        return (0,), []
    if which == "both":
        return (0, 1), []
    sets = [name for name in ("val", "test") if any(f"{name}/accuracy_1" in row for row in model.rows)]
    require(bool(sets), "networks", which, "cannot be told: the checkpoint has no accuracy of either network")
    rows = [row for row in model.rows if f"{sets[0]}/accuracy_1" in row]
    # Selected networks are each of its own best epoch; those of the last checkpoint of the last one.
    score = (lambda k: max(float(row[f"val/accuracy_{k}"]) for row in rows)) if sets[0] == "val" else None
    scores = [score(k) if score else float(rows[-1][f"test/accuracy_{k}"]) for k in (1, 2)]
    best = int(scores[1] > scores[0])
    joined = max(float(row["val/accuracy"]) for row in rows) if score else float(rows[-1]["test/accuracy"])
    loss = f"network {best + 1} alone has {scores[best]:.2f} % on the set {sets[0]}, both have {joined:.2f} %"
    caveat = "" if sets[0] == "val" else "; it was chosen by that very set, so that its number flatters it"
    return (best,), [loss + caveat]


def described(model: TrainedModel, chosen: Sequence[int], precision: str, run: str) -> dict[str, Any]:
    """What the file says of itself."""
    about: dict[str, Any] = {
        "made_by": f"cpc-lightning {version('cpc-lightning')}, torch {torch.__version__}",
        "run": run,
        "class_names": list(model.class_names),
        "networks": [number + 1 for number in chosen],
        "precision": precision,
        "output": "probabilities (N, K) float32, K as class_names",
    }
    if model.crop is None:
        return about | {"input": f"vectors (N, {model.channels}) float32, as the run's data set has them"}
    return about | {
        "input": f"images (N, H, W, {model.channels}) uint8, upright, {'gray' if model.channels == 1 else 'RGB'}",
        "preprocessing": {
            "inside": "the shorter side is scaled to `resize`, the middle `size` x `size` pixels are taken, normalised",
            "resize": model.crop.resize,
            "size": model.crop.size,
            "mean": list(getattr(model.extractor or model.views, "mean", ())),
            "std": list(getattr(model.extractor or model.views, "std", ())),
        },
    }


def made(
    model: TrainedModel, form: str, precision: str, chosen: tuple[int, ...], about: Mapping[str, Any],
    dataset: ImageDataset | None,
) -> tuple[bytes, Session]:  # fmt: skip
    """The file's content, and what it answers."""
    half = precision == "fp16"
    program = to_program(model, Deployed(copy.deepcopy(model) if half else model, chosen, half))
    if form == "torch":
        content = program_bytes(program, about)
        return content, program_session(content)
    content = onnx_bytes(program, about, model.takes_vectors)
    if precision == "int8":
        assert dataset is not None
        content = quantised(content, calibration(model, dataset), about, model.takes_vectors)
    return content, onnx_session(content)


def calibration(model: TrainedModel, dataset: ImageDataset) -> Iterator[NDArray[Any]]:
    """Batches of some training images as the file takes them, evenly spread over the set."""
    images = model.prepared(dataset.train.images)
    count = min(CALIBRATION, len(images))
    places = torch.linspace(0, len(images) - 1, count, dtype=torch.float64).long()
    return (as_given(model, images.fetch(batch)) for batch in torch.split(places, 32))


def as_given(model: TrainedModel, batch: Tensor) -> NDArray[Any]:
    """Pixels (B, C, S, S) as (B, S, S, C), or vectors as they are."""
    given = batch if model.takes_vectors else batch.permute(0, 2, 3, 1).contiguous()
    return np.ascontiguousarray(given.numpy())


def measure(
    model: TrainedModel, dataset: ImageDataset, run: Session, chosen: Sequence[int]
) -> tuple[float, float, int]:
    """Accuracy on the set "test" of the file and of the same networks in float32, and of how many images."""
    split = dataset.evaluation["test"]
    labels, _ = matched(dataset.class_names, model.class_names, by_truth(split))
    places = torch.nonzero(labels >= 0).flatten()
    require(len(places) > 0, "dataset", dataset.name, "has no image of a class of the run in its test set")
    images, right = model.prepared(split.images), [0, 0]
    for batch in torch.split(places, BATCH):
        pixels, expected = images.fetch(batch), labels[batch]
        theirs = torch.from_numpy(run(as_given(model, pixels))).argmax(dim=1)
        chances = torch.stack(model.logits(pixels)).softmax(dim=2)[list(chosen)].mean(dim=0)
        right[0] += int((theirs == expected).sum())
        right[1] += int((chances.argmax(dim=1) == expected).sum())
    return right[0] / len(places), right[1] / len(places), len(places)
