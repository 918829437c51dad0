"""Runs on vectors: they learn, find the wrong labels, go on after a stop, and refuse what is for images."""

import csv
import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tests.runs import WITNESS, digest

from cpc_lightning.app.run import run
from cpc_lightning.errors import InputError

pytestmark = pytest.mark.long

SHORT = (
    "dataset=embeddings", "training.epochs=6", "training.warmup_epochs=2", "optimizer.schedule.milestones=[5]",
    "callbacks=none", "trainer.precision=32-true", "backbone.width=128", "embedding_size=32",
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Settings that name the digits' pixels as vectors: 1,400 to train on, 397 to test on; 45 % of labels wrong."""
    folder = tmp_path_factory.mktemp("vectors")
    digits, stream = load_digits(), np.random.RandomState(0)
    order = stream.permutation(len(digits.data))
    train, test = order[:1400], order[1400:]
    given = digits.target[train].copy()
    given[:700] = stream.randint(10, size=700)
    np.savez(
        folder / "train.npz", features=digits.data[train], labels=given, true_labels=digits.target[train],
        ids=[f"digit {k}" for k in train],
    )  # fmt: skip
    np.savez(folder / "test.npz", features=digits.data[test], labels=digits.target[test])
    return [f"dataset.file={folder}/train.npz", f"dataset.test_file={folder}/test.npz"]


@pytest.mark.parametrize("preset", ["paper", "fast"])
@pytest.mark.parametrize("cleaner", ["gmm_agn", "cpc_awr"])
def test_a_run_on_vectors_finds_the_wrong_labels(compose, files, tmp_path, cleaner, preset):
    summary = run(compose(*SHORT, *files, f"cleaner={cleaner}", f"preset={preset}", folder=tmp_path / "run"))
    assert summary["test_accuracy_last"] > 70  # by chance 10
    assert summary[f"cleaner_auc_{cleaner[:3]}"] > 0.95
    with (tmp_path / "run" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1400
    assert all(row["path"].startswith("digit ") for row in rows)


def test_a_resumed_run_ends_like_one_that_was_not_interrupted(compose, files, tmp_path):
    """The unlabeled half, too, sees strong views."""
    settings = [*SHORT, *files, "cleaner=gmm_agn", "semisup.lambda_u=5"]
    seen = tmp_path / "seen"
    run(compose(*settings, WITNESS % seen, folder=tmp_path / "straight"))
    folder = seen / "after_3"
    run(compose(*settings, WITNESS % (tmp_path / "again"), f"resume={folder}", folder=folder))
    assert digest(folder) == digest(tmp_path / "straight")


def test_a_run_does_not_go_on_with_other_vectors(compose, files, tmp_path):
    settings = [*SHORT, *files, "cleaner=gmm_agn", "training.epochs=3"]
    seen = tmp_path / "seen"
    run(compose(*settings, WITNESS % seen, folder=tmp_path / "straight"))
    with np.load(files[0].partition("=")[2]) as archive:
        arrays = dict(archive)
    arrays["features"][3, 20] += 1
    np.savez(tmp_path / "other.npz", **arrays)
    other = [f"dataset.file={tmp_path}/other.npz", f"resume={seen}/after_2"]
    with pytest.raises(InputError, match="the run to resume has other images in train"):
        run(compose(*settings, *other, folder=seen / "after_2"))


def test_what_looks_back_at_a_run_on_vectors_needs_no_images(command, files, tmp_path):
    folder = tmp_path / "run"
    code, _, err = command(*SHORT, *files, "cleaner=gmm_agn", "training.epochs=3", f"hydra.run.dir={folder}")
    assert code == 0, err
    page = (folder / "report" / "index.html").read_text()
    assert "digit " in page
    assert command("mode=labels", f"run={folder}", "format=cleanlab")[0] == 0
    for arguments, says in (
        (["mode=labels", "format=huggingface"], "is a format with images, and this run's data set consists of vectors"),
        (["mode=labels", "format=labelstudio"], "is a format with images, and this run's data set consists of vectors"),
        (["mode=apply", "decisions=auto"], "is of a data set of vectors, which no table of images can name"),
    ):
        code, _, err = command(*arguments, f"run={folder}")
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


MISTAKES = {
    "noise=instance": "depends on the images' grey levels, and this data set consists of vectors",
    "backbone=small_resnet": "cannot take vectors of 64 numbers (backbone=mlp does)",
    "backbone=torchvision": "cannot take vectors of 64 numbers, which this data set consists of: backbone=mlp does",
    "training.warmup_policy=cifar10": "is for images, and these are vectors, whose views vector_views makes",
    "vector_views.mixing=0.7": "vector_views.mixing=0.7: must be a number in [0, 0.5]",
}


@pytest.mark.parametrize("setting", MISTAKES)
def test_what_is_for_images_is_refused_in_one_line(command, files, tmp_path, setting):
    kept = [text for text in SHORT if not (setting.startswith("backbone") and text.startswith("backbone"))]
    code, out, err = command(*kept, *files, setting, f"hydra.run.dir={tmp_path}/run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert MISTAKES[setting] in err
    assert not (tmp_path / "run").exists()


def test_a_network_for_vectors_takes_no_images(command, tmp_path):
    code, _, err = command("dataset=digits", "backbone=mlp", f"hydra.run.dir={tmp_path}/run")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot take images of 8 x 8: it takes vectors" in err


def test_the_check_looks_at_vectors(command, files):
    code, out, _ = command("mode=check", *SHORT, *files)
    assert code == 0
    text = " ".join(out.split())
    assert "1,400 of 64 numbers each, all finite" in text
    assert "of their 64 numbers are the same in all" in text  # pixels of the corners


def test_the_check_tells_what_is_wrong_with_a_file(command, files, tmp_path):
    np.savez(tmp_path / "few.npz", features=np.ones((3, 4)), labels=[0, 1])
    code, out, _ = command("mode=check", *SHORT, f"dataset.file={tmp_path}/few.npz")
    assert code == 2
    assert "labels are (2,), where features are of 3 samples" in " ".join(out.split())


def test_settings_of_vectors_are_recorded(compose, files, tmp_path):
    """A run's record tells its views; the statistics of the training set are in the checkpoint."""
    import torch

    run(compose(*SHORT, *files, "cleaner=none", "training.epochs=3", folder=tmp_path))
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    with np.load(files[0].partition("=")[2]) as archive:
        features = archive["features"]
    torch.testing.assert_close(state["state_dict"]["views.mean"].numpy(), features.mean(axis=0).astype(np.float32))
    assert state["run"]["config"]["vector_views"]["dropout"] == 0.2
    assert json.loads((tmp_path / "summary.json").read_text())["training_samples"] == 1400
