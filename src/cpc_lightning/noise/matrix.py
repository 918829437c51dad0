"""Label noise by a transition matrix. Shapes: N samples, K classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from cpc_lightning.datasets.dataset import ImageDataset, Split
from cpc_lightning.datasets.reading.label_files import Reader, present_file, reader_for
from cpc_lightning.errors import InputError, first_line, require
from cpc_lightning.noise.noise import frozen_stream, relabeled

TOLERANCE = 1e-6  # of a row's sum: matrices are often written with six or more digits


class MatrixNoise:
    """Every sample draws its label from its class's row of a transition matrix.

    Args:
        path: a file with transition_matrix[i, j] = P(noisy label j | true label i), (K, K): .npy, .csv (K lines of K
            numbers, no header) or .json (a list of K lists). Every row sums to 1.
    """

    def __init__(self, path: str) -> None:
        # The share of wrong labels depends on how many samples each class has.
        self.nominal_rate: float | None = None
        self.path = path

    def corrupt(self, dataset: ImageDataset, seed: int) -> Split:
        """Noisy labels; see `Noise`.

        Raises:
            InputError: if the file cannot be used, or holds no (K, K) transition matrix.
        """
        transition_matrix = read_matrix(self.path, len(dataset.class_names))
        labels = dataset.train.labels.numpy()
        drawn = frozen_stream(seed).random_sample(len(labels))
        noisy = labels.copy()
        for true, row in enumerate(transition_matrix):
            members = np.flatnonzero(labels == true)
            noisy[members] = pick(row, drawn[members])
        return relabeled(dataset.train, torch.from_numpy(noisy))


def pick(weights: npt.NDArray[np.float64], drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """For each number drawn from [0, 1), a position drawn with probability proportional to its weight.

    Args:
        weights: (K,), at least 0, not all 0.
        drawn: (n,).
    """
    bounds = np.cumsum(weights)
    # The last bound becomes exactly 1, so that no draw falls behind it; an empty interval, of weight 0, gets none.
    return np.searchsorted(bounds / bounds[-1], drawn, side="right").astype(np.int64)


def read_matrix(path: str, num_classes: int) -> npt.NDArray[np.float64]:
    """The transition matrix (K, K) in a file; see `MatrixNoise`.

    Raises:
        InputError: named "path", if the file is not there, cannot be read, or holds anything else.
    """
    reader = reader_for(path, _READERS)
    try:
        file = present_file(path)
        matrix = np.asarray(reader(file), dtype=np.float64)
    except InputError:
        raise
    except OSError as error:
        raise InputError("path", path, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a parser on a garbled file raises whatever it trips over
        raise InputError("path", path, f"holds no matrix of numbers ({first_line(error):.200})") from error

    expected = f"holds {' x '.join(map(str, matrix.shape))} numbers; {num_classes} x {num_classes} are needed"
    require(matrix.shape == (num_classes, num_classes), "path", path, expected)
    wrong = np.argwhere(~((matrix >= 0) & (matrix <= 1)))  # so put that NaN is wrong too
    if len(wrong) > 0:
        i, j = wrong[0].tolist()
        raise InputError("path", path, f"P(noisy {j} | true {i}) is {matrix[i, j]:g}; it must lie in [0, 1]")
    sums = matrix.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > TOLERANCE)
    if len(off) > 0:
        raise InputError("path", path, f"row {off[0]} sums to {sums[off[0]]:.6g}; every row must sum to 1")
    return matrix


def _read_npy(file: Path) -> object:
    return np.load(file, allow_pickle=False)


def _read_csv(file: Path) -> object:
    return np.loadtxt(file, delimiter=",", ndmin=2, encoding="utf-8-sig")


def _read_json(file: Path) -> object:
    return json.loads(file.read_text(encoding="utf-8-sig"))


_READERS: dict[str, Reader] = {".npy": _read_npy, ".csv": _read_csv, ".json": _read_json}
