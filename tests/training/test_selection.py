"""Each network is selected by itself, on the clean validation set, and tested once."""

import csv
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from tests.datasets.image_trees import write_clothing1m, write_table
from tests.runs import WITNESS, table_without_seconds
from torch import nn

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.run import run
from cpc_lightning.app.settings import plain
from cpc_lightning.methods.method import Method
from cpc_lightning.training.selection import SelectNetworks

TINY = (
    "backbone=small_resnet",
    "backbone.width=8",
    "embedding_size=16",
    "views.size=16",
    "dataset.crop.resize=20",
    "training.batch_size=4",
    "training.warmup_epochs=1",
    "training.divide_when=scheduled",
    "training.limit_batches=3",
    "training.num_workers=0",
    "callbacks=none",
)


class Pair:
    """Two networks of one weight, and a batch counter that a step moves on."""

    def __init__(self):
        self.networks = [nn.BatchNorm1d(1) for _ in range(2)]
        self.method = Method()

    def network(self, number):
        return self.networks[number]

    def weights(self):
        return [network.weight.item() for network in self.networks]


def test_each_network_is_kept_from_its_own_best_epoch(tmp_path):
    """Network 1 is best in epoch 1 (and again in 2: the first counts), network 2 in epoch 3."""
    module, saved = Pair(), []
    select = SelectNetworks(tmp_path / "best.ckpt")
    for epoch, accuracy in enumerate([(50.0, 60.0), (80.0, 55.0), (80.0, 60.0), (70.0, 65.0), (60.0, 65.0)]):
        for number, network in enumerate(module.networks):
            nn.init.constant_(network.weight, 10 * epoch + number)
            network.running_mean.fill_(10 * epoch + number)
        trainer = SimpleNamespace(
            current_epoch=epoch,
            callback_metrics={f"val/accuracy_{n}": torch.tensor(a) for n, a in enumerate(accuracy, start=1)},
            save_checkpoint=lambda path, weights_only, epoch=epoch: saved.append((epoch, module.weights())),
        )
        select.on_train_epoch_end(trainer, module)
        assert module.weights() == [10 * epoch, 10 * epoch + 1]  # training goes on with its own
    assert select.epoch == [1, 3]
    assert select.accuracy == [80.0, 65.0]
    assert saved == [(0, [0, 1]), (1, [10, 1]), (3, [10, 31])]
    again = SelectNetworks(tmp_path / "best.ckpt")
    torch.save(select.state_dict(), tmp_path / "state")
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    with again.selected(module):
        assert module.weights() == [10, 31]
        assert [network.running_mean.item() for network in module.networks] == [10, 31]
    assert module.weights() == [40, 41]
    trainer = SimpleNamespace(test=lambda module, data, **_: [{"test/accuracy": sum(module.weights())}])
    assert again.test(trainer, module, None) == {"test/accuracy": 41}
    assert (again.epoch, again.accuracy) == ([1, 3], [80.0, 65.0])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_clothing1m_is_tested_once_with_the_selected_pair(command, compose, tmp_path):
    write_clothing1m(tmp_path / "data", train=70, clean=28)
    settings = [
        "dataset=clothing1m", f"dataset.root={tmp_path / 'data'}", *TINY, "cleaner=cpc_agn", "training.epochs=3",
        "training.balanced_batches=5", "optimizer.network.lr=0.05",
    ]  # fmt: skip
    code, _, error = command(*settings, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0, error
    rows = rows_of(tmp_path / "run" / "metrics.csv")
    assert len(rows) == 3
    assert not [name for name in rows[0] if name.startswith("test/")]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test_accuracy_best"] is None
    assert summary["val_accuracy_best"] == max(float(row["val/accuracy"]) for row in rows)

    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    kept = checkpoint["callbacks"]["SelectNetworks"]
    for number in (0, 1):
        accuracy = [float(row[f"val/accuracy_{number + 1}"]) for row in rows]
        assert kept["epoch"][number] == accuracy.index(max(accuracy))
        assert kept["accuracy"][number] == pytest.approx(max(accuracy))
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
    # The saved pair, by a plain pass over all test images, is what the summary tells of.
    config = compose(*settings)
    data, views = instantiate(config.dataset), instantiate(config.views)
    test = data.evaluation["test"]
    inputs = views.normalise(test.images.fetch(torch.arange(len(test))))
    logits, scores = torch.zeros(len(test), 14), torch.zeros(len(test), 14)
    for number in (0, 1):
        network = Parts(plain(config)).make_network(data).eval()
        prefix = f"networks.{number}."
        state = {n.removeprefix(prefix): v for n, v in checkpoint["state_dict"].items() if n.startswith(prefix)}
        network.load_state_dict(state)
        with torch.no_grad():
            features, answer = network.features_and_logits(inputs)
            logits += answer
            scores += network.head(features)
    right = (logits.argmax(dim=1) == test.labels).double().mean()
    assert summary["test_accuracy_selected"] == pytest.approx(100 * float(right), abs=1e-4)
    right = (scores.argmax(dim=1) == test.labels).double().mean()
    assert summary["test_prototype_accuracy_selected"] == pytest.approx(100 * float(right), abs=1e-4)
    top5 = (logits.topk(5).indices == test.labels[:, None]).any(dim=1).double().mean()
    assert summary["test_accuracy_top5_selected"] == pytest.approx(100 * float(top5), abs=1e-4)


@pytest.mark.long
def test_a_resumed_run_selects_what_the_whole_run_would(compose, tmp_path):
    write_clothing1m(tmp_path / "data", train=70, clean=28)
    settings = [
        "dataset=clothing1m", f"dataset.root={tmp_path / 'data'}", *TINY, "cleaner=gmm_agn", "training.epochs=4",
        "training.balanced_batches=5", "optimizer.network.lr=0.1",
    ]  # fmt: skip
    straight, seen = tmp_path / "straight", tmp_path / "seen"
    whole = run(compose(*settings, WITNESS % seen, folder=straight))
    folder = seen / "after_2"
    again = run(compose(*settings, WITNESS % (tmp_path / "again"), f"resume={folder}", folder=folder))
    assert (folder / "labels.csv").read_bytes() == (straight / "labels.csv").read_bytes()
    assert table_without_seconds(folder / "metrics.csv") == table_without_seconds(straight / "metrics.csv")
    assert again["test_accuracy_selected"] == whole["test_accuracy_selected"]
    ours, theirs = (torch.load(place / "checkpoints" / "best.ckpt", weights_only=True) for place in (folder, straight))
    assert ours["callbacks"]["SelectNetworks"]["epoch"] == theirs["callbacks"]["SelectNetworks"]["epoch"]
    assert all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())


@pytest.mark.long
def test_a_table_with_val_rows_is_tested_every_epoch_too(command, tmp_path):
    file = write_table(tmp_path / "data", 40)
    code, out, error = command(
        "dataset=table", f"dataset.file={file}", *TINY, "cleaner=gmm_agn", "training.epochs=2",
        "optimizer.schedule.milestones=[1]", f"hydra.run.dir={tmp_path / 'run'}"
    )  # fmt: skip
    assert code == 0, error
    assert "networks selected on val: test accuracy" in out
    rows = rows_of(tmp_path / "run" / "metrics.csv")
    assert all(row["test/accuracy"] and row["val/accuracy_1"] for row in rows)
    assert not [name for name in rows[0] if "top5" in name]  # two classes
    labels = rows_of(tmp_path / "run" / "labels.csv")
    assert labels[0]["path"] == "photos/0.jpg"
    assert (labels[0]["noisy_label"], labels[0]["true_label"]) == ("1", "0")
    for name, rest in (("val", 3), ("test", 4)):  # of every five images, the fourth and the fifth
        judged = rows_of(tmp_path / "run" / f"labels_{name}.csv")
        assert [row["path"] for row in judged] == [f"photos/{number}.jpg" for number in range(rest, 40, 5)]
        assert all(row["clean_probability"] and row["suggested_label"] and row["row"] for row in judged)
    assert json.loads((tmp_path / "run" / "classes.json").read_text()) == ["dark", "light"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test_accuracy_selected"] is not None
    assert summary["noise_rate_actual"] == pytest.approx(3 / 24)  # of 0, 16 and 32; 8 and 24 are not trained on


@pytest.mark.long
def test_a_run_is_not_resumed_from_the_networks_that_were_selected(command, tmp_path):
    """They are of other epochs than the optimizers beside them: the run would go on as another."""
    file = write_table(tmp_path / "data", 40)
    settings = [
        "dataset=table", f"dataset.file={file}", *TINY, "cleaner=gmm_agn", "training.epochs=3",
        "optimizer.schedule.milestones=[1]",
    ]  # fmt: skip
    straight, folder = tmp_path / "straight", tmp_path / "run"
    code, _, error = command(*settings, f"hydra.run.dir={straight}")
    assert code == 0
    assert "weights_only" not in error
    shutil.copytree(straight, folder)
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    code, _, error = command(f"resume={best}")
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith(f"error: resume={best}: holds the networks that val selected")
    last.write_bytes(b"garbage")
    code, _, error = command(f"resume={folder}")
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith(f"error: resume={last}: is no whole checkpoint")
    last.unlink()  # killed in the first epoch, after it had selected
    (folder / "labels.csv").unlink()
    assert command(f"resume={folder}")[0] == 0
    assert (folder / "labels.csv").read_bytes() == (straight / "labels.csv").read_bytes()
    assert table_without_seconds(folder / "metrics.csv") == table_without_seconds(straight / "metrics.csv")
