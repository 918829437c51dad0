"""What a data set holds, on a few made images and labels."""

import torch
from tests.datasets.image_trees import save_jpeg

from cpc_lightning.checkup.data import image_findings, label_findings, lost_classes, percent, sameness, size_findings
from cpc_lightning.datasets.dataset import ArrayImages, BadImage, ImageDataset, Split
from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles
from cpc_lightning.datasets.reading.paths import PathList


def split(labels, true_labels=None):
    pixels = torch.arange(len(labels) * 3 * 2 * 2).view(len(labels), 3, 2, 2).to(torch.uint8)
    true = None if true_labels is None else torch.tensor(true_labels)
    return Split(ArrayImages(pixels), torch.tensor(labels), true)


def dataset(train, test, **more):
    return ImageDataset("made", ("a", "b", "c"), train, {"test": test}, **more)


def test_sizes_of_sets_and_classes():
    made = dataset(split([0] * 12 + [1] * 3), split([0, 1, 1, 1]))
    rows = size_findings(made, minimum=10)
    assert [(row.topic, row.status) for row in rows] == [
        ("data set", "ok"), ("classes", "ok"), ("classes", "warning"), ("classes", "warning"),
    ]  # fmt: skip
    assert rows[0].found == "made: 15 images to train on, 4 in test"
    assert rows[1].found == "3, of 0 images (c) to 12 (a), by the labels to train on"
    assert rows[2].found == "fewer than 10 images: b (3), c (0); the mixture of all classes judges them"
    assert rows[3].found == "1 of 3 have no image in test: c"
    (never,) = [row for row in size_findings(made, minimum=None) if "never" in row.found]
    assert never.found == "never given to an image to train on: c (0)"


def test_sets_of_even_classes_are_fine():
    rows = size_findings(dataset(split([0, 1, 2] * 10), split([0, 1, 2])), minimum=10)
    assert [row.status for row in rows] == ["ok", "ok"]
    assert rows[1].found == "3, of 10 images each, by the labels to train on"


def test_images_that_are_left_out():
    left_out = (BadImage("train", "x.jpg", "is empty"), BadImage("test", "y.jpg", "is not there"))
    rows = size_findings(dataset(split([0, 1, 2]), split([0, 1, 2]), left_out=left_out), None)
    assert rows[1].status == "warning"
    assert rows[1].found == "left out: 2 images; the first: x.jpg (is empty)"


def test_labels():
    (unknown,) = label_findings(split([0, 1]), None, "abc")
    assert unknown.found.startswith("the true labels are not known")
    (partly,) = label_findings(split([0, 1, 1, 2], [0, -1, 2, 2]), 0.4, "abc")
    assert partly.found == "the true labels of 3 of 4 are known; 33.3 % are wrong (nominal rate 40 %)"
    rows = label_findings(split([1] * 6 + [0] * 5, [0] * 11), None, "abc")
    assert [row.status for row in rows] == ["ok", "warning"]
    assert "a (as b)" in rows[1].found


def test_lost_classes():
    # 12 images of class 0: 5 as 0, 7 as 1. 12 of class 1: 6 as 1, 6 as 2, a tie. 3 of class 2, all as 0: too few.
    given = torch.tensor([0] * 5 + [1] * 7 + [1] * 6 + [2] * 6 + [0] * 3 + [0] * 20)
    true = torch.tensor([0] * 12 + [1] * 12 + [2] * 3 + [-2] * 20)  # -2 shows none of the classes
    assert lost_classes(given, true, 3) == [(0, 1)]


def test_images_that_are_the_same_or_show_nothing():
    seen = [(4, b"\1\2"), (7, b"\3\3"), (9, b"\1\2"), (11, b"\1\3")]
    assert [row.found for row in sameness(seen, ())] == [
        "2 of 4 are there more than once: image 4, image 9",
        "1 of 4 are of a single level: image 7",
    ]
    assert sameness(seen, list("abcdefghijkl"))[0].found.endswith(": e, j")
    assert sameness([(0, b"\1\2"), (1, b"\2\1")], ()) == []
    pixels = torch.randint(0, 255, (70, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[35:] = pixels[:35]
    doubled = Split(ArrayImages(pixels), torch.arange(70) % 3)
    assert "there more than once" in image_findings(dataset(doubled, doubled), 0, 1)[1].found


def test_percent():
    assert [percent(share) for share in (0.8, 0.72111, 0, 1)] == ["80 %", "72.1 %", "0 %", "100 %"]


def test_each_set_is_sampled(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        save_jpeg(tmp_path / name, 0)
    (tmp_path / "b.jpg").write_bytes(b"")
    good, bad = (
        Split(ImageFiles(str(tmp_path), PathList([name]), Crop(8, 8)), torch.tensor([0])) for name in ("a.jpg", "b.jpg")
    )
    rows = image_findings(dataset(good, bad), 0, 1)
    assert rows[0].status == "error"
    assert rows[0].found == f"1 of 1 drawn at random from test cannot be read: {tmp_path}/b.jpg"
