"""Builds the parts of a finished run from its folder, for the modes that read it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from cpc_lightning.app.compose import check_group, config_groups, parse, read, value_text
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import unknown
from cpc_lightning.errors import InputError, require
from cpc_lightning.report.run_folder import CONFIG, RunFolder
from cpc_lightning.training.again import Seen, load_networks, look_again
from cpc_lightning.training.checkpoints import read_checkpoint
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.same_run import as_now, flatten, put


def parts_of_run(run: RunFolder, typed: Sequence[str] = ()) -> Parts:
    """The parts of a run with its own settings, and what is typed on top of them; nothing is logged or written.

    Args:
        run: what the run has left.
        typed: settings of the command line: `dataset.root=/new/place`, or a group's choice, as `dataset=table`.

    Raises:
        InputError: for a setting that the run does not have, or a run that has left no settings.
    """
    require(bool(run.settings), "run", str(run.path), f"has no {CONFIG}")
    settings = with_typed(as_now(run.settings), typed)
    settings |= {"mode": "train", "resume": None, "run_dir": str(run.path), "logger": {}, "callbacks": {}}
    settings["training"]["compile"] = False  # one pass does not repay it
    return Parts(settings)


def with_typed(settings: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """The settings with what is typed in place of theirs."""
    changed = copy.deepcopy(dict(settings))
    groups = config_groups()
    for text in typed:
        override = parse(text)
        name = override.key_or_group
        plain = not (override.is_sweep_override() or override.is_delete() or override.is_add())
        require(plain, name, value_text(override), "must be a single value, as SETTING=VALUE")
        if name in groups:
            check_group(override, groups)
            asked = read([text], multirun=False)
            changed[name] = asked.compose(asked.first).settings(str(changed.get("run_dir")))[name]
            continue
        known = flatten(changed)
        is_node = any(other.startswith(f"{name}.") for other in known)
        require(not is_node, name, value_text(override), f"must be set one by one, such as {name}.NAME=VALUE")
        require(name in known, name, value_text(override), f"{unknown(name, known)} (of the run)")
        put(changed, name, override.value())
    return changed


def look_back(parts: Parts, run: RunFolder, *names: str) -> list[Seen]:
    """What the networks of the run's last checkpoint say of the sets of these names ("train", "test", ...).

    Raises:
        InputError: where the run has left no checkpoint that can be read, or one of other networks or labels.
    """
    require(run.checkpoint is not None, "run", str(run.path), "has no checkpoint of its networks")
    path = cast(Path, run.checkpoint)
    try:
        checkpoint = read_checkpoint(path, selected=True)
    except InputError as error:
        raise InputError("run", error.value, error.expected) from error
    before, now = checkpoint[CoTrainingDataModule.__name__]["noisy_labels"], parts.dataset.train.labels
    expected = "was trained on other images or labels than there are now"
    require("train" not in names or torch.equal(before, now), "run", str(path), expected)
    parts.module.to("cuda" if torch.cuda.is_available() else "cpu")
    load_networks(parts.module, checkpoint)
    precision = str(parts.settings["trainer"]["precision"])
    return [look_again(parts.module, parts.datamodule, name, precision) for name in names]
