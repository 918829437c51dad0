"""A run that is over, built again from its folder: the same data, the same networks, what is typed on top."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from tests.conftest import SMALL

from cpc_lightning.app.of_run import look_back, parts_of_run
from cpc_lightning.errors import InputError
from cpc_lightning.report.run_folder import read_run_folder
from cpc_lightning.report.verdicts import read_verdicts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from cpc_lightning.app.command_line import main

    folder = tmp_path_factory.mktemp("runs") / "one"
    assert main([*SMALL, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.mark.long
def test_networks_say_again_what_the_run_reported(folder):
    run = read_run_folder(str(folder))
    train, test = look_back(parts_of_run(run), run, "train", "test")
    verdicts = read_verdicts(folder / "labels.csv")
    confidence, suggested = train.probabilities.max(dim=1)
    assert suggested.tolist() == verdicts.suggested_label.tolist()
    np.testing.assert_allclose(confidence.numpy(), verdicts.confidence, atol=1e-5)
    assert train.features.shape == (len(verdicts), 2 * 32)
    held_out = read_verdicts(folder / "labels_test.csv")
    assert test.probabilities.argmax(dim=1).tolist() == held_out.suggested_label.tolist()


@pytest.mark.long
def test_losses_are_those_of_the_given_label(folder):
    run = read_run_folder(str(folder / "checkpoints" / "last.ckpt"))
    parts = parts_of_run(run)
    (train,) = look_back(parts, run, "train")
    images = parts.dataset.train.images.fetch(torch.arange(5))
    labels = parts.dataset.train.labels[:5]
    parts.module.eval()
    with torch.no_grad():
        logits = parts.module.evaluate(images)
    expected = [[-float(row.double().log_softmax(0)[k]) for row, k in zip(of, labels, strict=True)] for of in logits]
    np.testing.assert_allclose(train.losses[:, :5].numpy(), expected, atol=1e-4)


@pytest.mark.long
def test_what_is_typed_takes_the_place_of_the_runs_own(folder):
    run = read_run_folder(str(folder))
    assert parts_of_run(run, ["training.evaluation_batch_size=7"]).settings["training"]["evaluation_batch_size"] == 7
    other = parts_of_run(run, ["dataset=fashion_mnist", "dataset.root=/somewhere"]).settings["dataset"]
    assert other["_target_"].endswith("fashion_mnist.FashionMNIST") or "fashion" in other["_target_"].lower()
    assert other["root"] == "/somewhere"
    assert run.settings["training"]["evaluation_batch_size"] == 512  # the record stays as it is


@pytest.mark.long
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("training.evaluation_batch_sice=7", "did you mean training.evaluation_batch_size"),
        ("dataset=digit", "did you mean digits"),
        ("seed=1,2", "single value"),
        ("training={}", "one by one"),
        ("~seed", "single value"),
    ],
)
def test_what_the_run_does_not_have_is_refused(folder, typed, message):
    with pytest.raises(InputError, match=message):
        parts_of_run(read_run_folder(str(folder)), [typed])


@pytest.mark.long
def test_other_labels_than_the_run_was_trained_on(folder):
    run = read_run_folder(str(folder))
    with pytest.raises(InputError, match="trained on other images or labels"):
        look_back(parts_of_run(run, ["noise_seed=2"]), run, "train")


@pytest.mark.long
def test_a_run_of_an_older_version_lacks_settings(folder, tmp_path):
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    for name in ("warmup_batch_size", "warmup_policy"):
        del settings["training"][name]
    for name in ("features", "vector_views", "report"):
        del settings[name]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    parts = parts_of_run(read_run_folder(str(tmp_path)))
    assert parts.datamodule.warmup_batch_size == settings["training"]["batch_size"]
    with pytest.raises(InputError, match="no checkpoint"):
        look_back(parts, read_run_folder(str(tmp_path)), "train")


def test_folders_that_are_no_runs(tmp_path):
    for text in ("", str(tmp_path), str(tmp_path / "absent"), "a\0b"):
        with pytest.raises(InputError, match=r"^run="):
            read_run_folder(text)
