"""Runs on features of a network: from a folder of pictures to the verdict, once computed, by one process or two."""

import csv
import json
import sys

import pytest
import torch
from PIL import Image
from tests.datasets.image_trees import picture
from tests.features.networks import seen
from tests.runs import WITNESS, digest

from cpc_lightning.app.command_line import main
from cpc_lightning.app.run import run
from cpc_lightning.cleaning import neighbours
from cpc_lightning.errors import InputError

pytestmark = pytest.mark.long

SHORT = (
    "experiment=photos", "features=module", "features.network._target_=tests.features.networks.Patches",
    "features.size=16", "cleaner=gmm_agn", "training.epochs=6", "training.warmup_epochs=2", "training.batch_size=32",
    "optimizer.schedule.milestones=[5]", "callbacks=none", "trainer.precision=32-true", "backbone.width=32",
    "embedding_size=8",
)  # fmt: skip
CLASSES = ("dark", "gray", "light")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Small .png pictures in a folder for each class, 60 of each; every fifth lies in the folder of the next class."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(180):
        shown = number % 3
        filed = CLASSES[(shown + (number % 15 == number % 3)) % 3]
        (root / filed).mkdir(exist_ok=True)
        image: Image.Image = picture(number, shade=95 * shown, size=(20, 16))
        image.save(root / filed / f"{CLASSES[shown]}_{number}.png")
    return root


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The file in which networks count what they see."""
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    return tmp_path / "seen"


def of(photos, tmp_path):
    return [*SHORT, f"dataset.root={photos}", f"features.folder={tmp_path}/features"]


def test_from_a_folder_of_pictures_to_the_verdict(compose, photos, tmp_path, counted):
    summary = run(compose(*of(photos, tmp_path), folder=tmp_path / "run"))
    assert seen(counted) == 2 * 180 + 2  # and one image before, to try the networks that are to learn
    with (tmp_path / "run" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = [row["path"].split("/")[0] != row["path"].split("/")[1].split("_")[0] for row in rows]
    suspected = [row["suspected"] == "true" for row in rows]
    assert sum(wrong) == 28
    assert sum(w and s for w, s in zip(wrong, suspected, strict=True)) >= 14  # half of them, and few others
    assert sum(s and not w for w, s in zip(wrong, suspected, strict=True)) <= 12
    assert summary["training_samples"] == 144


def test_a_second_run_computes_none(compose, photos, tmp_path, counted):
    run(compose(*of(photos, tmp_path), folder=tmp_path / "run"))
    first = seen(counted)
    run(compose(*of(photos, tmp_path), folder=tmp_path / "again"))
    assert seen(counted) - first == 2
    assert digest(tmp_path / "run") == digest(tmp_path / "again")


@pytest.mark.ddp
def test_two_processes_train_on_the_features_that_one_has_computed(photos, tmp_path, counted):
    arguments = [*of(photos, tmp_path), "trainer=ddp", f"hydra.run.dir={tmp_path}/run"]
    assert main(arguments) == 0
    assert seen(counted) <= 2 * 180 + 4 * 2  # each image once; a process may try the network on one before
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test_accuracy_last"] > 60  # a fifth of the labels tested on are wrong


def test_a_resumed_run_ends_like_one_that_was_not_interrupted(compose, photos, tmp_path):
    torch.save({"scale": torch.tensor(1.0)}, tmp_path / "weights.pt")
    settings = [*of(photos, tmp_path), f"features.weights={tmp_path}/weights.pt"]
    seen_folder = tmp_path / "witnessed"
    run(compose(*settings, WITNESS % seen_folder, folder=tmp_path / "straight"))
    folder = seen_folder / "after_3"
    # The features may lie elsewhere, and are then computed again.
    more = [WITNESS % (tmp_path / "again"), f"resume={folder}", f"features.folder={tmp_path}/others"]
    run(compose(*settings, *more, folder=folder))
    assert digest(folder) == digest(tmp_path / "straight")
    with pytest.raises(InputError, match=r"features.views=4: the run to resume has 2"):
        run(compose(*settings, f"resume={folder}", "features.views=4", folder=folder))
    torch.save({"scale": torch.tensor(2.0)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"the run to resume has other images in train"):
        run(compose(*settings, f"resume={folder}", folder=folder))


def test_what_looks_back_at_a_run_shows_the_images(command, photos, tmp_path):
    """Its page, files for other tools, a cleaned set and the command that trains on it."""
    folder = tmp_path / "run"
    code, _, err = command(*of(photos, tmp_path), f"hydra.run.dir={folder}")
    assert code == 0, err
    page = (folder / "report" / "index.html").read_text()
    assert page.count("data:image/") >= 10
    assert "The images cannot be opened" not in page
    code, _, err = command("mode=labels", f"run={folder}", "format=huggingface")
    assert (code, err) == (0, "")
    links = list((folder / "labels" / "huggingface" / "train" / "images").iterdir())
    assert len(links) == 144
    assert all(link.resolve().is_relative_to(photos) for link in links)
    code, out, err = command("mode=apply", f"run={folder}", "decisions=auto", "confidence=0.5")
    assert (code, err) == (0, "")
    assert "features=module" in out
    assert "backbone=mlp" in out


def test_noise_is_of_the_images(compose, photos, tmp_path):
    """By their grey levels, though networks see features."""
    summary = run(compose(*of(photos, tmp_path), "noise=instance", "noise.rate=0.3", folder=tmp_path / "run"))
    assert 0.2 < summary["noise_rate_actual"] < 0.4


def test_images_in_memory_have_features_too(compose, tmp_path, counted):
    settings = [
        "dataset=digits", "backbone=mlp", *SHORT[1:], f"features.folder={tmp_path}/features", "noise=symmetric",
        "noise.rate=0.4", "features.size=8", "training.batch_size=128",
    ]  # fmt: skip
    summary = run(compose(*settings, folder=tmp_path / "run"))
    assert seen(counted) == 2 * 1797 + 2
    assert summary["cleaner_auc_gmm"] > 0.8


def test_the_check_computes_a_few_and_says_how_many_there_are(command, photos, tmp_path, counted):
    code, out, _ = command("mode=check", *of(photos, tmp_path))
    assert code == 0
    assert "Patches is to see 180 images in 2 views each first, about" in " ".join(out.split())
    assert seen(counted) < 40
    assert not (tmp_path / "features").exists()


MISTAKES = {
    "backbone=small_resnet": "cannot take vectors of 48 numbers (backbone=mlp does)",
    "backbone=torchvision": "cannot take vectors of 48 numbers, which this data set consists of: backbone=mlp does",
    "views.policy=randaugment": "views.policy=randaugment: makes views of images, and networks see features of them",
    "features.network._target_=tests.features.networks.Absent": "features.network",
    "features.method=absent": "features.network=Patches: must make a network (torch.nn.Module) that has absent",
    "features.weights=absent.pth": "features.weights=absent.pth",
    "features.folder=/proc/features": "features.folder=/proc/features: cannot be written",
    "features.views=0": "features.views=0: must be a whole number of at least 1",
}


@pytest.mark.parametrize("setting", MISTAKES)
def test_mistakes_are_told_in_one_line_before_hours_of_computing(command, photos, tmp_path, setting, counted):
    kept = [text for text in of(photos, tmp_path) if not (setting[:8] == text[:8] == "backbone")]
    code, out, err = command(*kept, setting, f"hydra.run.dir={tmp_path}/run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert MISTAKES[setting] in err
    assert not (tmp_path / "run").exists()
    assert seen(counted) <= 2  # one image, to try what is to learn


def test_what_very_many_samples_need_is_told_before_hours_of_computing(command, photos, tmp_path, monkeypatch, counted):
    monkeypatch.setattr(neighbours, "MOST", 143)
    monkeypatch.setitem(sys.modules, "faiss", None)  # import raises ImportError
    line = "cleaner.neighbours=30: for 144 samples this needs faiss: pip install 'cpc-lightning[neighbours]'"
    kept = [text for text in of(photos, tmp_path) if not text.startswith("cleaner")]
    for cleaner in ("probe", "auto"):
        code, _, err = command(*kept, f"cleaner={cleaner}", f"hydra.run.dir={tmp_path}/run")
        assert (code, err) == (2, f"error: {line}\n")
    assert not counted.exists()  # no network has seen an image
    code, out, _ = command("mode=check", *kept, "cleaner=probe", f"hydra.run.dir={tmp_path}/run")
    assert code == 2
    assert line in " ".join(out.split())


def test_weights_that_cannot_be_fetched_are_told_with_their_address(command, photos, tmp_path, monkeypatch):
    """No network: the proxy is a port where nobody listens."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    arguments = [f"dataset.root={photos}", f"features.folder={tmp_path}/features", f"hydra.run.dir={tmp_path}/run"]
    code, _, err = command("experiment=photos", *arguments)
    assert code == 2
    line = err.splitlines()[-1]
    assert line.startswith("error: features.weights=DEFAULT: https://download.pytorch.org/models/resnet18-f37072fd.pth")
    assert line.endswith("download it elsewhere and give the file's path here")
    code, out, _ = command("mode=check", "experiment=photos", *arguments)
    text = " ".join(out.split())
    assert code == 0
    assert "features.weights=DEFAULT are not in torchvision's cache yet: the run downloads them" in text
