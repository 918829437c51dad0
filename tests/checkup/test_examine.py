"""`mode=check`: what it finds in configurations and data sets that are made to go wrong, and that it writes nothing."""

import importlib.resources
import os
import time

import pytest
import torch
from tests.datasets.image_trees import write_folders, write_table

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.checkup import examine
from cpc_lightning.checkup.examine import held_bytes, plan_of
from cpc_lightning.checkup.findings import Finding
from cpc_lightning.checkup.protocol import protocol_findings
from cpc_lightning.datasets.dataset import ArrayImages
from cpc_lightning.noise.open_set import MixedImages

FINE = ("noise=symmetric", "noise.rate=0.5", "backbone.width=8", "embedding_size=16")


def own_images(root, *more):
    """Overrides for a folder of images, small enough for a test."""
    return (
        "dataset=imagefolder", f"dataset.root={root}", "backbone=small_resnet", "backbone.width=8", "embedding_size=16",
        "views.size=16", "dataset.crop.resize=20", "training.batch_size=8", *more,
    )  # fmt: skip


@pytest.mark.long
def test_a_run_that_is_fine(findings):
    begin = time.monotonic()
    rows = findings(*FINE)
    assert time.monotonic() - begin < 5
    assert {status for _, status in rows} == {"ok"}
    assert [topic for topic, _ in rows] == [
        "settings", "protocol", "devices", "data set", "classes", "labels", "images", "steps", "backbone", "memory",
        "disk", "run", "time",
    ]  # fmt: skip
    assert rows["time", "ok"].startswith("about 1 min on this CPU: warm-up 1 min")
    assert rows["data set", "ok"].startswith("digits: 1,438 images to train on, 359 in test")
    assert "the true labels of all are known; 4" in rows["labels", "ok"]  # 45 % are expected
    assert "(nominal rate 50 %)" in rows["labels", "ok"]
    # ceil(1438 / 64) = 23; 2 networks x 23 x 48 epochs
    assert rows["steps", "ok"].startswith("23 an epoch and network in warm-up, at most as many in stage 2")
    assert "up to 2,208 in all" in rows["steps", "ok"]
    # stem 72 + BN 16; blocks 8 -> 16 -> 32: 16 + 1152 + 32 + 2304 + 128, and 32 + 4608 + 64 + 9216 + 512
    assert "18,152 parameters, 32 features of views of 1 x 8 x 8; from scratch" in rows["backbone", "ok"]


def test_it_goes_on_after_the_first_error(findings):
    rows = findings(
        "dataset=cifar10", "dataset.root=/nowhere", "backbone=small_resnet", "embedding_size=4096", "cleaner.alpha=-1",
        "semisup.temperature=0",
    )  # fmt: skip
    assert "cleaner.alpha=-1" in rows["settings", "error"]
    assert "semisup.temperature=0" in rows["settings", "error"]
    assert "dataset.root=/nowhere" in rows["data set", "error"]
    assert "embedding_size=4096" in rows["backbone", "error"]
    assert ("devices", "ok") in rows


GOES_WRONG = [
    # overrides; then for several rows of the one table: topic, status, what it says
    (
        ["training.epochs=8", "optimizer.network.lr=-1", "noise=file", "noise.path=/nowhere.npy", "trainer=gpu"],
        ("settings", "error", "training.epochs=8: must be more than training.warmup_epochs=8"),
        ("settings", "error", "optimizer.network"),
        ("noise", "error", "noise.path=/nowhere.npy"),
        ("devices", "error", "trainer=cpu needs none"),
    ),
    (
        ["noise=asymmetric", "noise.rate=0.6", "optimizer.schedule.milestones=[90]", "training.batch_size=2000"],
        ("protocol", "warning", "noise.rate=0.6"),
        ("protocol", "warning", "optimizer.schedule.milestones=[90]"),
        ("labels", "warning", "5 (as 6)"),
        ("steps", "warning", "holds each of the 1,438 images more than once"),
    ),
    (
        ["noise=pair", "noise.rate=0.5", "cleaner=cpc_awr", "training.confidence_penalty=0"],
        ("protocol", "warning", "noise.rate=0.5: from one half on"),
        ("protocol", "warning", "training.confidence_penalty=0: with typical mistakes"),
        ("protocol", "warning", "one mixture for all classes"),
    ),
    (
        ["training.batch_size=1", "views.mean=[0.5,0.5,0.5]", "backbone=torchvision", "backbone.name=resnet51"],
        ("training", "error", "training.batch_size=1"),
        ("views", "error", "views.mean"),
        ("backbone", "error", "did you mean"),
    ),
    (
        ["training.epochs=abc", "semisup.temperature=0", "backbone.width=8"],
        ("settings", "error", "training.epochs=abc"),
        ("settings", "error", "semisup.temperature=0"),
    ),
    (
        ["embedding_size=word", "backbone.width=8"],
        ("settings", "error", "embedding_size=word: must be a number"),
    ),
    (
        ["training.num_workers=-1", "trainer.devices=0", "backbone.width=8"],
        ("training", "error", "training.num_workers=-1"),
        ("devices", "error", "trainer.devices=0"),
    ),
    (
        ["views.size=12", "backbone.weights=/nowhere.pt"],
        ("views", "error", "views.size"),
        ("backbone", "error", "backbone.weights=/nowhere.pt"),
    ),
    (
        ["backbone=torchvision", "backbone.name=densenet121"],
        ("backbone", "error", "fails on views of 1 x 8 x 8"),
    ),
]  # fmt: skip


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="what is asked for would be there")
@pytest.mark.parametrize("case", GOES_WRONG, ids=lambda case: case[1][2][:40])
def test_what_goes_wrong(findings, case):
    overrides, *expected = case
    rows = findings(*overrides)
    for topic, status, says in expected:
        assert says in rows[topic, status]


@pytest.mark.long
def test_weights_that_would_be_downloaded_are_not(findings, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    rows = findings("backbone=torchvision", "backbone.weights=DEFAULT")
    assert "backbone.weights=DEFAULT are not in torchvision's cache yet" in rows["backbone", "warning"]
    assert "DEFAULT not tried" in rows["backbone", "ok"]
    assert not (tmp_path / "cache").exists()


def test_a_data_set_that_would_be_downloaded(findings):
    rows = findings("dataset=cifar10", "dataset.download=true", "backbone=small_resnet")
    assert "check again once it is there" in rows["data set", "warning"]
    assert ("data set", "error") not in rows


@pytest.mark.long
def test_own_images(findings, tmp_path):
    write_folders(tmp_path / "photos", {"cat": 14, "dog": 16})
    rows = findings(*own_images(tmp_path / "photos", "cleaner=cpc_agn"))
    assert {status for _, status in rows} == {"ok"}
    assert rows["data set", "ok"].startswith("imagefolder: 24 images to train on, 6 in test")
    assert "2, of 11 images (cat) to 13 (dog)" in rows["classes", "ok"]
    assert "are not known" in rows["labels", "ok"]
    assert "24 drawn at random are fine: 3 channels of 16 x 16 pixels once cropped" in rows["images", "ok"]


@pytest.mark.long
def test_own_images_that_go_wrong(findings, tmp_path):
    write_folders(tmp_path / "photos", {"cat": 14, "dog": 16, "owl": 6})
    rows = findings(*own_images(tmp_path / "photos", "dataset.crop.resize=200"))
    assert "fewer than 10 images: owl (5)" in rows["classes", "warning"]
    assert "dataset.crop.resize=200" in rows["images", "warning"]
    (tmp_path / "photos/cat/1.jpg").write_bytes(b"")
    rows = findings(*own_images(tmp_path / "photos"))
    assert "1.jpg (is empty)" in rows["data set", "error"]
    rows = findings(*own_images(tmp_path / "photos", "cleaner=oracle", "dataset.on_bad_image=skip"))
    assert "1.jpg (is empty)" in rows["data set", "warning"]
    assert "needs the true label" in rows["labels", "error"]


@pytest.mark.long
@pytest.mark.parametrize("arguments", [[], ["dataset.test_share=7"]])
def test_the_command_prints_and_writes_nothing(command, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, out, err = command("mode=check", *FINE, *arguments)
    assert code == (2 if arguments else 0)
    assert err == ""
    assert "this run " + ("would fail" if arguments else "can start") in out
    assert max(map(len, out.splitlines())) <= 80
    assert os.listdir(tmp_path) == []


@pytest.mark.long
def test_a_folder_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, _ = command("mode=check", *FINE, f"hydra.run.dir={tmp_path / 'file' / 'run'}")
    assert code == 2
    assert "is not a folder" in out


@pytest.mark.parametrize("arguments", [["mode=check", "-m"], ["mode=chekc"]])
def test_it_stands_alone(command, tmp_path, arguments):
    code, _, err = command(*arguments, f"hydra.run.dir={tmp_path / 'run'}", f"hydra.sweep.dir={tmp_path / 'run'}")
    assert code == 2
    assert err.startswith("error: mode=")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_no_experiment_contradicts_its_protocol(compose):
    root = importlib.resources.files("cpc_lightning.conf")
    names = sorted(leaf.name.removesuffix(".yaml") for leaf in root.joinpath("experiment").iterdir())
    names = [name for name in names if not name.startswith("__") and not root.joinpath("experiment", name).is_dir()]
    assert len(names) > 30
    for name in names:
        config = compose(f"experiment={name}", "dataset.root=/nowhere" if "digits" not in name else "seed=1")
        parts = Parts(plain(config))
        plan = plan_of(parts.settings, parts.cleaner, parts.noise)
        warnings = [row.found for row in protocol_findings(plan) if row.status != "ok"]
        if name.endswith(("_cpc_agn", "_cpc_awr", "asym40_gmm_awr")):  # Table 3 tries every cleaner
            warnings = [found for found in warnings if "cleaner.class_aware" not in found]
        assert warnings == [], name


@pytest.mark.long
def test_a_checkpoint_holds_the_selected_networks_besides(findings, tmp_path, monkeypatch):
    file = write_table(tmp_path / "data", 40)
    sizes = []

    def listen(_, checkpoint):
        sizes.append(checkpoint)
        return Finding("disk", "ok", "enough")

    monkeypatch.setattr(examine, "disk_finding", listen)
    monkeypatch.setattr(examine, "weight_bytes", lambda network: 1000)
    own = own_images("unused", "dataset=table", f"dataset.file={file}")
    own = [override for override in own if override not in ("dataset=imagefolder", "dataset.root=unused")]
    findings(*own)
    file.write_text(file.read_text().replace(",val,", ",test,"))
    findings(*own)
    with_val, without = sizes
    assert with_val - without == 2 * 1000


def test_foreign_images_are_in_memory_too():
    own, other = (ArrayImages(torch.zeros(count, 1, 2, 2, dtype=torch.uint8)) for count in (3, 5))
    assert held_bytes(MixedImages(own, other, torch.tensor([-1, 4, -1]))) == 3 * 4 + 5 * 4
    assert held_bytes(own) == 3 * 4
