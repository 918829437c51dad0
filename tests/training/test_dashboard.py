"""The dashboards, offline: what a run sends to W&B and to TensorBoard, and what lies in the run's folder."""

import csv
import math

import numpy as np
import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.training.wandb_files import Run

from cpc_lightning.cleaning.gmm import LossMixture
from cpc_lightning.training.dashboard import component_density
from cpc_lightning.training.tensorboard import inert


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """A small offline run: its folder, and everything it logged."""
    from tests.conftest import SMALL

    from cpc_lightning.app.command_line import main

    folder, logged, log = tmp_path_factory.mktemp("dashboard"), [], wandb.Run.log

    def listen(run, data, *arguments, **options):
        logged.append(dict(data))
        return log(run, data, *arguments, **options)

    settings = ["logger=[wandb,tensorboard]", "callbacks.dashboard.every_n_epochs=2", "callbacks.dashboard.suspects=5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setattr(wandb.Run, "log", listen)
        assert main([*SMALL, *settings, "cleaner=gmm_agn", f"hydra.run.dir={folder}"]) == 0
    return folder, logged


@pytest.mark.long
def test_scalars_are_grouped_by_stage_and_logged_once_an_epoch(dashboard):
    for name in ("train/loss_1", "test/accuracy", "gmm/auc", "partition/labeled_2", "stage1/seconds"):
        assert sum(name in data for data in dashboard[1]) == 3, name  # three epochs; warm-up ends with the first


@pytest.mark.long
def test_histograms_come_every_few_epochs_and_at_the_end(dashboard):
    drawn = [data["losses/network_2"] for data in dashboard[1] if "losses/network_2" in data]
    assert len(drawn) == 2  # after epoch 2, and after the last


@pytest.mark.long
def test_the_most_suspicious_images_come_with_their_pictures(dashboard):
    folder, logged = dashboard
    (table,) = (data["suspicious_labels"] for data in logged if "suspicious_labels" in data)
    clean = table.get_column("clean_probability")
    assert len(clean) == 5
    assert clean == sorted(clean)
    assert all(isinstance(image, wandb.Image) for image in table.get_column("image"))
    assert len(list(folder.glob("wandb/offline-run-*/files/media/**/*.png"))) == 5


def columns(folder):
    """metrics.csv: the values of each column by epoch, blanks left out."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: {int(row["epoch"]): float(row[name]) for row in rows if row[name]} for name in rows[0]}


def scalars_of(folder):
    return {
        name: values for name, values in columns(folder).items()
        if name not in ("epoch", "seconds", "noise/rate_nominal", "noise/rate_actual")
    }  # fmt: skip


@pytest.mark.long
def test_wandb_has_every_metric_under_its_one_name_by_epoch(dashboard):
    folder = dashboard[0]
    run = Run(folder)
    assert run.axis == "epoch"
    assert "trainer/global_step" not in {name for row in run.rows for name in row}
    for name, values in scalars_of(folder).items():
        logged = {row["epoch"]: row[name] for row in run.rows if name in row}
        assert logged == pytest.approx(values, rel=1e-6), name


@pytest.mark.long
def test_wandb_knows_the_run_its_settings_and_how_it_ended(dashboard):
    run = Run(dashboard[0])
    assert run.run.project == "cpc-lightning"
    group = run.run.run_group
    assert group.startswith("noise=symmetric noise.rate=0.5 training.epochs=3")
    assert "callbacks" not in group
    assert run.run.job_type == "train"
    assert run.run.display_name.endswith("seed=1") or "~" in run.run.display_name
    assert run.config["seed"] == 1
    assert run.config["noise"]["rate"] == 0.5
    assert run.config["training"]["epochs"] == 3
    assert run.summary["epochs"] == 3
    assert run.summary["cleaner_auc_gmm"] == pytest.approx(columns(dashboard[0])["gmm/auc"][2], rel=1e-6)


@pytest.mark.long
def test_wandb_has_histograms_of_clean_probabilities_beside_those_of_losses(dashboard):
    drawn = [row for row in Run(dashboard[0]).rows if "clean_probability/network_1" in row]
    assert [row["epoch"] for row in drawn] == [1, 2]
    for row in drawn:
        for network in (1, 2):
            assert sum(row[f"clean_probability/network_{network}"]["values"]) == 1438


@pytest.fixture(scope="module")
def board(dashboard):
    board = EventAccumulator(str(dashboard[0] / "tensorboard"), {"scalars": 0, "histograms": 0, "images": 0})
    return board.Reload()


@pytest.mark.long
def test_tensorboard_has_the_same_scalars_by_epoch(dashboard, board):
    expected = scalars_of(dashboard[0])
    assert set(board.Tags()["scalars"]) == set(expected)
    for name, values in expected.items():
        assert {event.step: event.value for event in board.Scalars(name)} == pytest.approx(values, rel=1e-6), name


@pytest.mark.long
def test_tensorboard_has_the_same_histograms(board):
    names = [f"{what}/network_{network}" for what in ("losses", "clean_probability") for network in (1, 2)]
    assert set(board.Tags()["histograms"]) == set(names)
    for name in names:
        drawn = board.Histograms(name)
        assert [event.step for event in drawn] == [1, 2]
        assert [event.histogram_value.num for event in drawn] == [1438, 1438]


@pytest.mark.long
def test_tensorboard_has_the_most_suspicious_images(dashboard, board):
    (picture,) = board.Images("suspicious_images")
    assert (picture.width, picture.height) == (5 * (8 + 2) + 2, 8 + 2 * 2)  # five digits of 8 x 8, 2 between them
    (event,) = board.Tensors("suspicious_labels/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    (table,) = (data["suspicious_labels"] for data in dashboard[1] if "suspicious_labels" in data)
    assert [int(line.split(" | ")[0]) for line in lines[2:]] == table.get_column("index")


def test_names_of_classes_mean_nothing_in_a_table():
    assert inert("a|b<i>*") == "a&#124;b&#60;i&#62;&#42;"


@pytest.mark.long
def test_the_run_is_closed_so_that_the_next_job_starts_its_own(dashboard):
    assert wandb.run is None


def test_a_components_density_by_hand():
    """Weight 0.25, mean 0.5, variance 0.04: at the mean 0.25 / (0.2 sqrt(2 pi)); one deviation off, times exp(-1/2)."""
    mixture = LossMixture(means=(0.5, 0.9), variances=(0.04, 0.01), weights=(0.25, 0.75))
    peak = 0.25 / (0.2 * math.sqrt(2 * math.pi))
    assert component_density(mixture, 0, np.array([0.5, 0.7])).tolist() == pytest.approx([peak, peak * math.exp(-0.5)])
