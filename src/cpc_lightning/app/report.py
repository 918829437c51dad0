"""mode=report: builds the page of a run again from its folder, also of an interrupted or an older run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.app.launch import process_number
from cpc_lightning.app.modes import check_free, mode_settings, one, switch
from cpc_lightning.errors import InputError, one_line, require, written
from cpc_lightning.report.run_folder import RunFolder, read_run_folder
from cpc_lightning.report.warmup_losses import WARMUP_LOSSES, read_warmup_losses

if TYPE_CHECKING:
    from cpc_lightning.app.parts import Parts
    from cpc_lightning.datasets.dataset import Split
    from cpc_lightning.report.material import Look, Material
    from cpc_lightning.report.verdicts import Verdicts
    from cpc_lightning.training.again import Seen

# torch and what draws are imported once the run's files are read: a mistake is told at once.

REPORT = "report"  # within a run's folder
MOST_LOOKED_AT = 100_000
"""Training images that the networks look at again for the page, unless `look=true` asks for it: it takes a pass."""


def report(arguments: Sequence[str]) -> int:
    """Build the page of a run, and print where it is; the exit code.

    Args:
        arguments: of the command line, options aside: `run=FOLDER|FILE.ckpt [output=FOLDER] [compare=FOLDER]
            [pictures=N] [look=true|false] [overwrite=true]`, and settings of the run, such as dataset.root=/new/place.

    Raises:
        InputError: for a setting, a file or a folder that cannot be used; nothing is written then.
    """
    given, typed = mode_settings("report", arguments)
    run = read_run_folder(one("run", given))
    output = Path(one("output", given)) if "output" in given else run.path / REPORT
    check_free(output, switch("overwrite", given.get("overwrite", "false")))
    pictures = whole_number("pictures", given["pictures"]) if "pictures" in given else None
    look = switch("look", given["look"]) if "look" in given else None
    changes, said = changes_since(one("compare", given), run) if "compare" in given else (None, [])
    if process_number() > 0:
        return 0  # the first process writes
    material = replace(gather(run, typed=typed, look=look), changes=changes)
    index = write(material, output, pictures, show_progress)
    missing = [f"missing: {line}" for line in material.missing]
    print("\n".join(one_line(line) for line in [str(index), *missing, *said]))
    return 0


def changes_since(text: str, run: RunFolder) -> tuple[dict[str, Any], list[str]]:
    """What changed since the run that `text` names: for the page, and for the terminal.

    Raises:
        InputError: named "compare", where that is no run, has no verdict, or none of the samples of this one.
    """
    from cpc_lightning.report.comparison import columns, compare, for_page

    try:
        first = read_run_folder(text)
        found = compare(first, run)
    except InputError as error:
        raise InputError("compare", error.value, error.expected) from error
    rows = [
        f"{name}: {before or 'unknown'} before, {now or 'unknown'} now" for name, before, now in columns(found.numbers)
    ]
    return for_page(found, first), [*found.sentences, *rows]


def whole_number(name: str, text: str) -> int:
    """The value of a setting that is a whole number of at least 1; raises `InputError` for anything else."""
    require(text.isdecimal() and int(text) > 0, name, text, "must be a whole number of at least 1")
    return int(text)


def show_progress(done: int, of: int) -> None:
    """Say now and then how far the pictures of a large set are."""
    if of > 20 and (done % (of // 10) == 0 or done == of):
        print(f"pictures: {done} of {of} sheets", flush=True)


def write(
    material: Material, output: Path, pictures: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the page; its index.html. Raises `InputError` where the folder cannot be written to."""
    from cpc_lightning.report.gallery import PICTURES
    from cpc_lightning.report.page import write_page

    with written("output", output):
        return write_page(material, output, pictures or PICTURES, progress)


# What a run has left --------------------------------------------------------------------------------------------------


@dataclass
class Gathered:
    """What has been found of a run so far, and what is missing."""

    missing: list[str] = field(default_factory=list)
    parts: Parts | None = None
    seen: dict[str, Seen] = field(default_factory=dict)


def gather(run: RunFolder, parts: Parts | None = None, typed: Sequence[str] = (), look: bool | None = None) -> Material:
    """All that the page of a run is made of.

    Args:
        run: what it has left.
        parts: of the run; None builds them from its settings.
        typed: settings of the run in place of its own.
        look: whether the networks look at the images again; None: up to `MOST_LOOKED_AT` of them.

    Raises:
        InputError: for a file of the run that is garbled, or a mistake in what is typed.
    """
    from cpc_lightning.datasets.dataset import pictures_of
    from cpc_lightning.report.material import Material
    from cpc_lightning.report.verdicts import LABELS, read_verdicts

    classes = len(run.class_names) or None
    labels = run.path / LABELS
    verdicts = read_verdicts(labels, classes) if labels.is_file() else None
    held_out = {
        path.stem.removeprefix("labels_"): read_verdicts(path, classes)
        for path in sorted(run.path.glob("labels_*.csv"))
    }
    warmup = read_warmup_losses(run.path / WARMUP_LOSSES) if (run.path / WARMUP_LOSSES).is_file() else None
    found = Gathered(parts=parts)
    open_images(found, run, typed, verdicts)
    look_again(found, run, look, "test" in held_out or verdicts is None)
    if verdicts is None:
        verdicts, held_out = from_networks(found, run), held_out or held_out_from_networks(found)
    if found.parts is None:
        return Material(run, verdicts, held_out, warmup=warmup, missing=found.missing)
    dataset = found.parts.dataset
    test = dataset.evaluation.get("test")
    return Material(
        run, verdicts, held_out, pictures_of(dataset.train.images), None if test is None else pictures_of(test.images),
        look_of(found), warmup, found.missing,
    )  # fmt: skip


def open_images(found: Gathered, run: RunFolder, typed: Sequence[str], verdicts: Verdicts | None) -> None:
    """Open the data set, unless that is done; what cannot be opened, or is another one, is noted as missing."""
    from cpc_lightning.app.of_run import parts_of_run

    try:
        parts = found.parts or parts_of_run(run, typed)
        same = verdicts is None or is_same(parts.dataset.train, verdicts)
        require(same, "dataset", parts.dataset.name, "holds other images or labels than the run was trained on")
        found.parts = parts
    except InputError as error:
        if typed:
            raise
        found.parts = None
        found.missing.append(
            f"the images cannot be opened ({error}); mode=report takes dataset.root=FOLDER and the like"
        )


def is_same(split: Split, verdicts: Verdicts) -> bool:
    """Whether the verdicts are on these samples: as many, with these labels and names."""
    from cpc_lightning.report.labels import inert

    if not np.array_equal(split.labels.numpy(), verdicts.noisy_label):
        return False
    return split.paths is None or all(map(str.__eq__, map(inert, split.paths), verdicts.path))


def look_again(found: Gathered, run: RunFolder, look: bool | None, test: bool) -> None:
    """Have the networks of the last checkpoint look at the images, where they can and are to."""
    from cpc_lightning.app.of_run import look_back

    if found.parts is None:
        return
    count = len(found.parts.dataset.train)
    if look is None and count > MOST_LOOKED_AT:
        why = f"the networks have not looked at {count:,} images again; mode=report look=true run={run.path} does"
        found.missing.append(why)
        return
    if look is False:
        found.missing.append("the networks have not looked at the images again (look=false)")
        return
    names = ["train", "test"] if test and "test" in found.parts.dataset.evaluation else ["train"]
    try:
        found.seen = dict(zip(names, look_back(found.parts, run, *names), strict=True))
    except InputError as error:
        found.missing.append(f"the networks cannot look at the images again ({error})")


def look_of(found: Gathered) -> Look | None:
    """What the networks say, as the page takes it."""
    from cpc_lightning.report.material import Look

    if "train" not in found.seen:
        return None
    seen = found.seen["train"]
    test = found.seen["test"].features.numpy() if "test" in found.seen else None
    return Look(seen.features.numpy(), test, seen.losses.numpy(), far_from_prototypes(cast(Any, found.parts), seen))


def far_from_prototypes(parts: Parts, seen: Seen) -> NDArray[np.float32] | None:
    """(N,) 1 - the best match s(v' c_k) over the classes, mean of both networks; None where no prototypes learnt."""
    import torch

    heads = [parts.module.network(number).head for number in (0, 1)]
    if not all(bool(head.fitted) for head in heads):
        return None
    best = []
    for head, features in zip(heads, seen.features.chunk(2, dim=1), strict=True):
        device = head.prototypes.device
        with torch.no_grad():
            scores = [head(part.to(device).float()).amax(dim=1) for part in torch.split(features, 8192)]
        best.append(torch.sigmoid(torch.cat(scores)).cpu())
    far: NDArray[np.float32] = (1 - torch.stack(best).mean(dim=0)).numpy()
    return far


def from_networks(found: Gathered, run: RunFolder) -> Verdicts | None:
    """What the networks say of the training labels of a run that has written no verdict yet."""
    how = f"resume={run.path} goes on with it"
    if found.parts is None or "train" not in found.seen:
        found.missing.append(f"labels.csv is not there: the run has not ended ({how})")
        return None
    found.missing.append(
        "labels.csv is not there: the run has not ended. The labels are sorted by how strongly the networks of its "
        f"last checkpoint contradict them; clean probabilities come with the run's end ({how})"
    )
    return as_verdicts(found.parts.dataset.train, found.seen["train"])


def held_out_from_networks(found: Gathered) -> dict[str, Verdicts]:
    """The same of the set "test"."""
    if found.parts is None or "test" not in found.seen:
        return {}
    return {"test": as_verdicts(found.parts.dataset.evaluation["test"], found.seen["test"])}


def as_verdicts(split: Split, seen: Seen) -> Verdicts:
    """The networks' opinion on the labels of a set, without clean probabilities."""
    from cpc_lightning.report.labels import inert
    from cpc_lightning.report.verdicts import Verdicts

    count = len(split)
    unknown, nobody = np.full(count, -1), np.full(count, np.nan)
    confidence, suggested = seen.probabilities.max(dim=1)
    return Verdicts(
        np.arange(count), [""] * count if split.paths is None else [inert(path) for path in split.paths],
        split.labels.numpy(), nobody, nobody, nobody, np.zeros(count, bool), suggested.numpy(),
        confidence.double().numpy(), unknown if split.true_labels is None else split.true_labels.numpy(),
        unknown if split.rows is None else split.rows.numpy(),
        np.zeros(count, bool) if split.trusted is None else split.trusted.numpy(),
    )  # fmt: skip
