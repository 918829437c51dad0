"""CIFAR-10N and CIFAR-100N, from files as `torch.save` and numpy write them."""

import pickle

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from tests.datasets.cifar_files import write_cifar10
from tests.datasets.labeled import labeled

from cpc_lightning.errors import InputError
from cpc_lightning.noise.human_labels import cifar10n, cifar100n

CLEAN = torch.arange(30) % 10
KEYS = {
    "clean": "clean_label",
    "aggre": "aggre_label",
    "rand1": "random_label1",
    "rand2": "random_label2",
    "rand3": "random_label3",
    "worst": "worse_label",
}


def content() -> dict[str, np.ndarray]:
    """Each label set is the clean one, some steps further in the circle of classes."""
    return {key: (CLEAN.numpy() + step) % 10 for step, key in enumerate(KEYS.values())}


def write_torch(path, value):
    torch.save(value, path)


def write_old_torch(path, value):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def write_numpy(path, value):
    np.save(path, value, allow_pickle=True)


def error_of(noise, dataset) -> str:
    with pytest.raises(InputError) as error:
        noise.corrupt(dataset, 0)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("write", "suffix"), [(write_torch, "pt"), (write_old_torch, "pt"), (write_numpy, "npy")])
@pytest.mark.parametrize(("labels", "step"), [("clean", 0), ("aggre", 1), ("rand1", 2), ("rand3", 4), ("worst", 5)])
def test_each_label_set_from_each_format(tmp_path, write, suffix, labels, step):
    write(tmp_path / f"CIFAR-10_human.{suffix}", content())
    dataset = labeled(CLEAN, 10)
    for noise in (
        cifar10n(labels, root=str(tmp_path)),
        cifar10n(labels, path=str(tmp_path / f"CIFAR-10_human.{suffix}")),
    ):
        split = noise.corrupt(dataset, seed=3)
        assert split.labels.tolist() == [(k + step) % 10 for k in range(30)]
        assert split.labels.dtype == torch.int64
        assert split.true_labels.tolist() == CLEAN.tolist()
        assert noise.nominal_rate is None


@pytest.mark.parametrize(
    "make", [np.asarray, torch.as_tensor, np.ndarray.tolist, lambda v: v.astype(np.int32)[:, None]]
)
def test_arrays_tensors_lists_and_columns(tmp_path, make):
    torch.save({key: make(values) for key, values in content().items()}, tmp_path / "labels.pt")
    split = cifar10n("worst", path=str(tmp_path / "labels.pt")).corrupt(labeled(CLEAN, 10), 0)
    assert split.labels.tolist() == [(k + 5) % 10 for k in range(30)]


def test_cifar100n(tmp_path, monkeypatch):
    clean = torch.arange(200) % 100
    noisy = (clean + 1) % 100
    coarse = {"noisy_coarse_label": np.zeros(200, int), "clean_coarse_label": np.zeros(200, int)}
    (tmp_path / "CIFAR-N").mkdir()
    torch.save(
        {"clean_label": clean.numpy(), "noisy_label": noisy.numpy(), **coarse}, tmp_path / "CIFAR-N/CIFAR-100_human.pt"
    )
    monkeypatch.setenv("CPC_DATA", str(tmp_path))
    assert torch.equal(cifar100n().corrupt(labeled(clean, 100), 0).labels, noisy)
    assert torch.equal(cifar100n("clean").corrupt(labeled(clean, 100), 0).labels, clean)


def test_unknown_label_set():
    with pytest.raises(InputError, match="labels=wrost: must be one of clean, aggre, rand1, rand2, rand3, worst"):
        cifar10n("wrost")


def test_found_beside_the_data_set(compose, tmp_path):
    write_cifar10(tmp_path, per_batch=6)
    dataset = instantiate(compose("dataset=cifar10", f"dataset.root={tmp_path}", "dataset.verify=false").dataset)
    clean = dataset.train.labels.numpy()
    torch.save({"clean_label": clean, "aggre_label": (clean + 1) % 10}, tmp_path / "CIFAR-10_human.pt")
    config = compose("dataset=cifar10", f"dataset.root={tmp_path}", "noise=cifar10n", "noise.labels=aggre")
    assert instantiate(config.noise).corrupt(dataset, 0).labels.tolist() == ((clean + 1) % 10).tolist()


class Harmful:
    def __reduce__(self):
        return (eval, ("open('harmed', 'w')",))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1, 2], "must hold a dict of label arrays; noise=file"),
        ({"clean_label": CLEAN.numpy()}, "has no worse_label, but clean_label"),
        (content() | {"worse_label": np.zeros(29, int)}, "worse_label holds 29 labels, but there are 30 training"),
        (content() | {"worse_label": np.full(30, 10)}, r"worse_label runs from 10 to 10; classes are 0..9"),
        (content() | {"worse_label": np.zeros(30)}, r"worse_label is float64 (30,)"),
        (content() | {"clean_label": (CLEAN.numpy() + (np.arange(30) == 7)) % 10},
         "clean_label differs from the data set's labels (1 do; the first is sample 7: 8, not 7)"),
        (content() | {"more": Harmful()}, "cannot be read safely"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("write", "name"), [(write_torch, "labels.pt"), (write_numpy, "labels.npy")])
def test_files_with_a_fault(tmp_path, monkeypatch, write, name, value, says):
    monkeypatch.chdir(tmp_path)
    if isinstance(value, list):
        value = np.array(value) if name.endswith("npy") else value
    write(tmp_path / name, value)
    assert says in error_of(cifar10n(path=name), labeled(CLEAN, 10))
    assert not (tmp_path / "harmed").exists()


def test_no_file_other_file_garbled_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CPC_DATA", raising=False)
    dataset = labeled(CLEAN, 10)
    assert "path=null: there is no data/CIFAR-10_human.pt" in error_of(cifar10n(), dataset)
    assert "is not there" in error_of(cifar10n(path="gone.pt"), dataset)
    assert "must end in one of .pt, .npy" in error_of(cifar10n(path="labels.txt"), dataset)
    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"clean_label": 1}, protocol=2)[:7])
    assert "cannot be read safely" in error_of(cifar10n(path="bad.pt"), dataset)
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00")
    assert "cannot be read safely" in error_of(cifar10n(path="bad.npy"), dataset)
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    assert "holds an array of objects" in error_of(cifar10n(path="objects.npy"), dataset)
