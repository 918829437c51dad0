"""ANIMAL-10N, Food-101N and Red Mini-ImageNet: layouts as published, and what is said of damaged ones."""

import json

import pytest
import torch
from tests.datasets.image_trees import save_jpeg, save_text
from tests.datasets.noisy_sets import (
    CLASSES,
    DISHES,
    LISTED,
    annotation,
    pixels_of,
    record,
    write_animal10n,
    write_animal10n_binary,
    write_food101n,
    write_mini_imagenet_red,
)

from cpc_lightning.datasets.animal10n import animal10n
from cpc_lightning.datasets.food101n import food101n
from cpc_lightning.datasets.mini_imagenet_red import RATES, mini_imagenet_red
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.errors import InputError

CROP = Crop(32, 32)


def shown(split):
    """Path and label of every image."""
    return dict(zip(split.paths, split.labels.tolist(), strict=True))


def error_of(call, *arguments, **settings) -> InputError:
    with pytest.raises(InputError) as error:
        call(*arguments, **settings)
    assert "\n" not in str(error.value)
    return error.value


# ANIMAL-10N ----------------------------------------------------------------------------------------------------------


def test_animal10n_takes_labels_from_names(tmp_path):
    write_animal10n(tmp_path)
    save_text(tmp_path / "training/readme.txt", "no image")
    data = animal10n(str(tmp_path), Crop(64, 64))
    assert data.class_names[0] == "cat"
    assert data.class_names[9] == "guinea pig"
    assert len(data.class_names) == 10
    train = shown(data.train)
    assert len(train) == 20
    assert all(label == int(path[0]) for path, label in train.items())
    assert train["7_00017.jpg"] == 7
    assert data.train.true_labels is None  # nobody knows them
    assert data.evaluation["test"].labels.tolist() == list(range(10))
    image = data.train.images.fetch(torch.tensor([list(train).index("3_00013.jpg")]))
    assert image.shape == (1, 3, 64, 64)
    assert image.float().mean().item() == pytest.approx(3 * 19 + 29.5, abs=2)  # its brightness is its class's


def test_animal10n_in_its_binary_form(tmp_path):
    write_animal10n_binary(tmp_path, batches=11)  # data_batch_10 comes after data_batch_9
    data = animal10n(str(tmp_path), CROP)
    assert len(data.train) == 110
    assert data.train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2]
    assert data.train.labels[100:102].tolist() == [0, 1]
    assert data.evaluation["test"].labels.tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    image = data.train.images.fetch(torch.tensor([101]))
    assert image.dtype == torch.uint8
    assert torch.equal(image[0], torch.from_numpy(pixels_of(101)).to(torch.uint8))
    image += 1  # owned and writable: not a view of the file


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda root: (root / "training").rename(root / "train"), "neither a folder training/ nor files data_batch_1"),
        (lambda root: (root / "testing").rename(root / "test"), "testing: is not there"),
        (lambda root: save_jpeg(root / "training/10_00001.jpg", 1), "'10_00001.jpg': names must begin with a label"),
        (lambda root: save_jpeg(root / "testing/cat_1.jpg", 1), "'cat_1.jpg': names must begin"),
        (lambda root: save_jpeg(root / "training/more/3_1.jpg", 1), "'more/3_1.jpg': names must begin"),
        (lambda root: (root / "testing/4_00004.jpg").unlink(), "holds no image of class cheetah"),
        (lambda root: (root / "training/4_00004.jpg").write_bytes(b"x"), "4_00004.jpg .is no image"),
        (lambda root: (root / "training/4_00004.jpg").write_bytes(b""), "4_00004.jpg .is empty"),
    ],
)
def test_damaged_animal10n(tmp_path, damage, says):
    write_animal10n(tmp_path)
    damage(tmp_path)
    error = error_of(animal10n, str(tmp_path), CROP)
    assert error.setting in ("root", "on_bad_image")
    with pytest.raises(InputError, match=says):
        raise error


def of_label(label):
    return record(0, label, pixels_of(0))


def cut(file, count):
    file.write_bytes(file.read_bytes()[:count])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda root: (root / "test_batch.bin").unlink(), "there is no test_batch.bin"),
        (lambda root: cut(root / "data_batch_2.bin", -1), "data_batch_2.bin: must hold records of 12,296 bytes"),
        (lambda root: cut(root / "data_batch_2.bin", 0), "data_batch_2.bin: must hold records"),
        (
            lambda root: (root / "data_batch_1.bin").write_bytes(of_label(3) + of_label(10)),
            "data_batch_1.bin: record 2 has label 10, not one in 0..9",
        ),
        (
            lambda root: (root / "test_batch.bin").write_bytes(of_label(3 << 24)),  # the other byte order
            "record 1 has label 50331648",
        ),
        (lambda root: (root / "test_batch.bin").write_bytes(of_label(3)), "no image of class cat, lynx"),
    ],
)  # fmt: skip
def test_damaged_binary_files(tmp_path, damage, says):
    write_animal10n_binary(tmp_path)
    damage(tmp_path)
    assert says in str(error_of(animal10n, str(tmp_path), CROP))


# Food-101N -----------------------------------------------------------------------------------------------------------


def test_food101n_as_published(tmp_path):
    noisy, clean = write_food101n(tmp_path)
    data = food101n(str(noisy), str(clean), CROP)
    assert data.class_names == DISHES  # in the order of classes.txt, whose first line is none
    train = shown(data.train)
    assert list(train)[:5] == [
        "waffles/a1.jpg",
        "waffles/b2.jpg",
        "waffles/c3.jpg",
        "waffles/d4.jpg",
        "apple_pie/a1.jpg",
    ]
    assert list(train.values()) == [0] * 4 + [1] * 4 + [2] * 4
    # Right, wrong, not looked at; wrong by the list for validation; right.
    assert data.train.true_labels.tolist() == [0, -2, -1, -1, -1, -1, -2, -1, 2, -1, -1, -1]
    assert data.train.trusted is None  # for metrics only
    assert shown(data.evaluation["test"]) == {
        "apple_pie/1005649.jpg": 1, "apple_pie/1014775.jpg": 1, "sushi/1005649.jpg": 2, "sushi/1014775.jpg": 2,
        "waffles/1005649.jpg": 0, "waffles/1014775.jpg": 0,
    }  # fmt: skip
    assert sorted(data.evaluation) == ["test"]
    assert data.evaluation["test"].true_labels is None
    assert data.train.images.fetch(torch.arange(2)).shape == (2, 3, 32, 32)
    assert "2 of 4 verified labels are wrong; true classes of these are not known, and shown as none" in data.remarks


def test_food101n_without_lines_of_column_names(tmp_path):
    noisy, clean = write_food101n(tmp_path)
    for name in ("classes.txt", "imagelist.tsv", "verified_train.tsv", "verified_val.tsv"):
        lines = (noisy / "meta" / name).read_text().splitlines()[1:]
        save_text(noisy / "meta" / name, "\r\n".join(lines))
    data = food101n(str(noisy), str(clean), CROP)
    assert data.class_names == DISHES
    assert data.train.true_labels.tolist() == [0, -2, -1, -1, -1, -1, -2, -1, 2, -1, -1, -1]


def replaced(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda noisy, clean: (noisy / "meta/classes.txt").unlink(), "there is no meta/classes.txt"),
        (lambda noisy, clean: (noisy / "meta/imagelist.tsv").unlink(), "there is no meta/imagelist.tsv"),
        (lambda noisy, clean: (noisy / "meta/verified_train.tsv").unlink(), "there is no meta/verified_train.tsv"),
        (lambda noisy, clean: (noisy / "meta/verified_val.tsv").unlink(), "there is no meta/verified_val.tsv"),
        (lambda noisy, clean: (clean / "meta/test.txt").unlink(), "there is no meta/test.txt"),
        (lambda noisy, clean: replaced(noisy / "meta/classes.txt", "sushi", "waffles"), "waffles is there twice"),
        (
            lambda noisy, clean: replaced(noisy / "meta/imagelist.tsv", "sushi/b2", "soup/b2"),
            "line 11 is 'soup/b2.jpg': must begin with a class of meta/classes.txt and /",
        ),
        (lambda noisy, clean: replaced(noisy / "meta/imagelist.tsv", "sushi/b2", "sushi"), "line 11 is 'sushi.jpg'"),
        (
            lambda noisy, clean: replaced(noisy / "meta/imagelist.tsv", "sushi/b2", "sushi/../../b2"),
            "must not lead out of the folder",
        ),
        (lambda noisy, clean: replaced(noisy / "meta/imagelist.tsv", "sushi/b2", "sushi/a1"), "is there twice"),
        (
            lambda noisy, clean: replaced(noisy / "meta/imagelist.tsv", "sushi", "waffles/x"),
            "meta/imagelist.tsv: lists no image of class sushi",
        ),
        (
            lambda noisy, clean: replaced(clean / "meta/test.txt", "sushi", "waffles/x"),
            "meta/test.txt: lists no image of class sushi",
        ),
        (
            lambda noisy, clean: replaced(noisy / "meta/verified_train.tsv", "b2.jpg\t0", "b2.jpg\t2"),
            "line 3 is 'waffles/b2.jpg\\t2': must be a path, a tab, and 0 or 1",
        ),
        (lambda noisy, clean: replaced(noisy / "meta/verified_val.tsv", "c3.jpg\t0", "c3.jpg"), "must be a path, a"),
        (
            lambda noisy, clean: replaced(noisy / "meta/verified_val.tsv", "apple_pie/c3", "waffles/a1"),
            "verified_val.tsv: line 2 is 'waffles/a1.jpg\\t0': says otherwise than a line before",
        ),
        (lambda noisy, clean: (noisy / "images/sushi/d4.jpg").unlink(), "1 of 12 in train): sushi/d4.jpg (is"),
        (lambda noisy, clean: (clean / "images/sushi/1005649.jpg").unlink(), "sushi/1005649.jpg (is not there)"),
    ],
)  # fmt: skip
def test_damaged_food101n(tmp_path, damage, says):
    noisy, clean = write_food101n(tmp_path)
    damage(noisy, clean)
    assert says in str(error_of(food101n, str(noisy), str(clean), CROP))


def test_food101n_names_the_folder_that_is_wrong(tmp_path):
    noisy, clean = write_food101n(tmp_path)
    assert error_of(food101n, str(tmp_path / "x"), str(clean), CROP).setting == "root"
    assert error_of(food101n, str(noisy), str(tmp_path / "x"), CROP).setting == "test_root"
    assert error_of(food101n, str(noisy), str(noisy), CROP).setting == "test_root"  # no meta/test.txt there
    replaced(clean / "meta/test.txt", "sushi", "soup")
    assert error_of(food101n, str(noisy), str(clean), CROP).setting == "test_root"


def test_bad_images_are_left_out_where_asked(tmp_path):
    noisy, clean = write_food101n(tmp_path)
    (noisy / "images/waffles/b2.jpg").unlink()
    data = food101n(str(noisy), str(clean), CROP, on_bad_image="skip")
    assert [(image.part, image.path) for image in data.left_out] == [("train", "waffles/b2.jpg")]
    assert data.train.true_labels.tolist() == [0, -1, -1, -1, -1, -2, -1, 2, -1, -1, -1]


# Red Mini-ImageNet ---------------------------------------------------------------------------------------------------


def test_mini_imagenet_red_as_published(tmp_path):
    folder = write_mini_imagenet_red(tmp_path)
    data = mini_imagenet_red(str(folder), CROP)
    assert data.class_names == CLASSES
    assert shown(data.train) == {f"{name}.jpg": label for name, label in LISTED.items()}
    # Of ImageNet; wrong and right by the annotations; without one.
    assert data.train.true_labels.tolist() == [0, 1, 2, -2, 2, -1]
    test = shown(data.evaluation["test"])
    assert list(test)[:2] == ["0/ILSVRC2012_val_00000000.jpg", "1/ILSVRC2012_val_00000001.jpg"]
    assert list(test.values()) == [0, 1, 2, 0, 1, 2]
    assert data.evaluation["test"].true_labels is None
    assert data.train.images.fetch(torch.arange(6)).shape == (6, 3, 32, 32)


@pytest.mark.parametrize(("rate", "name"), [(0, "0.0"), (0.05, "0.05"), (0.1 + 0.2, "0.3"), (0.8, "0.8")])
def test_rates_name_their_lists(tmp_path, rate, name):
    folder = write_mini_imagenet_red(tmp_path, name)
    assert len(mini_imagenet_red(str(folder), CROP, rate=rate).train) == 6
    other = next(one for one in RATES if abs(one - rate) > 1e-9)
    says = f"there is no split/red_noise_nl_{other}"
    assert says in str(error_of(mini_imagenet_red, str(folder), CROP, rate=other))


@pytest.mark.parametrize("rate", [0.25, 1.5, "0.2", None, True])
def test_rates_that_there_are_not(tmp_path, rate):
    error = error_of(mini_imagenet_red, str(write_mini_imagenet_red(tmp_path)), CROP, rate=rate)
    assert error.setting == "rate"
    if rate == 0.25:
        assert "must be one of 0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8" in str(error)


@pytest.mark.parametrize("inside", [True, False])
def test_annotations_lie_beside_the_folder_or_in_it(tmp_path, monkeypatch, inside):
    folder = write_mini_imagenet_red(tmp_path)
    if inside:
        (folder.parent / "mini-imagenet-annotations.json").rename(folder / "mini-imagenet-annotations.json")
    monkeypatch.chdir(folder)  # whose name "." does not say what is around it
    assert mini_imagenet_red(".", CROP).train.true_labels.tolist() == [0, 1, 2, -2, 2, -1]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda root: (root / "class_name.txt").unlink(), "there is no class_name.txt"),
        (lambda root: (root / "split/clean_validation").unlink(), "there is no split/clean_validation"),
        (
            lambda root: (root.parent / "mini-imagenet-annotations.json").unlink(),
            "there is no mini-imagenet-annotations.json in it or beside it",
        ),
        (
            lambda root: (root.parent / "mini-imagenet-annotations.json").write_text('{"data": ['),
            "holds no annotations (Expecting value",
        ),
        (lambda root: (root.parent / "mini-imagenet-annotations.json").write_text("[]"), "holds no annotations"),
        (
            lambda root: (root.parent / "mini-imagenet-annotations.json").write_text(
                json.dumps({"data": [[{k: v for k, v in annotation("a", 0, 0).items() if "is_clean" not in k}]]})
            ),
            "holds no annotations (no image/class/label/is_clean)",
        ),
        (
            lambda root: replaced(root / "split/red_noise_nl_0.2", "f4.jpg 1", "f4.jpg 3"),
            "line 4 is '5922767e5677aef4.jpg 3': labels must lie in 0..2",
        ),
        (lambda root: replaced(root / "split/red_noise_nl_0.2", "f4.jpg 1", "f4.jpg"), "must be a path and a number"),
        (
            lambda root: replaced(root / "split/red_noise_nl_0.2", "0a1b2c3d4e5f6071", "5922767e5677aef4"),
            "5922767e5677aef4.jpg is there twice",
        ),
        (
            lambda root: replaced(root / "split/clean_validation", ".jpg 2", ".jpg 1"),
            "split/clean_validation: lists no image of class unicycle, monocycle",
        ),
        (lambda root: (root / "all_images/5922767e5677aef4.jpg").unlink(), "5922767e5677aef4.jpg (is not there)"),
        (
            lambda root: (root / "validation/1/ILSVRC2012_val_00000001.jpg").unlink(),
            "1/ILSVRC2012_val_00000001.jpg (is not there)",
        ),
    ],
)
def test_damaged_mini_imagenet_red(tmp_path, damage, says):
    folder = write_mini_imagenet_red(tmp_path)
    damage(folder)
    assert says in str(error_of(mini_imagenet_red, str(folder), CROP))
