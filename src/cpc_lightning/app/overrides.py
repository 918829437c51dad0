"""Settings that are given in Python, as the command line's overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from cpc_lightning.app.compose import Composed, read
from cpc_lightning.app.options import quoted
from cpc_lightning.errors import require


def composed_of(texts: Sequence[str]) -> Composed:
    """What the overrides compose, checked as those of the command line are."""
    asked = read(texts, multirun=False)
    return asked.compose(asked.first)


def as_override(name: str, value: Any) -> str:
    """A setting and its value in Hydra's grammar."""
    require(isinstance(name, str), "settings", name, "must be named by a text, as training.batch_size")
    return f"{name}={in_grammar(value)}"


def in_grammar(value: Any) -> str:
    """A value of plain Python in Hydra's grammar; a text that is a name goes without quotes, as choices must."""
    if value is None:
        return "null"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{in_grammar(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple, np.ndarray)):
        return "[" + ",".join(map(in_grammar, value)) + "]"
    if isinstance(value, (int, float, np.number)):
        return repr(value.item() if isinstance(value, np.number) else value)
    require(isinstance(value, (str, Path)), "settings", value, "must be numbers, texts, lists or dicts of such")
    text = str(value)
    return text if text.isidentifier() and text.lower() not in ("null", "true", "false", "nan", "inf") else quoted(text)


def scaled(composed: Composed, epochs: int, typed: Mapping[str, Any], folder: str) -> list[str]:
    """Overrides for that many epochs: warm-up and milestones keep their share of the training, unless typed."""
    require(isinstance(epochs, Integral) and epochs >= 1, "epochs", epochs, "must be a whole number of at least 1")
    settings = composed.settings(folder)
    share = epochs / settings["training"]["epochs"]
    texts = [f"training.epochs={epochs}"]
    if "training.warmup_epochs" not in typed:
        warmup = round(settings["training"]["warmup_epochs"] * share)
        texts.append(f"training.warmup_epochs={max(1, min(warmup, epochs - 1))}")
    milestones = settings["optimizer"]["schedule"].get("milestones")
    if milestones is not None and "optimizer.schedule.milestones" not in typed:
        texts.append(f"optimizer.schedule.milestones={[max(1, round(m * share)) for m in milestones]}".replace(" ", ""))
    return texts
