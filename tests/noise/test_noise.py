"""Label noise: how many, which, to what; the same everywhere; and files with every fault."""

import contextlib
import json
import math
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.datasets.labeled import corrupt, labeled

from cpc_lightning.analysis.metrics import noise_rate
from cpc_lightning.datasets.dataset import ArrayImages, Split
from cpc_lightning.datasets.reading.label_files import read_labels
from cpc_lightning.errors import InputError
from cpc_lightning.noise.noise import AsymmetricNoise, FileNoise, NoNoise, PairNoise, SymmetricNoise, keep_certain

DIGITS_MAP = {7: 1, 2: 7, 5: 6, 6: 5, 3: 8}
TWENTY = torch.arange(20) % 10  # 0 1 2 ... 9 0 1 2 ... 9
SUFFIXES = [".npy", ".json", ".csv", ".txt"]


def error_of(call, *arguments) -> InputError:
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return error.value


def write_labels(path, labels):
    """A file of labels as other programs write it, by its ending."""
    if path.suffix == ".npy":
        np.save(path, np.array(labels))
    elif path.suffix == ".json":
        path.write_text(json.dumps(labels))
    elif path.suffix == ".csv":
        path.write_text("index,noisy_label\n" + "".join(f"{index},{label}\n" for index, label in enumerate(labels)))
    else:
        path.write_text("".join(f"{label}\n" for label in labels))


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def global_states() -> tuple:
    _, key, position, *_ = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), key.tolist(), position, random.getstate()


# The draw


def test_golden_labels():
    """The literal answer of numpy's frozen stream: any other machine or version must give the same."""
    symmetric = corrupt(SymmetricNoise(0.5), TWENTY, 10, None, 0)
    assert symmetric.tolist() == [0, 7, 4, 3, 9, 5, 9, 7, 8, 9, 1, 1, 2, 8, 4, 5, 6, 5, 6, 7]
    others = corrupt(SymmetricNoise(0.5, include_true_class=False), TWENTY, 10, None, 0)
    assert others.tolist() == [0, 8, 0, 3, 3, 5, 9, 7, 9, 9, 2, 1, 2, 5, 4, 5, 6, 5, 6, 7]
    asymmetric = corrupt(AsymmetricNoise(0.5), TWENTY, 10, DIGITS_MAP, 0)
    assert asymmetric.tolist() == [0, 1, 7, 3, 4, 5, 5, 7, 8, 9, 0, 1, 2, 8, 4, 5, 6, 1, 8, 9]
    pair = corrupt(PairNoise(0.5), TWENTY, 10, None, 0)
    assert pair.tolist() == [0, 2, 3, 3, 5, 5, 7, 7, 9, 9, 1, 1, 2, 4, 4, 5, 6, 8, 9, 0]


@pytest.mark.parametrize(
    "noise", [SymmetricNoise(0.5), SymmetricNoise(0.5, False), AsymmetricNoise(0.5), PairNoise(0.5), NoNoise()]
)
def test_same_seed_same_labels_whatever_else_is_drawn(noise):
    seed_all(1)
    first = corrupt(noise, TWENTY, 10, DIGITS_MAP, 7)
    seed_all(2)
    before = global_states()
    assert torch.equal(corrupt(noise, TWENTY, 10, DIGITS_MAP, 7), first)
    assert global_states() == before
    assert TWENTY.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 2
    assert first.dtype == torch.int64


@pytest.mark.parametrize(
    "noise", [SymmetricNoise(0.5), SymmetricNoise(0.5, False), AsymmetricNoise(0.5), PairNoise(0.5)]
)
def test_other_seed_other_labels(noise):
    assert not torch.equal(corrupt(noise, TWENTY, 10, DIGITS_MAP, 0), corrupt(noise, TWENTY, 10, DIGITS_MAP, 1))


@given(percent=st.integers(0, 100), size=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1))
@example(percent=29, size=100, seed=0)  # 0.29 * 100 is 28.999999999999996
@example(percent=57, size=50_000, seed=0)
@settings(max_examples=60, deadline=None)
def test_exactly_the_whole_part_of_the_rate_is_drawn(percent, size, seed):
    labels = torch.zeros(size, dtype=torch.int64)
    noisy = corrupt(SymmetricNoise(percent / 100, include_true_class=False), labels, 5, None, seed)
    assert int((noisy != 0).sum()) == percent * size // 100
    flipped = corrupt(AsymmetricNoise(percent / 100, {0: 3}), labels, 5, None, seed)
    assert int((flipped == 3).sum()) == percent * size // 100
    assert int((corrupt(PairNoise(percent / 100), labels, 5, None, seed) == 1).sum()) == percent * size // 100


def test_a_third_of_three_is_one():
    noisy = corrupt(SymmetricNoise(1 / 3, include_true_class=False), torch.zeros(3, dtype=torch.int64), 2, None, 0)
    assert int(noisy.sum()) == 1


def test_symmetric_draws_uniformly_among_all_classes():
    size = 50_000
    noisy = corrupt(SymmetricNoise(1.0), torch.full((size,), 3), 5, None, 0)
    spread = math.sqrt(size * 0.2 * 0.8)
    assert all(abs(count - size / 5) < 5 * spread for count in noisy.bincount(minlength=5).tolist())
    assert len(noisy.bincount()) == 5


@pytest.mark.parametrize("true_class", [0, 2, 4])
def test_symmetric_draws_uniformly_among_the_others(true_class):
    size = 40_000
    noisy = corrupt(SymmetricNoise(1.0, include_true_class=False), torch.full((size,), true_class), 5, None, 0)
    counts = noisy.bincount(minlength=5).tolist()
    assert counts.pop(true_class) == 0
    assert len(counts) == 4
    assert all(abs(count - size / 4) < 5 * math.sqrt(size * 0.25 * 0.75) for count in counts)


def test_who_is_drawn_does_not_depend_on_the_class_or_the_place():
    size = 40_000
    noisy = corrupt(SymmetricNoise(0.4, include_true_class=False), torch.arange(size) % 10, 10, None, 0)
    drawn = (noisy != torch.arange(size) % 10).view(4, size // 40, 10)
    for share in (*drawn.float().mean(dim=(1, 2)).tolist(), *drawn.float().mean(dim=(0, 1)).tolist()):
        assert share == pytest.approx(0.4, abs=0.04)


def test_asymmetric_draws_from_all_classes_and_flips_those_in_the_map():
    size = 50_000
    labels = torch.arange(size) % 10
    noisy = corrupt(AsymmetricNoise(0.4), labels, 10, DIGITS_MAP, 0)
    changed = noisy != labels
    # Half of the classes can be mistaken: about 0.2 of all labels change, not 0.4.
    assert changed.float().mean().item() == pytest.approx(0.2, abs=0.01)
    pairs = set(zip(labels[changed].tolist(), noisy[changed].tolist(), strict=True))
    assert pairs == set(DIGITS_MAP.items())
    assert (noisy[labels == 7] == 1).float().mean().item() == pytest.approx(0.4, abs=0.04)


def test_asymmetric_at_full_rate_applies_the_map_once():
    """5 and 6 swap: applied class after class, all would end as one of them."""
    noisy = corrupt(AsymmetricNoise(1.0), TWENTY, 10, DIGITS_MAP, 0)
    assert noisy.tolist() == [0, 1, 7, 8, 4, 6, 5, 1, 8, 9] * 2


def test_asymmetric_prefers_its_own_map():
    noisy = corrupt(AsymmetricNoise(1.0, class_map={0: 9}), TWENTY, 10, DIGITS_MAP, 0)
    assert noisy.tolist() == [9, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 2


@pytest.mark.parametrize(("num_classes", "expected"), [(10, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]), (2, [1, 0])])
def test_pair_at_full_rate_takes_every_class_to_the_next_and_the_last_to_the_first(num_classes, expected):
    """Whatever map the data set has: that is of classes that are alike, not of neighbours in the list."""
    labels = torch.arange(num_classes)
    assert corrupt(PairNoise(1.0), labels, num_classes, {0: 0}, 3).tolist() == expected


def test_pair_changes_its_share_of_every_class_and_to_nothing_but_the_next():
    labels = torch.arange(50_000) % 10
    noisy = corrupt(PairNoise(0.45), labels, 10, None, 0)
    changed = noisy != labels
    assert int(changed.sum()) == 22_500
    assert torch.equal(noisy[changed], (labels[changed] + 1) % 10)
    for k in range(10):
        assert changed[labels == k].float().mean().item() == pytest.approx(0.45, abs=0.03)


def test_no_noise_and_rate_zero_change_nothing():
    for noise in (NoNoise(), SymmetricNoise(0.0), AsymmetricNoise(0), PairNoise(0)):
        assert corrupt(noise, TWENTY, 10, DIGITS_MAP, 0).tolist() == TWENTY.tolist()


def test_the_labels_before_synthetic_noise_are_the_true_ones_unless_more_is_known():
    noise = SymmetricNoise(1.0, include_true_class=False)
    split = noise.corrupt(labeled(TWENTY, 10), 0)
    assert split.true_labels.tolist() == TWENTY.tolist()
    assert not (split.labels == split.true_labels).any()
    known = labeled(TWENTY, 10, DIGITS_MAP, true_labels=torch.full((20,), 4))
    assert noise.corrupt(known, 0).true_labels.tolist() == [4] * 20
    assert AsymmetricNoise(0.5).corrupt(known, 0).true_labels.tolist() == [4] * 20


def test_labels_that_come_with_the_data_say_nothing_of_the_truth(tmp_path):
    write_labels(tmp_path / "labels.txt", TWENTY.tolist())
    assert NoNoise().corrupt(labeled(TWENTY, 10), 0).true_labels is None
    assert FileNoise(str(tmp_path / "labels.txt")).corrupt(labeled(TWENTY, 10), 0).true_labels is None


def test_nominal_rates():
    assert NoNoise().nominal_rate is None
    assert SymmetricNoise(0.9).nominal_rate == 0.9
    assert AsymmetricNoise(0.4).nominal_rate == 0.4
    assert PairNoise(0.45).nominal_rate == 0.45
    assert FileNoise("labels.npy").nominal_rate is None


@pytest.mark.parametrize("rate", [1.5, -0.1, float("nan"), float("inf"), "0.5", None, True])
@pytest.mark.parametrize("noise", [SymmetricNoise, AsymmetricNoise, PairNoise])
def test_wrong_rates_are_named(noise, rate):
    assert error_of(noise, rate).setting == "rate"


@pytest.mark.parametrize(
    "class_map", [None, {}, {0: 10}, {10: 0}, {-1: 0}, {0: -1}, {0: 1.0}, {"0": 1}, {0: True}, [(0, 1)]]
)
def test_wrong_class_maps_are_named(class_map):
    noise = AsymmetricNoise(0.5, class_map)
    assert error_of(corrupt, noise, TWENTY, 10, None, 0).setting == "class_map"


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
@pytest.mark.parametrize("noise", [SymmetricNoise(0.5), AsymmetricNoise(0.5), PairNoise(0.5)])
def test_wrong_seeds_are_named(noise, seed):
    assert error_of(corrupt, noise, TWENTY, 10, DIGITS_MAP, seed).setting == "seed"


# Files


@given(labels=st.lists(st.integers(0, 99), min_size=1, max_size=50), suffix=st.sampled_from(SUFFIXES))
@settings(max_examples=60, deadline=None)
def test_every_kind_of_file_gives_its_labels(tmp_path_factory, labels, suffix):
    path = tmp_path_factory.mktemp("labels") / f"labels{suffix}"
    write_labels(path, labels)
    back = corrupt(FileNoise(str(path)), torch.zeros(len(labels), dtype=torch.int64), 100, None, 0)
    assert back.tolist() == labels
    assert back.dtype == torch.int64
    back += 1  # owned and writable: not a view of the file
    assert read_labels(str(path)).tolist() == labels


@pytest.mark.parametrize("dtype", ["int8", "uint8", ">i4", "int64", "uint64"])
def test_npy_of_any_integers(tmp_path, dtype):
    np.save(tmp_path / "labels.npy", np.array([2, 0, 1], dtype=dtype))
    assert read_labels(str(tmp_path / "labels.npy")).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "index,noisy_label\n2,7\n0,3\n1,0\n",
        "path,noisy_label,note,index\nb.png,7,,2\na.png,3,x,0\nc.png,0,,1\n",
        "noisy_label\n3\n0\n7\n",
        '\ufeffindex,noisy_label,path\r\n1,0,"a, ""b""\nc.png"\r\n0,3,b\r\n2, 7,c',
    ],
)
def test_csv_as_reports_write_it(tmp_path, text):
    (tmp_path / "labels.csv").write_bytes(text.encode())
    assert read_labels(str(tmp_path / "labels.csv")).tolist() == [3, 0, 7]


def test_txt_as_editors_leave_it(tmp_path):
    (tmp_path / "labels.TXT").write_bytes(b"3\r\n 0\r\n7\r\n\r\n")
    assert read_labels(str(tmp_path / "labels.TXT")).tolist() == [3, 0, 7]


def npy(values) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


# For three samples and ten classes.
FAULTS = [
    ("short.npy", npy([1, 2]), "holds 2 labels, but there are 3 training samples"),
    ("long.json", b"[1, 2, 3, 4]", "holds 4 labels, but there are 3"),
    ("empty.txt", b"", "holds 0 labels, but there are 3"),
    ("empty.json", b"[]", "holds 0 labels"),
    ("high.npy", npy([1, 10, 11]), "label 10 of sample 1 is outside 0..9 (2 are)"),
    ("low.txt", b"1\n2\n-1\n", "label -1 of sample 2 is outside 0..9 (1 are)"),
    ("wraps.npy", npy(np.array([1, 2, 2**64 - 1], dtype=np.uint64)), "holds 18446744073709551615"),
    ("float.npy", npy([1.0, 2.0, 3.0]), "holds float64 (3); integers in one dimension are needed"),
    ("nan.npy", npy([1.0, np.nan, 3.0]), "holds float64"),
    ("bool.npy", npy([True, False, True]), "holds bool"),
    ("plane.npy", npy([[1, 2, 3]]), "holds int64 (1 x 3)"),
    ("scalar.npy", npy(np.array(1)), "a single value"),
    ("object.npy", npy(np.array([1, None, 3], dtype=object)), "cannot be read as .npy"),
    ("pickle.npy", pickle.dumps([1, 2, 3]), "cannot be read as .npy"),
    ("cut.npy", npy([1, 2, 3])[:-8], "cannot be read as .npy"),
    ("header.npy", npy([1, 2, 3])[:40], "cannot be read as .npy"),
    ("nothing.npy", b"", "cannot be read as .npy"),
    ("claims.npy", npy([1, 2, 3]).replace(b"(3,)", b"(3000000000000,)"), "cannot be read as .npy"),
    ("float.json", b"[1, 2.0, 3]", "value 1 is 2.0; integers are needed"),
    ("nan.json", b"[1, 2, NaN]", "value 2 is nan"),
    ("text.json", b'[1, "2", 3]', "value 1 is '2'"),
    ("bool.json", b"[1, true, 3]", "value 1 is True"),
    ("object.json", b'{"noisy": [1, 2, 3]}', "must hold one list of integers"),
    ("cut.json", b"[1, 2, 3", "cannot be read as .json"),
    ("deep.json", b"[" * 100_000, "cannot be read as .json"),
    ("huge.json", b"[1, 2, 99999999999999999999]", "cannot be read as .json"),
    ("digits.json", b"[1, 2, " + b"9" * 5000 + b"]", "cannot be read as .json"),
    ("binary.json", b"\xff\xfe\x00", "cannot be read as .json"),
    ("column.csv", b"index,label\n0,1\n1,2\n2,3\n", "must have a column noisy_label"),
    ("empty.csv", b"", "must have a column noisy_label"),
    ("twice.csv", b"index,noisy_label\n0,1\n0,2\n2,3\n", "index 1 is missing, so that another is there twice"),
    ("outside.csv", b"index,noisy_label\n1,1\n2,2\n3,3\n", "index 3 is outside 0..2"),
    ("minus.csv", b"index,noisy_label\n-1,1\n0,2\n1,3\n", "index -1 is outside 0..2"),
    ("float.csv", b"noisy_label\n1\n2.0\n3\n", "row 2 is '2.0'"),
    ("gap.csv", b"index,noisy_label\n0,1\n1\n2,3\n", "row 2 is None"),
    ("blank.csv", b"index,noisy_label\n0,1\n1,\n2,3\n", "row 2 is ''"),
    ("index.csv", b"index,noisy_label\n0,1\n1.5,2\n2,3\n", "index of row 2 is '1.5'"),
    ("quote.csv", b'noisy_label\n1\n"2"x\n3\n', "cannot be read as .csv"),
    ("binary.csv", b"noisy_label\n1\n\xff\n3\n", "cannot be read as .csv"),
    ("float.txt", b"1\n2.0\n3\n", "line 2 is '2.0'"),
    ("nan.txt", b"1\nnan\n3\n", "line 2 is 'nan'"),
    ("savetxt.txt", b"1.000000000000000000e+00\n2\n3\n", "line 1 is '1.000000000000000000e+00'"),
    ("gap.txt", b"1\n\n3\n", "line 2 is ''"),
    ("underscore.txt", b"1\n1_0\n3\n", "line 2 is '1_0'"),
    ("digits.txt", b"1\n" + b"9" * 5000 + b"\n3\n", "line 2 is '999"),
    ("arabic.txt", "1\n٢\n3\n".encode(), "line 2 is '٢'"),
    ("binary.txt", b"\x80\x81", "cannot be read as .txt"),
    ("labels.pt", b"1\n2\n3\n", "must end in one of .npy, .json, .csv, .txt"),
    ("labels", b"1\n2\n3\n", "must end in one of"),
]


@pytest.mark.parametrize(("name", "content", "said"), FAULTS, ids=[name for name, *_ in FAULTS])
def test_faulty_files_are_described(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    error = error_of(corrupt, FileNoise(str(path)), torch.zeros(3, dtype=torch.int64), 10, None, 0)
    assert (error.setting, error.value) == ("path", str(path))
    assert said in error.expected
    assert len(error.expected) < 300


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_absent_files_and_folders(tmp_path, suffix):
    path = tmp_path / f"labels{suffix}"
    assert error_of(read_labels, str(path)).expected == "is not there"
    path.mkdir()
    assert error_of(read_labels, str(path)).expected == "is not a file"
    assert error_of(read_labels, str(tmp_path / ("n" * 300 + suffix))).setting == "path"


@pytest.mark.parametrize("path", [None, "", 3])
def test_a_path_is_needed(path):
    assert error_of(corrupt, FileNoise(path), TWENTY, 10, None, 0).setting == "path"


@given(data=st.data(), suffix=st.sampled_from(SUFFIXES))
@settings(max_examples=150, deadline=None)
def test_no_damage_shows_anything_but_an_input_error(tmp_path_factory, data, suffix):
    """Whatever bytes are overwritten, the file gives integers or one InputError."""
    path = tmp_path_factory.mktemp("damaged") / f"labels{suffix}"
    write_labels(path, list(range(12)))
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(content)))
    content[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path.write_bytes(bytes(content))
    with contextlib.suppress(InputError):
        labels = read_labels(str(path))
        assert labels.dtype == torch.int64
        assert labels.ndim == 1


def test_dividemix_noise_file(tmp_path):
    """As DivideMix's dataloader leaves it: json.dump of a list."""
    with open(tmp_path / "0.5_sym.json", "w") as file:
        json.dump([6, 9, 4], file)
    assert read_labels(str(tmp_path / "0.5_sym.json")).tolist() == [6, 9, 4]


def test_noise_leaves_trusted_labels_and_absent_ones_as_they_are():
    labels, trusted = torch.tensor([0, 1, 2, -1, -1, 0]), torch.tensor([True, False, True, False, False, False])
    before = Split(ArrayImages(torch.zeros(6, 1, 2, 2, dtype=torch.uint8)), labels, trusted=trusted)
    after = replace(before, labels=torch.tensor([2, 2, 1, 0, 2, 1]))
    assert keep_certain(before, after).labels.tolist() == [0, 2, 2, -1, -1, 1]
    plain = replace(before, labels=labels.clamp(min=0), trusted=None)
    assert keep_certain(plain, after) is after
    assert noise_rate(torch.tensor([0, -1, 1]), torch.tensor([0, 0, 0])) == 0.5
