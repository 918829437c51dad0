"""Data sets of image files: layouts, labels, what is said of bad or missing pieces, and how they scale."""

import os
import time
import tracemalloc

import pytest
import torch
from tests.datasets.image_trees import (
    save_jpeg,
    save_text,
    write_clothing1m,
    write_folders,
    write_table,
    write_webvision,
)

from cpc_lightning.checkup.data import shared_images
from cpc_lightning.datasets import file_dataset
from cpc_lightning.datasets.clothing1m import CLASS_NAMES, clothing1m
from cpc_lightning.datasets.image_folder import image_folder
from cpc_lightning.datasets.image_table import image_table
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.splits import held_out
from cpc_lightning.datasets.webvision import webvision
from cpc_lightning.errors import InputError

CROP = Crop(8, 8)


def shown(split):
    """Path and label of every image, and that its brightness is its file's."""
    return dict(zip(split.paths, split.labels.tolist(), strict=True))


def brightness(split):
    return split.images.fetch(torch.arange(len(split))).float().mean(dim=(1, 2, 3))


# Folders -------------------------------------------------------------------------------------------------------------


def test_a_folder_for_each_class_with_a_share_set_aside(tmp_path):
    write_folders(tmp_path, {"zebra": 10, "Ant": 5, "10": 3})
    save_text(tmp_path / "zebra" / "notes.txt", "no image")
    save_text(tmp_path / "zebra" / "._7.jpg", "what macOS leaves behind")
    save_text(tmp_path / "README.txt", "no class")
    save_text(tmp_path / ".cache" / "x.jpg", "hidden")
    save_jpeg(tmp_path / "Ant" / "more" / "deep" / "x.JPG", 99)
    data = image_folder(str(tmp_path), CROP, test_share=0.3)
    assert data.class_names == ("10", "Ant", "zebra")  # the order of names, capitals first, as Python sorts
    train, test = shown(data.train), shown(data.evaluation["test"])
    assert sorted(data.evaluation) == ["test"]
    assert not train.keys() & test.keys()
    everything = train | test
    assert everything["Ant/more/deep/x.JPG"] == 1
    assert len(everything) == 19
    assert all(data.class_names[label] == path.split("/")[0] for path, label in everything.items())
    # round(0.3 n) of 3, 6 and 10
    assert data.evaluation["test"].labels.bincount().tolist() == [1, 2, 3]
    assert shown(image_folder(str(tmp_path), CROP, test_share=0.3).evaluation["test"]) == test
    assert shown(image_folder(str(tmp_path), CROP, test_share=0.3, split_seed=1).evaluation["test"]) != test


def test_train_val_and_test_folders(tmp_path):
    for part, counts in {"train": {"a": 3, "b": 4}, "val": {"b": 2}, "test": {"a": 1, "b": 1}}.items():
        write_folders(tmp_path / part, counts)
    data = image_folder(str(tmp_path), CROP)
    assert {name: split.labels.tolist() for name, split in data.evaluation.items()} == {"val": [1, 1], "test": [0, 1]}
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.train.paths[0] == "a/0.jpg"
    assert not data.test_at_end
    write_folders(tmp_path / "elsewhere", {"b": 5})
    data = image_folder(str(tmp_path), CROP, test_root=str(tmp_path / "elsewhere"))
    assert data.evaluation["test"].labels.tolist() == [1] * 5


def test_without_a_test_folder_val_is_what_is_tested_on(tmp_path):
    write_folders(tmp_path / "train", {"a": 3, "b": 4})
    write_folders(tmp_path / "val", {"a": 1, "b": 1})
    assert sorted(image_folder(str(tmp_path), CROP).evaluation) == ["test"]


def test_classes_that_are_called_train_and_test(tmp_path):
    write_folders(tmp_path, {"train": 4, "bus": 4})
    assert image_folder(str(tmp_path), CROP).class_names == ("bus", "train")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, "holds no folder; one for each class"),
        (lambda root: write_folders(root, {"a": 3}), "holds one class only, a"),
        (lambda root: (write_folders(root, {"a": 3}), (root / "b").mkdir()), "its class b holds no images"),
        (lambda root: write_folders(root, {"a": 1, "b": 1}), "every class has one image"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, make, says):
    make(tmp_path)
    with pytest.raises(InputError, match=says):
        image_folder(str(tmp_path), CROP)


@pytest.mark.parametrize("names", [("Train", "TEST", "Valid"), ("train", "test", "val")])
def test_parts_in_any_case(tmp_path, names):
    for name in names:
        write_folders(tmp_path / name, {"a": 2, "b": 2})
    data = image_folder(str(tmp_path), CROP)
    assert data.class_names == ("a", "b")
    assert sorted(data.evaluation) == ["test", "val"]


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (
            ["training/a", "training/b", "testing/a", "testing/b"],
            "are these classes[?] testing, training hold no images",
        ),
        (["2019/a", "2019/b", "2020/a", "2020/b"], "the same folders each .a, b."),
        (["a", "b", "val/a", "val/b"], "is val a class[?] It holds a folder a"),
        (["a", "b", "Validation/b"], "is Validation a class[?] It holds a folder b"),
        (["train/a", "train/b", "test"], "its test holds images, but no folder for each class"),
        (["train/a", "train/b", "val/a", "Valid/a"], "holds Valid and val: which one is val"),
    ],
)
def test_layouts_that_would_be_misread(tmp_path, folders, says):
    write_folders(tmp_path, dict.fromkeys(folders, 2))
    with pytest.raises(InputError, match=says):
        image_folder(str(tmp_path), CROP)


def test_what_is_left_aside_is_counted(tmp_path):
    write_folders(tmp_path, {"a": 5, "b": 5})
    for name in ("a/1.txt", "b/2.TXT", "b/3.mp4", "a/.hidden", "a/README", "b/Thumbs.db"):
        save_text(tmp_path / name, "")
    save_jpeg(tmp_path / "beside.jpg", 3)
    (line,) = image_folder(str(tmp_path), CROP).remarks
    assert line == (
        "not looked at among the images, 5 in all: 2 .txt, 1 without an ending, 1 .mp4, "
        "1 image in no folder of a class; other formats: convert them, to .jpg or .png say"
    )


def test_more_that_folders_can_get_wrong(tmp_path):
    write_folders(tmp_path / "train", {"a": 3, "b": 3})
    write_folders(tmp_path / "new", {"a": 1, "c": 1})
    save_text(tmp_path / "file", "")
    for arguments, says in (
        ({"root": "nowhere"}, "root=nowhere: is not there"),
        ({"root": str(tmp_path / "file")}, "is not a folder"),
        ({"root": str(tmp_path), "test_root": str(tmp_path / "new")}, "test_root=.*not trained on: c"),
        ({"root": str(tmp_path), "test_share": 1.0}, "test_share=1.0"),
        ({"root": str(tmp_path), "on_bad_image": "ignore"}, "on_bad_image=ignore: must be one of error, skip"),
    ):
        with pytest.raises(InputError, match=says):
            image_folder(**{"crop": CROP, **arguments})


def test_a_share_of_each_class_is_held_out():
    labels = torch.tensor([0] * 10 + [2] * 4 + [3])
    chosen = held_out(labels, 4, 0.25, 0)
    assert labels[chosen].bincount(minlength=4).tolist() == [2, 0, 1, 0]  # 2.5 goes to the even 2; of one image none


# Tables --------------------------------------------------------------------------------------------------------------


def test_a_table_with_names_splits_and_truth(tmp_path):
    data = image_table(str(write_table(tmp_path)), CROP)
    assert data.class_names == ("dark", "light")
    assert list(data.train.paths[:3]) == ["photos/0.jpg", "photos/1.jpg", "photos/2.jpg"]
    assert data.train.labels[:3].tolist() == [1, 1, 0]
    assert data.train.true_labels[:3].tolist() == [0, 1, 0]
    assert shown(data.evaluation["val"]) == {f"photos/{n}.jpg": n % 2 for n in (3, 8, 13, 18, 23)}  # 8's truth
    assert sorted(data.evaluation) == ["test", "val"]
    assert (brightness(data.train) > 128).long().tolist() == data.train.true_labels.tolist()


def table(tmp_path, *rows, **more):
    save_text(tmp_path / "labels.csv", "\n".join(rows))
    return image_table(str(tmp_path / "labels.csv"), CROP, **more)


def test_a_table_with_numbers(tmp_path):
    write_folders(tmp_path, {"x": 13})
    data = table(tmp_path, "label,path", *(f"{n % 11},x/{n}.jpg" for n in range(13)), "0,x/0b.jpg", on_bad_image="skip")
    assert data.class_names == tuple(map(str, range(11)))  # in the order of numbers, not of texts
    assert {**shown(data.train), **shown(data.evaluation["test"])} == {f"x/{n}.jpg": n % 11 for n in range(13)}


def test_a_header_with_blanks_after_its_commas(tmp_path):
    write_folders(tmp_path, {"x": 4})
    rows = ["label, path", *(f'c{n % 2}, "./x/{n}.jpg"' for n in range(4))]
    data = table(tmp_path, *rows, test_share=0.5)
    assert everywhere(data) == {f"./x/{n}.jpg": f"x/{n}.jpg" for n in range(4)}


def everywhere(data):
    """Path as written and path from the root on, of all images."""
    splits = (data.train, data.evaluation["test"])
    return {name: path for split in splits for name, path in zip(split.paths, split.images.paths, strict=True)}


def test_a_table_elsewhere_with_absolute_paths(tmp_path):
    write_folders(tmp_path / "images", {"x": 4})
    (tmp_path / "lists").mkdir()
    rows = ["path,label", *(f"{tmp_path}/images/x/{n}.jpg,c{n % 2}" for n in range(4))]
    data = table(tmp_path / "lists", *rows, root=str(tmp_path / "images"), test_share=0.5)
    assert everywhere(data) == {f"{tmp_path}/images/x/{n}.jpg": f"x/{n}.jpg" for n in range(4)}
    assert data.train.true_labels is None


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["path;label", "a;b"], r"columns path and label; it has: path;label \(what separates columns is a comma\)$"),
        (["path\tlabel", "a\tb"], r"it has: path\\tlabel \(what separates columns is a comma\)$"),
        (["name,label", "a.jpg,b"], "columns path and label; it has: name, label$"),
        ([], "it has: none"),
        (["path,label"], "holds no rows"),
        (["path,label", "a.jpg,x", "b.jpg,"], "line 3: label is blank"),
        (["path,label", "a.jpg,x", "b.jpg"], "line 3: label is blank"),
        (["path,label", "a.jpg,x", ",y"], "line 3: path must be given"),
        (["path,label", "a.jpg,x", "a.jpg,y"], "a.jpg is there twice, as lines 2 and 3"),
        (["path,label", "a.jpg,x", "b.jpg,x"], "one class only, x"),
        (["path,label", "a.jpg,1", "b.jpg,2"], "no label is 0, but one is 2: numbers must run from 0"),
        (["path,label", "a.jpg,0", "b.jpg,999999999"], "no label is 1, but one is 999999999"),
        (["path,label,split", "a.jpg,x,train", "b.jpg,y,dev"], "line 3: split is 'dev'"),
        (["path,label,split", "a.jpg,x,test", "b.jpg,y,test"], "holds no row to train on"),
        (["path,label", "../../etc/passwd,x", "b.jpg,y"], "line 2: path '../../etc/passwd' leads out of"),
        (["path,label", "a/../../x.jpg,x"], "line 2.*leads out of"),
        (["path,label", "/etc/passwd,x"], "line 2.*leads out of"),
        (["path,label", "a.jpg,x", "./a.jpg,y"], "a.jpg is there twice, as lines 2 and 3"),
        (["path,label", "a.jpg,x,y"], "line 2: has more fields than the header"),
        (["path,label,label", "a.jpg,x,y"], "has two columns label"),
        (["path,label", '"a.jpg,x'], "is no csv"),
    ],
)
def test_what_a_table_can_get_wrong(tmp_path, rows, says):
    with pytest.raises(InputError, match=says) as error:
        table(tmp_path, *rows)
    assert error.value.setting == "file"
    assert "\n" not in str(error.value)


def test_hostile_names_stay_names(tmp_path):
    """Formulas, quotes, control characters and terminal escapes, in names of images and of classes."""
    names = ["=cmd|' /C calc'!A0.jpg", "@x.jpg", "-1.jpg", "a\nb.jpg", "\x1b[31mred.jpg", 'quo"te,.jpg']
    for number, name in enumerate(names):
        save_jpeg(tmp_path / ("=1+1" if number % 2 else "[bold]") / name, number)
    data = image_folder(str(tmp_path), CROP, test_share=0.4)
    assert data.class_names == ("=1+1", "[bold]")
    assert {path.split("/", 1)[1] for part in (data.train, data.evaluation["test"]) for path in part.paths} == set(
        names
    )
    assert data.train.images.fetch(torch.arange(len(data.train))).shape[0] == len(data.train)


# Clothing1M ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", ["images/", ""])
def test_clothing1m_in_both_layouts(tmp_path, images):
    write_clothing1m(tmp_path, images)
    data = clothing1m(str(tmp_path), CROP)
    assert data.class_names == CLASS_NAMES
    assert len(CLASS_NAMES) == 14
    assert list(data.train.paths[:2]) == [f"{images}0/0,0.jpg", f"{images}1/1,1.jpg"]
    assert data.train.labels.tolist() == [(n % 14 + (n % 3 == 0)) % 14 for n in range(42)]
    assert data.train.true_labels.tolist() == [0] + [-1] * 41  # the one that clean_label_kv.txt knows too
    assert data.evaluation["val"].labels.tolist() == [n % 14 for n in range(42, 56)]
    assert data.evaluation["test"].labels.tolist() == [n % 14 for n in range(56, 70)]
    assert data.test_at_end
    assert list(data.watched) == ["val"]
    darkest, brightest = brightness(data.evaluation["test"])[[0, 13]].tolist()
    assert brightest - darkest == pytest.approx(13 * 13, abs=20)


def test_clothing1m_with_its_clean_labels(tmp_path):
    """Image 0 of the noisy list has a clean label too; of the images for validation two are made ones to train on."""
    write_clothing1m(tmp_path)
    save_text(
        tmp_path / "noisy_label_kv.txt", (tmp_path / "noisy_label_kv.txt").read_text().replace("0,0.jpg 1", "0,0.jpg 5")
    )
    keys = (tmp_path / "clean_val_key_list.txt").read_text().split()
    save_text(tmp_path / "clean_val_key_list.txt", "\n".join(keys[2:]))
    save_text(tmp_path / "clean_train_key_list.txt", "\n".join(["images/0/0,0.jpg", *keys[:2]]))
    before = clothing1m(str(tmp_path), CROP).train
    assert (len(before), before.labels[0], before.trusted) == (42, 5, None)
    data = clothing1m(str(tmp_path), CROP, trust_clean=True).train
    assert list(data.paths) == [*before.paths, *keys[:2]]
    assert data.labels.tolist() == [0, *before.labels[1:].tolist(), 0, 1]
    assert torch.nonzero(data.trusted).flatten().tolist() == [0, 42, 43]
    assert data.true_labels.tolist() == [0, *[-1] * 41, 0, 1]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("noisy_label_kv.txt", None, "there is no noisy_label_kv.txt"),
        ("clean_val_key_list.txt", None, "there is no clean_val_key_list.txt"),
        ("noisy_label_kv.txt", "images/0/0,0.jpg 14\n", r"line 1 is .*labels must lie in 0\.\.13"),
        ("noisy_label_kv.txt", "images/0/0,0.jpg 3\n\nimages/1/1,1.jpg\n", "line 3 is .*must be a path and a number"),
        ("noisy_label_kv.txt", "images/0/0,0.jpg -1\n", "line 1 is .*must be a path and a number"),
        ("noisy_label_kv.txt", "images/../../x 1\n", "line 1 is .*must not lead out of the folder"),
        ("noisy_label_kv.txt", "images/0/0,0.jpg 3\n", "noisy_train_key_list.*line 2 .*has no label in noisy_label_kv"),
        ("clean_test_key_list.txt", "images/0/0,0.jpg\nimages/0/0,0.jpg\n", "is there twice, as images 1 and 2"),
        ("clean_test_key_list.txt", "", "test=0: holds no images"),
        (
            "clean_label_kv.txt",
            "images/0/0,0.jpg 3\nimages/0/0,0.jpg 4\n",
            "'images/0/0,0.jpg' has two labels, 3 and 4",
        ),
        ("clean_test_key_list.txt", "a\x1b[2J\n", r"line 1 is 'a\\x1b\[2J'"),
    ],
)
def test_what_clothing1m_can_lack(tmp_path, file, text, says):
    write_clothing1m(tmp_path)
    if text is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=says) as error:
        clothing1m(str(tmp_path), CROP)
    assert str(error.value).isprintable()


def test_clothing1m_with_other_images_and_shared_ones(tmp_path):
    write_clothing1m(tmp_path, "")
    save_jpeg(tmp_path / "images/figure.jpg", 0)  # this folder is not the data set's
    keys = (tmp_path / "clean_test_key_list.txt").read_text()
    save_text(tmp_path / "clean_test_key_list.txt", keys + "images/0/0,0.jpg\n")
    (found,) = shared_images(clothing1m(str(tmp_path), CROP))
    assert found.status == "warning"
    assert found.found == "1 of 15 images of test are trained on too: 0/0,0.jpg"


def test_a_key_list_that_is_a_pipe(tmp_path):
    write_clothing1m(tmp_path)
    (tmp_path / "clean_val_key_list.txt").unlink()
    os.mkfifo(tmp_path / "clean_val_key_list.txt")
    with pytest.raises(InputError, match=r"clean_val_key_list\.txt: is no file"):
        clothing1m(str(tmp_path), CROP)


def test_clothing1m_without_its_images(tmp_path):
    with pytest.raises(InputError, match="holds neither folders images/0/ to images/9/ nor 0/ to 9/"):
        clothing1m(str(tmp_path), CROP)


# WebVision -----------------------------------------------------------------------------------------------------------


def test_webvision_with_ilsvrc12(tmp_path):
    ilsvrc = write_webvision(tmp_path)
    data = webvision(str(tmp_path), CROP, num_classes=6, ilsvrc_root=str(ilsvrc))
    assert data.class_names == (
        "tench, Tinca tinca", "goldfish", "great white shark", "tiger shark", "hammerhead", "electric ray"
    )  # fmt: skip
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5] * 4  # classes 6 and 7 are left out
    assert list(data.train.paths[:2]) == ["google/q0000/0.jpg", "google/q0001/1.jpg"]
    assert list(data.evaluation) == ["test", "ilsvrc12"]
    assert data.evaluation["test"].labels.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert data.evaluation["ilsvrc12"].labels.tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5]
    assert data.evaluation["ilsvrc12"].paths[1] == "n01443537/ILSVRC2012_val_00000000.JPEG"
    for split in (data.train, *data.evaluation.values()):
        shade = brightness(split) - 24 * split.labels
        assert shade.max() - shade.min() < 12
    assert list(webvision(str(tmp_path), CROP, num_classes=8).evaluation) == ["test"]
    (tmp_path / "val").mkdir()
    ilsvrc.rename(tmp_path / "outer")
    (tmp_path / "outer").rename(tmp_path / "val" / "val")
    again = webvision(str(tmp_path), CROP, num_classes=6, ilsvrc_root=str(tmp_path / "val"))
    assert again.evaluation["ilsvrc12"].labels.tolist() == data.evaluation["ilsvrc12"].labels.tolist()


def test_what_webvision_can_lack(tmp_path):
    ilsvrc = write_webvision(tmp_path)

    def says(**arguments):
        with pytest.raises(InputError) as error:
            webvision(**{"root": str(tmp_path), "crop": CROP, "num_classes": 4, **arguments})
        return str(error.value)

    assert "num_classes=9: must not exceed the 8 classes of info/synsets.txt" in says(num_classes=9)
    assert "num_classes=1" in says(num_classes=1)
    assert "ilsvrc_root=nowhere: is not there" in says(ilsvrc_root="nowhere")
    write_folders(ilsvrc, {"n02000000": 1})
    assert "1 folders are neither a class number nor a WordNet id" in says(ilsvrc_root=str(ilsvrc))
    (ilsvrc / "n02000000").rename(ilsvrc / "0001")
    assert "folders of one class" in says(ilsvrc_root=str(ilsvrc))
    for name in ("0001", "n01443537"):
        for file in (ilsvrc / name).iterdir():
            file.unlink()
        (ilsvrc / name).rmdir()
    assert "holds no image of class 1 (n01443537)" in says(ilsvrc_root=str(ilsvrc))
    save_text(tmp_path / "info/val_filelist.txt", "val000000.jpg 7\n")
    assert "lists no image of the first 4 classes" in says()
    save_text(tmp_path / "info/val_filelist.txt", "val000000.jpg 8\n")
    assert "line 1 is 'val000000.jpg 8': labels must lie in 0..7" in says()
    (tmp_path / "info/synsets.txt").unlink()
    assert "there is no info/synsets.txt" in says()


# What cannot be read, and scale --------------------------------------------------------------------------------------


def test_bad_images_are_an_error_by_default(tmp_path):
    write_folders(tmp_path, {"a": 10, "b": 10})
    for number in range(1, 9):
        (tmp_path / "a" / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(InputError) as error:
        image_folder(str(tmp_path), CROP)
    said = str(error.value)
    assert said.startswith("on_bad_image=error: 8 files cannot be read (")  # train and the part set aside together
    assert " of 16 in train" in said
    assert ": a/" in said
    assert "(is empty)" in said
    assert said.endswith(", ...; skip leaves them out")


def test_bad_images_are_left_out_and_listed(tmp_path):
    write_folders(tmp_path / "train", {"a": 100, "b": 100})
    write_folders(tmp_path / "test", {"a": 3, "b": 3})
    content = (tmp_path / "train/a/5.jpg").read_bytes()
    (tmp_path / "train/a/5.jpg").write_bytes(content[:-100])  # the header is fine
    (tmp_path / "train/b/170.jpg").write_bytes(b"")
    (tmp_path / "test/b/4.jpg").write_text("no image")
    data = image_folder(str(tmp_path), CROP, on_bad_image="skip")
    assert [(bad.part, bad.path) for bad in data.left_out] == [
        ("train", "a/5.jpg"), ("train", "b/170.jpg"), ("test", "b/4.jpg")
    ]  # fmt: skip
    assert [bad.reason.split("(")[0] for bad in data.left_out] == [
        "cannot be decoded ",
        "is empty",
        "is no image that can be read",
    ]
    assert data.train.labels.bincount().tolist() == [99, 99]
    assert data.evaluation["test"].labels.tolist() == [0, 0, 0, 1, 1]
    assert len(data.train.images) == 198
    assert list(data.train.paths[4:6]) == ["a/12.jpg", "a/13.jpg"]  # by name: 0, 1, 10, 11, 12, 13, ...


def test_files_of_all_sets_are_counted_and_cut_off_ones_found(tmp_path):
    write_folders(tmp_path / "train", {"a": 4, "b": 4})
    write_folders(tmp_path / "test", {"a": 1, "b": 1})
    write_folders(tmp_path / "val", {"a": 1, "b": 1})
    for name in ("train/b/5.jpg", "val/a/0.jpg"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-100])
    with pytest.raises(InputError) as error:
        image_folder(str(tmp_path), CROP)
    assert "2 files cannot be read (1 of 8 in train, 1 of 2 in val): b/5.jpg (cannot be decoded" in str(error.value)
    assert ", a/0.jpg (cannot be decoded" in str(error.value)


def test_a_large_set_that_is_tested_at_the_end_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(file_dataset, "LOOKED_AT_FIRST", 2)
    write_clothing1m(tmp_path)
    (tmp_path / "images/1/1,1.jpg").unlink()  # of the set to train on: found when it is needed
    assert len(clothing1m(str(tmp_path), CROP).train) == 42
    (tmp_path / "images/0/60,60.jpg").unlink()
    with pytest.raises(InputError, match=r"1 file cannot be read \(1 of 14 in test\): images/0/60,60.jpg \(is not"):
        clothing1m(str(tmp_path), CROP)


def test_large_sets_are_not_looked_at_in_advance(tmp_path, monkeypatch):
    write_folders(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a/0.jpg").write_bytes(b"")
    monkeypatch.setattr(file_dataset, "LOOKED_AT_FIRST", 2)
    assert len(image_folder(str(tmp_path), CROP).train) == 4


@pytest.mark.long
@pytest.mark.parametrize("kind", ["clothing1m", "webvision", "table"])
def test_opening_30_000_entries_is_fast_and_small(tmp_path, kind):
    """Lines as long as the real lists'; the images themselves are not there, and are not asked for."""
    count = 30_000  # time that grows with the square of it would be far beyond the limit
    keys = [f"images/{n % 10}/{n % 100}/{n},{2_000_000_000 + 7919 * n}.jpg" for n in range(count)]
    (tmp_path / "images").mkdir()
    if kind == "clothing1m":
        write_clothing1m(tmp_path)
        save_text(tmp_path / "noisy_label_kv.txt", "".join(f"{key} {n % 14}\n" for n, key in enumerate(keys)))
        save_text(tmp_path / "noisy_train_key_list.txt", "".join(f"{key}\n" for key in keys))
    elif kind == "webvision":
        write_webvision(tmp_path)
        save_text(tmp_path / "info/train_filelist_google.txt", "".join(f"{k} {n % 8}\n" for n, k in enumerate(keys)))
    else:
        save_text(tmp_path / "labels.csv", "path,label\n" + "".join(f'"{k}",c{n % 50}\n' for n, k in enumerate(keys)))
    make = {
        "clothing1m": lambda: clothing1m(str(tmp_path), CROP),
        "webvision": lambda: webvision(str(tmp_path), CROP, num_classes=8),
        "table": lambda: image_table(str(tmp_path / "labels.csv"), CROP),
    }[kind]
    # Against asking for each file whether it is there, in turn and the least of three: slow machines are slow at both.
    opening, asking = [], []
    for _ in range(3):
        begin = time.process_time()
        make()
        opened = time.process_time()
        assert not any((tmp_path / key).exists() for key in keys)
        opening.append(opened - begin)
        asking.append(time.process_time() - opened)
    assert min(opening) < 3 * min(asking)
    tracemalloc.start()
    data = make()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data.train) >= 0.8 * count
    assert kept / count < 200
