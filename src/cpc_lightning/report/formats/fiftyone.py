"""FiftyOne: its FiftyOneImageClassificationDataset on disk.

Format: https://docs.voxel51.com/user_guide/import_datasets.html#fiftyoneimageclassificationdataset
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cpc_lightning.files import atomic_write
from cpc_lightning.report.formats.contract import Exported, linked, number
from cpc_lightning.report.pictures import Pictures

GIVEN, SUGGESTED = "labels.json", "suggestions.json"


def write_fiftyone(exported: Exported, folder: Path) -> list[str]:
    """data/INDEX.jpg, ..., labels.json of the given labels, suggestions.json of the suggested ones."""
    verdicts, pictures = exported.verdicts, Pictures(exported.images, exported.copy)
    (folder / "data").mkdir()
    given: dict[str, Any] = {}
    suggested: dict[str, Any] = {}
    for k in range(len(verdicts)):
        identity = f"{k:06}"
        pictures.put(k, folder / "data" / f"{identity}{pictures.ending(k)}")
        clean, judged = verdicts.clean_probability[k], bool(np.isfinite(verdicts.clean_probability[k]))
        attributes = {
            "index": k,
            "path": verdicts.path[k],
            "suspected": bool(verdicts.suspected[k]) if judged else None,
            "clean_probability": number(clean),
            "suggested_label": exported.name(int(verdicts.suggested_label[k])),
            "confidence_of_suggestion": number(verdicts.confidence[k]),
            "trusted": bool(verdicts.trusted[k]),
        }
        known = {name: value for name, value in attributes.items() if value is not None}
        label, suggestion = int(verdicts.noisy_label[k]), int(verdicts.suggested_label[k])
        given[identity] = {"label": label, "attributes": known} if label >= 0 else None
        confidence = number(verdicts.confidence[k])
        suggested[identity] = {"label": suggestion, "confidence": confidence} if suggestion >= 0 else None
    for name, labels in ((GIVEN, given), (SUGGESTED, suggested)):
        with atomic_write(folder / name) as file:
            file.write(json.dumps({"classes": exported.names, "labels": labels}).encode())
    return [
        'To load it: fiftyone.Dataset.from_dir(dataset_dir="FOLDER", '
        "dataset_type=fiftyone.types.FiftyOneImageClassificationDataset). It has the given labels, each with the "
        f'verdict as its attributes; with labels_path="{SUGGESTED}" the suggested ones, with their confidence.',
        *linked(exported),
    ]
