"""cleanlab: the table of label issues of its Datalab, with predicted probabilities and features beside it.

Format: https://docs.cleanlab.ai/stable/cleanlab/datalab/guide/issue_type_description.html
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from cpc_lightning.errors import count_of
from cpc_lightning.report.formats.contract import NOT_OUT_OF_SAMPLE, Answers, Exported
from cpc_lightning.report.tables import write_classes

ISSUES, PROBABILITIES, FEATURES = "label_issues.csv", "pred_probs.npy", "features.npy"


def write_cleanlab(exported: Exported, folder: Path) -> list[str]:
    """label_issues.csv, pred_probs.npy (n, K), features.npy (n, D) and classes.json, of the n samples with a label."""
    verdicts, answers = exported.verdicts, cast(Answers, exported.answers)
    labeled = np.flatnonzero(verdicts.noisy_label >= 0)
    judged = np.isfinite(verdicts.clean_probability[labeled])
    suspected = pd.Series(verdicts.suspected[labeled], dtype="boolean").where(judged)
    pd.DataFrame(
        {
            "is_label_issue": suspected,
            "label_score": verdicts.clean_probability[labeled],
            "given_label": verdicts.noisy_label[labeled],
            "predicted_label": verdicts.suggested_label[labeled],
            "index": verdicts.index[labeled],
            "path": [verdicts.path[k] for k in labeled],
        }
    ).to_csv(folder / ISSUES, index=False, encoding="utf-8", lineterminator="\n")
    np.save(folder / PROBABILITIES, answers.probabilities[labeled].astype(np.float32))
    np.save(folder / FEATURES, answers.features[labeled].astype(np.float32))
    write_classes(folder / "classes.json", exported.class_names)
    notes = [
        f"{ISSUES} has a row for each image that has a label, {PROBABILITIES} and {FEATURES} likewise. Labels are "
        "numbers: label k is item k of classes.json and column k of the probabilities. label_score is this run's clean "
        "probability. index and path are those of the run's labels.csv.",
        NOT_OUT_OF_SAMPLE,
        'To have cleanlab judge by itself: Datalab({"labels": issues.given_label.tolist()}, label_name="labels")'
        ".find_issues(pred_probs=pred_probs, features=features)",
    ]
    unlabeled = len(verdicts) - len(labeled)
    if unlabeled:
        notes.append(f"Left out: {count_of(unlabeled, 'image')} without a label.")
    if not judged.all():
        notes.append("The run has no cleaner: is_label_issue and label_score are blank where there is no verdict.")
    absent = sorted({*range(len(exported.class_names))} - {*verdicts.noisy_label.tolist()})
    if absent:
        shown = ", ".join(map(str, absent[:10]))
        notes.append(f"No image is labeled {shown}: Datalab takes no columns of such classes; leave them out for it.")
    return notes
