"""Images in files of arrays: shapes, levels, mistakes."""

import re

import numpy as np
import pytest
import torch

from cpc_lightning.datasets.image_arrays import check_images, image_arrays
from cpc_lightning.errors import InputError

PIXELS = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(np.uint8)  # two images, three lines of four pixels


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PIXELS, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        (PIXELS.astype(np.int64), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        (PIXELS.astype(np.float64), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        (PIXELS[..., None], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        (PIXELS[:, None], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        (PIXELS >= 2, [[0, 0, 255, 255], [255] * 4, [255] * 4]),
        (PIXELS / 23, [[0, 11, 22, 33], [44, 55, 67, 78], [89, 100, 111, 122]]),  # 255 / 23 = 11.087 a step
    ],
    ids=["levels", "whole", "floating", "last", "first", "true", "unit"],
)
def test_what_images_may_be(given, expected):
    made = check_images("file", "a.npz", given)
    assert (made.shape, made.dtype) == ((2, 1, 3, 4), torch.uint8)
    assert made[0, 0].tolist() == expected
    assert made.stride() == (12, 12, 4, 1)  # or torch takes other kernels, which round otherwise


def test_colours_come_first_or_last():
    colour = np.stack([PIXELS, PIXELS + 30, PIXELS + 60], axis=3)
    last, first = (check_images("file", "a.npz", given) for given in (colour, np.moveaxis(colour, 3, 1)))
    assert torch.equal(last, first)
    assert last[1, :, 2, 3].tolist() == [23, 53, 83]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (PIXELS[0], "images must be (N, H, W), (N, H, W, 3) or (N, 3, H, W), and are (3, 4)"),
        (np.zeros((2, 5, 4, 4)), "and are (2, 5, 4, 4)"),
        (np.zeros((0, 4, 4)), "and are (0, 4, 4)"),
        (PIXELS.astype(str), "images must be numbers"),
        (PIXELS * 1.0 - 1, "images must be levels in 0..255, or in [0, 1], and are -1 to 22"),
        (PIXELS * 20.0, "and are 0 to 460"),
        (np.where(PIXELS == 5, np.nan, PIXELS), "and are nan to nan"),
    ],
    ids=["one", "channels", "none", "text", "negative", "large", "nan"],
)
def test_mistakes(given, says):
    with pytest.raises(InputError, match=re.escape(says)):
        check_images("file", "a.npz", given)


def test_a_file_of_images(tmp_path):
    labels = np.array(["b", "a"])
    np.savez(tmp_path / "train.npz", images=PIXELS, labels=labels, ids=[7, 9])
    data = image_arrays(str(tmp_path / "train.npz"), test_share=0)
    assert (data.class_names, data.train.labels.tolist(), data.train.paths) == (("a", "b"), [1, 0], ["7", "9"])
    assert data.train.images.fetch(torch.tensor([1]))[0, 0].tolist() == (PIXELS[1]).tolist()
    np.savez(tmp_path / "test.npz", images=PIXELS[:, :2], labels=labels)
    says = "test_file=.*has gray images of 2 x 4 pixels, where those to train on have gray images of 3 x 4 pixels"
    with pytest.raises(InputError, match=says):
        image_arrays(str(tmp_path / "train.npz"), str(tmp_path / "test.npz"))
