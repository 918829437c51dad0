"""Hugging Face datasets: an ImageFolder with metadata.csv.

Format: https://huggingface.co/docs/datasets/image_dataset#imagefolder
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES
from cpc_lightning.datasets.labeled_rows import NO_CLASS
from cpc_lightning.report.formats.contract import Exported, linked
from cpc_lightning.report.pictures import Pictures


def write_huggingface(exported: Exported, folder: Path) -> list[str]:
    """train/images/INDEX.jpg, ..., train/metadata.csv."""
    verdicts, pictures = exported.verdicts, Pictures(exported.images, exported.copy)
    (folder / "train" / "images").mkdir(parents=True)
    names = []
    for k in range(len(verdicts)):
        names.append(f"images/{k:06}{pictures.ending(k)}")
        pictures.put(k, folder / "train" / names[-1])
    judged = np.isfinite(verdicts.clean_probability)
    pd.DataFrame(
        {
            "file_name": names,
            "label": [exported.name(k) for k in verdicts.noisy_label.tolist()],
            "suggested_label": [exported.name(k) for k in verdicts.suggested_label.tolist()],
            "suspected": pd.Series(verdicts.suspected, dtype="boolean").where(judged),
            "clean_probability": verdicts.clean_probability,
            "confidence": verdicts.confidence,
            "true_label": [
                NO_CLASS if k == NONE_OF_THE_CLASSES else exported.name(k) for k in verdicts.true_label.tolist()
            ],
            "trusted": verdicts.trusted,
            "index": verdicts.index,
            "path": verdicts.path,
        }
    ).to_csv(folder / "train" / "metadata.csv", index=False, encoding="utf-8", lineterminator="\n")
    return [
        'To load it: datasets.load_dataset("imagefolder", data_dir="FOLDER"). label is the given label, by '
        "name; index and path are those of the run's labels.csv.",
        *linked(exported),
    ]
