"""mode=predict: what networks say of files, in order, whatever is wrong with them, and however often it is stopped."""

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from tests.trained import (
    rows_of,
    run_on_digits,
    run_on_features,
    run_on_photos,
    run_on_vectors,
    write_digits,
    write_photos,
)

from cpc_lightning.app.command_line import main
from cpc_lightning.app.of_run import look_back, parts_of_run
from cpc_lightning.inference import predict as predicting
from cpc_lightning.report.run_folder import read_run_folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run on the digits, and 600 of them as files."""
    folder = tmp_path_factory.mktemp("predict")
    run_on_digits(folder / "run")
    write_digits(folder / "images")
    return folder


def ask(place, output, *more, given="images"):
    return ("mode=predict", f"run={place / 'run'}", f"input={place / given}", f"output={output}", *more)


def test_it_says_what_the_run_itself_says_of_its_images(command, place, tmp_path):
    """The reference: a pass of the run's own module over the data set in memory."""
    code, out, error = command(*ask(place, tmp_path / "p.csv"))
    assert code == 0, error
    assert out.startswith(f"{tmp_path}/p.csv: 600 images, 10 classes; ")
    rows = rows_of(tmp_path / "p.csv")
    assert list(rows[0]) == [
        "path", "class", "probability", "class_2", "probability_2", "class_3", "probability_3", "class_4",
        "probability_4", "class_5", "probability_5", "error",
    ]  # fmt: skip
    assert [row["path"] for row in rows] == sorted(path.name for path in (place / "images").iterdir())
    run = read_run_folder(str(place / "run"))
    parts = parts_of_run(run)
    (seen,) = look_back(parts, run, "test")
    images = parts.dataset.evaluation["test"].images.fetch(torch.arange(len(seen.probabilities)))
    all_pixels = torch.from_numpy(np.rint(load_digits().images[:600] * (255 / 16)).astype(np.uint8))
    compared = 0
    for row, pixels in zip(rows, all_pixels, strict=True):
        match = (images[:, 0] == pixels).flatten(1).all(dim=1).nonzero().flatten()
        if len(match):
            expected = seen.probabilities[match[0]].sort(descending=True)
            shown = [float(row[f"probability{rank}"]) for rank in ("", "_2", "_3", "_4", "_5")]
            np.testing.assert_allclose(shown, expected.values[:5].numpy(), atol=2e-6)
            assert int(row["class"]) == int(expected.indices[0])
            compared += 1
    assert compared > 100


def test_a_list_keeps_its_order_and_says_what_cannot_be_read(command, place, tmp_path):
    listed = tmp_path / "list.csv"
    names = ["0007_7.png", "sub/no.png", "0003_3.png", "broken.png", "0007_7.png"]
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    for name in ("0007_7.png", "0003_3.png"):
        shutil.copy(place / "images" / name, tmp_path / name)
    listed.write_text("who,path\n" + "".join(f"me,{name}\n" for name in names) + f"me,{place / 'images/0001_1.png'}\n")
    code, out, error = command("mode=predict", f"run={place / 'run'}", f"input={listed}", f"output={tmp_path}/p.csv")
    assert code == 0, error
    rows = rows_of(tmp_path / "p.csv")
    assert [row["path"] for row in rows] == [*names, str(place / "images/0001_1.png")]
    assert [row["error"] for row in rows] == ["", "is not there", "", "is no image that can be read", "", ""]
    assert [row["class"] == "" for row in rows] == [False, True, False, True, False, False]
    assert {**rows[0]} == {**rows[4]}
    assert "2 of them cannot be read, which the column error says: sub/no.png (is not there), broken.png" in out
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n")
    arguments = ("mode=predict", f"run={place / 'run'}", f"input={tmp_path}/list.txt", f"output={tmp_path}/q.csv")
    assert command(*arguments)[0] == 0
    assert rows_of(tmp_path / "q.csv") == rows[:5]


def test_folders_within_a_folder_and_what_is_not_looked_at(command, place, tmp_path):
    for name in ("b/0002_2.png", "a/deep/0001_1.png", "z.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "images" / "0002_2.png", tmp_path / "in" / name)
    (tmp_path / "in" / "b" / "notes.txt").write_text("x")
    code, out, _ = command("mode=predict", f"run={place / 'run'}", f"input={tmp_path}/in", f"output={tmp_path}/p.csv")
    assert code == 0
    assert [row["path"] for row in rows_of(tmp_path / "p.csv")] == ["z.png", "a/deep/0001_1.png", "b/0002_2.png"]
    assert out.splitlines()[1:] == ["not looked at: 1 .txt"]


class StopError(Exception):
    pass


@pytest.mark.long
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_stopped_one_goes_on_and_ends_as_if_it_had_not_been(command, place, tmp_path, monkeypatch, ending):
    assert command(*ask(place, tmp_path / f"whole.{ending}"))[0] == 0
    batches, true_answer = [], predicting.answer

    def answer(model, batch, precision):
        if len(batches) == 2:
            raise StopError
        batches.append(batch["wanted"].block)
        return true_answer(model, batch, precision)

    monkeypatch.setattr(predicting, "answer", answer)
    with pytest.raises(StopError):
        main([*ask(place, tmp_path / f"p.{ending}")])
    assert not (tmp_path / f"p.{ending}").exists()
    assert [path.name for path in sorted((tmp_path / f"p.{ending}.parts").glob("*.block"))] == [
        "0000000.block", "0000001.block",
    ]  # fmt: skip
    batches.clear()
    monkeypatch.setattr(predicting, "answer", lambda *a: (batches.append(a[1]["wanted"].block), true_answer(*a))[1])
    code, _, error = command(*ask(place, tmp_path / f"p.{ending}"))
    assert code == 0
    assert "512 images or less were done before" in error
    assert batches == [2]
    assert (tmp_path / f"p.{ending}").read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert not (tmp_path / f"p.{ending}.parts").exists()


@pytest.mark.long
def test_what_was_stopped_is_not_mixed_with_another_run(command, place, tmp_path):
    parts = tmp_path / "p.csv.parts"
    parts.mkdir()
    (parts / "about.json").write_text('{"input": "/elsewhere", "networks": ""}')
    code, _, error = command(*ask(place, tmp_path / "p.csv"))
    assert code == 2
    assert "is of a prediction by other networks, or on another input, that was stopped; overwrite=true" in error
    assert command(*ask(place, tmp_path / "p.csv", "overwrite=true"))[0] == 0
    (tmp_path / "q.csv.parts").mkdir()
    (tmp_path / "q.csv.parts" / "thesis.tex").write_text("mine")
    code, _, error = command(*ask(place, tmp_path / "q.csv", "overwrite=true"))
    assert code == 2
    assert (tmp_path / "q.csv.parts" / "thesis.tex").read_text() == "mine"


@pytest.mark.long
def test_an_input_that_changed_meanwhile_is_looked_at_again(command, place, tmp_path, monkeypatch):
    shutil.copytree(place / "images", tmp_path / "images")
    arguments = ("mode=predict", f"run={place / 'run'}", f"input={tmp_path}/images", f"output={tmp_path}/p.csv")
    true_joined, calls = predicting.joined, []

    def joined(parts):
        calls.append(0)
        if len(calls) == 2:
            raise StopError
        return true_joined(parts)

    monkeypatch.setattr(predicting, "joined", joined)
    with pytest.raises(StopError):
        main([*arguments])
    monkeypatch.setattr(predicting, "joined", true_joined)
    (tmp_path / "images" / "0000_0.png").unlink()
    assert command(*arguments)[0] == 0
    assert [row["path"] for row in rows_of(tmp_path / "p.csv")] == sorted(os.listdir(tmp_path / "images"))


@pytest.mark.long
def test_parquet_holds_what_csv_holds(command, place, tmp_path):
    for ending in ("csv", "parquet"):
        assert command(*ask(place, tmp_path / f"p.{ending}", "training.num_workers=2"))[0] == 0
    parquet = pd.read_parquet(tmp_path / "p.parquet")
    csv = pd.read_csv(tmp_path / "p.csv", dtype={"error": object} | {f"class{k}": str for k in ("", "_2")})
    assert list(parquet) == list(csv)
    assert parquet["path"].tolist() == csv["path"].tolist()
    assert parquet["class"].tolist() == csv["class"].tolist()
    assert parquet["probability_5"].tolist() == csv["probability_5"].tolist()
    assert parquet["error"].isna().all()


@pytest.mark.long
@pytest.mark.ddp
def test_two_processes_write_the_bytes_of_one(command, place, tmp_path):
    assert command(*ask(place, tmp_path / "one.csv"))[0] == 0
    code, _, error = command(*ask(place, tmp_path / "two.csv", "trainer=ddp", "trainer.devices=2"))
    assert code == 0, error
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


# Other kinds of runs --------------------------------------------------------------------------------------------------


def held_out(run):
    """Path, suggestion and confidence of the images that the run held out."""
    return [(row["path"], row["suggested_class"], float(row["confidence"])) for row in rows_of(run / "labels_test.csv")]


@pytest.mark.long
def test_photos_are_cropped_as_in_the_run(command, tmp_path):
    root = write_photos(tmp_path / "photos", {"dark": 12, "light": 12})
    run = run_on_photos(tmp_path / "run", root)
    (tmp_path / "list.txt").write_text("".join(f"{root}/{path}\n" for path, _, _ in held_out(run)))
    shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "sent.ckpt")  # nothing else of the run
    arguments = ("mode=predict", f"run={tmp_path}/sent.ckpt", f"input={tmp_path}/list.txt", f"output={tmp_path}/p.csv")
    code, _, error = command(*arguments)
    assert code == 0, error
    rows = rows_of(tmp_path / "p.csv")
    assert [row["class"] for row in rows] == [name for _, name, _ in held_out(run)]
    np.testing.assert_allclose([float(r["probability"]) for r in rows], [c for _, _, c in held_out(run)], atol=2e-5)
    assert "class_3" not in rows[0]  # two classes


@pytest.mark.long
def test_a_run_on_features_and_code_of_others(command, tmp_path):
    root = write_photos(tmp_path / "photos", {"dark": 12, "gray": 12, "light": 12})
    run = run_on_features(tmp_path / "run", root)
    arguments = ["mode=predict", f"run={run}", f"input={root}", f"output={tmp_path}/p.csv"]
    code, _, error = command(*arguments)
    assert code == 2
    assert "run=tests.features.networks.Patches: names code that is not this library's (features.network); " in error
    code, _, error = command(*arguments, "trust=true")
    assert code == 0, error
    found = {row["path"]: row for row in rows_of(tmp_path / "p.csv")}
    for path, name, confidence in held_out(run):
        assert found[path]["class"] == name
        assert float(found[path]["probability"]) == pytest.approx(confidence, abs=2e-5)


@pytest.mark.long
def test_vectors(command, tmp_path):
    digits = load_digits()
    np.savez(tmp_path / "train.npz", features=digits.data[:300], labels=digits.target[:300])
    run = run_on_vectors(tmp_path / "run", tmp_path / "train.npz")
    np.savez(tmp_path / "new.npz", features=digits.data[300:600], ids=[f"scan {k}" for k in range(300)])
    arguments = ["mode=predict", f"run={run}", f"output={tmp_path}/p.csv"]
    code, _, error = command(*arguments, f"input={tmp_path}/new.npz")
    assert code == 0, error
    rows = rows_of(tmp_path / "p.csv")
    assert [row["path"] for row in rows[:2]] == ["scan 0", "scan 1"]
    right = sum(int(row["class"]) == target for row, target in zip(rows, digits.target[300:600], strict=True))
    assert right > 60  # by chance 30
    np.savez(tmp_path / "other.npz", features=digits.data[:3, :60])
    for name, says in (("other.npz", "features must be numbers, (N, 64)"), ("run", "is no file of vectors")):
        code, _, error = command(*arguments, f"input={tmp_path / name}", "overwrite=true")
        assert code == 2
        assert says in error


# Mistakes -------------------------------------------------------------------------------------------------------------


def one_line_of(answer):
    code, out, error = answer
    assert (code, out) == (2, ""), error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.long
def test_mistakes_are_one_line(command, place, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.txt").write_text("x")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "nothing.txt").write_text("\n")
    (tmp_path / "names.csv").write_text("name\na.png\n")
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "wide.csv").write_text("path\na.png\n", encoding="utf-16")
    whole = (place / "run" / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "short.ckpt").write_bytes(whole[: len(whole) // 2])
    usual = {"run": place / "run", "input": place / "images", "output": tmp_path / "p.csv"}
    for changed, says in (
        ({"run": ""}, "run=: must name one file or folder"),
        ({"run": tmp_path / "no"}, "is not there"),
        ({"run": tmp_path / "empty"}, "is not the folder of a run"),
        ({"run": tmp_path / "half"}, "has no checkpoint of its networks yet"),
        ({"run": tmp_path / "nothing.txt"}, "is neither the folder of a run nor a checkpoint"),
        ({"run": tmp_path / "short.ckpt"}, "is no whole checkpoint"),
        ({"input": tmp_path / "no"}, "is not there"),
        ({"input": tmp_path / "empty"}, "holds no images\n"),
        ({"input": tmp_path / "only"}, "holds no images, but 1 .txt\n"),
        ({"input": tmp_path / "nothing.txt"}, "holds no images\n"),
        ({"input": tmp_path / "names.csv"}, "has no column path; it has name"),
        ({"output": tmp_path / "p.json"}, "must end in .csv or .parquet"),
        ({"output": tmp_path / "folder.csv"}, "is a folder: name a file"),
        ({"input": tmp_path / "wide.csv"}, "is not UTF-8"),
        ({"output": tmp_path / "there.csv"}, "is there already; overwrite=true replaces it"),
        ({"output": tmp_path / "there.csv" / "p.csv"}, "cannot be"),
        ({"backbone.width": 9}, "is no setting of mode=predict; of the run's, it takes trainer,"),
        ({"trainer.accelerator": "gpu"}, "no CUDA device can be used here"),
        ({"training.num_workers": -1}, "must be a whole number of at least 0"),
        ({"training.evaluation_batch_size": -5}, "training.evaluation_batch_size=-5: must be"),
        ({"training.evaluation_batch_size": "many"}, "training.evaluation_batch_size=many: must be"),
        ({"trainer.precision": "double"}, "trainer.precision=double: must be one of"),
        ({"trainer.accelerator": "abacus"}, "trainer.accelerator=abacus: must be one of"),
        ({"overwrite": "maybe"}, "must be true or false"),
    ):
        if "trainer.accelerator" in changed and torch.cuda.is_available():
            continue
        arguments = [f"{name}={value}" for name, value in {**usual, **changed}.items()]
        assert says in one_line_of(command("mode=predict", *arguments)), changed
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert "output=(not set): must name a file" in one_line_of(command("mode=predict", f"run={place / 'run'}"))


# Checkpoints from others ----------------------------------------------------------------------------------------------


class Harmful:
    """Pickled, it is a call that makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (self.file,)


def test_a_pickle_in_a_checkpoint_is_refused_and_does_not_run(command, place, tmp_path):
    """The true checkpoint with code added to it; unpickled without care, it makes a folder."""
    witness = str(tmp_path / "ran")
    checkpoint = torch.load(place / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({**checkpoint, "more": Harmful(witness)}, tmp_path / "bad.ckpt")
    arguments = ("mode=predict", f"run={tmp_path}/bad.ckpt", f"input={place / 'images'}", f"output={tmp_path}/p.csv")
    assert "not plain data" in one_line_of(command(*arguments))
    assert not Path(witness).exists()
    torch.load(tmp_path / "bad.ckpt", weights_only=False)
    assert Path(witness).exists()  # it would have run


def test_settings_of_a_checkpoint_name_no_code_of_others(command, place, tmp_path):
    original = torch.load(place / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    witness = tmp_path / "ran"
    for part, target in (
        ("backbone", "os.mkdir"), ("views", "subprocess.run"), ("features", "os.mkdir"),
        ("backbone", "cpc_lightning.backbones.weights.Path"), ("views", "cpc_lightning.app.run.run"),
        ("backbone", "cpc_lightning.backbones.weights.torch.load"), ("views", "cpc_lightning.views.views._x"),
    ):  # fmt: skip
        checkpoint = {**original, "run": {**original["run"], "config": {**original["run"]["config"]}}}
        checkpoint["run"]["config"][part] = {"_target_": target, "path": str(witness)}
        torch.save(checkpoint, tmp_path / "bad.ckpt")
        arguments = (f"run={tmp_path}/bad.ckpt", f"input={place / 'images'}", f"output={tmp_path}/p.csv")
        assert f"run={target}: " in one_line_of(command("mode=predict", *arguments)), target
        assert not witness.exists()


def test_a_checkpoint_that_nothing_can_be_predicted_with(command, place, tmp_path):
    """Weights that are not numbers, a size that no memory holds, settings and records that are something else."""
    original = torch.load(place / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    name = next(name for name in original["state_dict"] if name.startswith("networks.1.") and "weight" in name)
    weights = {**original["state_dict"], name: original["state_dict"][name] * torch.nan}
    run = original["run"]
    images = run["data"]["images"]
    for changed, says in (
        ({"state_dict": weights}, "holds NaN or infinite weights"),
        ({"run": {**run, "data": {**run["data"], "images": {**images, "shape": [1, 10**6, 10**6]}}}}, "is no size"),
        ({"run": {**run, "data": {**run["data"], "images": {**images, "shape": "x"}}}}, "garbled"),
    ):
        torch.save({**original, **changed}, tmp_path / "odd.ckpt")
        arguments = (f"run={tmp_path}/odd.ckpt", f"input={place / 'images'}", f"output={tmp_path}/p.csv")
        assert says in one_line_of(command("mode=predict", *arguments)), says


def test_a_checkpoint_of_another_version(command, place, tmp_path):
    original = torch.load(place / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    for part, value, says in (
        ("backbone", {**original["run"]["config"]["backbone"], "depth": 3}, "was made by another version"),
        ("backbone", {**original["run"]["config"]["backbone"], "width": 16}, "holds other networks"),
        ("backbone", {"_target_": "cpc_lightning.backbones.later.net"}, "is not in this version of the library"),
        ("views", "none", "is no part of this library's"),
    ):
        checkpoint = {**original, "run": {**original["run"], "config": {**original["run"]["config"], part: value}}}
        torch.save(checkpoint, tmp_path / "other.ckpt")
        arguments = (f"run={tmp_path}/other.ckpt", f"input={place / 'images'}", f"output={tmp_path}/p.csv")
        assert says in one_line_of(command("mode=predict", *arguments)), value
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps({"a": 1}))
    arguments = (f"run={tmp_path}/zip.ckpt", f"input={place / 'images'}", f"output={tmp_path}/p.csv")
    assert "is no whole checkpoint" in one_line_of(command("mode=predict", *arguments))
