"""The run's records."""

from types import SimpleNamespace

import pytest
import torch

from cpc_lightning.callbacks import AtomicCheckpointIO, EpochTable


def test_the_epoch_table_drops_what_is_trained_again(tmp_path):
    def trainer(epoch, **metrics):
        return SimpleNamespace(
            current_epoch=epoch, is_global_zero=True, callback_metrics={k: torch.tensor(v) for k, v in metrics.items()}
        )  # fmt: skip

    table = EpochTable(tmp_path / "metrics.csv", {"noise/rate": None})
    for epoch in range(3):
        table.on_train_epoch_start(trainer(epoch), None)
        table.on_train_epoch_end(trainer(epoch, **{"a/x": float(epoch), "hidden": 1.0}), None)
    again = EpochTable(tmp_path / "metrics.csv", {"noise/rate": None})
    again.on_train_start(trainer(2), None)  # a resume from the end of epoch 1
    assert [row["epoch"] for row in again.rows] == [0, 1]
    again.on_train_epoch_end(trainer(2, **{"a/x": 9.0, "b/y": float("nan")}), None)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,noise/rate,a/x,seconds,b/y"
    assert [line.split(",")[:3] for line in lines[1:]] == [["0", "", "0.0"], ["1", "", "1.0"], ["2", "", "9.0"]]
    assert lines[3].endswith(",")  # what is not a number is left blank
    assert again.column("a/x") == [0.0, 1.0, 9.0]


def test_a_checkpoint_that_fails_leaves_the_former_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cpc_lightning.callbacks.torch.save", full)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
