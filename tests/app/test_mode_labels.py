"""mode=labels: a run's verdict for other tools, from the command line."""

import json
import sys
from pathlib import Path

import cleanlab
import numpy as np
import pandas as pd
import pytest
from tests.app.test_mode_apply import refused, rows_of
from tests.conftest import SMALL
from tests.datasets.image_trees import write_folders
from tests.training.test_selection import TINY

from cpc_lightning.app.command_line import main
from cpc_lightning.app.labels import FORMATS


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "one"
    assert main([*SMALL, "cleaner=gmm_agn", f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.mark.long
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_a_place_of_its_own(command, digits, form):
    code, out, error = command("mode=labels", f"run={digits}", f"format={form}")
    assert code == 0, error
    folder = digits / "labels" / form
    assert out.splitlines()[0] == str(folder)
    assert (folder / "README.txt").read_text().startswith(f"1,438 images of {digits}\n")
    line = refused(command, "mode=labels", f"run={digits}", f"format={form}")
    assert line == f"error: output={folder}: is there already; overwrite=true replaces it\n"
    marked = folder / "mark"
    marked.touch()
    assert command("mode=labels", f"run={digits}", f"format={form}", "overwrite=true")[0] == 0
    assert not marked.exists()


@pytest.mark.long
def test_probabilities_are_those_of_the_runs_networks(command, digits, tmp_path):
    """The suggestion is the largest of them, and its value the confidence that the run reported."""
    code, _, error = command(
        "mode=labels", f"run={digits}/checkpoints/last.ckpt", "format=cleanlab", f"output={tmp_path / 'out'}"
    )
    assert code == 0, error
    probabilities, features = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("pred_probs", "features"))
    assert (probabilities.shape, features.shape) == ((1438, 10), (1438, 64))
    labels = rows_of(digits / "labels.csv")
    assert probabilities.argmax(axis=1).tolist() == [int(row["suggested_label"]) for row in labels]
    np.testing.assert_allclose(probabilities.max(axis=1), [float(row["confidence"]) for row in labels], atol=1e-5)
    issues = pd.read_csv(tmp_path / "out" / "label_issues.csv")
    assert issues.is_label_issue.tolist() == [row["suspected"] == "true" for row in labels]
    lab = cleanlab.Datalab({"labels": issues.given_label.tolist()}, label_name="labels", verbosity=0)
    lab.find_issues(pred_probs=probabilities, features=features, issue_types={"label": {}})
    assert lab.get_issues("label").given_label.tolist() == issues.given_label.tolist()


@pytest.mark.long
def test_photos_are_linked_or_copied(command, tmp_path):
    write_folders(tmp_path / "data", {"a": 8, "b": 8})
    code, _, error = command(
        "dataset=imagefolder", f"dataset.root={tmp_path / 'data'}", *TINY, "training.epochs=2", "cleaner=gmm_agn",
        "optimizer.schedule.milestones=[1]", f"hydra.run.dir={tmp_path / 'one'}",
    )  # fmt: skip
    assert code == 0, error
    for copy in ("false", "true"):
        out = tmp_path / copy
        code, _, error = command(
            "mode=labels", f"run={tmp_path / 'one'}", "format=fiftyone", f"output={out}", f"copy={copy}"
        )
        assert code == 0, error
        given = json.loads((out / "labels.json").read_text())["labels"]
        labels = rows_of(tmp_path / "one" / "labels.csv")
        assert [given[f"{k:06}"]["label"] for k in range(12)] == [int(row["noisy_label"]) for row in labels]
        for k, row in enumerate(labels):
            image = out / "data" / f"{k:06}.jpg"
            assert image.is_symlink() is (copy == "false")
            assert image.read_bytes() == (tmp_path / "data" / row["path"]).read_bytes()
    (tmp_path / "data" / labels[0]["path"]).unlink()
    line = refused(command, "mode=labels", f"run={tmp_path / 'one'}", "format=csv")
    assert "was about other images or labels than its data set has now" in line


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ((), "format=(not set): must be one of cleanlab, huggingface, labelstudio, fiftyone, parquet, csv"),
        (("format=coco",), "format=coco: must be one of"),
        (("format=csv", "run="), "run=: must name one file or folder"),
        (("format=csv", "run=nowhere"), "run=nowhere: is no folder of a run"),
        (("format=csv", "run={work}"), "is not the folder of a run"),
        (("format=csv", "copy=1"), "copy=1: must be true or false"),
        (("format=csv", "copy=true"), "copy=true: is for formats with images: huggingface, fiftyone"),
        (("format=csv", "overwrite=si"), "overwrite=si: must be true or false"),
        (("format=csv", "decisions=auto"), "decisions=auto: is a setting of mode=apply"),
        (("format=csv", "sed=3", "output={work}/out"), "sed=3: "),
        (
            ("format=csv", "noise.rate=0.3", "output={work}/out"),
            "was about other images or labels than its data set has now",
        ),
        (("format=csv", "output={work}/full"), "holds other things (no README.txt): name a new folder"),
        (("format=csv", "output={work}/full", "overwrite=true"), "holds other things (no README.txt)"),
        (("format=csv", "output={work}/full/mine.md"), "is there, and is no folder"),
        (("format=csv", "output={work}/full/mine.md/x"), "cannot be read"),
        (("format=csv", "words"), "words="),
    ],
)
def test_what_cannot_be_written(command, digits, tmp_path, settings, says):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.md").touch()
    run = [] if any(text.startswith("run=") for text in settings) else [f"run={digits}"]
    line = refused(command, "mode=labels", *run, *(text.format(work=tmp_path) for text in settings))
    assert says in line
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["full", "mine.md"]


def test_a_package_that_is_not_installed(command, digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = refused(command, "mode=labels", f"run={digits}", "format=parquet")
    assert line == "error: format=parquet: needs pyarrow: pip install 'cpc-lightning[formats]'\n"


def test_a_run_without_its_networks(command, digits, tmp_path):
    """cleanlab needs them; csv does not."""
    run = tmp_path / "one"
    run.mkdir()
    for name in ("config.yaml", "labels.csv", "classes.json", "overrides.json"):
        (run / name).write_bytes((digits / name).read_bytes())
    assert "has no checkpoint of its networks" in refused(command, "mode=labels", f"run={run}", "format=cleanlab")
    assert not Path(run, "labels").exists()
    assert command("mode=labels", f"run={run}", "format=csv")[0] == 0
    (run / "labels.csv").write_text("garbled")
    line = refused(command, "mode=labels", f"run={run}", "format=csv", "overwrite=true")
    assert "cannot be read (garbled, or another file)" in line
