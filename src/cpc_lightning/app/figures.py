"""mode=figures: draws the paper's Figures 1, 3 and 4 from what runs have left in their folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cpc_lightning.app.launch import process_number
from cpc_lightning.app.modes import check_free, items, mode_settings, one, switch
from cpc_lightning.errors import one_line, require, written
from cpc_lightning.files import atomic_write
from cpc_lightning.report.run_folder import RunFolder, read_run_folder
from cpc_lightning.report.warmup_losses import WARMUP_LOSSES, WarmupLosses, read_warmup_losses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# torch and matplotlib are imported once the files are read: a mistake is told at once.

FORMATS = ("svg", "png")
DPI = 150  # of a png


Losses = tuple[tuple[WarmupLosses, WarmupLosses], int]  # by network 1 and 2, and the epochs trained


def figures(arguments: Sequence[str]) -> int:
    """Draw what the runs have left, and print which files hold it and what cannot be drawn; the exit code.

    Args:
        arguments: of the command line, options aside: `run=FOLDER,... [output=FOLDER] [format=svg|png]
            [overwrite=true]`.

    Raises:
        InputError: for a setting, a file or a folder that cannot be used; nothing is written then.
    """
    given, _ = mode_settings("figures", arguments)
    form = given.get("format", "svg")
    require(form in FORMATS, "format", form, f"must be one of {', '.join(FORMATS)}")
    overwrite = switch("overwrite", given.get("overwrite", "false"))
    runs = [read_run_folder(text) for text in items(given.get("run", ""))]
    require(bool(runs), "run", given.get("run", "(not set)"), "must name the folder of a run, or several: run=A,B")
    for run in runs:
        trained = bool(run.metrics)
        require(trained, "run", str(run.path), "is not the folder of a run that has trained an epoch (no metrics.csv)")
    output = Path(one("output", given)) if "output" in given else runs[0].path / "figures"
    if process_number() > 0:
        return 0  # the first process draws
    draw, missing = plan(runs)
    require(bool(draw), "run", given["run"], f"has nothing to draw: {'; '.join(missing)}")
    names = [f"{name}.{form}" for name in draw]
    for name in names:
        check_free(output / name, overwrite)
    made = {name: make() for name, make in zip(names, draw.values(), strict=True)}
    write(made, output, form)
    print("\n".join(one_line(line) for line in [*(str(output / name) for name in names), *missing]))
    return 0


def warmup_losses(run: RunFolder) -> Losses | None:
    """What the run's networks said at the end of the warm-up; None where it keeps none."""
    path = run.path / WARMUP_LOSSES
    return read_warmup_losses(path) if path.exists() else None


# Drawing --------------------------------------------------------------------------------------------------------------


def plan(runs: Sequence[RunFolder]) -> tuple[dict[str, Callable[[], Figure]], list[str]]:
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
        kept = warmup_losses(run)
        if kept is None:
            missing.append(f"losses: {run.path} has no {WARMUP_LOSSES} (of an older version, or without a cleaner)")
            continue
        by_network, epoch = kept
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


def class_names(run: RunFolder, largest: int) -> list[str]:
    """The classes' names, or their numbers; raises `InputError` where the losses tell of a class without a name."""
    names = list(run.class_names) or [str(label) for label in range(largest + 1)]
    expected = f"tells of a class {largest}, which classes.json does not have"
    require(largest < len(names), "run", str(run.path / WARMUP_LOSSES), expected)
    return names


def run_names(runs: Sequence[RunFolder]) -> list[str]:
    """A name for each run: the settings that tell it from the others, or the end of its path where they do not."""
    own = [[text for text in run.overrides if not text.startswith(("hydra.", "resume="))] for run in runs]
    common = set.intersection(*map(set, own)) if len(own) > 1 else set[str]()
    names = [" ".join(text for text in texts if text not in common) for texts in own]
    paths = ["/".join(run.path.absolute().parts[-2:]) for run in runs]
    if len(runs) == 1:
        return paths
    return [
        name if name and names.count(name) == 1 else f"{name} ({path})" if name else path
        for name, path in zip(names, paths, strict=True)
    ]


def write(made: Mapping[str, Figure], output: Path, form: str) -> None:
    """Write the figures into the folder, each atomically; in an svg, text stays text."""
    import matplotlib

    with written("output", output):
        output.mkdir(parents=True, exist_ok=True)
        for name, figure in made.items():
            # Restored when the block ends. The salt and the absent date make the same figure the same bytes.
            with (
                matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}),
                atomic_write(output / name) as file,
            ):
                metadata = {"Date": None} if form == "svg" else None
                figure.savefig(file, format=form, dpi=DPI, metadata=metadata)
