"""Whole runs on image files, small but real: two epochs on each data set, and files that cannot be read."""

import csv
import json

import pytest
import torch
from tests.datasets.image_trees import save_jpeg, write_clothing1m, write_folders, write_webvision
from tests.training.test_selection import TINY

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.datasets import file_dataset

pytestmark = pytest.mark.long

SHORT = (*TINY, "training.epochs=2", "optimizer.schedule.milestones=[1]")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def without_times(path):
    return [{name: v for name, v in row.items() if "seconds" not in name} for row in rows_of(path)]


@pytest.mark.parametrize("random_resized", ["false", "true"])
def test_two_epochs_on_folders_do_not_depend_on_workers(command, tmp_path, random_resized):
    write_folders(tmp_path / "data", {"=dark": 12, "light": 12, "mid": 12})
    save_jpeg(tmp_path / "data" / "mid" / "-1+2.jpg", 0)
    runs = []
    for workers in (0, 2):
        folder = tmp_path / f"run{workers}"
        code, _, error = command(
            "dataset=imagefolder", f"dataset.root={tmp_path / 'data'}", *SHORT, f"training.num_workers={workers}",
            f"dataset.crop.random_resized={random_resized}", "noise=symmetric", "noise.rate=0.4", "cleaner=cpc_awr",
            "cleaner.steps=20", f"hydra.run.dir={folder}",
        )  # fmt: skip
        assert code == 0, error
        runs.append(((folder / "labels.csv").read_text(), without_times(folder / "metrics.csv")))
    assert runs[0] == runs[1]
    labels = rows_of(tmp_path / "run0" / "labels.csv")
    assert len(labels) == 30  # 37 less round(0.2 * 12) twice, and round(0.2 * 13)
    assert {row["path"][0] for row in labels} == {".", "l", "m"}
    assert "./=dark/0.jpg" in {row["path"] for row in labels}
    assert json.loads((tmp_path / "run0" / "classes.json").read_text()) == ["=dark", "light", "mid"]


@pytest.mark.parametrize(("policy", "views"), [("weak", 2), ("none", 4), ("imagenet", 4)])
def test_files_are_cropped_once_for_each_view_that_a_step_takes(compose, tmp_path, policy, views):
    write_folders(tmp_path / "data", {"a": 10, "b": 10})
    settings = ["dataset=imagefolder", f"dataset.root={tmp_path / 'data'}", *SHORT, f"views.policy={policy}"]
    datamodule = Parts(plain(compose(*settings, folder=tmp_path / "run"))).ready().datamodule
    samples = len(datamodule.noisy_labels)
    half = Partition.from_probability(torch.arange(samples), torch.tensor([0.9, 0.1]).repeat(samples // 2), 0.5)
    datamodule.partitions = half, half
    for batch in datamodule.train_dataloader():
        assert len(batch["labeled_images"]) == len(batch["unlabeled_images"]) == views


def test_two_epochs_on_webvision_report_both_sets_and_top_5(command, tmp_path):
    ilsvrc = write_webvision(tmp_path)
    code, out, error = command(
        "dataset=webvision", f"dataset.root={tmp_path}", f"dataset.ilsvrc_root={ilsvrc}", "dataset.num_classes=8",
        *SHORT, "cleaner=cpc_awr", "cleaner.steps=20", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert code == 0, error
    assert "ilsvrc12 accuracy top5" in out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rows = rows_of(tmp_path / "run" / "metrics.csv")
    for name in ("test", "ilsvrc12"):
        for top in ("", "_top5"):
            values = [float(row[f"{name}/accuracy{top}"]) for row in rows]
            assert summary[f"{name}_accuracy{top}_best"] == max(values)
            assert summary[f"{name}_accuracy{top}_last"] == values[-1]
        assert all(float(row[f"{name}/accuracy_top5"]) >= float(row[f"{name}/accuracy"]) for row in rows)
    assert summary["test_accuracy_selected"] is None


def test_unreadable_images_end_a_run_with_one_line_or_are_listed(command, tmp_path):
    write_folders(tmp_path / "data", {"a": 12, "b": 12})
    (tmp_path / "data" / "a" / "3.jpg").write_bytes(b"")
    settings = ["dataset=imagefolder", f"dataset.root={tmp_path / 'data'}", *SHORT, "cleaner=gmm_agn"]
    code, _, error = command(*settings, f"hydra.run.dir={tmp_path / 'one'}")
    assert code == 2
    assert error.count("\n") == 1
    assert "dataset.on_bad_image=error: 1 file cannot be read (1 of 20 in train): " in error
    assert "a/3.jpg (is empty)" in error
    code, _, error = command(*settings, "dataset.on_bad_image=skip", f"hydra.run.dir={tmp_path / 'two'}")
    assert code == 0, error
    assert len(rows_of(tmp_path / "two" / "labels.csv")) == 19
    (bad,) = rows_of(tmp_path / "two" / "bad_images.csv")
    assert bad == {"set": "train", "path": "a/3.jpg", "reason": "is empty"}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_cut_off_ends_training_with_one_line(command, tmp_path, workers, monkeypatch):
    """In a set that is too large to be decoded in advance."""
    monkeypatch.setattr(file_dataset, "LOOKED_AT_FIRST", 2)
    write_folders(tmp_path / "train", {"a": 8, "b": 8})
    write_folders(tmp_path / "test", {"a": 1, "b": 1})
    for number in range(1, 8):
        file = tmp_path / "train" / "a" / f"{number}.jpg"
        file.write_bytes(file.read_bytes()[:-100])
    code, _, error = command(
        "dataset=imagefolder", f"dataset.root={tmp_path}", *SHORT, "cleaner=gmm_agn", f"training.num_workers={workers}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert code == 2
    assert error.splitlines()[-1].startswith(f"error: image={tmp_path}/train/a/")
    assert "on_bad_image=skip" in error
    assert "Traceback" not in error


def test_a_test_that_fails_at_the_end_costs_no_verdict(command, tmp_path, monkeypatch):
    """clean_test is looked at after all epochs; a file that only then turns out to be cut off leaves the verdicts."""
    monkeypatch.setattr(file_dataset, "LOOKED_AT_FIRST", 2)
    write_clothing1m(tmp_path)
    file = tmp_path / "images/0/60,60.jpg"
    file.write_bytes(file.read_bytes()[:-100])
    settings = ("dataset=clothing1m", f"dataset.root={tmp_path}", "training.balanced_batches=1", *SHORT)
    code, _, error = command(*settings, "cleaner=gmm_agn", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 2
    assert "60,60.jpg" in error.splitlines()[-1]
    assert len(rows_of(tmp_path / "run/labels.csv")) == 42
    assert len(rows_of(tmp_path / "run/metrics.csv")) == 2
