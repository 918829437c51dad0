"""What people do with cleanlab: train on folds, drop what `find_label_issues` flags, and train on the rest.

    python benchmarks/people.py --fold-epochs 12 dataset=digits noise=symmetric cleaner=none hydra.run.dir=FOLDER

`cleaners.py` starts it, as its choices "cleanlab" and "cleanlab, full folds". The given labels, some of them wrong, are
divided into 5 folds, each class evenly. For each fold the networks of the overrides are trained on the other four, for
--fold-epochs (the learning rate falls after two thirds of them), and predict it: so every sample is predicted once, by
networks that have not seen it. cleanlab flags labels by these probabilities, with its default settings; a run of the
command line trains on the others, for all epochs of the overrides. FOLDER is that last run's. Its summary.json is of
the labels that were kept, but for what is said here of all labels: `cleaner_auc_verdict` and `precision_at_errors`, by
the probability of the given label, flagged ones first; `suspected_labels`, those that were dropped; and
`noise_rate_actual`. The cost of it all is that of this process with its child.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from cpc_lightning import CpcClassifier
from cpc_lightning.app.overrides import as_override, composed_of
from cpc_lightning.app.parts import Parts
from cpc_lightning.datasets.dataset import Split

Array = npt.NDArray[Any]

FOLDS = 5
TRAINED_ALIKE = ("views", "training", "optimizer", "backbone")
"""What of a run's settings says how its networks learn, beside the trainer's precision, embedding size and seed."""


class Model(Protocol):
    """What a training leaves.

    Attributes:
        classes_: (C,) the classes that it was shown.
    """

    classes_: Array

    def predict_proba(self, X: Array) -> Array:  # noqa: N803, scikit-learn's name
        """(M, C) for (M, ...) samples."""


def predict_out_of_fold(
    images: Array, given: Array, classes: int, fit: Callable[[Array, Array], Model], seed: int, folds: int = FOLDS
) -> Array:
    """The probability of each class (N, K), by models that have not seen the sample.

    Args:
        images: (N, ...).
        given: (N,) labels in 0..K-1.
        classes: K.
        fit: makes a model of images and labels.
        seed: decides the folds.
        folds: how many; in each the classes are as frequent as in all.
    """
    found = np.full((len(given), classes), np.nan)
    for learnt, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(given, given):
        model = fit(images[learnt], given[learnt])
        found[held] = 0  # of classes that a model was not shown
        found[np.ix_(held, model.classes_)] = model.predict_proba(images[held])
    return found


def precision_at_errors(right: Array, wrong: Array) -> float:
    """Of as many labels as are wrong, those of the least score `right` (N,), the share that is `wrong` (N,) bool."""
    return float(wrong[np.argsort(right, kind="stable")[: int(wrong.sum())]].mean())


def judge(given: Array, probabilities: Array) -> tuple[Array, Array]:
    """What cleanlab flags, (N,) bool, and scores (N,) that labels are right, those of flagged ones below all others.

    Args:
        given: (N,) labels.
        probabilities: (N, K) out of fold.
    """
    from cleanlab.filter import find_label_issues

    flagged = find_label_issues(given, probabilities, n_jobs=1)
    return flagged, probabilities[np.arange(len(given)), given] - flagged


# The library --------------------------------------------------------------------------------------------------------


def leaves(settings: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Names and values of all that can be set below `name`."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{name}.{key}")
        elif not key.startswith("_"):
            yield f"{name}.{key}", value


def trained_alike(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run on other arrays learn as one of these settings does, which has small networks."""
    same = {name: value for part in TRAINED_ALIKE for name, value in leaves(settings[part], part)}
    one = {"embedding_size": settings["embedding_size"], "trainer.precision": settings["trainer"]["precision"]}
    return {"cleaner": "none", **same, **one}


def of_epochs(epochs: int) -> dict[str, Any]:
    """Settings of a training that long, on the schedule of `cleaners.py`."""
    return {"training.epochs": epochs, "optimizer.schedule.milestones": [2 * epochs // 3]}


def pixels(split: Split) -> Array:
    """(N, H, W), or (N, H, W, 3)."""
    images = split.images.fetch(torch.arange(len(split))).numpy()
    return images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, 3)


def main() -> None:
    """Train on folds, judge, train on what is kept, and say in the last run's summary what was judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fold-epochs", type=int, required=True)
    parser.add_argument("overrides", nargs="+")
    options = parser.parse_args()
    shown = [text for text in options.overrides if text.startswith("hydra.run.dir=")]
    settings = composed_of(options.overrides).settings(shown[0].partition("=")[2])
    dataset, seed = Parts(settings).dataset, settings["seed"]
    images, given = pixels(dataset.train), dataset.train.labels.numpy()
    true = dataset.train.true_labels.numpy()
    same = trained_alike(settings)

    def fit(learnt: Array, labels: Array) -> CpcClassifier:
        short = {**same, **of_epochs(options.fold_epochs)}
        return CpcClassifier(settings=short, random_state=seed, device="cpu", verbose=False).fit(learnt, labels)

    probabilities = predict_out_of_fold(images, given, len(dataset.class_names), fit, seed)
    flagged, right = judge(given, probabilities)
    with tempfile.TemporaryDirectory(prefix="people_") as home:
        files = {name: str(Path(home, f"{name}.npz")) for name in ("kept", "test")}
        np.savez(files["kept"], images=images[~flagged], labels=given[~flagged], true_labels=true[~flagged])
        test = dataset.evaluation["test"]
        np.savez(files["test"], images=pixels(test), labels=test.labels.numpy())
        last = {"dataset": "arrays", "dataset.file": files["kept"], "dataset.test_file": files["test"], **same,
                "seed": seed, "callbacks": "none", "report": False, "trainer.enable_progress_bar": False}  # fmt: skip
        texts = [as_override(name, value) for name, value in last.items()]
        subprocess.run([sys.executable, "-m", "cpc_lightning", *texts, *shown], check=True)
    summary = Path(settings["run_dir"], "summary.json")
    wrong = given != true
    said = {
        "cleaner_auc_verdict": float(roc_auc_score(wrong, -right)),
        "precision_at_errors": precision_at_errors(right, wrong),
        "suspected_labels": int(flagged.sum()),
        "noise_rate_actual": float(wrong.mean()),
    }
    summary.write_text(json.dumps(json.loads(summary.read_text()) | said, indent=2) + "\n")


if __name__ == "__main__":
    main()
