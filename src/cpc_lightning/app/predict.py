"""mode=predict: writes the classes that a run's networks predict, for any number of images."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cpc_lightning.app.judged import place_of
from cpc_lightning.app.launch import process_number, starter, supervise_arguments
from cpc_lightning.app.modes import check_free, mode_settings, one, switch
from cpc_lightning.app.of_run import with_typed
from cpc_lightning.app.stopping import stop_on_signals
from cpc_lightning.app.trainer import PRECISIONS, check_devices, process_count
from cpc_lightning.errors import InputError, count_of, one_line, require
from cpc_lightning.files import usable_cores
from cpc_lightning.inference.inputs import BLOCK, count_of_names, open_input
from cpc_lightning.inference.model import TrainedModel, read_model
from cpc_lightning.inference.predict import TOP, predict
from cpc_lightning.inference.predictions import FORMATS, Blocks
from cpc_lightning.training.again import autocast_type

TYPED = ("trainer", "training.num_workers", "training.evaluation_batch_size", "features.weights", "features.folder")
"""Settings of the run that may be typed: where and how fast it computes, not what."""

PATIENCE = 60.0
"""Seconds that a process waits for the first one to say what is predicted."""


def predictions(arguments: Sequence[str], child: bool = False) -> int:
    """Predict, print how it went; the exit code.

    Args:
        arguments: of the command line, options aside: `run=FOLDER|FILE.ckpt input=FOLDER|FILE|LIST
            output=FILE.csv|FILE.parquet [overwrite=true] [trust=true]`, and settings of `TYPED`, such as trainer=ddp.
        child: whether another process has started this one to share the work.

    Raises:
        InputError: for a setting, a file or a folder that cannot be used.
    """
    given, typed = mode_settings("predict", arguments)
    check_typed("predict", typed, TYPED)
    output = output_file(given)
    overwrite, trust = (switch(name, given.get(name, "false")) for name in ("overwrite", "trust"))
    text = one("input", given)
    first = process_number() == 0
    if first and not child:
        check_free(output, overwrite)
    model = read_model(one("run", given), trust, lambda settings: with_typed(settings, typed))
    several = any(word.partition("=")[0] == "trainer" for word in typed) and "strategy" in model.settings["trainer"]
    images = open_input(text, model.channels if model.takes_vectors else None)
    about = {"input": os.path.abspath(os.path.expanduser(text)), "networks": model.digest}
    kept = Blocks(output)
    total = count_of_names(images)
    aside = images.left_aside()
    device, precision = device_of(model, typed)
    there = 0
    if first and not child:
        there = kept.begin(about, overwrite)
        if there:
            print(f"going on: {count_of(there * BLOCK, 'image')} or less were done before", file=sys.stderr)
    elif not wait_for(kept, about):
        return 0  # the first process has done all
    begin = time.monotonic()
    with stop_on_signals():
        if several and starter() is None and not child:
            supervise_arguments(arguments, process_count(model.settings["trainer"]), "the same command goes on")
        else:
            model.to(device)
            workers = worker_count(model, total, typed)
            size = model.settings["training"]["evaluation_batch_size"]
            predict(model, images, kept, total, size, workers, precision, first)
    if child or not first:
        return 0
    top = min(TOP, len(model.class_names))
    bad, shown = kept.put_together(-(-total // BLOCK), model.class_names, top)
    seconds = time.monotonic() - begin
    said = [f"{output}: {count_of(total, 'image')}, {len(model.class_names)} classes; {seconds:.1f} s"]
    if bad:
        first_ones = ", ".join(f"{path} ({error})" for path, error in shown) + (", ..." if bad > len(shown) else "")
        said.append(f"{bad:,} of them cannot be read, which the column error says: {first_ones}")
    if aside:
        said.append(f"not looked at: {aside}")
    print("\n".join(map(one_line, said)))
    return 0


def output_file(given: Mapping[str, str]) -> Path:
    """The file that `output=` names; raises `InputError` where it is of no format that can be written."""
    require("output" in given, "output", "(not set)", f"must name a file ({' or '.join(FORMATS)})")
    output = place_of(one("output", given))
    expected = f"must end in {' or '.join(FORMATS)}"
    require(output.suffix.lower() in FORMATS, "output", str(output), expected)
    require(not output.is_dir(), "output", str(output), "is a folder: name a file")
    if output.suffix.lower() == ".parquet":
        try:
            importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise InputError("output", str(output), "needs pyarrow: pip install 'cpc-lightning[formats]'") from None
    return output


def check_typed(mode: str, typed: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise `InputError` for a setting of the run that the mode has no use for."""
    for text in typed:
        name, _, value = text.partition("=")
        fine = any(name == own or name.startswith(f"{own}.") for own in allowed)
        require(fine, name, value, f"is no setting of mode={mode}; of the run's, it takes {', '.join(allowed)}")


def device_of(model: TrainedModel, typed: Sequence[str]) -> tuple[str, torch.dtype | None]:
    """Where to compute, and in which precision: on a GPU where there is one, in float32, but for what is typed."""
    trainer = dict(model.settings["trainer"])
    names = [text.partition("=")[0] for text in typed]
    asked = any(name in ("trainer", "trainer.accelerator") for name in names)
    accelerator = str(trainer.get("accelerator", "auto")) if asked else "auto"
    devices = ("auto", "cpu", "gpu", "cuda", "mps")
    require(accelerator in devices, "trainer.accelerator", accelerator, f"must be one of {', '.join(devices)}")
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    if asked or "trainer.devices" in names:
        check_devices({**trainer, "accelerator": accelerator})
    number = process_number() % max(1, torch.cuda.device_count())
    device = {"gpu": f"cuda:{number}", "cuda": f"cuda:{number}", "mps": "mps"}.get(accelerator, "cpu")
    if "trainer.precision" not in names:
        return device, None
    precision = str(trainer["precision"])
    require(precision in PRECISIONS, "trainer.precision", precision, f"must be one of {', '.join(PRECISIONS)}")
    return device, autocast_type(precision)


def worker_count(model: TrainedModel, total: int, typed: Sequence[str]) -> int:
    """Processes that decode: as typed, else as many as there are processors, or none for what is done in a moment."""
    number: Any = model.settings["training"]["num_workers"]
    if not any(text.startswith("training.num_workers=") for text in typed):
        return usable_cores() if total > 2 * BLOCK and not model.takes_vectors else 0
    number = usable_cores() if number is None else number
    fine = isinstance(number, int) and not isinstance(number, bool) and number >= 0
    require(fine, "training.num_workers", number, "must be a whole number of at least 0")
    return int(number)


def wait_for(kept: Blocks, about: Mapping[str, Any]) -> bool:
    """Wait until the first process has said what is predicted; False where it does not, as when all is done already."""
    until = time.monotonic() + PATIENCE
    while not kept.is_about(about):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
