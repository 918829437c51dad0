"""mode=apply from beginning to end: a run, decisions on its labels, the cleaned set, a second run, what changed."""

import csv
import os
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.conftest import SMALL
from tests.datasets.image_trees import write_folders
from tests.training.test_selection import TINY

from cpc_lightning.app.command_line import main
from cpc_lightning.app.overrides import composed_of
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.second_run import free_folder, method_of, text_of
from cpc_lightning.datasets.digits import digits as digits_set
from cpc_lightning.report.comparison import compare
from cpc_lightning.report.run_folder import read_run_folder

CLEANER = ("cleaner=gmm_agn", "trainer.precision=32-true")


def rows_of(path):
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def decisions_on(labels, *decided):
    """The text of a decisions file; each decision is an index, a word and a class."""
    paths = [row["path"] for row in labels]
    return "index,path,decision,label\n" + "".join(f"{k},{paths[k]},{word},{name}\n" for k, word, name in decided)


def second_command(out):
    """The arguments of the second run and of its report, as a shell would take them from what was printed."""
    pasted = out.strip().splitlines()[-1]
    halves = [shlex.split(half) for half in pasted.split(" && ")]
    assert all(half[:3] == ["python", "-m", "cpc_lightning"] for half in halves)
    return [half[3:] for half in halves]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "one"
    assert main([*SMALL, *CLEANER, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A run on ten photos of each of two classes, in a folder whose name needs quotes."""
    place = tmp_path_factory.mktemp("my 'photos'")
    write_folders(place / "data", {"a": 10, "b": 10})
    for path in ("a/3.jpg", "b/13.jpg"):
        (place / "data" / path).rename((place / "data" / path).with_name("same.jpg"))
    root = text_of(str(place / "data"))
    settings = ["dataset=imagefolder", f"dataset.root={root}", *TINY, "training.epochs=2", *CLEANER]
    settings += [
        "optimizer.schedule.milestones=[1]",
        "views.flip=false",
        f"hydra.run.dir={text_of(str(place / 'one'))}",
    ]
    assert main(settings) == 0
    return place


@pytest.mark.long
@pytest.mark.parametrize("method", ["elr", "promix"])
def test_the_second_run_is_told_nothing_that_its_method_refuses(tmp_path, method):
    """Methods without the empirical vicinal risk, and without a warm-up, refuse settings of theirs."""
    overrides = ["dataset=digits", f"method={method}"]
    run = SimpleNamespace(overrides=overrides, settings=composed_of(overrides).settings(str(tmp_path)))
    data = ["dataset=table", f"dataset.file={tmp_path / 'cleaned.csv'}"]
    texts, unlike = method_of(run, SimpleNamespace(dataset=digits_set()), data)
    assert not unlike
    composed = composed_of([*data, *texts])
    parts = Parts(composed.settings(str(tmp_path)), [*data, *texts], composed.usual)
    parts.check_method()
    assert type(parts.method).__module__.rpartition(".")[2] == method


def test_from_photos_to_a_second_run_by_one_pasted_command(command, photos, tmp_path):
    run = photos / "one"
    labels = rows_of(run / "labels.csv")
    first = next(int(row["index"]) for row in labels if row["noisy_class"] == "b")
    (tmp_path / "decisions.csv").write_text(
        decisions_on(labels, (0, "keep", ""), (1, "drop", ""), (first, "relabel", "a"), (2, "relabel", "b"))
    )
    code, out, error = command("mode=apply", f"run={text_of(str(run))}", f"decisions={tmp_path / 'decisions.csv'}")
    assert code == 0, error
    assert out.splitlines()[0] == (f"{run}/cleaned.csv: 15 of 16 samples to train on; 1 kept, 2 relabeled, 1 dropped")
    table = rows_of(run / "cleaned.csv")
    assert [row["split"] for row in table] == ["train"] * 15 + ["test"] * 4
    assert [row["source"] for row in table[:2]] == [labels[0]["path"], labels[2]["path"]]
    assert [(row["label"], row["trusted"]) for row in table[:2]] == [("a", "true"), ("b", "true")]
    train, report = second_command(out)
    assert "views.flip=false" in train
    assert "training.epochs=2" in train
    code, _, error = command(*train)
    assert code == 0, error
    second = photos / "one_cleaned"
    assert report == ["mode=report", f"run={text_of(str(second))}", f"compare={text_of(str(run))}", "overwrite=true"]
    now = rows_of(second / "labels.csv")
    assert [row["noisy_class"] for row in now[:2]] == ["a", "b"]
    assert sum(row["trusted"] == "true" for row in now) == 3
    # The same images are tested on, by the same method.
    tested = [{os.path.basename(row["path"]) for row in rows_of(f / "labels_test.csv")} for f in (run, second)]
    assert tested[0] == tested[1]
    before, after = (read_run_folder(str(folder)) for folder in (run, second))
    for group in ("views", "backbone", "semisup", "optimizer", "cleaner", "training", "embedding_size", "seed"):
        assert before.settings[group] == after.settings[group], group
    assert before.settings["dataset"]["crop"] == after.settings["dataset"]["crop"]
    found = compare(before, after)
    assert (len(found.pairs), found.dropped, found.added) == (15, 1, 0)
    assert int(found.relabeled.sum()) == 2
    assert int(found.trusted.sum()) == 3
    code, said, error = command(*report)
    assert code == 0, error
    assert "15 samples are in both runs; 1 of the first are gone, 0 are new." in said.splitlines()
    assert "labels: 16 before, 15 now" in said.splitlines()
    page = (second / "report" / "index.html").read_text()
    assert '<a href="#changes">Changes</a>' in page
    assert '<h2 id="changes-title">What changed</h2>' in page
    assert "2 have another label than before, 3 are newly trusted." in page
    # Another time it is refused, and the second run's own folder is another one.
    again = ("mode=apply", f"run={text_of(str(run))}", "decisions=auto", "confidence=0")
    assert "is there already; overwrite=true replaces it" in refused(command, *again)
    code, out, _ = command(*again, "overwrite=true")
    assert code == 0
    assert f"hydra.run.dir={text_of(str(photos / 'one_cleaned_2'))}" in second_command(out)[0]


@pytest.mark.long
def test_a_tree_of_photos(command, photos, tmp_path):
    """Linked or copied; the original folder stays as it is."""
    before = {path: path.stat().st_mtime_ns for path in (photos / "data").rglob("*")}
    run = f"run={text_of(str(photos / 'one'))}"
    for copy in ("false", "true"):
        out = tmp_path / f"out_{copy}"
        code, said, error = command("mode=apply", run, "decisions=auto", "policy=drop", f"output={out}", f"copy={copy}")
        assert code == 0, error
        files = [path for path in out.rglob("*") if path.is_file()]
        assert len(files) == 20 + 1 - int(said.splitlines()[0].split(" ")[-2])
        assert all(path.is_symlink() is (copy == "false") for path in files if path.name != "cleaned.csv")
        assert second_command(said)[0][:2] == ["dataset=table", f"dataset.file={out}/cleaned.csv"]
    assert {path: path.stat().st_mtime_ns for path in (photos / "data").rglob("*")} == before


@pytest.mark.long
def test_from_digits_to_a_second_run(command, digits, tmp_path):
    """Images that lie in no files become PNG files; the second run trains on them as the first one did."""
    code, out, error = command("mode=apply", f"run={digits}", "decisions=auto", "policy=drop", "confidence=0")
    assert code == 0, error
    folder = digits / "cleaned"
    assert len(list((folder / "test").rglob("*.png"))) == 359
    train, _ = second_command(out)
    assert {"backbone=small_resnet", "dataset.crop.resize=8", "backbone.width=8", "noise=symmetric"} & {*train} == {
        "backbone=small_resnet", "dataset.crop.resize=8", "backbone.width=8",
    }  # fmt: skip
    code, _, error = command(*train, "training.num_workers=0")
    assert code == 0, error
    before, after = (read_run_folder(str(path)) for path in (digits, Path(f"{digits}_cleaned")))
    assert before.settings["views"] == after.settings["views"]
    found = compare(before, after)
    suspected = [row for row in rows_of(digits / "labels.csv") if row["suspected"] == "true"]
    gone = sum(row["suggested_label"] != row["noisy_label"] for row in suspected)
    assert found.dropped == gone > 0
    assert found.added == 0
    assert not found.relabeled.any()


def refused(command, *arguments):
    """The line that an attempt is refused with."""
    code, out, error = command(*arguments)
    assert code == 2
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    return error


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("run=",), "run=: must name one file or folder"),
        (("run=nowhere",), "run=nowhere: is no folder of a run"),
        ((), "decisions=(not set): must name a csv file of decisions, or be auto"),
        (("decisions=",), "decisions=: must name one file or folder"),
        (("decisions=nowhere.csv",), "decisions=nowhere.csv: is not there"),
        (("decisions={empty}",), "must have the columns index, path, decision, label"),
        (("decisions={foreign}",), "line 2: index '4000' names no sample of this run, which has 0 to 1437"),
        (("decisions={good}", "policy=drop"), "policy=drop: is for decisions=auto alone"),
        (("decisions={good}", "confidence=0.5"), "confidence=0.5: is for decisions=auto alone"),
        (("decisions=auto", "policy=keep"), "policy=keep: must be one of relabel, drop"),
        (("decisions=auto", "confidence=2"), "confidence=2.0: must be a number in [0, 1]"),
        (("decisions=auto", "confidence=much"), "confidence=much: must be a number in [0, 1]"),
        (("decisions=auto", "copy=yes"), "copy=yes: must be true or false"),
        (("decisions=auto", "output=a,b"), "output=a,b: must name one file or folder"),
        (("decisions=auto", "output={work}/out.csv"), "lie in no files, which a table could name: output=FOLDER"),
        (("decisions=auto", "output={work}/out.csv", "copy=true"), "copy=true: copies images into a folder"),
        (("decisions=auto", "output={work}/full"), "holds other things (no cleaned.csv): name a new folder"),
        (("decisions=auto", "output={work}/full", "overwrite=true"), "holds other things (no cleaned.csv)"),
        (("decisions=auto", "output={work}/empty.csv/out"), "cannot be read"),
        (("decisions=auto", "format=csv"), "format=csv: is a setting of mode=figures and mode=labels"),
        (("decisions=auto", "training.epoch=3"), "training.epoch=3"),
        (("decisions=auto", "dataset.test_share=0.5"), "was about other images or labels than its data set has now"),
        (("decisions=auto", "-m"), "-m=mode=apply: starts no sweep"),
    ],
)
def test_what_cannot_be_applied(command, digits, tmp_path, settings, says):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "foreign.csv").write_text("index,path,decision,label\n4000,,keep,\n")
    (tmp_path / "good.csv").write_text("index,path,decision,label\n4,,keep,\n")
    names = {name: tmp_path / f"{name}.csv" for name in ("empty", "foreign", "good")} | {"work": tmp_path}
    run = [] if any(text.startswith("run=") for text in settings) else [f"run={digits}"]
    before = sorted(path.name for path in tmp_path.rglob("*"))
    line = refused(command, "mode=apply", *run, *(text.format_map(names) for text in settings))
    assert says in line
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_nothing_of_the_users_is_replaced(command, photos, tmp_path):
    """Whatever is typed: the original images, tables that were not written here, and what the run was trained on."""
    run = f"run={text_of(str(photos / 'one'))}"
    mine = tmp_path / "mine.csv"
    mine.write_text("path,label\na.jpg,a\n")
    inside = photos / "data" / "out"
    for output, says in (
        (mine, "is there, and is no cleaned set: name a new file"),
        (photos / "one" / "labels.csv", "is there, and is no cleaned set: name a new file"),
        (inside, "lies in the folder of the original images, which is never touched"),
        (photos / "data" / "out.csv", "lies in the folder of the original images, which is never touched"),
        (photos, "holds the original images"),
    ):
        line = refused(command, "mode=apply", run, "decisions=auto", f"output={text_of(str(output))}", "overwrite=true")
        assert says in line, output
    assert mine.read_text() == "path,label\na.jpg,a\n"
    assert not inside.exists()


def test_images_that_have_moved(command, photos, tmp_path):
    run = f"run={text_of(str(photos / 'one'))}"
    moved = (photos / "data").rename(photos / "moved")
    try:
        line = refused(command, "mode=apply", run, "decisions=auto", f"output={tmp_path / 'out.csv'}")
        assert "dataset.root=" in line
        assert "is not there" in line
        where = f"dataset.root={text_of(str(moved))}"
        code, out, error = command("mode=apply", run, "decisions=auto", f"output={tmp_path / 'out.csv'}", where)
        assert code == 0, error
        assert where in second_command(out)[0]
    finally:
        moved.rename(photos / "data")


def test_a_table_in_a_folder_that_cannot_be_made(command, photos, tmp_path):
    (tmp_path / "file").touch()
    table = tmp_path / "file" / "cleaned.csv"
    run = f"run={text_of(str(photos / 'one'))}"
    line = refused(command, "mode=apply", run, "decisions=auto", f"output={table}")
    assert line == f"error: output={table}: cannot be written (File exists)\n"


def test_a_full_disk_leaves_nothing(command, digits, tmp_path, monkeypatch):
    from PIL import Image

    def full(self, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    line = refused(command, "mode=apply", f"run={digits}", "decisions=auto", f"output={tmp_path / 'out'}")
    assert line == f"error: output={tmp_path / 'out'}: cannot be written (No space left on device)\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_run_without_a_verdict(command, tmp_path):
    """Stopped before its end, or without a cleaner: a person may still decide."""
    run = tmp_path / "one"
    code, _, error = command(*SMALL, "cleaner=none", f"hydra.run.dir={run}")
    assert code == 0, error
    assert "needs a verdict on the labels" in refused(command, "mode=apply", f"run={run}", "decisions=auto")
    (tmp_path / "good.csv").write_text("index,path,decision,label\n4,,drop,\n")
    code, out, error = command("mode=apply", f"run={run}", f"decisions={tmp_path / 'good.csv'}")
    assert code == 0, error
    assert "1,437 of 1,438" in out
    (run / "labels.csv").unlink()
    assert "has no labels.csv" in refused(command, "mode=apply", f"run={run}", "decisions=auto")


@pytest.mark.parametrize(
    ("compare", "says"),
    [
        ("", "compare=: must name one file or folder"),
        ("nowhere", "compare=nowhere: is no folder of a run"),
        ("{work}", "is not the folder of a run"),
        ("{photos}", "has no sample in common with this run"),
    ],
)
def test_what_cannot_be_compared(command, digits, photos, tmp_path, compare, says):
    text = compare.format(work=tmp_path, photos=text_of(str(photos / "one")))
    line = refused(command, "mode=report", f"run={digits}", f"compare={text}", f"output={tmp_path / 'page'}")
    assert says in line
    assert line.startswith("error: compare=")
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (0.1, "0.1"), (1e-05, "1e-05"), ([1, 2], "[1,2]"), ("imagenet", "imagenet"),
        ("it's", r"'it\'s'"), ("null", "'null'"), ("1", "'1'"), ({"a": [None]}, "{a:[null]}"), ([], "[]"),
    ],
)  # fmt: skip
def test_values_as_hydra_reads_them(value, text):
    from cpc_lightning.app.compose import parse

    assert text_of(value) == text
    assert parse(f"name={text}").value() == value


def test_a_folder_for_the_second_run(tmp_path):
    for expected in ("two", "two_2", "two_3"):
        assert free_folder(str(tmp_path / "two")) == str(tmp_path / expected)
        (tmp_path / expected).mkdir()
