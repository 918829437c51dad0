"""The digits: what they are and how they are divided."""

import pytest
import torch
from sklearn.datasets import load_digits

from cpc_lightning.datasets.digits import digits
from cpc_lightning.errors import InputError

# scikit-learn's first image, a zero: gray values 0..16 times 255 / 16, rounded (8 would be 127.5 and becomes 128).
FIRST_ZERO = [
    [0, 0, 80, 207, 143, 16, 0, 0],
    [0, 0, 207, 239, 159, 239, 80, 0],
    [0, 48, 239, 32, 0, 175, 128, 0],
    [0, 64, 191, 0, 0, 128, 128, 0],
    [0, 80, 128, 0, 0, 143, 128, 0],
    [0, 64, 175, 0, 16, 191, 112, 0],
    [0, 32, 223, 80, 159, 191, 0, 0],
    [0, 0, 96, 207, 159, 0, 0, 0],
]


def test_sizes_and_names():
    dataset = digits()
    train, test = dataset.train, dataset.evaluation["test"]
    assert train.images.pixels.shape == (1438, 1, 8, 8)
    assert test.images.pixels.shape == (359, 1, 8, 8)
    assert train.images.pixels.dtype == torch.uint8
    # A fifth, rounded, of each class's 178, 182, 177, 183, 181, 182, 181, 179, 174, 180 images.
    assert test.labels.bincount().tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert train.labels.bincount().tolist() == [142, 146, 142, 146, 145, 146, 145, 143, 139, 144]
    assert train.labels.dtype == torch.int64
    assert train.true_labels.tolist() == train.labels.tolist()
    assert dataset.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert dataset.class_map == {7: 1, 2: 7, 5: 6, 6: 5, 3: 8}
    assert dataset.name == "digits"


def test_first_image_and_golden_split():
    dataset = digits()
    assert dataset.train.images.pixels[0, 0].tolist() == FIRST_ZERO
    # Labels of the first images on either side: the same on every machine.
    assert dataset.train.labels[:12].tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 0, 1, 2, 4]
    assert dataset.evaluation["test"].labels[:12].tolist() == [3, 7, 3, 9, 0, 8, 7, 0, 8, 0, 3, 3]
    assert digits(split_seed=1).evaluation["test"].labels[:12].tolist() == [2, 4, 5, 2, 5, 6, 1, 3, 4, 9, 0, 8]


def test_a_share_of_nothing_trains_on_all():
    dataset = digits(test_share=0)
    assert dataset.evaluation == {}
    assert dataset.train.labels.tolist() == load_digits().target.tolist()


@pytest.mark.parametrize("test_share", [0.2, 0.5, 1e-9, 1 - 1e-9])
def test_every_image_is_on_one_side_with_its_own_label(test_share):
    dataset = digits(test_share, split_seed=3)
    sides = [dataset.train, dataset.evaluation["test"]]
    found = sorted(
        (bytes(image.flatten().tolist()), label)
        for side in sides
        for image, label in zip(side.images.pixels, side.labels.tolist(), strict=True)
    )
    source = load_digits()
    grays = [round(value * 255 / 16) for value in range(17)]
    expected = sorted(
        (bytes(grays[int(value)] for value in image.flatten()), int(label))
        for image, label in zip(source.images, source.target, strict=True)
    )
    assert found == expected
    assert all(side.labels.bincount(minlength=10).min() >= 1 for side in sides)


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        ({"test_share": -0.1}, "test_share"),
        ({"test_share": 1.0}, "test_share"),
        ({"test_share": float("nan")}, "test_share"),
        ({"split_seed": -1}, "split_seed"),
        ({"split_seed": 1.5}, "split_seed"),
        ({"split_seed": 2**32}, "split_seed"),
    ],
)
def test_wrong_settings_are_named(arguments, setting):
    with pytest.raises(InputError) as error:
        digits(**arguments)
    assert error.value.setting == setting
