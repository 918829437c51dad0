"""Views and backbone that fit the images of a folder, where nobody has typed their size."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.training.test_selection import TINY

from cpc_lightning.app.compose import compose as compose_plain
from cpc_lightning.app.fitting import as_recorded, left_open, settled
from cpc_lightning.app.folders import with_folder
from cpc_lightning.app.parts import Parts
from cpc_lightning.backbones.preact_resnet import PreActResNet
from cpc_lightning.backbones.torchvision_backbone import TorchvisionBackbone
from cpc_lightning.datasets.reading.sizes import shorter_sides


def write_images(root, sizes, count=10):
    """Two classes of `count` images; sizes (width, height) go round."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(count):
            width, height = sizes[number % len(sizes)]
            Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(root / name / f"{number}.png")


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The parts of a run on such images."""
    monkeypatch.chdir(tmp_path)

    def parts(sizes, *more, count=10):
        write_images(tmp_path / "data", sizes, count)
        texts = ["dataset=imagefolder", "dataset.root=data", "training.num_workers=0", *more, f"run_dir={tmp_path}/run"]
        return Parts(with_folder(compose_plain(texts)))

    return parts


@pytest.mark.long
@pytest.mark.parametrize(
    ("sizes", "resize", "size"),
    [
        ([(64, 80), (90, 64)], 64, 56),  # icons are not enlarged
        ([(20, 20)], 16, 14),
        ([(9, 30)], 16, 14),  # but to 16
        ([(100, 100), (100, 130), (50, 60)], 96, 84),  # most are 100
        ([(300, 255)], 192, 168),
        ([(300, 400)], 256, 224),  # photos as ever
    ],
)
def test_images_decide_on_the_size_of_their_views(parts, sizes, resize, size):
    run = parts(sizes)
    assert run.undecided
    images = run.dataset.train.images
    assert (images.crop.resize, images.crop.size) == (resize, size)
    assert (run.settings["dataset"]["crop"]["resize"], run.settings["dataset"]["crop"]["size"]) == (resize, size)
    assert run.settings["views"]["size"] == run.settings["backbone"]["size"] == size
    assert run.views.evaluation(images.fetch(torch.tensor([0]))).shape == (1, 3, size, size)
    assert f"scaled to {resize} and seen in views of {size}" in run.choice
    assert not run.undecided


@pytest.mark.long
def test_small_views_have_a_small_stem_and_large_ones_resnet_18(parts, tmp_path):
    run = parts([(70, 70)])
    backbone = run.networks[0].backbone
    assert isinstance(backbone, PreActResNet)
    assert "a small residual network" in run.choice
    small = Parts({**run.settings, "backbone": {**run.settings["backbone"], "size": 57}})
    assert isinstance(small.make_network(run.dataset).backbone, TorchvisionBackbone)


@pytest.mark.long
@pytest.mark.parametrize(
    ("typed", "resize", "size"),
    [
        (["views.size=48"], 55, 48),  # 48 x 8 / 7 = 54.9
        (["dataset.crop.resize=40"], 40, 35),
        (["views.size=48", "dataset.crop.resize=50"], 50, 48),
        (["features=torchvision", "features.weights=null", "backbone=mlp"], 256, 224),  # of a pretrained network
        (["backbone.weights=DEFAULT"], 256, 224),
    ],
)
def test_what_is_typed_wins(parts, typed, resize, size):
    run = parts([(64, 64)], *typed)
    images = run.clean_dataset.train.images
    assert (images.crop.resize, images.crop.size) == (resize, size)
    assert run.settings["views"]["size"] == size
    assert run.choice == ""


@pytest.mark.long
@pytest.mark.parametrize("typed", ["backbone=torchvision", "backbone.name=resnet34", "backbone=preact_resnet18"])
def test_another_backbone_has_views_that_fit_the_images_too(parts, typed):
    run = parts([(64, 64)], typed)
    assert run.dataset.train.images.crop.size == 56
    assert "residual" not in run.choice
    assert isinstance(run.make_network(run.dataset).backbone, PreActResNet) == (typed == "backbone=preact_resnet18")


@pytest.mark.long
def test_sets_with_a_protocol_of_their_own_leave_nothing_open(compose):
    for texts in (["experiment=clothing1m", "dataset.root=x"], ["dataset=webvision", "dataset.root=x"], []):
        assert left_open(with_folder(compose(*texts))) == set()


def test_files_that_cannot_be_read_have_no_size(parts, tmp_path):
    run = parts([(64, 64)], "dataset.on_bad_image=skip")
    (tmp_path / "data" / "a" / "0.png").write_bytes(b"no image")
    images = run.clean_dataset.train.images
    assert set(shorter_sides(images)) == {64}


@pytest.mark.long
def test_the_choice_is_kept_and_a_resumed_run_has_it(command, tmp_path):
    write_images(tmp_path / "data", [(40, 40)])
    tiny = [text for text in TINY if not text.startswith(("views.size", "dataset.crop", "backbone", "embedding"))]
    more = ("training.epochs=2", "optimizer.schedule.milestones=[1]", "cleaner=none", "training.num_workers=0")
    folder = tmp_path / "run"
    code, _, error = command(
        "dataset=imagefolder", f"dataset.root={tmp_path / 'data'}", *tiny, *more, f"hydra.run.dir={folder}"
    )
    assert code == 0, error
    assert "they are scaled to 32 and seen in views of 28" in error
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert (settings["views"]["size"], settings["dataset"]["crop"]["resize"]) == (28, 32)
    for name in ("a", "b"):  # images that would choose otherwise
        for file in (tmp_path / "data" / name).iterdir():
            with Image.open(file) as image:
                image.resize((80, 80)).save(file)
    code, _, error = command(f"resume={folder}", f"hydra.run.dir={folder}")
    assert "views of" not in error
    code, _, error = command("mode=report", f"run={folder}", f"output={tmp_path / 'page'}")
    assert code == 0, error


RECORD = {
    "views": {"size": 224}, "dataset": {"crop": {"resize": 256, "size": 224}},
    "backbone": {"_target_": "torchvision_backbone", "name": "resnet18", "weights": None},
}  # fmt: skip
OPEN = {
    "views": {"size": None}, "dataset": {"crop": {"resize": None, "size": None}},
    "backbone": {"_target_": "fitting_backbone", "name": None, "weights": None, "size": None},
}  # fmt: skip


def test_a_run_of_before_the_choice_goes_on_with_what_it_had():
    assert as_recorded(settled(OPEN, 64), left_open(OPEN), RECORD) == RECORD
    typed = {**OPEN, "backbone": {**OPEN["backbone"], "name": "resnet34"}}
    other = as_recorded(settled(typed, 64), left_open(typed), RECORD)
    assert other["backbone"] == {"_target_": "fitting_backbone", "name": "resnet34", "weights": None, "size": 224}


def test_settings_without_a_crop_stay_as_they_are():
    assert settled({"dataset": {}, "views": {"size": None}}, 64) == {"dataset": {}, "views": {"size": None}}
