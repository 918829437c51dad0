"""A run in a few numbers: summary.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpc_lightning.files import atomic_write
from cpc_lightning.report.labels import LabelReport

SOURCES = ("gmm", "cpc", "verdict")
"""What the clean probabilities rest on that are measured: mixtures, prototypes, or neither ("verdict")."""

ESTIMATED = ("noise_rate_estimated", "noise_rate_low", "noise_rate_high")


def summarise(
    rows: Sequence[Mapping[str, float | None]],
    report: LabelReport,
    held_out: Mapping[str, LabelReport],
    selected: Mapping[str, float],
    seconds: float,
    chosen: str | None = None,
) -> dict[str, Any]:
    """A run in a few numbers; None where one does not apply. The cleaner's are those of the final verdict.

    Args:
        rows: one mapping from metric name to value an epoch.
        report: the verdict on the training labels.
        held_out: that on the labels of each evaluation set, by name: "suspected_labels_test", ...
        selected: metrics of the networks that the set "val" selects; empty without one.
        seconds: that the run took.
        chosen: what a cleaner that chooses for itself has chosen, and why.

    Accuracies of both networks together, in percent, are named after their set: "test_accuracy_best",
    "test_accuracy_top5_best", "ilsvrc12_accuracy_best", ... "test_accuracy_selected" is that of the networks that the
    set "val" selects; "test_prototype_accuracy_last", ... are those of class prototypes as classifiers.
    "ks_deviating_clean_1", ... are the shares of classes of Figure 1, at the end of the warm-up.
    "test_accuracy_warmup" is the best accuracy by then, which plain training has reached. "divided_after" is how many
    epochs there were by then, null where nothing was divided; "effective_gain" how many times as many labels, in
    effect, dividing would have left when that was last asked (`training.dividing`; 0 where nobody could tell), null
    where the division waits for nothing.
    """
    last = rows[-1]

    def column(name: str) -> list[float]:
        return [value for row in rows if (value := row.get(name)) is not None]

    measured = [name for name in last if name.endswith(("/accuracy", "/accuracy_top5", "/prototype_accuracy"))]
    return {
        **{
            f"{name.replace('/', '_')}_{key}": value
            for name in dict.fromkeys(("test/accuracy", *measured))
            for key, value in summarise_accuracy(column(name)).items()
        },
        "test_accuracy_selected": None,
        "test_accuracy_warmup": _best_of_warmup(rows),
        "divided_after": _first_division(rows),
        "effective_gain": next(reversed(column("stage1/effective_gain")), None),
        **{f"{name.replace('/', '_')}_selected": v for name, v in selected.items() if name[-2:] not in ("_1", "_2")},
        **{f"cleaner_{m}_{c}": last.get(f"{c}/{m}") for c in SOURCES for m in ("auc", "precision", "recall")},
        **{
            f"ks_deviating_{of}": next(iter(column(f"losses/ks_deviating_{of}")), None)
            for of in ("clean_1", "clean_2", "noisy_1", "noisy_2")
        },
        "noise_rate_nominal": last["noise/rate_nominal"],
        "noise_rate_actual": last["noise/rate_actual"],
        **dict(zip(ESTIMATED, report.noise_rate or (None,) * 3, strict=True)),
        "out_of_fold_error": report.noise and report.noise.out_of_fold_error,
        "chosen": chosen,
        "looks_clean": report.looks_clean,
        "suspected_labels": _suspected(report),
        **{f"suspected_labels_{name}": _suspected(labels) for name, labels in held_out.items()},
        "training_samples": len(report.noisy_labels),
        "test_samples": len(held_out["test"].noisy_labels) if "test" in held_out else 0,
        "unlabeled_samples": int((report.noisy_labels < 0).sum()),
        "trusted_labels": 0 if report.trusted is None else int(report.trusted.sum()),
        "epochs": len(rows),
        "seconds": seconds,
    }


def _best_of_warmup(rows: Sequence[Mapping[str, float | None]]) -> float | None:
    """The best test accuracy up to the first division of the data; None without one, or without a test set."""
    measured = [row.get("test/accuracy") for row in rows[: _first_division(rows) or 0]]
    return max((value for value in measured if value is not None), default=None)


def _first_division(rows: Sequence[Mapping[str, float | None]]) -> int | None:
    """Epochs trained when the data were first divided; None where they never were."""
    divided = (place for place, row in enumerate(rows, start=1) if row.get("partition/labeled_1") is not None)
    return next(divided, None)


def _suspected(report: LabelReport) -> int | None:
    return None if report.suspected is None else int(report.suspected.sum())


def summarise_accuracy(history: Sequence[float]) -> dict[str, float | None]:
    """Best, last, and mean of the last 10 (or of all, if fewer) of an accuracy recorded each epoch; or None."""
    if not history:
        return dict.fromkeys(("best", "last", "last10"))
    last10 = history[-10:]
    return {"best": max(history), "last": history[-1], "last10": sum(last10) / len(last10)}


def write_summary(path: str | Path, summary: Mapping[str, object]) -> None:
    """Write `summary` as JSON, atomically; None becomes null."""
    with atomic_write(path) as file:
        file.write((json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
