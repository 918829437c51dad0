"""CIFAR from files in the published format, whole and with every fault."""

import hashlib
import pickle
import pickletools

import numpy as np
import pytest
import torch
from tests.datasets.cifar_files import batch, write_cifar10, write_cifar100, write_pickle
from torchvision import datasets

from cpc_lightning.datasets import cifar
from cpc_lightning.datasets.cifar import CIFAR100_MAP, CIFAR100_NAMES, SUPERCLASSES, cifar10, cifar100
from cpc_lightning.datasets.reading.label_files import read_labels
from cpc_lightning.errors import InputError
from cpc_lightning.noise.noise import SymmetricNoise

# The superclass of each fine class 0..99, as the published training file has it.
COARSE = [
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10,
    12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16,
    12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14,
    13,
]  # fmt: skip


def error_of(make, **arguments) -> str:
    with pytest.raises(InputError) as error:
        make(**arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("make", "write", "classes", "each"), [(cifar10, write_cifar10, 10, 10), (cifar100, write_cifar100, 100, 2)]
)
def test_a_validation_set_is_set_aside_class_by_class_before_noise(tmp_path, make, write, classes, each):
    """Half of the 10 (or 2) images of each class; noise then spoils labels of the rest alone (A.2.2)."""
    write(tmp_path)
    whole = make(str(tmp_path), verify=False)
    halves = make(str(tmp_path), verify=False, validation_share=0.5)
    val, train = halves.evaluation["val"], halves.train
    assert list(halves.watched) == ["val", "test"]  # so that networks are selected on it, and tested all along
    for part in (train, val):
        assert part.labels.bincount(minlength=classes).tolist() == [each // 2] * classes
        assert torch.equal(part.true_labels, part.labels)

    def seen(split):
        images = split.images.fetch(torch.arange(len(split)))
        return {(image.numpy().tobytes(), int(label)) for image, label in zip(images, split.labels, strict=True)}

    assert seen(train) | seen(val) == seen(whole.train)
    assert not seen(train) & seen(val)
    noisy = SymmetricNoise(0.8, include_true_class=False).corrupt(halves, seed=1)
    assert len(noisy.labels) == classes * each // 2
    assert int((noisy.labels != noisy.true_labels).sum()) == int(0.8 * len(noisy.labels))
    assert torch.equal(halves.evaluation["val"].labels, val.true_labels)
    assert seen(make(str(tmp_path), verify=False, validation_share=0.5).evaluation["val"]) == seen(val)
    other = make(str(tmp_path), verify=False, validation_share=0.5, split_seed=1)
    assert seen(other.evaluation["val"]) != seen(val)


def test_without_a_share_there_is_no_validation_set(tmp_path):
    write_cifar10(tmp_path)
    assert list(cifar10(str(tmp_path), verify=False, validation_share=0).evaluation) == ["test"]
    for share in (1, -0.1, 1.5):
        assert error_of(cifar10, root=str(tmp_path), verify=False, validation_share=share).startswith(
            f"validation_share={share}: must be a number in (0, 1)"
        )


def test_cifar10_from_its_batches(tmp_path):
    folder = write_cifar10(tmp_path)
    dataset = cifar10(str(tmp_path), verify=False)
    assert dataset.name == "cifar10"
    assert dataset.class_names[3] == "cat"
    assert dataset.class_map == {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
    data, labels = zip(*(batch(20, 10, seed) for seed in range(5)), strict=True)
    assert dataset.train.labels.tolist() == [label for part in labels for label in part]
    assert torch.equal(dataset.train.true_labels, dataset.train.labels)
    pixels = dataset.train.images.fetch(torch.arange(100))
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (100, 3, 32, 32)
    # Red comes first, row by row: position 1024 + 32 + 5 is the green of row 1, column 5.
    assert int(pixels[47, 1, 1, 5]) == int(data[2][7, 1024 + 32 + 5])
    assert len(dataset.evaluation["test"]) == 20
    assert torch.equal(cifar10(str(folder), verify=False).train.labels, dataset.train.labels)


def test_cifar100_has_fine_classes(tmp_path):
    write_cifar100(tmp_path)
    dataset = cifar100(str(tmp_path), verify=False)
    assert len(dataset.class_names) == 100
    assert dataset.train.labels.tolist() == list(range(100)) * 2
    assert dataset.evaluation["test"].labels.tolist() == [(k + 1) % 100 for k in range(100)]


def test_the_files_that_the_tests_write_are_what_torchvision_reads(tmp_path, monkeypatch):
    write_cifar10(tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda path, md5: True)
    theirs, ours = datasets.CIFAR10(str(tmp_path)), cifar10(str(tmp_path), verify=False).train
    assert theirs.targets == ours.labels.tolist()
    assert np.array_equal(theirs.data.transpose(0, 3, 1, 2), ours.images.fetch(torch.arange(100)).numpy())


def test_the_files_that_the_tests_write_are_python_2s(tmp_path):
    content = (write_cifar100(tmp_path) / "train").read_bytes()
    names = {op.name for op, _, _ in pickletools.genops(content)}
    assert {"SHORT_BINSTRING", "BINSTRING"} <= names
    assert not any("UNICODE" in name for name in names)


def test_superclasses_are_the_published_ones():
    groups = [sorted(k for k in range(100) if COARSE[k] == group) for group in range(20)]
    assert [sorted(map(CIFAR100_NAMES.index, members)) for members in SUPERCLASSES.values()] == groups
    assert [CIFAR100_NAMES[k] for k in (0, 12, 36, 58, 99)] == ["apple", "bridge", "hamster", "pickup_truck", "worm"]


def test_cifar100_confuses_classes_in_a_circle_within_their_superclass():
    assert [CIFAR100_MAP[k] for k in (4, 30, 55, 72, 95)] == [30, 55, 72, 95, 4]  # beaver ... whale
    assert sorted(CIFAR100_MAP) == sorted(CIFAR100_MAP.values()) == list(range(100))
    assert all(COARSE[source] == COARSE[target] and source != target for source, target in CIFAR100_MAP.items())


def test_found_where_cpc_data_says_or_in_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPC_DATA", str(tmp_path / "elsewhere"))
    write_cifar10(tmp_path / "data", per_batch=10)
    assert len(cifar10(verify=False).train) == 50
    write_cifar10(tmp_path / "elsewhere", per_batch=4)
    assert len(cifar10(verify=False).train) == 20


# The md5s


def test_a_changed_file_is_told_from_the_published_one(tmp_path):
    folder = write_cifar10(tmp_path)
    found = hashlib.md5((folder / "data_batch_1").read_bytes()).hexdigest()
    says = error_of(cifar10, root=str(tmp_path))
    assert f"data_batch_1: is not the published file (md5 {found}, not c99cafc152244af753f735de768cd75f)" in says
    assert "verify=false" in says


def test_files_with_the_right_md5_pass(tmp_path, monkeypatch):
    folder = write_cifar10(tmp_path)

    def listed(name):
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [listed(f"data_batch_{k}") for k in range(1, 6)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [listed("test_batch")])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": listed("batches.meta")[1]})
    assert len(cifar10(str(tmp_path)).train) == 100
    with open(folder / "test_batch", "ab") as file:
        file.write(b"\0")
    assert "test_batch: is not the published file" in error_of(cifar10, root=str(tmp_path))


# Faults


def test_missing_folders_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CPC_DATA", raising=False)
    assert "root=null: there is no data/cifar-10-batches-py/batches.meta: set download=true" in error_of(cifar10)
    assert "is not a folder" in error_of(cifar10, root=str(tmp_path / "nowhere"))
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_4").unlink()
    assert "data_batch_4: is not there" in error_of(cifar10, root=str(tmp_path), verify=False)


class Harmful:
    def __reduce__(self):
        return (eval, ("open('harmed', 'w')",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"data": np.zeros((2, 3072), np.uint8)}, 'must hold a dict with "data" and "fine_labels"'),
        ([1, 2], "must hold a dict"),
        ({"data": np.zeros((2, 3071), np.uint8), "fine_labels": [0, 1]}, r"data is uint8 (2, 3071); uint8 (n, 3072)"),
        ({"data": np.zeros((2, 3072)), "fine_labels": [0, 1]}, "data is float64 (2, 3072)"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0]}, "one whole number a label for each of its 2"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0.5, 1]}, "one whole number a label"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0, 100]}, "label 100 of image 1"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [[0], [1, 2]]}, "data or fine_labels is no array"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": Harmful()}, "only arrays are read"),
    ],
)
def test_batches_with_a_fault(tmp_path, monkeypatch, content, says):
    monkeypatch.chdir(tmp_path)
    folder = write_cifar100(tmp_path)
    (folder / "train").write_bytes(pickle.dumps(content, protocol=2))
    assert says in error_of(cifar100, root=str(tmp_path), verify=False)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("cut", [0, 1, 100, 3000, 100_000])
def test_truncated_batches(tmp_path, cut):
    file = write_cifar100(tmp_path) / "train"
    file.write_bytes(file.read_bytes()[:cut])
    assert "train: cannot be read safely" in error_of(cifar100, root=str(tmp_path), verify=False)


def test_files_of_other_classes(tmp_path):
    folder = write_cifar10(tmp_path)
    write_pickle(folder / "batches.meta", {"label_names": ["cat", "dog"]})
    assert "must name the 10 classes airplane to truck" in error_of(cifar10, root=str(tmp_path), verify=False)


def test_download_goes_into_the_root_and_its_failure_is_one_line(tmp_path, monkeypatch):
    seen = []

    class Source(datasets.CIFAR10):
        def __init__(self, root, download):
            seen.append((root, download))
            write_cifar10(tmp_path / "new")

    monkeypatch.setattr(cifar.datasets, "CIFAR10", Source)
    (tmp_path / "new").mkdir()
    assert len(cifar10(str(tmp_path / "new"), download=True, verify=False).train) == 100
    assert seen == [(str(tmp_path / "new"), True)]

    class Broken(datasets.CIFAR100):
        def __init__(self, root, download):
            raise RuntimeError("File not found or\ncorrupted.")

    monkeypatch.setattr(cifar.datasets, "CIFAR100", Broken)
    assert "download=true: failed, into" in error_of(cifar100, root=str(tmp_path), download=True)


def test_a_root_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_cifar10(tmp_path / "sets")
    assert len(cifar10("~/sets", verify=False).train) > 0
    np.save(tmp_path / "labels.npy", np.arange(4))
    assert read_labels("~/labels.npy").tolist() == [0, 1, 2, 3]
