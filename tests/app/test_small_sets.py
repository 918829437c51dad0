"""Sets as own photos are: classes from 8 to 2,000, three classes, two hundred, sixty images in all; every cleaner."""

import csv
import json

import numpy as np
import pytest

CLEANERS = ("none", "gmm_agn", "gmm_awr", "cpc_agn", "cpc_awr", "cpc_contrastive", "probe", "auto", "oracle")
SETS = {
    "from 8 to 2,000": [8, 20, 60, 200, 600, 2000],
    "3 classes": [40, 50, 60],
    "200 classes": [3] * 199 + [40],
    "60 in all": [30, 12, 8, 6, 4],
    "one of a kind": [30, 12, 1],
}
SHORT = (
    "dataset=embeddings", "training.epochs=4", "training.warmup_epochs=1", "optimizer.schedule.milestones=[3]",
    "callbacks=none", "trainer.precision=32-true", "backbone.width=16", "embedding_size=8", "training.batch_size=64",
)  # fmt: skip
STEPS = ("cpc_agn", "cpc_awr", "cpc_contrastive", "auto")


def write_set(path, sizes, wrong=0.2, seed=0):
    """Vectors of 16 numbers around a centre for each class, of which a share has the next class's label."""
    stream = np.random.RandomState(seed)
    true = np.repeat(np.arange(len(sizes)), sizes)
    centres = 4 * stream.randn(len(sizes), 16)
    given = true.copy()
    moved = stream.permutation(len(true))[: int(wrong * len(true))]
    given[moved] = (true[moved] + 1) % len(sizes)
    alone = np.bincount(given, minlength=len(sizes)) == 0  # no class is without a label
    given[np.isin(true, np.flatnonzero(alone))] = true[np.isin(true, np.flatnonzero(alone))]
    features = centres[true] + stream.randn(len(true), 16)
    np.savez(path / "train.npz", features=features, labels=given, true_labels=true)
    every = np.arange(len(sizes))
    np.savez(path / "test.npz", features=centres[every], labels=every)
    return [f"dataset.file={path}/train.npz", f"dataset.test_file={path}/test.npz"]


@pytest.mark.parametrize("cleaner", CLEANERS)
@pytest.mark.parametrize("name", SETS)
def test_every_cleaner_works_on_every_set(command, tmp_path, name, cleaner):
    files = write_set(tmp_path, SETS[name])
    more = ["cleaner.steps=30"] if cleaner in STEPS else []
    settings = [*SHORT, *files, f"cleaner={cleaner}", *more]
    code, out, err = command("mode=check", *settings)
    assert code == 0, out + err
    folder = tmp_path / "run"
    code, out, err = command(*settings, "report=false", f"hydra.run.dir={folder}")
    assert code == 0, err
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(SETS[name])
    if cleaner != "none":
        assert all(0 <= float(row["clean_probability"]) <= 1 for row in rows)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["epochs"] == 4
