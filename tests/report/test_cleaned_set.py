"""Cleaned sets: the table byte for byte, trees of folders, and what image_table and image_folder make of them."""

import csv
import os

import numpy as np
import pytest
import torch
from tests.report.judged import LABELS, NAMES, arrays, dataset, files, level, verdicts

from cpc_lightning.datasets.image_folder import image_folder
from cpc_lightning.datasets.image_table import image_table
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.errors import InputError
from cpc_lightning.report.cleaned_set import CleanedSet
from cpc_lightning.report.decisions import Decisions, apply

CROP = Crop(4, 4)


def cleaned_set(data, kept=(), dropped=(), relabeled=(), **changes):
    """The set with decisions of a person; `relabeled` are pairs of sample and class."""
    count = len(data.train)
    masks = [np.isin(np.arange(count), list(places)) for places in (kept, dropped)]
    labels = np.full(count, -1)
    for k, label in relabeled:
        labels[k] = label
    judged = verdicts(**changes)
    return CleanedSet(data, judged, apply(judged, Decisions(*masks, labels, by_person=True)))


@pytest.fixture
def photos(tmp_path):
    """Five photos to train on in photos/train/, and two to test on in photos/test/."""
    folder = tmp_path / "photos"
    return dataset(files(folder / "train"), files(folder / "test", ["t/0.png", "t/1.png"], first=5))


def rows(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_the_table_byte_for_byte(photos, tmp_path):
    """0 is kept, 1 becomes a dog, 2 goes; 3 has no label; 4 is as before, and shows neither."""
    cleaned = cleaned_set(photos, kept=[0], dropped=[2], relabeled=[(1, 1)])
    assert cleaned.root() == str(tmp_path / "photos")
    cleaned.write_table(tmp_path / "cleaned.csv", cleaned.root())
    assert (tmp_path / "cleaned.csv").read_text() == (
        "path,label,split,true_class,trusted,index,source\n"
        "train/a/1.png,cat,train,cat,true,0,a/1.png\n"
        "train/b/1.png,dog,train,dog,true,1,b/1.png\n"
        "train/a/3.png,,train,,false,3,a/3.png\n"
        "train/b/2.png,dog,train,none,false,4,b/2.png\n"
        "test/t/0.png,cat,test,,,,\n"
        "test/t/1.png,dog,test,,,,\n"
    )
    assert cleaned.unlabeled
    assert cleaned.remarks == []


def test_a_second_run_reads_the_table(photos, tmp_path):
    cleaned = cleaned_set(photos, kept=[0], dropped=[2], relabeled=[(1, 1)])
    cleaned.write_table(tmp_path / "cleaned.csv", cleaned.root())
    second = image_table(str(tmp_path / "cleaned.csv"), CROP, root=cleaned.root(), unlabeled="use")
    assert second.class_names == NAMES
    assert second.train.labels.tolist() == [0, 1, -1, 1]
    assert second.train.true_labels.tolist() == [0, 1, -1, -2]
    assert second.train.trusted.tolist() == [True, True, False, False]
    assert second.evaluation["test"].labels.tolist() == [0, 1]
    levels = second.train.images.fetch(torch.arange(4))[:, 0, 0, 0].tolist()
    assert levels == [0, 10, 30, 40]
    assert second.evaluation["test"].images.fetch(torch.arange(2))[:, 0, 0, 0].tolist() == [50, 60]


@pytest.mark.parametrize("copy", [False, True])
def test_a_tree_of_folders(photos, tmp_path, copy):
    """1.png and 2.png come from two folders each; b/1.png joins a/1.png's dogs."""
    out = tmp_path / "out"
    out.mkdir()
    cleaned = cleaned_set(photos, relabeled=[(0, 1), (1, 1), (3, 0)], dropped=[4])
    assert cleaned.write_folders(out, copy) == []
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == [
        "cleaned.csv", "test/cat/0.png", "test/dog/1.png",
        "train/cat/3.png", "train/dog/1.png", "train/dog/1_1.png", "train/dog/2.png",
    ]  # fmt: skip
    assert [level(out / "train" / "dog" / name) for name in ("1.png", "1_1.png", "2.png")] == [0, 1, 2]
    assert (out / "train/dog/1.png").is_symlink() is not copy
    if not copy:
        assert os.readlink(out / "train/dog/1_1.png") == str(tmp_path / "photos/train/b/1.png")
    # It can be moved, and is a tree that image_folder reads; the table beside it carries what is trusted.
    out = out.rename(tmp_path / "moved")
    tree = image_folder(str(out), CROP)
    assert tree.train.labels.tolist() == [0, 1, 1, 1]
    table = image_table(str(out / "cleaned.csv"), CROP)
    assert table.train.labels.tolist() == [1, 1, 1, 0]
    assert table.train.trusted.tolist() == [True, True, False, True]
    assert table.train.images.fetch(torch.arange(4))[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert [row["source"] for row in rows(out / "cleaned.csv")][:4] == ["a/1.png", "b/1.png", "a/2.png", "a/3.png"]


def test_the_original_stays_as_it_is(photos, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*")}
    (tmp_path / "out").mkdir()
    cleaned = cleaned_set(photos, relabeled=[(1, 1)], dropped=[4])
    cleaned.write_folders(tmp_path / "out", copy=False)
    cleaned.write_table(tmp_path / "cleaned.csv", cleaned.root())
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*")} == before


def test_images_without_files_become_png_files(tmp_path):
    data = dataset(arrays(), arrays(2), paths=None)
    cleaned = cleaned_set(data, relabeled=[(1, 1)], path=[""] * 5)
    with pytest.raises(InputError, match=r"lie in no files.*output=FOLDER writes them"):
        cleaned.root()
    (tmp_path / "out").mkdir()
    cleaned.write_folders(tmp_path / "out", copy=False)
    assert level(tmp_path / "out/train/dog/000001.png") == 1
    assert level(tmp_path / "out/unlabeled/000003.png") == 3
    second = image_table(str(tmp_path / "out/cleaned.csv"), CROP, unlabeled="use")
    assert second.train.labels.tolist() == [0, 1, 1, -1, 1]
    assert second.train.images.fetch(torch.arange(5))[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(
    "names",
    [("CON", "con"), ("a/b", ".."), ("-1", "nan"), ("3", "7"), ("none", "a\nb"), ("=1+1", "<script>"), ("1", "01")],
)
def test_classes_of_any_name_come_back(photos, tmp_path, names):
    """As a table and in folders, in the same order or in that of names; with control characters escaped."""
    photos = dataset(photos.train.images, photos.evaluation["test"].images, names)
    cleaned = cleaned_set(photos)
    (tmp_path / "out").mkdir()
    cleaned.write_folders(tmp_path / "out", copy=False)
    cleaned.write_table(tmp_path / "cleaned.csv", cleaned.root())
    plain = [name.replace("\n", "\\n") for name in names]
    for file, root in ((tmp_path / "cleaned.csv", cleaned.root()), (tmp_path / "out" / "cleaned.csv", None)):
        second = image_table(str(file), CROP, root=root, unlabeled="use")
        assert sorted(second.class_names) == sorted(plain)
        labels = [second.class_names[k] if k >= 0 else None for k in second.train.labels.tolist()]
        assert labels == [plain[k] if k >= 0 else None for k in LABELS]


def test_an_image_of_none_of_the_classes_where_a_class_is_called_none(photos, tmp_path):
    """Sample 4 shows neither class: that is no image of the class none, and the table says nothing of it."""
    photos = dataset(photos.train.images, photos.evaluation["test"].images, ("none", "owl"))
    cleaned = cleaned_set(photos)
    cleaned.write_table(tmp_path / "cleaned.csv", cleaned.root())
    assert [row["true_class"] for row in rows(tmp_path / "cleaned.csv")][:5] == ["none", "owl", "owl", "", ""]


def test_folders_of_classes_that_are_called_otherwise_are_named(photos, tmp_path):
    photos = dataset(photos.train.images, photos.evaluation["test"].images, ("a/b", "dog"))
    (tmp_path / "out").mkdir()
    said = cleaned_set(photos).write_folders(tmp_path / "out", copy=False)
    assert said == ["classes whose names are not those of their folders: a/b in a_b/"]


def test_names_that_a_table_cannot_hold(tmp_path):
    """A folder can: it gives the image another name."""
    paths = ["a/1.png", "b/\x1b[31m.png", "a/2.png", "a/-.png", "b/2.png"]
    shown = [path.replace("\x1b", "\\x1b") for path in paths]
    data = dataset(files(tmp_path / "photos", paths), arrays(2), paths=paths)
    cleaned = cleaned_set(data, path=shown)
    with pytest.raises(InputError, match=r"output=.*cleaned.csv: b/\\x1b\[31m.png holds signs that no table can hold"):
        cleaned.write_table(tmp_path / "cleaned.csv", str(tmp_path / "photos"))
    assert not (tmp_path / "cleaned.csv").exists()
    (tmp_path / "out").mkdir()
    cleaned.write_folders(tmp_path / "out", copy=False)
    assert level(tmp_path / "out/train/cat/_[31m.png") == 1


def test_a_name_that_is_no_utf8_and_one_without_an_ending(tmp_path):
    paths = ["a/1.png", os.fsdecode(b"b/\xff.png"), "a/2.png", "a/3.png", "b/last"]
    images = files(tmp_path / "photos", [*paths[:4], "b/2.png"])
    os.rename(tmp_path / "photos/b/2.png", tmp_path / "photos/b/last")
    images = images.__class__(images.root, images.paths.__class__(paths), images.crop)
    cleaned = cleaned_set(dataset(images, arrays(2), paths=paths), path=[p.replace("\udcff", "\\udcff") for p in paths])
    with pytest.raises(InputError, match="holds signs that no table can hold"):
        cleaned.write_table(tmp_path / "cleaned.csv", str(tmp_path / "photos"))
    (tmp_path / "out").mkdir()
    cleaned.write_folders(tmp_path / "out", copy=True)
    assert level(tmp_path / "out/train/cat/_.png") == 1
    assert level(tmp_path / "out/train/dog/last.png") == 4


def test_a_name_like_a_formula_is_no_formula(tmp_path):
    paths = ["=1.png", "b/1.png", "a/2.png", "a/3.png", "b/2.png"]
    data = dataset(files(tmp_path / "photos", paths), files(tmp_path / "photos", ["t/0.png", "t/1.png"]), paths=paths)
    cleaned = cleaned_set(data, path=["./=1.png", *paths[1:]])
    cleaned.write_table(tmp_path / "cleaned.csv", cleaned.root())
    assert rows(tmp_path / "cleaned.csv")[0]["path"] == "./=1.png"
    second = image_table(str(tmp_path / "cleaned.csv"), CROP, root=cleaned.root(), unlabeled="use")
    assert second.train.paths[0] == "./=1.png"


def test_an_image_that_is_gone(photos, tmp_path):
    (tmp_path / "photos/train/b/1.png").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"image=.*b/1.png: is not there: dataset.root=FOLDER"):
        cleaned_set(photos).write_folders(tmp_path / "out", copy=False)


def test_what_would_leave_nothing_to_train_on(photos):
    with pytest.raises(InputError, match=r"decisions=all of them: only one class .cat. keeps images"):
        cleaned_set(photos, dropped=[2, 4])
    with pytest.raises(InputError, match="no class keeps images"):
        cleaned_set(photos, dropped=range(5))


def test_a_class_that_is_gone_is_said(tmp_path):
    data = dataset(arrays(), arrays(2), ("cat", "dog", "owl"), paths=None, labels=[0, 0, 1, -1, 2])
    cleaned = cleaned_set(data, dropped=[4], noisy_label=[0, 0, 1, -1, 2])
    assert cleaned.remarks == ["no image to train on is left of 1 classes: owl"]
