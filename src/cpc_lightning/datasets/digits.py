"""Handwritten digits that come with scikit-learn: 1,797 images of 8 x 8 pixels, no download.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI; scikit-learn holds its test part.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.datasets.splits import held_out

# Each digit and the one it is mistaken for (Patrini et al. 2017, for MNIST).
CLASS_MAP = {7: 1, 2: 7, 5: 6, 6: 5, 3: 8}


def digits(test_share: float = 0.2, split_seed: int = 0) -> ImageDataset:
    """The digits, (N, 1, 8, 8) uint8, divided into "train" and "test" class by class.

    Of each class's n images, round(test_share * n) are for testing, at least one and at most n - 1: by default 359 in
    all, which leaves 1,438 for training. Both parts keep the order of scikit-learn.

    Args:
        test_share: share of the images to test on, in [0, 1); with 0 nothing is tested.
        split_seed: decides which ones; the same on any machine and with any version of numpy.
    """
    source = load_digits()
    # Gray values run from 0 to 16; the one tie, 8 (127.5), goes to the even 128 as in Python's round.
    pixels = torch.from_numpy(np.rint(source.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(source.target.astype(np.int64))

    is_test = held_out(labels, 10, test_share, split_seed) if test_share != 0 else torch.zeros_like(labels).bool()

    def part(chosen: torch.Tensor) -> Split:
        return Split(ArrayImages(pixels[chosen]), labels[chosen], true_labels=labels[chosen])

    return ImageDataset(
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
        train=part(~is_test),
        evaluation={"test": part(is_test)} if bool(is_test.any()) else {},
        class_map=CLASS_MAP,
    )
