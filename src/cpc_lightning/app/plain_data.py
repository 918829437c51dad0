"""Turns arrays, data frames and containers into tensors and plain containers, which load without running code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cpc_lightning.errors import require


def plain_value(value: Any) -> Any:
    """A value for `save`: tensors and plain containers."""
    if isinstance(value, pd.DataFrame):
        return {"data frame": {name: plain_value(column.to_numpy()) for name, column in value.items()}}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "mM":  # of time
            return {"array": value.view(np.int64).tolist(), "kind": value.dtype.str}
        if value.dtype.kind == "O":
            odd = next((item for item in value.tolist() if not isinstance(item, (str, int, float, type(None)))), None)
            require(odd is None, "y", odd, "cannot be saved as plain data; pickle keeps labels of this kind")
        return {"array": value.tolist(), "kind": value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain_value(inner) for key, inner in value.items()}
    return [plain_value(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def read_value(value: Any) -> Any:
    """What `plain_value` was given; but for tuples, which are lists."""
    if isinstance(value, dict) and "data frame" in value:
        return pd.DataFrame({name: read_value(column) for name, column in value["data frame"].items()})
    if isinstance(value, dict) and set(value) == {"array", "kind"}:
        kind = np.dtype(value["kind"])
        return np.array(value["array"], np.int64).view(kind) if kind.kind in "mM" else np.array(value["array"], kind)
    if isinstance(value, dict):
        return {key: read_value(inner) for key, inner in value.items()}
    return [read_value(inner) for inner in value] if isinstance(value, list) else value
