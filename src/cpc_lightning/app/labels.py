"""mode=labels: writes a run's verdict on its labels in the formats of other tools."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpc_lightning.app.judged import data_of, place_of, verdicts_of
from cpc_lightning.app.launch import process_number
from cpc_lightning.app.modes import mode_settings, one, switch
from cpc_lightning.app.of_run import look_back, parts_of_run
from cpc_lightning.app.parts import Parts
from cpc_lightning.datasets.dataset import Vectors
from cpc_lightning.errors import InputError, one_line, require
from cpc_lightning.report.formats.cleanlab import write_cleanlab
from cpc_lightning.report.formats.contract import NOTES, Answers, Exported, Format
from cpc_lightning.report.formats.fiftyone import write_fiftyone
from cpc_lightning.report.formats.huggingface import write_huggingface
from cpc_lightning.report.formats.labelstudio import write_labelstudio
from cpc_lightning.report.formats.tables import write_csv, write_parquet
from cpc_lightning.report.new_folder import check_new_folder, new_folder, require_apart
from cpc_lightning.report.pictures import roots_of
from cpc_lightning.report.run_folder import RunFolder, read_run_folder

FORMATS: Mapping[str, Format] = {
    "cleanlab": Format(write_cleanlab, needs_answers=True),
    "huggingface": Format(write_huggingface, has_images=True),
    "labelstudio": Format(write_labelstudio, shows_images=True),
    "fiftyone": Format(write_fiftyone, has_images=True),
    "parquet": Format(write_parquet, "pyarrow", "formats"),
    "csv": Format(write_csv),
}


def labels(arguments: Sequence[str]) -> int:
    """Write the verdict into a folder of its own, and print what is worth knowing of it; the exit code.

    Args:
        arguments: of the command line, options aside: `run=FOLDER|FILE.ckpt format=NAME [output=FOLDER] [copy=true]
            [overwrite=true]`, and settings of the run to put in place of its own.

    Raises:
        InputError: for a setting, a file or a folder that cannot be used; nothing is written then.
    """
    given, of_run = mode_settings("labels", arguments)
    name = given.get("format", "(not set)")
    require(name in FORMATS, "format", name, f"must be one of {', '.join(FORMATS)}")
    form = FORMATS[name]
    check_package(name, form)
    copy, overwrite = (switch(setting, given.get(setting, "false")) for setting in ("copy", "overwrite"))
    with_images = [other for other, one_of in FORMATS.items() if one_of.has_images]
    require(form.has_images or not copy, "copy", "true", f"is for formats with images: {', '.join(with_images)}")
    run = read_run_folder(one("run", given))
    output = place_of(one("output", given)) if "output" in given else run.path / "labels" / name
    check_new_folder(output, overwrite, NOTES)
    if process_number() > 0:
        return 0  # the first process writes
    verdicts, parts = verdicts_of(run), parts_of_run(run, of_run)
    dataset = data_of(parts, run, verdicts)
    of_vectors = isinstance(dataset.train.images, Vectors)
    expected = "is a format with images, and this run's data set consists of vectors"
    require(not ((form.has_images or form.shows_images) and of_vectors), "format", name, expected)
    require_apart(output, roots_of(dataset.train.images), run.path)
    answers = answers_of(parts, run) if form.needs_answers else None
    exported = Exported(verdicts, dataset.class_names, dataset.train.images, answers, copy)
    with new_folder(output, overwrite, NOTES) as folder:
        notes = form.write(exported, folder)
        Path(folder, NOTES).write_text("\n\n".join([f"{len(verdicts):,} images of {run.path}", *notes]) + "\n")
    print("\n".join(one_line(line) for line in (str(output), *notes)))
    return 0


def check_package(name: str, form: Format) -> None:
    """Raise `InputError` where the format needs a package that is not installed."""
    if form.package:
        try:
            importlib.import_module(form.package)
        except ImportError:
            how = f"needs {form.package}: pip install 'cpc-lightning[{form.extra}]'"
            raise InputError("format", name, how) from None


def answers_of(parts: Parts, run: RunFolder) -> Answers:
    """What the networks of the run's last checkpoint say of the images that they were trained on."""
    (seen,) = look_back(parts, run, "train")
    return Answers(seen.probabilities.numpy(), seen.features.numpy())
