"""The W&B dashboard, offline: what lies in the run's own files."""

import json
import math

import numpy as np
import pytest
import wandb
from wandb.proto import wandb_internal_pb2
from wandb.sdk.internal.datastore import DataStore

from cpc_lightning.cleaning.gmm import LossMixture
from cpc_lightning.dashboard import component_density


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """All records of a small offline run."""
    from tests.conftest import SMALL

    from cpc_lightning.command_line import main

    folder = tmp_path_factory.mktemp("dashboard")
    settings = ["logger=wandb", "callbacks.dashboard.every_n_epochs=2", "callbacks.dashboard.suspects=5"]
    assert main([*SMALL, *settings, "cleaner=gmm_agn", f"hydra.run.dir={folder}"]) == 0
    wandb.finish()
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    store = DataStore()
    store.open_for_scan(str(file))
    found = []
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        found.append(record)
    return folder, found


def history(records) -> dict[str, list]:
    values: dict[str, list] = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                values.setdefault(item.key or "/".join(item.nested_key), []).append(json.loads(item.value_json))
    return values


def test_scalars_are_grouped_by_stage_and_logged_once_an_epoch(records):
    values = history(records[1])
    for name in ("train/loss_1", "test/accuracy", "gmm/auc", "partition/labeled_2", "stage1/seconds"):
        assert len(values[name]) == 3, name  # three epochs, warm-up ends with the first


def test_histograms_come_every_few_epochs_and_at_the_end(records):
    values = history(records[1])
    drawn = [name for name in values if name.startswith("losses/network_1")]
    assert drawn
    assert all(len(values[name]) == 2 for name in drawn)  # after epoch 2, and after the last


def test_the_most_suspicious_images_are_there(records):
    folder, found = records
    (table,) = history(found)["suspicious_labels"]
    assert table["nrows"] == 5
    assert len(list(folder.glob("wandb/offline-run-*/files/media/images/**/*.png"))) == 5


def test_a_components_density_by_hand():
    """Weight 0.25, mean 0.5, variance 0.04: at the mean 0.25 / (0.2 sqrt(2 pi)); one deviation off, times exp(-1/2)."""
    mixture = LossMixture(means=(0.5, 0.9), variances=(0.04, 0.01), weights=(0.25, 0.75))
    peak = 0.25 / (0.2 * math.sqrt(2 * math.pi))
    assert component_density(mixture, 0, np.array([0.5, 0.7])).tolist() == pytest.approx([peak, peak * math.exp(-0.5)])
