"""Makes the command that trains on a cleaned set like the first run, and then compares the two runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cpc_lightning.app.build import build
from cpc_lightning.app.compose import compose
from cpc_lightning.app.folders import with_folder
from cpc_lightning.app.options import PLAIN, quoted
from cpc_lightning.app.unread import unread
from cpc_lightning.errors import InputError
from cpc_lightning.report.cleaned_set import CleanedSet
from cpc_lightning.report.pictures import file_of
from cpc_lightning.report.run_folder import RunFolder, as_item
from cpc_lightning.training.same_run import as_now, flatten, renamed, within

GROUPS = ("backbone", "method", "semisup", "optimizer", "cleaner", "features", "vector_views")
"""Groups whose choices say which settings there are; the data set's is a table now, and no noise is added again."""
KEPT = (*(f"{group}." for group in (*GROUPS, "views", "training", "dataset.crop")), "dataset.on_bad_image", "seed")
"""What the second run takes over from the first, where a table of photos would bring other values."""
TYPED = ("trainer", "logger", "callbacks", "hydra.searchpath")
"""What it takes over as it was typed: `auto` may mean something else on another machine."""


def second_run(run: RunFolder, cleaned: CleanedSet, table: Path, root: str | None) -> tuple[str, list[str]]:
    """The command, for a shell in any folder, and in what it is not the first run's.

    Args:
        run: the first one.
        cleaned: its cleaned set.
        table: that names the images.
        root: where its paths start; None: beside it.
    """
    data = ["dataset=table", f"dataset.file={text_of(os.path.abspath(table))}"]
    if root is not None:
        data.append(f"dataset.root={text_of(root)}")
    if cleaned.unlabeled:
        data.append("dataset.unlabeled=use")
    try:
        method, unlike = method_of(run, cleaned, data)
    except InputError as error:  # of an older version, or with choices of a folder that is gone
        method, unlike = [], [f"the first run's settings are not in this command, for they do not compose: {error}"]
    first, second = os.path.abspath(run.path), free_folder(f"{os.path.abspath(run.path)}_cleaned")
    train = [*data, *method, f"hydra.run.dir={text_of(second)}"]
    report = ["mode=report", f"run={as_item(second)}", f"compare={as_item(first)}", "overwrite=true"]
    commands = (" ".join(["python -m cpc_lightning", *map(shlex.quote, texts)]) for texts in (train, report))
    return " && ".join(commands), unlike


def method_of(run: RunFolder, cleaned: CleanedSet, data: list[str]) -> tuple[list[str], list[str]]:
    """Settings that make a run on the table `data` do what the first did, and what they cannot.

    Raises:
        InputError: where they do not compose.
    """
    own = [text for text in map(renamed, run.overrides) if not text.startswith(("resume=", "hydra.run", "hydra.mode"))]
    typed = [text for text in own if text.lstrip("+~").startswith(TYPED)]
    before, usual = (compose(texts).hydra.runtime.choices for texts in (own, [*data, *typed]))
    useless = unread_by(run.settings)
    choices = [f"{group}={before[group]}" for group in GROUPS if before[group] != usual[group] and group not in useless]
    now = flatten(with_folder(compose([*data, *typed, *choices])))
    wanted = {name: value for name, value in flatten(as_now(run.settings)).items() if name.startswith(KEPT)}
    wanted |= {"embedding_size": run.settings["embedding_size"]}
    images = cleaned.dataset.train.images
    if file_of(images, 0) is None:  # their files are as large as they were, and are read by workers
        wanted["dataset.crop.resize"] = int(images.fetch(torch.tensor([0])).shape[-1])
        del wanted["training.num_workers"]
    changed = {name: value for name, value in wanted.items() if name in now and now[name] != value}
    changed = {name: value for name, value in changed.items() if not any(within(name, other) for other in useless)}
    unlike = [
        f"the first run's {name.partition('.')[0]} is {value}, which it was not told by a choice: choose it yourself"
        for name, value in changed.items()
        if is_part(name)
    ]
    values = [f"{name}={text_of(value)}" for name, value in changed.items() if not is_part(name)]
    return [*typed, *choices, *values], unlike


def unread_by(settings: Mapping[str, Any]) -> set[str]:
    """Settings and groups that the run's method does not read, and refuses; none where a run knows of no method."""
    if "method" not in settings:
        return set()
    return {name for name, _ in unread(build(settings, "method", "losses"))}


def is_part(name: str) -> bool:
    """Whether the setting says what to build, which the groups' choices do."""
    return name.rpartition(".")[2].startswith("_")


def free_folder(path: str) -> str:
    """`path`, or with a number behind it where that is taken."""
    names = (path if number == 1 else f"{path}_{number}" for number in range(1, 10**6))
    return next(name for name in names if not os.path.lexists(name))


def text_of(value: Any) -> str:
    """A value as Hydra's grammar writes it."""
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) else quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{text_of(key)}:{text_of(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(text_of, value)) + "]"
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)
    )
