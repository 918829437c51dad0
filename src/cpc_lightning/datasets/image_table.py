"""Data sets of your own images: listed in a csv file."""

from __future__ import annotations

from pathlib import Path

import torch

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.datasets.file_dataset import Listed, file_dataset, require_no_repeat
from cpc_lightning.datasets.image_folder import set_aside
from cpc_lightning.datasets.labeled_rows import SPLITS, Rows, tensor_of
from cpc_lightning.datasets.own_labels import recorded_root
from cpc_lightning.datasets.reading.class_names import remarks_on
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.reading.inside import Inside
from cpc_lightning.datasets.reading.list_files import require_folder
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, require

UNLABELED_ROWS = ("error", "use")


def image_table(
    file: str,
    crop: Crop,
    root: str | None = None,
    encoding: str | None = None,
    unlabeled: str = "error",
    test_share: float = 0.2,
    split_seed: int = 0,
    on_bad_image: str = "error",
) -> ImageDataset:
    """Images listed in a csv file with a column `path` and a column `label`; other columns than these are ignored.

    Where the header has blanks after its commas, those of all lines are left aside. Rows that name what a NAS or a file
    manager added are left out, which the answer's `remarks` say.

    * `label` is a class's name or its number. Where all are whole numbers (3 or 3.0), they run from 0 without gaps;
      names are numbered in alphabetical order, or by number where all are numbers.
    * `split`, optional: train, val or test; blank is train. Networks are selected on val where there is such a row.
      Without rows to test on, a share of each class is set aside for it.
    * `true_class` or `true_label`, optional: as `label`, blank where unknown, "none" for an image of none of the
      classes. For metrics; and sets to evaluate on go by it. Of both columns, the one that names classes as `label`
      does.

    * `trusted`, optional: true for a label that a person has confirmed, which is then never suspected; false or blank.

    A run's own labels.csv is such a table, and so is a part of its rows: without `label`, `noisy_class` is.

    Args:
        file: its name.
        crop: makes views of one size.
        root: the folder that the paths start from; None: for a file beside a run's config.yaml that run's, else the
            file's. No path may lead out of it.
        encoding: of the file's text; None: UTF-8.
        unlabeled: what to do about rows to train on whose label is blank, nan or a negative number: "error", or "use"
            their images without one.
        test_share: share of each class's images to set aside, in [0, 1): 0 trains on all, and nothing is tested.
        split_seed: decides which ones.
        on_bad_image: see `file_dataset`.

    Raises:
        InputError: naming the line, if the file cannot be used or one of its lines does not parse.
    """
    require(isinstance(file, str) and file != "", "file", file, "must name a csv file")
    table = Path(file).expanduser()
    try:
        require(table.is_file(), "file", file, "is not a file" if table.exists() else "is not there")
    except OSError as error:
        raise InputError("file", file, f"cannot be read: {error.strerror or error}") from None
    require(unlabeled in UNLABELED_ROWS, "unlabeled", unlabeled, f"must be one of {', '.join(UNLABELED_ROWS)}")
    folder = (recorded_root(table.parent) or table.parent) if root is None else require_folder("root", root)
    inside = Inside(folder, encoding)
    rows = Rows(table, inside, encoding)
    written = PathList(rows)
    paths = PathList(map(inside.path, written)) if rows.rewritten else written
    require(len(paths) > 0, "file", file, "holds no rows")
    require_no_repeat("file", file, paths, rows.lines)
    class_names, labels, true_labels = rows.classes(unlabeled == "use")
    everything = Listed(
        str(folder),
        paths,
        labels,
        true_labels,
        written if rows.rewritten else None,
        tensor_of(rows.lines),
        rows.trusted(labels),
    )
    splits = tensor_of(rows.splits)
    rows.require_something_to_test(by_truth(everything).labels)
    parts = {
        name: everything.take(torch.nonzero(splits == code).flatten())
        for code, name in enumerate(SPLITS)
        if name == "train" or bool((splits == code).any())
    }
    require(len(parts["train"].paths) > 0, "file", file, "holds no row to train on")
    if "test" not in parts:
        parts |= set_aside(parts["train"], len(class_names), test_share, split_seed)
    train = parts.pop("train")
    evaluation = {name: by_truth(part) for name, part in parts.items()}
    remarks = [*rows.remarks(), *remarks_on(class_names), *remarks_on_labels(train)]
    return file_dataset("table", class_names, train, evaluation, crop, on_bad_image, remarks=remarks)


def remarks_on_labels(train: Listed) -> list[str]:
    """How many images to train on have no label, and how many one that is trusted."""
    lines, count = [], len(train.labels)
    without = int((train.labels < 0).sum())
    if without:
        what = "stage 2 learns from them without one where semisup.lambda_u is above 0, and each gets a suggestion"
        lines.append(f"{without:,} of {count:,} images to train on have no label: {what}")
    if train.trusted is not None and bool(train.trusted.any()):
        lines.append(f"{int(train.trusted.sum()):,} of {count:,} labels to train on are trusted: never suspected")
    return lines


def by_truth(part: Listed) -> Listed:
    """The part labeled by its true labels, where they are known."""
    if part.true_labels is None:
        return part
    labels = torch.where(part.true_labels >= 0, part.true_labels, part.labels)
    return Listed(part.root, part.paths, labels, None, part.written, part.rows)
