"""Colour jitter on literal pixels, against torchvision on single images, and its draws."""

import math
from collections import Counter

import pytest
import torch
from tests.views.test_autoaugment import pictures, seeded
from torchvision.transforms.v2 import functional as tv

from cpc_lightning.errors import InputError
from cpc_lightning.views.jitter import JITTERED, ColourJitter, hue
from cpc_lightning.views.views import Views

THEIRS = (
    lambda image, by: tv.adjust_brightness(image, 1 + by),
    lambda image, by: tv.adjust_contrast(image, 1 + by),
    lambda image, by: tv.adjust_saturation(image, 1 + by),
    lambda image, by: tv.adjust_hue(image, by),
)


def test_hues_of_literal_pixels():
    """Red, a dull red, yellow, grey and black, a third of the circle on, a sixth back, and half."""
    pixels = torch.tensor([[255, 0, 0], [100, 50, 50], [255, 255, 0], [80, 80, 80], [0, 0, 0]], dtype=torch.uint8)
    image = pixels.T.reshape(1, 3, 1, 5)

    def turned(by):
        return hue(image, torch.tensor([by]))[0, :, 0].T.tolist()

    assert turned(1 / 3) == [[0, 255, 0], [50, 100, 50], [0, 255, 255], [80, 80, 80], [0, 0, 0]]
    assert turned(-1 / 6) == [[255, 0, 255], [100, 50, 100], [255, 0, 0], [80, 80, 80], [0, 0, 0]]
    assert turned(0.5) == [[0, 255, 255], [50, 100, 100], [0, 0, 255], [80, 80, 80], [0, 0, 0]]
    assert turned(1 / 12)[0] == [255, 128, 0]  # half-way from red to yellow: 127.5, rounded to the even
    assert turned(0.0) == pixels.tolist()


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 21, 34), (1, 8, 8)])
@pytest.mark.parametrize("by", [-0.4, -0.123, 0.07, 0.4])
def test_a_hue_is_torchvisions_but_for_rounding(shape, by):
    images = pictures(*shape)
    ours = hue(images, torch.full((len(images),), by))
    theirs = torch.stack([tv.adjust_hue(image, by) for image in images])
    assert int((ours.int() - theirs.int()).abs().max()) <= 1


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8)])
def test_every_image_gets_what_it_drew_in_its_own_order(shape):
    images = pictures(*shape).repeat(6, 1, 1, 1)
    before = images.clone()
    out = ColourJitter()(images, seeded(3))
    assert torch.equal(images, before)
    assert out.data_ptr() != images.data_ptr()
    draw = ColourJitter().draw(len(images), seeded(3))
    apart = []
    for place, image in enumerate(images):
        expected = tv.rgb_to_grayscale(image, num_output_channels=shape[0]) if draw.gray[place] else image
        for step in range(4):
            expected = THEIRS[int(draw.order[place, step])](expected, float(draw.magnitudes[place, step]))
        apart.append((out[place].int() - expected.int()).abs().flatten())
    apart = torch.cat(apart)
    assert int(apart.max()) <= 4  # a level of the hue, stretched by what follows
    assert (apart > 1).float().mean() < 0.01
    assert len({tuple(row) for row in draw.order.tolist()}) > 10


def test_draws_are_uniform_and_independent():
    count = 24_000
    gray, order, magnitudes = ColourJitter().draw(count, seeded(0))
    assert abs(float(gray.double().mean()) - 0.2) < 4.5 * math.sqrt(0.2 * 0.8 / count)
    counts = Counter(tuple(row) for row in order.tolist())
    assert len(counts) == 24
    assert sum((n - 1000) ** 2 / 1000 for n in counts.values()) < 23 + 4 * math.sqrt(2 * 23)
    assert float(magnitudes.min()) >= -0.4
    assert float(magnitudes.max()) <= 0.4
    for kind in range(len(JITTERED)):
        own = magnitudes[order == kind].double()
        assert abs(float(own.mean())) < 4.5 * 0.8 / math.sqrt(12 * count)
        assert abs(float((own.abs() < 0.2).double().mean()) - 0.5) < 4.5 * 0.5 / math.sqrt(count)


def test_views_take_it_as_a_policy():
    views = Views(8, 0, False, "jitter", [0.5], [0.5])
    assert not views.strong_are_weak
    images = pictures(3, 8, 8)
    weak, strong = views.weak(images, seeded(1)), views.strong(images, seeded(1))
    assert torch.equal(weak, images)
    assert (strong != images).any()
    assert torch.equal(strong, views.strong(images, seeded(1)))
    assert views.strong(images[:0]).shape == (0, 3, 8, 8)
    with pytest.raises(InputError, match=r"policy=jiter: must be one of .*jitter"):
        Views(8, 0, False, "jiter", [0.5], [0.5])
    with pytest.raises(InputError, match="must be uint8"):
        ColourJitter()(torch.zeros(2, 3, 8, 8))
