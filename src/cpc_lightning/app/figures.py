"""mode=figures: draws the paper's Figures 1, 3 and 4 from what runs have left in their folders."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.app.launch import process_number
from cpc_lightning.app.modes import items, mode_settings, switch
from cpc_lightning.errors import InputError, one_line, require
from cpc_lightning.files import atomic_write
from cpc_lightning.report.warmup_losses import WARMUP_LOSSES, WarmupLosses, read_warmup_losses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# torch and matplotlib are imported once the files are read: a mistake is told at once.

FORMATS = ("svg", "png")
DPI = 150  # of a png


@dataclass(frozen=True)
class Left:
    """What a run has left that figures need.

    Attributes:
        folder: of the run.
        overrides: what the user changed.
        metrics: columns of metrics.csv, each (E,) float64, NaN where a cell is empty.
        losses: at the end of the warm-up by network 1 and 2, and the epochs trained; None where the run keeps none.
        class_names: None where the run does not name them.
    """

    folder: Path
    overrides: list[str]
    metrics: Mapping[str, NDArray[np.float64]]
    losses: tuple[tuple[WarmupLosses, WarmupLosses], int] | None
    class_names: list[str] | None


def figures(arguments: Sequence[str]) -> int:
    """Draw what the runs have left, and print which files hold it and what cannot be drawn; the exit code.

    Args:
        arguments: of the command line, options aside: run=FOLDER,... [output=FOLDER] [format=svg|png] [overwrite=true].

    Raises:
        InputError: for a setting, a file or a folder that cannot be used; nothing is written then.
    """
    require("-m" not in arguments, "-m", "mode=figures", "draws several runs without -m: run=FOLDER,FOLDER")
    given = mode_settings("figures", arguments)
    form = given.get("format", "svg")
    require(form in FORMATS, "format", form, f"must be one of {', '.join(FORMATS)}")
    overwrite = switch("overwrite", given.get("overwrite", "false"))
    folders = [run_folder(text) for text in items(given.get("run", ""))]
    require(bool(folders), "run", given.get("run", "(not set)"), "must name the folder of a run, or several: run=A,B")
    outputs = items(given["output"]) if "output" in given else [str(folders[0] / "figures")]
    require(len(outputs) == 1, "output", given.get("output", ""), "must name one folder")
    runs = [read_run(folder) for folder in folders]
    if process_number() > 0:
        return 0  # the first process draws
    draw, missing = plan(runs)
    require(bool(draw), "run", given["run"], f"has nothing to draw: {'; '.join(missing)}")
    output = Path(outputs[0])
    names = [f"{name}.{form}" for name in draw]
    if not overwrite:
        check_free(output, names)
    made = {name: make() for name, make in zip(names, draw.values(), strict=True)}
    write(made, output, form)
    print("\n".join(one_line(line) for line in [*(str(output / name) for name in names), *missing]))
    return 0


def run_folder(text: str) -> Path:
    """The folder of the run that `text`, a folder or one of its checkpoints, names."""
    path = Path(text)
    try:
        if path.is_file() and path.suffix == ".ckpt":
            path = path.absolute().parent.parent
        is_folder, trained = path.is_dir(), (path / "metrics.csv").is_file()
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise InputError("run", text, "cannot be read") from error
    require(is_folder, "run", text, "is no folder of a run, and no checkpoint in one")
    require(trained, "run", text, "is not the folder of a run that has trained an epoch (no metrics.csv)")
    return path


def check_free(output: Path, names: Sequence[str]) -> None:
    """Raise `InputError` where one of the files is there already."""
    try:
        there = next((name for name in names if (output / name).exists()), None)
    except (OSError, ValueError) as error:
        raise InputError("output", str(output), "cannot be read") from error
    require(there is None, "output", str(output), f"holds {there} already; overwrite=true replaces it")


# Reading --------------------------------------------------------------------------------------------------------------


def read_run(folder: Path) -> Left:
    """What the run has left; raises `InputError` for a file that cannot be read or is garbled."""
    losses = read_warmup_losses(folder / WARMUP_LOSSES) if (folder / WARMUP_LOSSES).exists() else None
    overrides, names = (read_texts(folder / name) for name in ("overrides.json", "classes.json"))
    return Left(folder, overrides or [], read_metrics(folder / "metrics.csv"), losses, names)


def read_metrics(path: Path) -> dict[str, NDArray[np.float64]]:
    """The columns of metrics.csv, NaN where a cell is empty."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
        _ = columns["epoch"]
    except (OSError, ValueError, TypeError, KeyError, IndexError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "garbled, or without an epoch"
        raise InputError("run", str(path), f"cannot be read ({why})") from error
    return columns


def read_texts(path: Path) -> list[str] | None:
    """A JSON list of texts; None where there is no such file. Raises `InputError` for anything else."""
    if not path.exists():
        return None
    try:
        texts: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("run", str(path), "cannot be read") from error
    good = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    require(good, "run", str(path), "must hold a list of texts")
    return list(texts)


# Drawing --------------------------------------------------------------------------------------------------------------


def plan(runs: Sequence[Left]) -> tuple[dict[str, Callable[[], Figure]], list[str]]:
    """What makes each figure that can be drawn, by the name of its file, and why others cannot."""
    from cpc_lightning.analysis.figures import (
        AGREEMENT,
        AUC,
        RunCurves,
        agreement_over_epochs,
        auc_over_epochs,
        loss_densities,
    )

    names = run_names(runs)
    draw: dict[str, Callable[[], Figure]] = {}
    missing: list[str] = []
    for number, (run, name) in enumerate(zip(runs, names, strict=True), start=1):
        if run.losses is None:
            missing.append(f"losses: {run.folder} has no {WARMUP_LOSSES} (of an older version, or without a cleaner)")
            continue
        by_network, epoch = run.losses
        losses, noisy, true = (
            [getattr(seen, part) for seen in by_network] for part in ("losses", "noisy_labels", "true_labels")
        )
        classes = class_names(run, max(int(labels.max(initial=-1)) for labels in noisy))
        key = "losses" if len(runs) == 1 else f"losses_{number}"
        draw[key] = partial(loss_densities, losses, noisy, true, classes, epoch, name)
    curves = [RunCurves(name, run.metrics) for run, name in zip(runs, names, strict=True)]
    for key, make, columns, why in (
        ("auc", auc_over_epochs, AUC, "no cleaner, or no true labels"),
        ("agreement", agreement_over_epochs, AGREEMENT, "no run has prototypes beside a mixture"),
    ):
        if any(run.has(column) for run in curves for column in columns):
            draw[key] = partial(make, curves)
        else:
            missing.append(f"{key}: metrics.csv holds no {' or '.join(columns)} ({why})")
    return draw, missing


def class_names(run: Left, largest: int) -> list[str]:
    """The classes' names, or their numbers; raises `InputError` where the losses tell of a class without a name."""
    names = [str(label) for label in range(largest + 1)] if run.class_names is None else run.class_names
    expected = f"tells of a class {largest}, which classes.json does not have"
    require(largest < len(names), "run", str(run.folder / WARMUP_LOSSES), expected)
    return names


def run_names(runs: Sequence[Left]) -> list[str]:
    """A name for each run: the settings that tell it from the others, or the end of its path where they do not."""
    own = [[text for text in run.overrides if not text.startswith(("hydra.", "resume="))] for run in runs]
    common = set.intersection(*map(set, own)) if len(own) > 1 else set[str]()
    names = [" ".join(text for text in texts if text not in common) for texts in own]
    paths = ["/".join(run.folder.absolute().parts[-2:]) for run in runs]
    if len(runs) == 1:
        return paths
    return [
        name if name and names.count(name) == 1 else f"{name} ({path})" if name else path
        for name, path in zip(names, paths, strict=True)
    ]


def write(made: Mapping[str, Figure], output: Path, form: str) -> None:
    """Write the figures into the folder, each atomically; in an svg, text stays text."""
    import matplotlib

    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, figure in made.items():
            # Restored when the block ends. The salt and the absent date make the same figure the same bytes.
            with (
                matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}),
                atomic_write(output / name) as file,
            ):
                metadata = {"Date": None} if form == "svg" else None
                figure.savefig(file, format=form, dpi=DPI, metadata=metadata)
    except OSError as error:
        raise InputError("output", str(output), f"cannot be written ({error.strerror or error})") from error
