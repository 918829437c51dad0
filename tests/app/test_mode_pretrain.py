"""mode=pretrain through the command line: what it leaves, how it goes on, and what it refuses."""

import csv
import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from tests.datasets.embedding_files import write_embeddings
from tests.datasets.image_trees import write_folders
from tests.runs import WITNESS, assert_same, checkpoint_without_seconds, table_without_seconds
from tests.training.test_progress import listen

from cpc_lightning.app.command_line import main
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.pretrain import PretrainingParts, pretrain
from cpc_lightning.app.settings import plain

pytest.importorskip("lightly")

FEW = (
    "mode=pretrain", "pretraining=simclr", "pretraining.epochs=4", "pretraining.batch_size=512", "views.policy=symbols",
    "backbone.width=8", "embedding_size=16", "callbacks=none", "trainer.precision=32-true",
)  # fmt: skip


def weights_in(folder):
    return torch.load(folder / "backbone.pt", weights_only=True)


@pytest.mark.long
def test_both_networks_start_from_what_was_learnt(command, compose, tmp_path):
    """The last line is the command; its settings make networks that have the file's weights."""
    folder = tmp_path / "it's learnt"
    place = "hydra.run.dir='" + str(folder).replace("'", r"\'") + "'"
    code, out, err = command(*FEW, "noise=symmetric", "noise.rate=0.8", place)
    assert (code, err) == (0, "")
    told, going_on = out.splitlines()
    assert "a backbone that no label has taught (1,438 images, 4 epochs, loss " in told
    words = shlex.split(going_on.removeprefix("to train both networks from it: "))
    assert words[:3] == ["python", "-m", "cpc_lightning"]
    assert not [word for word in words if "pretrain" in word or "run.dir" in word]
    parts = Parts(plain(compose(*words[3:], "report=false")))
    learnt = weights_in(folder)
    for network in parts.networks:
        assert_same(dict(network.backbone.state_dict()), learnt)
    rows = table_without_seconds(folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    losses = [float(row["train/loss"]) for row in rows]
    assert losses[3] < losses[0]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["loss_first"], summary["loss_last"]) == (losses[0], losses[3])


@pytest.mark.long
def test_a_resumed_pretraining_ends_like_one_that_was_not_interrupted(command, tmp_path):
    straight, seen = tmp_path / "straight", tmp_path / "seen"
    assert command(*FEW, WITNESS % seen, f"hydra.run.dir={straight}")[0] == 0
    for epoch in (1, 3):
        again = shutil.copytree(seen / f"after_{epoch}", tmp_path / f"again_{epoch}")
        code, out, err = command(f"resume={again}", "~callbacks.witness")  # whose mode is in its record
        assert (code, err) == (0, "")
        assert f"again_{epoch}/backbone.pt: " in out
        assert_same(weights_in(again), weights_in(straight))
        assert table_without_seconds(again / "metrics.csv") == table_without_seconds(straight / "metrics.csv")
        assert_same(*(checkpoint_without_seconds(folder, "last") for folder in (again, straight)))


@pytest.mark.long
def test_labels_are_never_looked_at(compose, tmp_path):
    """Labels in another order, and wrong ones among them: equal weights. Another seed: others."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 8, 8)).astype(np.uint8)
    files = {"a": np.arange(40) % 4, "b": random.permutation(np.arange(40) % 4)}
    for name, labels in files.items():
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    few = [*FEW, "dataset=arrays", "pretraining.epochs=2", "pretraining.batch_size=16", "dataset.test_share=0"]
    learnt = {}
    for name, more in {
        "a": [], "b": ["noise=symmetric", "noise.rate=0.9"], "c": ["seed=2"],
    }.items():  # fmt: skip
        file = tmp_path / f"{name if name in files else 'a'}.npz"
        pretrain(plain(compose(*few, f"dataset.file={file}", *more, folder=tmp_path / name)))
        learnt[name] = weights_in(tmp_path / name)
    assert_same(learnt["a"], learnt["b"])
    assert not torch.equal(learnt["a"]["stem.0.weight"], learnt["c"]["stem.0.weight"])


@pytest.mark.long
@pytest.mark.ddp
def test_two_processes_train_one_backbone(capfd, tmp_path):
    """Both write where this process, which starts them, does."""
    assert main([*FEW, "trainer=ddp", "trainer.accelerator=cpu", f"hydra.run.dir={tmp_path}/here"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.count("a backbone that no label has taught (1,438 images, 4 epochs") == 1
    checkpoint = torch.load(tmp_path / "here" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4  # 1,438 // (2 * 512) = 1 an epoch
    with (tmp_path / "here" / "metrics.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]


def test_networks_by_size_are_named_in_the_command_to_go_on_with(compose, tmp_path):
    """backbone=auto means another network once there are weights, and the images are not asked for their size then."""
    from cpc_lightning.app.pretrain import going_on

    write_folders(tmp_path / "images", {"dark": 6, "light": 6})
    typed = ["mode=pretrain", "dataset=imagefolder", f"dataset.root={tmp_path / 'images'}", "pretraining=simclr"]
    parts = PretrainingParts(plain(compose(*typed, "pretraining.batch_size=4")), typed).ready()
    words = going_on(parts, "there/backbone.pt")
    torch.save(parts.module.backbone.state_dict(), tmp_path / "backbone.pt")
    again = Parts(plain(compose(*words[:-1], f"backbone.weights={tmp_path}/backbone.pt")))
    assert words[-1] == "backbone.weights=there/backbone.pt"
    for name in ("views", "embedding_size"):
        assert again.settings[name] == parts.settings[name]
    assert_same(dict(again.networks[1].backbone.state_dict()), dict(parts.module.backbone.state_dict()))


@pytest.mark.parametrize("backbone", ["preact_resnet18", "resnet50", "torchvision", "timm"])
def test_every_backbone_for_images_takes_its_own_file(compose, tmp_path, backbone):
    if backbone == "timm":
        pytest.importorskip("timm")
    small = {"torchvision": ["backbone.name=shufflenet_v2_x0_5"], "timm": ["backbone.name=resnet10t"]}
    chosen = [f"backbone={backbone}", *small.get(backbone, [])]
    first = Parts(plain(compose(*chosen))).make_network(Parts(plain(compose())).clean_dataset)
    torch.save(first.backbone.state_dict(), tmp_path / "backbone.pt")
    parts = Parts(plain(compose(*chosen, f"backbone.weights={tmp_path}/backbone.pt")))
    second = parts.make_network(parts.clean_dataset)
    assert_same(dict(second.backbone.state_dict()), dict(first.backbone.state_dict()))


@pytest.mark.long
def test_the_bar_shows_the_loss(command, tmp_path, monkeypatch):
    opened = listen(monkeypatch)
    few = [text for text in FEW if text != "callbacks=none"]
    assert command(*few, "pretraining.epochs=2", f"hydra.run.dir={tmp_path / 'run'}")[0] == 0
    last = table_without_seconds(tmp_path / "run" / "metrics.csv")[-1]
    assert opened[0].seen[-1].where == "2 epochs done"
    assert opened[0].seen[-1].measured == f"loss {float(last['train/loss']):.3f}"


MISTAKES = [
    (["pretraining.epochs=0"], "pretraining.epochs=0: must be a whole number of at least 1"),
    (["pretraining.batch_size=1"], "pretraining.batch_size=1: must be a whole number of at least 2"),
    (["pretraining.batch_size=2000"], "pretraining.batch_size=2000: are more images a step than the 1438 there are"),
    (["pretraining.policy=nothing"], "pretraining.policy=nothing: must be one of none, weak,"),
    (["pretraining.temperatur=1"], "pretraining.temperatur=1: is no setting; did you mean pretraining.temperature?"),
    (["pretraining.learning_rate=fast"], "pretraining.learning_rate=fast: must be a number"),
    (["pretraining=null"], "pretraining=null: is no choice of this group; there are: simclr"),
    (["training.epochs=0"], "training.epochs=0: must be a whole number of at least 1"),
    (["-m", "seed=1,2"], "mode=pretrain: must be train; other modes"),
    (["run=x"], "run=x: is a setting of mode="),
    (["features=torchvision"], "features=PretrainedFeatures: mode=pretrain learns from images, by views of them: take"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_gives_one_line(command, tmp_path, arguments, says):
    code, out, err = command("mode=pretrain", *arguments, f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"error: {says}")
    assert not (tmp_path / "run").exists()


def test_vectors_are_no_images(command, tmp_path):
    file = write_embeddings(tmp_path / "train.npz")
    code, out, err = command(
        "mode=pretrain", "dataset=embeddings", f"dataset.file={file}", f"hydra.run.dir={tmp_path}/r"
    )
    assert (code, out) == (2, "")
    assert "consists of vectors, and mode=pretrain learns from images" in err


@pytest.mark.parametrize("mode", [[], ["mode=check"]])
def test_other_modes_have_no_such_settings(command, mode):
    code, _, err = command(*mode, "pretraining.epochs=3")
    assert (code, err) == (2, "error: pretraining.epochs=3: is a setting of mode=pretrain\n")


def test_help_shows_the_settings(command):
    code, out, _ = command("mode=pretrain", "--help")
    assert code == 0
    assert "pretraining:\n  _target_: cpc_lightning.pretraining.simclr.SimCLR" in out
    assert "_target_: cpc_lightning.pretraining.simclr.SimCLR" not in command("--help")[1]


@pytest.mark.long
def test_what_knows_no_classes_predicts_none(command, tmp_path):
    assert command(*FEW, "pretraining.epochs=1", f"hydra.run.dir={tmp_path / 'run'}")[0] == 0
    code, _, err = command("mode=predict", f"run={tmp_path / 'run'}", f"input={tmp_path}", f"output={tmp_path}/p.csv")
    assert (code, err.count("\n")) == (2, 1), err
    assert "is of mode=pretrain, which has learnt no classes" in err
