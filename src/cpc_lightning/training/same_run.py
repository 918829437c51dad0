"""Compares the settings of a resumed run with its record; translates records of older versions."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cpc_lightning.errors import InputError

# Settings that a resumed run may change: where it computes, what it shows and logs, where files lie (what they hold is
# compared). Of the trainer's not those that change what is computed on the same devices: its limits, its precision.
FREE = (
    "run_dir", "resume", "report", "logger", "callbacks", "hydra",
    "dataset.root", "dataset.test_root", "dataset.ilsvrc_root", "dataset.file", "dataset.test_file", "dataset.download",
    "noise.path", "features.folder", "features.batch_size", "training.num_workers", "training.evaluation_batch_size",
    *(f"trainer.{name}" for name in (
        "accelerator", "devices", "num_nodes", "strategy", "deterministic", "benchmark", "default_root_dir",
        "enable_progress_bar", "enable_model_summary", "log_every_n_steps", "logger", "profiler",
    )),
)  # fmt: skip

RENAMED: Mapping[str, str] = {"experiment=webvision_inception": "experiment=dividemix_inception"}
"""What had another name in an earlier version: settings ("training.epochs") and choices ("cleaner=cpc_awr")."""

OF_TRAINING = ("cleaner.", "method.", "optimizer.", "semisup.", "training.", "vector_views.", "views.")
"""Groups whose files may name another value in a later version, which is nothing to a run that was begun before."""

AS_BEFORE: Mapping[str, Any] = {
    "method._target_": "cpc_lightning.methods.codivide.CoDivide",
    "report": False,
    "semisup.forward_unlabeled": False,
    "semisup.prior_weight": 1.0,
    "semisup.views": 2,
    "semisup.kept_guesses": False,
    "training.full_epochs": False,
    "training.divide_when": "scheduled",
    "training.warmup_policy": None,
    "training.warmup_batch_size": None,  # but for a run that stopped in a warm-up that training.limit_batches cut short
    "views.augdesc": False,
    "cleaner.standardise_features": True,
    "cleaner.class_floor": 0.0,
    "dataset.validation_share": 0.0,
    "dataset.split_seed": 0,
    "dataset.encoding": None,
    "dataset.unlabeled": "error",
    "dataset.trust_clean": False,
    "features._target_": "cpc_lightning.features.features.NoFeatures",
    # Of vectors, of which there were no data sets.
    "vector_views._target_": "cpc_lightning.views.vector_views.VectorViews",
    "vector_views.dropout": 0.2,
    "vector_views.noise": 0.1,
    "vector_views.mixing": 0.2,
}
"""Settings that the records of older runs lack: full name to the value that means what those runs did."""

MOVED: Mapping[str, str] = {
    "cpc_lightning.models": "cpc_lightning.backbones",
    **{
        f"cpc_lightning.data.{file}": f"cpc_lightning.datasets.{file}"
        for file in ("cifar", "clothing1m", "digits", "fashion_mnist", "image_folder", "image_table", "webvision")
    },
    "cpc_lightning.data.image_files": "cpc_lightning.datasets.reading.image_files",
    "cpc_lightning.data.noise": "cpc_lightning.noise.noise",
    "cpc_lightning.data.matrix_noise": "cpc_lightning.noise.matrix",
    "cpc_lightning.data.instance_noise": "cpc_lightning.noise.instance",
    "cpc_lightning.data.open_set": "cpc_lightning.noise.open_set",
    "cpc_lightning.data.human_labels": "cpc_lightning.noise.human_labels",
    "cpc_lightning.data.views": "cpc_lightning.views.views",
    "cpc_lightning.dashboard": "cpc_lightning.training.dashboard",
}
"""Modules that the records of older runs name in `_target_`, and where their content is now."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by full name; lists are values."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def renamed(override: str) -> str:
    """An override of an older run in today's names."""
    sign, name, rest = re.fullmatch(r"([+~]*)([^=]*)(.*)", override, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{sign}{RENAMED.get(f'{name}{rest}', f'{RENAMED.get(name, name)}{rest}')}"


def recorded(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run's record, by full name, as this version would have recorded them."""
    flat = {**AS_BEFORE, **{RENAMED.get(name, name): value for name, value in flatten(saved).items()}}
    for name, value in flat.items():
        module, _, made = str(value).rpartition(".")
        for before, now in MOVED.items():
            if name.endswith("._target_") and (module == before or module.startswith(f"{before}.")):
                flat[name] = f"{now}{module[len(before) :]}.{made}"
    return flat


def as_now(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run as this version names them; what an older one did not have means what it did then.

    Where a part of the run lacks a setting, its constructor's default is that; a group that there was not is set whole.
    """
    own = flatten(saved)
    had = {name.rpartition(".")[0] for name in own}
    settings: dict[str, Any] = {}
    for name, value in recorded(saved).items():
        group = name.rpartition(".")[0]
        is_part = f"{group}._target_" in own
        is_new = f"{group}._target_" in AS_BEFORE and group not in had
        if name in AS_BEFORE and name not in own and (is_part or (group not in had and not is_new)):
            continue
        put(settings, name, value)
    return settings


def put(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set the value of the setting with this full name."""
    *groups, last = name.split(".")
    for group in groups:
        settings = settings.setdefault(group, {})
    settings[last] = value


def is_free(name: str) -> bool:
    """Whether a resumed run may change the setting."""
    return any(within(name, free) for free in FREE)


def within(name: str, group: str) -> bool:
    """Whether the setting is `group`, or one of those in it."""
    return name == group or name.startswith(f"{group}.")


def as_begun(settings: Mapping[str, Any], record: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of how to train, with what this version would choose otherwise as the run to be continued has it.

    Only where nothing is asked for that the run was not told: what differs then is this version's own.

    Args:
        settings: nested.
        record: the run's, with its "config" and "overrides".
        overrides: what was typed then and now.
    """
    known = {*map(renamed, record["overrides"])}
    if any(text not in known and not is_free(text.lstrip("+~").partition("=")[0]) for text in overrides):
        return dict(settings)
    before, changed = recorded(record["config"]), copy.deepcopy(dict(settings))
    for name, value in flatten(settings).items():
        if name.startswith(OF_TRAINING) and "._" not in name and before.get(name, value) != value:
            put(changed, name, before[name])
    return changed


def check_same_config(saved: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise `InputError` for the first setting that differs from the run to be continued, unless it is free to.

    Args:
        saved: the settings that the run recorded, nested; those of an older version mean what `recorded` says.
        config: the settings now, nested.
    """
    before, now, absent = recorded(saved), flatten(config), object()
    # What is as before only by AS_BEFORE is of a part that this run does not have.
    own = {*flatten(saved)}
    for name in [*now, *(name for name in before if name not in now and name in own)]:
        old, new = before.get(name, absent), now.get(name, absent)
        if old != new and not is_free(name):
            was = "does not have it" if old is absent else f"has {old!r}"
            shown = "(not set)" if new is absent else new
            raise InputError(name, shown, f"the run to resume {was}, and cannot continue with another")
