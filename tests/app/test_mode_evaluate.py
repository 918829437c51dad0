"""mode=evaluate: the run's own numbers again, other data sets by their classes' names, what it leaves behind."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from tests.trained import rows_of, run_on_digits, run_on_features, run_on_photos, write_digits, write_photos

pytestmark = pytest.mark.long

COUNTS = {"dark": 15, "gray": 15, "light": 15}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return run_on_digits(tmp_path_factory.mktemp("evaluate") / "run")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A run on photos of three classes, and its photos."""
    folder = tmp_path_factory.mktemp("evaluate_photos")
    root = write_photos(folder / "photos", COUNTS)
    return run_on_photos(folder / "run", root, "training.epochs=3"), root


def numbers_of(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_its_own_test_set(command, digits):
    code, out, error = command("mode=evaluate", f"run={digits}")
    assert code == 0, error
    found = numbers_of(digits / "evaluation")
    last = rows_of(digits / "metrics.csv")[-1]
    assert found["images"] == 359
    for ours, theirs in (("accuracy_1", "test/accuracy_1"), ("accuracy_2", "test/accuracy_2")):
        assert 100 * found[ours] == pytest.approx(float(last[theirs]), abs=1e-3)
    verdicts = rows_of(digits / "labels_test.csv")
    right = np.mean([row["suggested_label"] == row["true_label"] for row in verdicts])
    assert found["accuracy"] == pytest.approx(right)
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert sum(row["images"] for row in found["classes"]) == 359
    assert np.array(found["confusion"]).trace() == round(359 * found["accuracy"])
    assert (found["set"], found["left_out"]) == ("test", {})
    names = {path.name for path in (digits / "evaluation").iterdir()}
    assert names == {"evaluation.json", "classes.csv", "confusion.csv", "confusion.svg", "reliability.svg"}
    with (digits / "evaluation" / "confusion.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["class", *"0123456789"]
    assert [list(map(int, row[1:])) for row in table[1:]] == found["confusion"]
    assert f"{100 * found['accuracy']:.2f} %" in out
    assert out.splitlines()[-1] == str(digits / "evaluation")
    code, _, error = command("mode=evaluate", f"run={digits}")
    assert code == 2
    assert "is there already; overwrite=true replaces it" in error


def test_another_set_by_the_names_of_its_classes(command, photos, tmp_path):
    """A subset in another order, a class of its own: its folders sort before and between the run's."""
    run, root = photos
    shutil.copytree(root / "light", tmp_path / "new" / "light")
    shutil.copytree(root / "dark", tmp_path / "new" / "dark")
    shutil.copytree(root / "gray", tmp_path / "new" / "aardvark")
    code, out, error = command(
        "mode=evaluate", f"run={run}", "dataset=imagefolder", f"dataset.root={tmp_path}/new", "set=all",
        f"output={tmp_path}/out",
    )  # fmt: skip
    assert code == 0, error
    found = numbers_of(tmp_path / "out")
    assert [row["class"] for row in found["classes"]] == ["dark", "gray", "light"]
    assert [row["images"] for row in found["classes"]] == [15, 0, 15]
    assert found["left_out"] == {"aardvark": 15}
    assert "left out: 15 images of 1 class that the run does not know: aardvark (15)" in out
    assert "1 class of the run's have no image here" in out
    (tmp_path / "list.txt").write_text("".join(f"{p}\n" for p in sorted((tmp_path / "new").glob("[dl]*/*.png"))))
    assert command("mode=predict", f"run={run}", f"input={tmp_path}/list.txt", f"output={tmp_path}/p.csv")[0] == 0
    right = [row["class"] == row["path"].split("/")[-2] for row in rows_of(tmp_path / "p.csv")]
    assert found["accuracy"] == pytest.approx(np.mean(right))


def test_gray_files_for_a_run_on_gray_arrays(command, digits, tmp_path):
    """The digits as files in folders are the digits in memory: of all images the same are right."""
    for name in write_digits(tmp_path / "flat", 200):
        target = tmp_path / "tree" / name.split("_")[1][0]
        target.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "flat" / name, target / name)
    code, _, error = command(
        "mode=evaluate", f"run={digits}", "dataset=imagefolder", f"dataset.root={tmp_path}/tree", "set=all",
        f"output={tmp_path}/out",
    )  # fmt: skip
    assert code == 0, error
    assert command("mode=predict", f"run={digits}", f"input={tmp_path}/tree", f"output={tmp_path}/p.csv")[0] == 0
    right = [row["class"] == row["path"].split("/")[0] for row in rows_of(tmp_path / "p.csv")]
    assert numbers_of(tmp_path / "out")["accuracy"] == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1


def test_a_run_on_features(command, tmp_path):
    root = write_photos(tmp_path / "photos", COUNTS)
    run = run_on_features(tmp_path / "run", root)
    code, _, error = command("mode=evaluate", f"run={run}", "trust=true")
    assert code == 0, error
    expected = float(rows_of(run / "metrics.csv")[-1]["test/accuracy_1"])
    assert 100 * numbers_of(run / "evaluation")["accuracy_1"] == pytest.approx(expected, abs=1e-3)


def test_mistakes_are_one_line(command, digits, photos, tmp_path):
    write_photos(tmp_path / "others", {"x": 4, "y": 4})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for run, more, says in (
        (tmp_path / "no", [], "is not there"),
        (digits, ["set=validation", f"output={tmp_path}/o"], "is none of this data set's: train, test, all"),
        (digits, ["backbone.width=3"], "is no setting of mode=evaluate"),
        (digits, ["training.num_workers=-1", f"output={tmp_path}/o"], "training.num_workers=-1: must be"),
        (
            digits,
            ["training.evaluation_batch_size=0", f"output={tmp_path}/o"],
            "training.evaluation_batch_size=0: must be",
        ),
        (
            digits,
            ["trainer.precision=bf16-mixed", f"output={tmp_path}/o"],
            "trainer.precision=bf16-mixed: is float32 here",
        ),
        (digits, [f"output={tmp_path}/mine", "overwrite=true"], "holds other things"),
        (digits, ["dataset.rot=3", f"output={tmp_path}/o"], "is no setting"),
        (photos[0], [f"dataset.root={tmp_path}/no"], "is not there"),
        (photos[0], ["dataset=imagefolder", f"dataset.root={tmp_path}/others", f"output={tmp_path}/o"], "has no image"),
    ):
        code, out, error = command("mode=evaluate", f"run={run}", *more)
        assert (code, out) == (2, ""), (more, error)
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert says in error


def test_a_data_set_of_a_checkpoint_names_no_code_of_others(command, digits, tmp_path):
    checkpoint = torch.load(digits / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["run"]["config"]["dataset"] = {"_target_": "os.mkdir", "path": str(tmp_path / "ran")}
    torch.save(checkpoint, tmp_path / "bad.ckpt")
    code, _, error = command("mode=evaluate", f"run={tmp_path}/bad.ckpt")
    assert code == 2
    assert "run=os.mkdir: names code that is not this library's (dataset)" in error
    assert not (tmp_path / "ran").exists()
    # By an attribute of what this library imports, the path within it built by what it imports.
    inner = {"_target_": "cpc_lightning.files.Path", "_args_": [str(tmp_path / "ran")]}
    checkpoint["run"]["config"]["dataset"] = {
        "_target_": "cpc_lightning.files.Path.write_text", "_args_": [inner, "text"]
    }  # fmt: skip
    torch.save(checkpoint, tmp_path / "bad.ckpt")
    code, _, error = command("mode=evaluate", f"run={tmp_path}/bad.ckpt")
    assert (code, error.count("\n")) == (2, 1)
    assert "names code that is not this library's" in error
    assert not (tmp_path / "ran").exists()
