"""Whole runs, small but real: what they leave behind, that they repeat, and what they refuse."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tests.datasets.labeled import corrupt

from cpc_lightning.app.run import run
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.errors import InputError, TrainingError
from cpc_lightning.noise.noise import SymmetricNoise
from cpc_lightning.training.module import CoTrainingModule

COLUMNS = (
    "index,path,noisy_label,clean_probability_1,clean_probability_2,clean_probability,suspected,"
    "suggested_label,confidence,true_label,noisy_class,suggested_class,true_class,row,trusted"
)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One small run through the command line, with everything on."""
    from tests.conftest import SMALL

    from cpc_lightning.app.command_line import main

    folder = tmp_path_factory.mktemp("finished")
    assert main([*SMALL, "cleaner=cpc_awr", "cleaner.steps=100", f"hydra.run.dir={folder}"]) == 0
    return folder


def test_labels_csv_judges_every_sample(finished):
    assert (finished / "labels.csv").read_text().splitlines()[0] == COLUMNS
    rows = rows_of(finished / "labels.csv")
    assert [int(row["index"]) for row in rows] == list(range(1438))
    for row in rows:
        first, second, joined = (float(row[f"clean_probability{s}"]) for s in ("_1", "_2", ""))
        assert joined == pytest.approx((first + second) / 2, abs=2e-6)
        assert row["suspected"] == ("true" if joined <= 0.5 else "false")
        assert 0.1 <= float(row["confidence"]) <= 1  # the largest of 10 probabilities
        assert row["path"] == ""
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["suspected_labels"] == sum(row["suspected"] == "true" for row in rows)
    wrong = np.mean([row["noisy_label"] != row["true_label"] for row in rows])
    assert summary["noise_rate_actual"] == pytest.approx(wrong)


def test_labels_test_csv_judges_every_image_that_is_held_out(finished):
    """The digits' test labels are right: their true labels are known. metrics.csv's last accuracy is of the same."""
    text = (finished / "labels_test.csv").read_text()
    assert text.splitlines()[0] == (finished / "labels.csv").read_text().splitlines()[0]
    rows = rows_of(finished / "labels_test.csv")
    assert [int(row["index"]) for row in rows] == list(range(359))
    assert all(row["noisy_label"] == row["true_label"] for row in rows)
    for row in rows:
        first, second, joined = (float(row[f"clean_probability{s}"]) for s in ("_1", "_2", ""))
        assert joined == pytest.approx((first + second) / 2, abs=2e-6)
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["suspected_labels_test"] == sum(row["suspected"] == "true" for row in rows)


def test_the_noise_in_labels_csv_is_the_seeds(finished):
    rows = rows_of(finished / "labels.csv")
    true = torch.tensor([int(row["true_label"]) for row in rows])
    expected = corrupt(SymmetricNoise(0.5), true, 10, None, 1)
    assert [int(row["noisy_label"]) for row in rows] == expected.tolist()


def test_metrics_csv_has_a_row_an_epoch_and_its_metrics(finished):
    rows = rows_of(finished / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    for name in ("train/loss_1", "train/loss_2", "test/accuracy_1", "test/accuracy_2", "test/accuracy", "seconds"):
        assert all(math.isfinite(float(row[name])) for row in rows), name
    for name in ("partition/labeled_1", "partition/unlabeled_2", "gmm/auc", "cpc/auc", "gmm/precision_1",
                 "cpc/recall_2", "gmm_cpc/kl_divergence_1", "gmm_cpc/agreement_2",
                 "prototypes/loss_1", "prototypes/steps_2"):  # fmt: skip
        assert all(math.isfinite(float(row[name])) for row in rows), name  # warm-up is one epoch: stage 1 ends it
    for name in ("train/labeled_loss_1", "train/unlabeled_loss_2", "train/prior_penalty_1"):
        assert [row[name] == "" for row in rows] == [True, False, False], name  # stage 2 starts with the second epoch
    for name in ("test/prototype_accuracy", "test/prototype_accuracy_1", "test/prototype_accuracy_2"):
        assert [row[name] == "" for row in rows] == [True, False, False], name  # stage 1 follows the evaluation
    for name in ("losses/ks_deviating_clean_1", "losses/ks_deviating_noisy_2"):
        assert [row[name] == "" for row in rows] == [False, True, True], name  # once, at the end of the warm-up
        assert 0 <= float(rows[0][name]) <= 1
    assert {row["noise/rate_nominal"] for row in rows} == {"0.5"}
    for row in rows:
        for network in "12":
            sizes = [float(row[f"partition/{side}_{network}"]) for side in ("labeled", "unlabeled")]
            assert sum(sizes) == 1438


def test_summary_agrees_with_metrics(finished):
    summary = json.loads((finished / "summary.json").read_text())
    accuracy = [float(row["test/accuracy"]) for row in rows_of(finished / "metrics.csv")]
    assert summary["test_accuracy_best"] == max(accuracy)
    assert summary["test_accuracy_last"] == accuracy[-1]
    assert summary["test_accuracy_last10"] == pytest.approx(sum(accuracy) / 3)
    last = rows_of(finished / "metrics.csv")[-1]
    assert summary["cleaner_auc_gmm"] == float(last["gmm/auc"])
    assert summary["cleaner_auc_cpc"] == float(last["cpc/auc"])
    assert summary["test_prototype_accuracy_last"] == float(last["test/prototype_accuracy"])
    first = rows_of(finished / "metrics.csv")[0]
    for of in ("clean_1", "clean_2", "noisy_1", "noisy_2"):
        assert summary[f"ks_deviating_{of}"] == float(first[f"losses/ks_deviating_{of}"])
    assert summary["noise_rate_nominal"] == 0.5
    assert summary["training_samples"] == 1438


def test_settings_and_versions_are_kept(finished):
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["noise"]["rate"] == 0.5
    assert config["run_dir"] == str(finished)
    assert json.loads((finished / "versions.json").read_text())["torch"] == torch.__version__.split("+")[0]


def test_checkpoints_load_as_plain_data(finished):
    for name in ("best", "last"):
        checkpoint = torch.load(finished / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert len(checkpoint["optimizer_states"]) == 4
        assert len(checkpoint["CoTrainingDataModule"]["noisy_labels"]) == 1438
        assert len(checkpoint["CoTrainingDataModule"]["partitions"]) == 2


def test_nothing_half_written_is_left(finished):
    assert not [path for path in finished.rglob("*") if "tmp" in path.name]
    assert {path.name for path in finished.iterdir()} >= {
        "labels.csv", "metrics.csv", "summary.json", "checkpoints", "config.yaml", "versions.json"
    }  # fmt: skip


def without_times(path: Path) -> list[dict[str, str]]:
    return [{name: v for name, v in row.items() if "seconds" not in name} for row in rows_of(path)]


@pytest.mark.long
def test_two_runs_agree_bit_for_bit(finished, compose, small, tmp_path):
    run(compose(*small, "cleaner=cpc_awr", "cleaner.steps=100", folder=tmp_path))
    assert (tmp_path / "labels.csv").read_bytes() == (finished / "labels.csv").read_bytes()
    assert without_times(tmp_path / "metrics.csv") == without_times(finished / "metrics.csv")
    ours, theirs = (
        torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (tmp_path, finished)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.long
def test_another_seed_is_another_run(finished, compose, small, tmp_path):
    run(compose(*small, "cleaner=cpc_awr", "cleaner.steps=100", "seed=2", folder=tmp_path))
    assert without_times(tmp_path / "metrics.csv") != without_times(finished / "metrics.csv")


@pytest.mark.long
@pytest.mark.parametrize("cleaner", ["none", "gmm_agn", "gmm_awr", "cpc_agn", "oracle"])
def test_every_cleaner_runs(compose, small, tmp_path, cleaner):
    summary = run(compose(*small, f"cleaner={cleaner}", folder=tmp_path))
    rows = rows_of(tmp_path / "labels.csv")
    assert len(rows) == 1438
    assert (summary["cleaner_auc_gmm"] is None) == (cleaner in ("none", "oracle"))
    assert (summary["cleaner_auc_cpc"] is None) == (not cleaner.startswith("cpc"))
    assert ("test_prototype_accuracy_last" in summary) == cleaner.startswith("cpc")
    assert (summary["ks_deviating_noisy_1"] is None) == (cleaner == "none")  # there is no stage 1 then
    if cleaner == "none":
        assert summary["suspected_labels"] is None
        assert {row["suspected"] for row in rows} == {""}
        held_out = rows_of(tmp_path / "labels_test.csv")
        assert {row["suspected"] + row["clean_probability"] for row in held_out} == {""}
        assert all(row["suggested_label"] and row["confidence"] for row in (*rows, *held_out))
    if cleaner == "oracle":
        assert all((row["suspected"] == "true") == (row["noisy_label"] != row["true_label"]) for row in rows)
        assert {row["clean_probability"] for row in rows_of(tmp_path / "labels_test.csv")} == {"1.000000"}


@pytest.mark.long
def test_labels_csv_is_a_noise_file(finished, compose, small, tmp_path):
    """The labels of one run are the noise of the next, truth still known."""
    config = compose(*small[2:], "noise=file", f"noise.path={finished / 'labels.csv'}", "cleaner=none", folder=tmp_path)
    summary = run(config)
    assert summary["noise_rate_nominal"] is None
    assert summary["noise_rate_actual"] == json.loads((finished / "summary.json").read_text())["noise_rate_actual"]
    for ours, theirs in zip(rows_of(tmp_path / "labels.csv"), rows_of(finished / "labels.csv"), strict=True):
        assert (ours["noisy_label"], ours["true_label"]) == (theirs["noisy_label"], theirs["true_label"])


@pytest.mark.long
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(compose, small, tmp_path):
    config = compose(*small, "training.epochs=4", folder=tmp_path)
    config.optimizer.schedule.milestones, config.optimizer.schedule.gamma = [1], 1e30  # explodes in the second epoch
    with pytest.raises(TrainingError, match=r"epoch 1, network 1, batch \d+ \(samples \d+ to \d+\)"):
        run(config)
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 0
    assert all(v.isfinite().all() for v in checkpoint["state_dict"].values() if v.is_floating_point())


def two_class_set(channels: int = 3, unknown: bool = False) -> ImageDataset:
    """Bright against dark images: 40 to train on, 20 to test on."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> Split:
        labels = torch.arange(count) % 2
        pixels = torch.randint(0, 100, (count, channels, 8, 8), generator=generator) + 120 * labels[:, None, None, None]
        return Split(ArrayImages(pixels.to(torch.uint8)), labels, paths=[f"{i}.png" for i in range(count)])

    return ImageDataset("two", ("dark", "bright"), part(40), {"test": part(20)})


@pytest.mark.long
@pytest.mark.parametrize("channels", [1, 3])
def test_two_classes_gray_and_rgb_fewer_samples_than_a_batch(monkeypatch, compose, small, tmp_path, channels):
    monkeypatch.setattr("cpc_lightning.datasets.digits.digits", lambda **_: two_class_set(channels))
    summary = run(compose(*small, "cleaner=cpc_agn", "noise.rate=0.3", folder=tmp_path))  # 40 samples, batches of 64
    assert summary["training_samples"] == 40
    assert summary["noise_rate_actual"] == pytest.approx(
        np.mean([row["noisy_label"] != row["true_label"] for row in rows_of(tmp_path / "labels.csv")])
    )
    assert rows_of(tmp_path / "labels.csv")[7]["path"] == "7.png"


@pytest.mark.long
def test_without_true_labels_nothing_is_claimed(monkeypatch, compose, small, tmp_path):
    monkeypatch.setattr("cpc_lightning.datasets.digits.digits", lambda **_: two_class_set())
    summary = run(compose(*small[2:], "cleaner=cpc_agn", folder=tmp_path))  # noise=none: whatever the set brings
    assert summary["noise_rate_actual"] is None
    assert summary["noise_rate_nominal"] is None
    assert summary["cleaner_auc_cpc"] is None
    assert summary["ks_deviating_clean_1"] is None
    assert summary["suspected_labels"] is not None
    assert {row["true_label"] for row in rows_of(tmp_path / "labels.csv")} == {""}


def test_the_oracle_needs_the_truth_before_training(monkeypatch, compose, small, tmp_path):
    monkeypatch.setattr("cpc_lightning.datasets.digits.digits", lambda **_: two_class_set())
    with pytest.raises(InputError, match="cleaner=oracle: needs the true label"):
        run(compose(*small[2:], "cleaner=oracle", folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_without_a_cleaner_training_is_plain_cross_entropy(monkeypatch, compose, small, tmp_path):
    """Asymmetric noise brings the confidence penalty, which prepares the first division: there is none to prepare."""
    seen = {}

    def listen(module, batch, batch_idx, step=CoTrainingModule.training_step):
        seen[cleaner].append(
            (module.current_epoch, module.method.confidence_penalty, len(batch["index"]), batch["warmup"])
        )
        return step(module, batch, batch_idx)

    monkeypatch.setattr(CoTrainingModule, "training_step", listen)
    for cleaner in ("none", "gmm_agn"):
        seen[cleaner] = []
        run(compose(*small[2:], "noise=asymmetric", f"cleaner={cleaner}", folder=tmp_path / cleaner))
    # Three epochs, cut to two batches of 64 a network; with a cleaner the first is warm-up: all 1,438, 512 at a time.
    assert seen["none"] == [(epoch, 0.0, 64, True) for epoch in (0, 1, 2) for _ in range(4)]
    assert seen["gmm_agn"][:6] == [(0, 1.0, 512, True)] * 6
    assert seen["gmm_agn"][6:] == [(epoch, 1.0, 64, False) for epoch in (1, 2) for _ in range(4)]


@pytest.mark.long
def test_labels_that_all_name_one_class(monkeypatch, compose, small, tmp_path):
    """One class with all samples, one with none: networks that predict one class only, and a class of 0 samples."""
    data = two_class_set()
    data.train.labels[:] = 1
    monkeypatch.setattr("cpc_lightning.datasets.digits.digits", lambda **_: data)
    for cleaner in ("gmm_awr", "cpc_awr"):
        summary = run(compose(*small[2:], f"cleaner={cleaner}", "training.epochs=4", folder=tmp_path / cleaner))
        assert math.isfinite(summary["test_accuracy_last"])


@pytest.mark.long
def test_nothing_held_out_trains_on_all_and_tests_nothing(small, command, tmp_path):
    """With a checkpoint to continue from, a page and a verdict on all; no claim on how good it is."""
    arguments = [text for text in small if text != "report=false"]
    code, output, error = command(*arguments, "dataset.test_share=0", f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, error.count("warning"), error.count("Warning")) == (0, 0, 0)
    assert "nothing was held out to test on" in output
    assert "test accuracy" not in output
    assert "last.ckpt" in output
    assert "best.ckpt" not in output
    assert len(rows_of(tmp_path / "run" / "labels.csv")) == 1797
    assert not list((tmp_path / "run").glob("labels_*.csv"))
    assert (tmp_path / "run" / "report" / "index.html").exists()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["test_accuracy_last"] is None
    code, output, _ = command("mode=check", *arguments, "dataset.test_share=0")
    assert code == 0
