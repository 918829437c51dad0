"""Noise by a transition matrix: which labels, how many, and matrices with a fault."""

import json
import math

import numpy as np
import pytest
import torch
from tests.datasets.labeled import corrupt, labeled

from cpc_lightning.errors import InputError
from cpc_lightning.noise.matrix import MatrixNoise, pick

# Class 0 stays or becomes 1 or 2; class 1 always becomes 2; class 2 stays or becomes 0, never 1.
T = [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0], [0.3, 0.0, 0.7]]

# A header that Python's parser gives up on, up to version 3.11 with an error that has no message.
DEEP = b"\x93NUMPY\x01\x00" + (9002).to_bytes(2, "little") + b"-" * 9000 + b"1\n"


def write(path, matrix):
    if path.suffix == ".npy":
        np.save(path, np.array(matrix))
    elif path.suffix == ".csv":
        path.write_text("".join(",".join(map(repr, row)) + "\n" for row in matrix))
    else:
        path.write_text(json.dumps(matrix))
    return str(path)


@pytest.mark.parametrize("name", ["T.npy", "T.csv", "T.json"])
def test_golden_labels(tmp_path, name):
    """u = 0.5488 0.7152 0.6028 0.5449 0.4237 0.6459 0.4376 0.8918 0.9637 (RandomState(0)) against each row's sums."""
    noise = MatrixNoise(write(tmp_path / name, T))
    assert corrupt(noise, torch.tensor([0, 0, 0, 1, 0, 2, 2, 0, 2]), 3, None, 0).tolist() == [1, 1, 1, 2, 0, 2, 2, 2, 2]
    assert noise.nominal_rate is None


def test_shares_are_the_matrix(tmp_path):
    size = 60_000
    labels = torch.arange(size) % 3
    split = MatrixNoise(write(tmp_path / "T.npy", T)).corrupt(labeled(labels, 3), 1)
    assert torch.equal(split.true_labels, labels)
    for i in range(3):
        counts = split.labels[labels == i].bincount(minlength=3).tolist()
        for j in range(3):
            # Five standard deviations of a binomial count of 20,000.
            assert abs(counts[j] - 20_000 * T[i][j]) <= 5 * math.sqrt(20_000 * T[i][j] * (1 - T[i][j]))


def test_the_identity_changes_nothing_and_seeds_differ(tmp_path):
    labels = torch.arange(50) % 3
    assert torch.equal(corrupt(MatrixNoise(write(tmp_path / "T.json", np.eye(3).tolist())), labels, 3, None, 0), labels)
    noise = MatrixNoise(write(tmp_path / "T.csv", T))
    assert torch.equal(corrupt(noise, labels, 3, None, 0), corrupt(noise, labels, 3, None, 0))
    assert not torch.equal(corrupt(noise, labels, 3, None, 0), corrupt(noise, labels, 3, None, 1))


def test_no_draw_picks_what_has_no_weight():
    drawn = np.array([0.0, 0.5, np.nextafter(1, 0)])
    assert pick(np.array([0.0, 0.5, 0.0, 0.5, 0.0]), drawn).tolist() == [1, 3, 3]
    # Ten tenths add up to less than 1.
    assert pick(np.array([0.1] * 10), np.array([0.0, 0.55, np.nextafter(1, 0)])).tolist() == [
        0,
        5,
        9,
    ]  # ten tenths add up to less than 1


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], "holds 2 x 2 numbers; 3 x 3 are needed"),
        ([[0.5, 0.25, 0.2], T[1], T[2]], "row 0 sums to 0.95; every row must sum to 1"),
        ([T[0], [0.0, -0.5, 1.5], T[2]], "P(noisy 1 | true 1) is -0.5; it must lie in [0, 1]"),
        ([T[0], T[1], [0.0, float("nan"), 1.0]], "P(noisy 1 | true 2) is nan"),
    ],
)
@pytest.mark.parametrize("name", ["T.npy", "T.csv", "T.json"])
def test_matrices_with_a_fault(tmp_path, name, matrix, says):
    noise = MatrixNoise(write(tmp_path / name, matrix))
    with pytest.raises(InputError) as error:
        corrupt(noise, torch.tensor([0, 1, 2]), 3, None, 0)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("T.txt", b"", "must end in one of .npy, .csv, .json"),
        ("gone.npy", None, "is not there"),
        ("T.npy", b"no array", "holds no matrix of numbers"),
        ("T.json", b'{"a": 1}', "holds no matrix of numbers"),
        ("T.json", b"[[1, 2], [3]]", "holds no matrix of numbers"),
        ("T.csv", b"a,b,c\n1,0,0\n", "holds no matrix of numbers"),
        ("T.npy", DEEP, "holds no matrix of numbers ("),
    ],
)
def test_files_with_a_fault(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"path=.*") as error:
        corrupt(MatrixNoise(str(tmp_path / name)), torch.tensor([0, 1, 2]), 3, None, 0)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
