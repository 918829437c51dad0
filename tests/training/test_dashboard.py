"""The W&B dashboard, offline: what a run sends to it, and what lies in the run's folder."""

import math

import numpy as np
import pytest
import wandb

from cpc_lightning.cleaning.gmm import LossMixture
from cpc_lightning.training.dashboard import component_density


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """A small offline run: its folder, and everything it logged."""
    from tests.conftest import SMALL

    from cpc_lightning.app.command_line import main

    folder, logged, log = tmp_path_factory.mktemp("dashboard"), [], wandb.Run.log

    def listen(run, data, *arguments, **options):
        logged.append(dict(data))
        return log(run, data, *arguments, **options)

    settings = ["logger=wandb", "callbacks.dashboard.every_n_epochs=2", "callbacks.dashboard.suspects=5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setattr(wandb.Run, "log", listen)
        assert main([*SMALL, *settings, "cleaner=gmm_agn", f"hydra.run.dir={folder}"]) == 0
    return folder, logged


def test_scalars_are_grouped_by_stage_and_logged_once_an_epoch(dashboard):
    for name in ("train/loss_1", "test/accuracy", "gmm/auc", "partition/labeled_2", "stage1/seconds"):
        assert sum(name in data for data in dashboard[1]) == 3, name  # three epochs; warm-up ends with the first


def test_histograms_come_every_few_epochs_and_at_the_end(dashboard):
    drawn = [data["losses/network_2"] for data in dashboard[1] if "losses/network_2" in data]
    assert len(drawn) == 2  # after epoch 2, and after the last


def test_the_most_suspicious_images_come_with_their_pictures(dashboard):
    folder, logged = dashboard
    (table,) = (data["suspicious_labels"] for data in logged if "suspicious_labels" in data)
    clean = table.get_column("clean_probability")
    assert len(clean) == 5
    assert clean == sorted(clean)
    assert all(isinstance(image, wandb.Image) for image in table.get_column("image"))
    assert len(list(folder.glob("wandb/offline-run-*/files/media/**/*.png"))) == 5


def test_the_run_is_closed_so_that_the_next_job_starts_its_own(dashboard):
    assert wandb.run is None


def test_a_components_density_by_hand():
    """Weight 0.25, mean 0.5, variance 0.04: at the mean 0.25 / (0.2 sqrt(2 pi)); one deviation off, times exp(-1/2)."""
    mixture = LossMixture(means=(0.5, 0.9), variances=(0.04, 0.01), weights=(0.25, 0.75))
    peak = 0.25 / (0.2 * math.sqrt(2 * math.pi))
    assert component_density(mixture, 0, np.array([0.5, 0.7])).tolist() == pytest.approx([peak, peak * math.exp(-0.5)])
