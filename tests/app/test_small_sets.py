"""Sets as own photos are: classes from 8 to 2,000, three classes, two hundred, sixty images in all; every cleaner."""

import csv
import json

import numpy as np
import pytest

pytestmark = pytest.mark.long

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
    """Vectors of 16 numbers around a centre for each class; a share swap their labels, so that sizes stay."""
    stream = np.random.RandomState(seed)
    true = np.repeat(np.arange(len(sizes)), sizes)
    centres = 4 * stream.randn(len(sizes), 16)
    given = true.copy()
    moved = np.sort(stream.permutation(len(true))[: int(wrong * len(true))])
    given[moved] = np.roll(true[moved], np.bincount(true[moved]).max())
    features = centres[true] + stream.randn(len(true), 16)
    np.savez(path / "train.npz", features=features, labels=given, true_labels=true)
    every = np.arange(len(sizes))
    np.savez(path / "test.npz", features=centres[every], labels=every)
    return [f"dataset.file={path}/train.npz", f"dataset.test_file={path}/test.npz"]


# Every cleaner on the hardest sets, and those that count samples in other ways on all.
CASES = [
    (name, cleaner)
    for name in SETS
    for cleaner in (CLEANERS if name in ("60 in all", "one of a kind") else ("cpc_awr", "probe", "auto"))
]


@pytest.mark.parametrize(("name", "cleaner"), CASES)
def test_cleaners_work_on_sets_of_every_size(command, tmp_path, name, cleaner):
    files = write_set(tmp_path, SETS[name])
    more = ["cleaner.steps=30"] if cleaner in STEPS else []
    folder = tmp_path / "run"
    code, _, err = command(*SHORT, *files, f"cleaner={cleaner}", *more, "report=false", f"hydra.run.dir={folder}")
    assert code == 0, err
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(SETS[name])
    if cleaner != "none":
        assert all(0 <= float(row["clean_probability"]) <= 1 for row in rows)
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 4


@pytest.mark.parametrize("name", SETS)
def test_the_check_knows_them_too(command, tmp_path, name):
    files = write_set(tmp_path, SETS[name])
    for cleaner in ("gmm_awr", "probe", "auto"):
        code, out, err = command("mode=check", *SHORT, *files, f"cleaner={cleaner}")
        assert code == 0, out + err
        text = " ".join(out.split())
        assert ("fewer than 10 images" in text) == (cleaner == "gmm_awr" and min(SETS[name]) < 10)
        few = "fewer images than cleaner.folds=5" in text
        assert few == (cleaner != "gmm_awr" and name in ("200 classes", "60 in all", "one of a kind"))


def test_a_floor_keeps_a_rare_class_in_training(command, tmp_path):
    """A class of eight, half of whose labels are doubted at least; with a floor of 1 nothing is left out."""
    files = write_set(tmp_path, [8, 300, 300], wrong=0.4)
    sides = {}
    for floor in (0, 1):
        folder = tmp_path / f"floor_{floor}"
        code, _, err = command(
            *SHORT, *files, "cleaner=gmm_agn", f"cleaner.class_floor={floor}", "report=false", f"hydra.run.dir={folder}"
        )
        assert code == 0, err
        with (folder / "metrics.csv").open(newline="") as file:
            row = next(csv.DictReader(file))
        sides[floor] = float(row["partition/unlabeled_1"])
    assert sides[1] == 0 < sides[0]
