"""Data for the page's scripts: samples in columns, the first ones inside the page, the others in files beside it.

Shapes: N samples; `order` (S,) positions of those shown, the most suspicious first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.report.verdicts import Verdicts

SUSPECTED, TRUSTED, GONE, TWIN, FAR = 1, 2, 4, 8, 16
"""Bits of a sample's flags, as `templates/store.js` reads them: the last three are an image that cannot be read, one
that has a near-duplicate, and one that looks like none of the classes."""

Positions = NDArray[np.int64]


def flags_of(verdicts: Verdicts, twins: Positions, far: Positions) -> NDArray[np.int64]:
    """(N,) flags of every sample, but for `GONE`.

    Args:
        verdicts: on N labels.
        twins: positions of samples that have a near-duplicate.
        far: positions of those that look like none of the classes.
    """
    flags = SUSPECTED * verdicts.suspected.astype(np.int64) + TRUSTED * verdicts.trusted
    flags[twins] |= TWIN
    flags[far] |= FAR
    return flags


def columns(verdicts: Verdicts, part: Positions, flags: NDArray[np.int64]) -> dict[str, Any]:
    """The samples at the positions `part`, by column; probabilities to four digits, null where there is none."""
    has_paths = any(verdicts.path[position] for position in part.tolist())
    known = bool((verdicts.true_label[part] != -1).any())
    return {
        "index": verdicts.index[part].tolist(),
        "path": [verdicts.path[position] for position in part.tolist()] if has_paths else None,
        "given": verdicts.noisy_label[part].tolist(),
        "seen": verdicts.suggested_label[part].tolist(),
        "sure": _shares(verdicts.confidence[part], blank=0.0),
        "one": _shares(verdicts.clean_probability_1[part]),
        "two": _shares(verdicts.clean_probability_2[part]),
        "chance": _shares(verdicts.clean_probability[part]),
        "truth": verdicts.true_label[part].tolist() if known else None,
        "flags": flags[part].tolist(),
    }


def _shares(values: NDArray[np.float64], blank: float | None = None) -> list[float | None]:
    return [blank if value != value else round(value, 4) for value in values.tolist()]


def script(number: int, content: Mapping[str, Sequence[Any]]) -> str:
    """data/NNN.js: hands the columns to the page."""
    return f"window.cpc.add({number},{compact(content)});\n"


def compact(content: object) -> str:
    """JSON that may stand in a script of a page: no name in it can end the script, or begin a comment."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")  # a file's name may be no UTF-8
