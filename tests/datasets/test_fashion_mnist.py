"""Fashion-MNIST: the real files where Debian's package put them, and small genuine idx files with every fault."""

import gzip
import os
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from cpc_lightning.datasets.fashion_mnist import DEBIAN_FOLDER, fashion_mnist
from cpc_lightning.datasets.reading.idx import read_idx
from cpc_lightning.errors import InputError

PUBLISHED = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def nothing_of_the_users(tmp_path_factory, monkeypatch):
    monkeypatch.delenv("CPC_DATA", raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


def images_file(count: int, first: int = 0) -> bytes:
    """`count` images of 28 x 28, pixel (h, w) of image n being (first + n + h + w) modulo 256."""
    pixels = bytes((first + n + h + w) % 256 for n in range(count) for h in range(28) for w in range(28))
    return struct.pack(">BBBBIII", 0, 0, 8, 3, count, 28, 28) + pixels


def labels_file(labels: list[int]) -> bytes:
    return struct.pack(">BBBBI", 0, 0, 8, 1, len(labels)) + bytes(labels)


def write_set(folder: Path, names=PUBLISHED, packed: bool = False, **replaced: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "train_images": images_file(4),
        "train_labels": labels_file([9, 0, 3, 9]),
        "test_images": images_file(2, first=100),
        "test_labels": labels_file([1, 2]),
    } | replaced
    for name, content in zip(names, contents.values(), strict=True):
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content, mtime=0) if packed else content)


def failure(**arguments) -> InputError:
    with pytest.raises(InputError) as error:
        fashion_mnist(**arguments)
    assert "\n" not in str(error.value)
    return error.value


@pytest.mark.skipif(not Path(DEBIAN_FOLDER).is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_set_is_found_without_a_setting():
    dataset = fashion_mnist()
    train, test = dataset.train, dataset.evaluation["test"]
    assert train.images.pixels.shape == (60000, 1, 28, 28)
    assert test.images.pixels.shape == (10000, 1, 28, 28)
    assert train.images.pixels.dtype == torch.uint8
    assert train.labels.bincount().tolist() == [6000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    assert train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert train.true_labels is not None
    # The published mean, 0.2860, and a row of the first image, an ankle boot.
    assert train.images.pixels.float().mean().item() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert train.images.pixels[0, 0, 14, 10:18].tolist() == [0, 0, 237, 226, 217, 223, 222, 219]
    assert dataset.class_names[9] == "Ankle boot"
    assert dataset.class_map == {0: 6, 2: 4, 5: 7, 9: 7, 6: 0}
    assert train.images.fetch(torch.tensor([5, 5])).shape == (2, 1, 28, 28)


@pytest.mark.parametrize("inner", ["FashionMNIST/raw", ""])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_every_layout_is_read(tmp_path, inner, dotted, packed):
    names = [name.replace("-idx", ".idx") if dotted else name for name in PUBLISHED]
    write_set(tmp_path / inner, names, packed)
    dataset = fashion_mnist(str(tmp_path))
    train, test = dataset.train, dataset.evaluation["test"]
    assert train.labels.tolist() == [9, 0, 3, 9]
    assert test.labels.tolist() == [1, 2]
    assert train.images.pixels.shape == (4, 1, 28, 28)
    assert int(train.images.pixels[3, 0, 1, 20]) == 24
    assert int(test.images.pixels[1, 0, 27, 0]) == 128


@pytest.mark.parametrize("place", ["CPC_DATA", "./data"])
def test_places_that_are_searched_without_a_root(tmp_path, monkeypatch, place):
    if place == "CPC_DATA":
        monkeypatch.setenv("CPC_DATA", str(tmp_path))
        write_set(tmp_path / "FashionMNIST" / "raw")
    else:
        write_set(Path("data"))
    assert fashion_mnist().train.labels.tolist() == [9, 0, 3, 9]


def test_the_folder_of_the_environment_goes_before_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("CPC_DATA", str(tmp_path))
    write_set(tmp_path, train_labels=labels_file([5, 5, 5, 5]))
    write_set(Path("data"))
    assert fashion_mnist().train.labels.tolist() == [5, 5, 5, 5]


IMAGES = images_file(4)  # 16 bytes of header and 4 x 28 x 28 = 3136 of pixels


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (IMAGES[:-1], "expected 3152 bytes for an array of 4 x 28 x 28, found 3151"),
        (IMAGES + b"\0", "expected 3152 bytes for an array of 4 x 28 x 28, found 3153"),
        (IMAGES[:10], "expected a header of 16 bytes, found 10"),
        (IMAGES[:4], "expected a header of 16 bytes, found 4"),
        (b"", "expected 0x00000803 first, found an empty file"),
        (b"<!DOCTYPE html>", "expected 0x00000803 first, found 0x3c21444f"),
        (labels_file([1, 2, 3, 4]), "unsigned bytes in 3 dimensions: expected 0x00000803 first, found 0x00000801"),
        (b"\0\0\x0d\x03" + IMAGES[4:], "expected 0x00000803 first, found 0x00000d03"),
        (struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "expected 79228162458924105385300197391 bytes"),
        (gzip.compress(IMAGES, mtime=0)[:-20], "is a broken gzip file"),
        (gzip.compress(IMAGES, mtime=0)[:5], "is a broken gzip file"),
        (gzip.compress(IMAGES, mtime=0)[:10] + b"\xff" * 40, "is a broken gzip file"),
        (gzip.compress(IMAGES, mtime=0) + b"trailing", "is a broken gzip file"),
        (gzip.compress(IMAGES[:-1], mtime=0), "expected 3152 bytes for an array of 4 x 28 x 28, found 3151"),
    ],
)
def test_faulty_images_are_described(tmp_path, content, said):
    write_set(tmp_path, train_images=content)
    error = failure(root=str(tmp_path))
    assert (error.setting, error.value) == ("root", str(tmp_path / "train-images-idx3-ubyte"))
    assert said in error.expected


def test_an_image_file_as_labels_is_refused(tmp_path):
    write_set(tmp_path, test_labels=images_file(2))
    error = failure(root=str(tmp_path))
    assert error.value == str(tmp_path / "t10k-labels-idx1-ubyte")
    assert "in 1 dimension: expected 0x00000801 first, found 0x00000803" in error.expected


def test_one_label_for_each_image(tmp_path):
    write_set(tmp_path, train_labels=labels_file([1, 2, 3]))
    error = failure(root=str(tmp_path))
    assert error.value == str(tmp_path / "train-labels-idx1-ubyte")
    assert error.expected == "holds 3 labels, but train-images-idx3-ubyte beside it holds 4 images"


def test_labels_outside_the_classes_are_refused(tmp_path):
    write_set(tmp_path, train_labels=labels_file([0, 10, 3, 255]))
    error = failure(root=str(tmp_path))
    assert str(error) == "train=label 10 of image 1: labels must lie in 0..9 (2 do not)"


def test_an_empty_set_is_refused(tmp_path):
    write_set(tmp_path, train_images=images_file(0), train_labels=labels_file([]))
    assert "holds no images" in failure(root=str(tmp_path)).expected


def test_a_folder_in_a_files_place(tmp_path):
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    (tmp_path / "t10k-labels-idx1-ubyte").mkdir()
    error = failure(root=str(tmp_path))
    assert (error.value, error.expected) == (str(tmp_path / "t10k-labels-idx1-ubyte"), "is not a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_by_its_permissions(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").chmod(0)
    assert failure(root=str(tmp_path)).expected == "cannot be read: Permission denied"


def test_an_unreadable_file(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    write_set(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert failure(root=str(tmp_path)).expected == "cannot be read: Permission denied"


def test_a_root_that_is_no_folder(tmp_path):
    error = failure(root=str(tmp_path / "absent"))
    assert str(error) == f"root={tmp_path / 'absent'}: is not a folder"
    (tmp_path / "file").touch()
    assert failure(root=str(tmp_path / "file")).expected == "is not a folder"


def test_missing_files_are_named_with_the_remedy(tmp_path):
    error = failure(root=str(tmp_path))
    assert error.setting == "root"
    assert error.expected.startswith(f"there is no {tmp_path / 'train-images-idx3-ubyte.gz'}: set download=true, or")
    assert "dataset-fashion-mnist" in error.expected
    write_set(tmp_path / "FashionMNIST" / "raw")
    (tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    assert f"no {tmp_path}/FashionMNIST/raw/t10k-images-idx3-ubyte.gz:" in failure(root=str(tmp_path)).expected


def test_download_only_if_files_are_absent(tmp_path, monkeypatch):
    asked = []

    def published(root, download):
        asked.append((root, download))
        write_set(Path(root) / "FashionMNIST" / "raw")

    monkeypatch.setattr(datasets, "FashionMNIST", published)
    for _ in range(2):
        assert fashion_mnist(str(tmp_path / "new"), download=True).train.labels.tolist() == [9, 0, 3, 9]
    assert asked == [(str(tmp_path / "new"), True)]


@pytest.mark.parametrize(
    "trouble", [RuntimeError("Error downloading x:\nTried a\nTried b"), URLError("no route"), OSError(28, "disk full")]
)
def test_a_failed_download_is_one_line(tmp_path, monkeypatch, trouble):
    def fail(root, download):
        raise trouble

    monkeypatch.setattr(datasets, "FashionMNIST", fail)
    error = failure(root=str(tmp_path), download=True)
    assert (error.setting, error.value) == ("download", True)


def test_read_idx_takes_any_shape_and_gives_writable_memory(tmp_path):
    path = tmp_path / "array"
    path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 20, 30, 40, 50, 255]))
    values = read_idx(path, 2)
    assert values.tolist() == [[10, 20, 30], [40, 50, 255]]
    assert values.dtype == np.uint8
    assert values.flags.writeable


def test_read_idx_of_an_absent_file(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        read_idx(tmp_path / "absent", 1)
