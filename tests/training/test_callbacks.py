"""The run's records."""

from types import SimpleNamespace

import pytest
import torch

from cpc_lightning.errors import InputError
from cpc_lightning.training.callbacks import EpochTable


def trainer(epoch, /, **metrics):
    return SimpleNamespace(
        current_epoch=epoch, is_global_zero=True, callback_metrics={k: torch.tensor(v) for k, v in metrics.items()}
    )  # fmt: skip


def test_the_epoch_table_continues_from_the_checkpoint_whatever_the_file_holds(tmp_path):
    table = EpochTable(tmp_path / "metrics.csv", {"noise/rate": None})
    for epoch in range(3):
        table.on_train_epoch_start(trainer(epoch), None)
        table.on_train_epoch_end(trainer(epoch, **{"a/x": float(epoch)}), None)
        if epoch == 1:
            torch.save(table.state_dict(), tmp_path / "after_epoch_1")
    (tmp_path / "metrics.csv").write_text("garbled")
    again = EpochTable(tmp_path / "metrics.csv", {"noise/rate": None})
    again.load_state_dict(torch.load(tmp_path / "after_epoch_1", weights_only=True))
    assert [row["epoch"] for row in again.rows] == [0, 1]
    assert again.seconds_before == sum(row["seconds"] for row in table.rows[:2])
    again.on_train_epoch_end(trainer(2, **{"a/x": 9.0, "b/y": float("nan")}), None)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,noise/rate,a/x,seconds,b/y"
    assert [line.split(",")[:3] for line in lines[1:]] == [["0", "", "0.0"], ["1", "", "1.0"], ["2", "", "9.0"]]
    assert lines[3].endswith(",")  # what is not a number is left blank
    assert [row["a/x"] for row in again.rows] == [0.0, 1.0, 9.0]


def test_no_metric_vanishes_whatever_its_name(tmp_path):
    table = EpochTable(tmp_path / "metrics.csv", {"noise/rate": 0.5})
    table.on_train_epoch_end(trainer(0, **{"a/x": 1.0, "plain": 2.0, "a/x_step": 3.0, "a/x_epoch": 4.0}), None)
    header, row = (line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines())
    assert header == ["epoch", "noise/rate", "a/x", "a/x_epoch", "a/x_step", "plain", "seconds"]
    assert row[:-1] == ["0", "0.5", "1.0", "4.0", "3.0", "2.0"]


@pytest.mark.parametrize("name", ["epoch", "seconds", "noise/rate"])
def test_a_metric_with_the_name_of_the_tables_own_column_is_refused(tmp_path, name):
    """Either would overwrite the other."""
    table = EpochTable(tmp_path / "metrics.csv", {"noise/rate": 0.5})
    with pytest.raises(InputError, match=f"callbacks={name}: is logged by one of them"):
        table.on_train_epoch_end(trainer(0, **{name: 1.0}), None)
