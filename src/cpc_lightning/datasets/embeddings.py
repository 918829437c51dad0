"""Data sets of your own vectors: features, labels, and perhaps true labels and names, in a file of arrays.

Shapes: N samples, V views, D numbers of a vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.datasets.labeled_arrays import Kind, labeled_arrays
from cpc_lightning.datasets.vectors import require_finite, without_views
from cpc_lightning.errors import require

FEATURES = "features"


def embeddings(file: str, test_file: str | None = None, test_share: float = 0.2, split_seed: int = 0) -> ImageDataset:
    """Vectors with labels, as anybody's own network or table has them.

    Args:
        file: to train on, as `labeled_arrays` has it; its array `features` is (N, D), or (N, V, D) with several views
            of each sample, such as those of an image and of its mirror image.
        test_file: to test on, likewise; None: a share of each class is set aside.
        test_share: that share, in [0, 1): 0 trains on all, and nothing is tested.
        split_seed: decides which ones.

    Raises:
        InputError: as `labeled_arrays` and `check_features` do.
    """
    return labeled_arrays(VECTORS, file, test_file, test_share, split_seed)


def check_features(setting: str, file: str, features: npt.NDArray[Any]) -> Tensor:
    """The array as (N, D) or (N, V, D) float32.

    Raises:
        InputError: named `setting`, if it is of another shape, or holds no numbers, or such as are NaN or infinite.
    """
    shape, kind = tuple(features.shape), features.dtype
    require(features.ndim in (2, 3), setting, file, f"features must be (N, D) or (N, views, D), and are {shape}")
    require(kind.kind in "fiu", setting, file, f"features must be numbers, and are {kind}")
    require(len(features) > 0 and shape[1] > 0, setting, file, f"features hold nothing: they are {shape}")
    require(shape[-1] >= 2, setting, file, f"a vector needs at least 2 numbers, and features are {shape}")
    vectors = torch.from_numpy(features if kind == np.float32 else features.astype(np.float32))
    require_finite(setting, file, vectors, "features")
    return vectors


VECTORS = Kind(
    "embeddings", FEATURES, check_features, without_views, lambda vectors: f"{vectors.shape[-1]} numbers a vector"
)
