"""Weak, strong and evaluation views, and normalisation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as tv

from cpc_lightning.errors import InputError
from cpc_lightning.views.autoaugment import AutoAugment
from cpc_lightning.views.views import Views


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(**changes: Any) -> Views:
    settings: dict[str, Any] = {"size": 8, "padding": 1, "flip": False, "policy": None, "mean": [0.5], "std": [0.25]}
    return Views(**{**settings, **changes})


def noise(count: int, channels: int, height: int, width: int) -> Tensor:
    return torch.randint(1, 256, (count, channels, height, width), generator=seeded(1), dtype=torch.uint8)


def place(view: Tensor, padded: Tensor) -> list[tuple[int, int, bool]]:
    """Where in `padded` (C, H, W) the view is a literal slice, as (top, left, flipped); all places."""
    height, width = view.shape[-2:]
    return [
        (top, left, flipped)
        for top in range(padded.shape[-2] - height + 1)
        for left in range(padded.shape[-1] - width + 1)
        for flipped in (False, True)
        if torch.equal(view.flip(-1) if flipped else view, padded[:, top : top + height, left : left + width])
    ]


@pytest.mark.parametrize(
    ("shape", "size", "padding", "flip"),
    [((1, 8, 8), 8, 1, False), ((3, 8, 8), 8, 4, True), ((3, 10, 13), (7, 9), 2, True), ((3, 12, 12), 9, 0, False)],
)
def test_a_weak_view_is_a_slice_of_the_padded_image(
    shape: tuple[int, int, int], size: int | tuple[int, int], padding: int, flip: bool
) -> None:
    images = noise(40, *shape)
    views = make(size=size, padding=padding, flip=flip).weak(images, seeded(0))
    assert views.dtype == torch.uint8
    assert tuple(views.shape) == (40, shape[0], *((size, size) if isinstance(size, int) else size))
    found = [place(view, functional.pad(image, [padding] * 4)) for view, image in zip(views, images, strict=True)]
    assert all(len(places) == 1 for places in found)
    assert len({places[0] for places in found}) > 5
    assert {places[0][2] for places in found} == ({False, True} if flip else {False})


@pytest.mark.parametrize(("mode", "torch_mode"), [("reflect", "reflect"), ("edge", "replicate")])
def test_other_paddings_show_the_image(mode: str, torch_mode: str) -> None:
    images = noise(30, 3, 8, 9)
    views = make(size=(8, 9), padding=3, flip=True, padding_mode=mode).weak(images, seeded(0))
    padded = functional.pad(images.float(), [3] * 4, mode=torch_mode).to(torch.uint8)
    assert all(place(view, image) for view, image in zip(views, padded, strict=True))


def test_crops_are_uniform_and_half_are_flipped() -> None:
    """One image of distinct pixels: its upper left and right pixel name the crop. 5 x 5 places, chi-square."""
    count, padding = 20_000, 2
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8)
    views = make(padding=padding, flip=True).weak(image.expand(count, -1, -1, -1), seeded(3))[:, 0].long()
    # The pixel at (3, 3) of every crop lies inside the image: it tells the place once the flip is known.
    flipped = views[:, 3, 4] < views[:, 3, 3]
    column = torch.where(flipped, 4, 3)
    pixel = views[torch.arange(count), 3, column] - 1
    top, left = pixel // 8 + padding - 3, pixel % 8 + padding - 3
    assert torch.equal(top.unique(), torch.arange(5))
    assert torch.equal(left.unique(), torch.arange(5))
    cells = torch.bincount((top * 5 + left) * 2 + flipped.long(), minlength=50).double()
    statistic = ((cells - count / 50) ** 2 / (count / 50)).sum()
    assert statistic < 49 + 4 * math.sqrt(2 * 49)
    assert abs(flipped.double().mean() - 0.5) < 4.5 * 0.5 / math.sqrt(count)


def test_a_crop_without_room_and_flip_is_the_image() -> None:
    images = noise(5, 3, 8, 8)
    assert torch.equal(make(padding=0).weak(images), images)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "symbols"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_a_strong_view_is_a_weak_view_and_then_the_policy(policy: str, shape: tuple[int, int, int]) -> None:
    images = noise(32, *shape)
    views = make(size=shape[1], padding=2, flip=True, policy=policy)
    generator = seeded(9)
    expected = AutoAugment(policy)(views.weak(images, generator), generator)
    strong = views.strong(images, seeded(9))
    assert torch.equal(strong, expected)
    assert not torch.equal(strong, views.weak(images, seeded(9)))


@pytest.mark.parametrize("policy", [None, "none"])
def test_without_policy_a_strong_view_is_a_weak_view(policy: str | None) -> None:
    images = noise(16, 1, 8, 8)
    views = make(policy=policy)
    assert torch.equal(views.strong(images, seeded(1)), views.weak(images, seeded(1)))


@pytest.mark.parametrize(("policy", "per_image"), [(None, 4), ("none", 4), ("cifar10", 4), ("weak", 2)])
def test_two_weak_views_and_two_strong_ones_unless_they_are_the_same(policy: str | None, per_image: int) -> None:
    views = make(policy=policy)
    assert (views.per_image, views.strong_are_weak) == (per_image, policy == "weak")


def test_a_wrong_policy_is_told_the_choices() -> None:
    with pytest.raises(InputError, match=r"policy=strong: must be one of none, weak, cifar10, imagenet, "):
        make(policy="strong")


@pytest.mark.parametrize("kind", ["weak", "strong"])
def test_seeded_different_per_image_and_the_input_stays(kind: str) -> None:
    images = noise(1, 3, 32, 32).repeat(64, 1, 1, 1)
    before = images.clone()
    view = getattr(make(size=32, padding=4, flip=True, policy="cifar10"), kind)
    first = view(images, seeded(1))
    assert torch.equal(images, before)
    assert len(first.flatten(1).unique(dim=0)) > 40
    assert torch.equal(first, view(images, seeded(1)))
    assert not torch.equal(first, view(images, seeded(2)))
    torch.manual_seed(5)
    unseeded = view(images)
    torch.manual_seed(5)
    assert torch.equal(unseeded, view(images))
    assert not torch.equal(unseeded, view(images))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 16), (11, 13), (256, 341)])
def test_evaluation_takes_the_centre(height: int, width: int) -> None:
    images = noise(3, 3, height, width)
    assert torch.equal(make().evaluation(images), tv.center_crop(images, [8, 8]))


def test_evaluation_takes_a_literal_centre() -> None:
    image = torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4)
    assert make(size=2).evaluation(image).flatten().tolist() == [6, 7, 10, 11]


def test_normalise_gives_literal_values() -> None:
    images = torch.tensor([[[[0]], [[51]], [[255]]]], dtype=torch.uint8)
    views = make(mean=[0.5, 0.1, 0.6], std=[0.25, 0.2, 0.5])
    result = views.normalise(images)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.tensor([[[[-2.0]], [[0.5]], [[0.8]]]]))
    assert images.flatten().tolist() == [0, 51, 255]
    one_for_all = make(mean=[0.2], std=[0.4]).normalise(images)
    torch.testing.assert_close(one_for_all, torch.tensor([[[[-0.5]], [[0.0]], [[2.0]]]]))


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"size": 0}, "size"),
        ({"size": 8.0}, "size"),
        ({"size": True}, "size"),
        ({"size": (8, 8, 8)}, "size"),
        ({"padding": -1}, "padding"),
        ({"flip": 1}, "flip"),
        ({"policy": "svhn"}, "policy"),
        ({"mean": []}, "mean"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"mean": [125.0]}, "mean"),
        ({"std": [0.2, 0.2]}, "std"),
        ({"std": [0.0]}, "std"),
        ({"std": [float("nan")]}, "std"),
        ({"padding_mode": "zeros"}, "padding_mode"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], setting: str) -> None:
    with pytest.raises(InputError) as caught:
        make(**changes)
    assert caught.value.setting == setting


def test_wrong_images_are_refused() -> None:
    with pytest.raises(InputError, match="must be uint8"):
        make().weak(torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match="1 or 3 channels"):
        make().weak(torch.zeros(2, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="must fit into the images, 5 x 8"):
        make().weak(noise(2, 1, 5, 8))
    with pytest.raises(InputError, match="must not exceed the images, 8 x 7"):
        make().evaluation(noise(2, 1, 8, 7))
    with pytest.raises(InputError, match="mean"):
        make(mean=[0.1, 0.2, 0.3]).normalise(noise(2, 1, 8, 8))
    with pytest.raises(InputError, match="std"):
        make(std=[0.1, 0.2, 0.3]).normalise(noise(2, 1, 8, 8))


@pytest.mark.parametrize("policy", [None, "cifar10"])
def test_no_images_give_no_views(policy):
    """The unlabeled side of a partition may be empty."""
    views = Views(8, 1, True, policy, [0.5], [0.5])
    nothing = torch.empty(0, 1, 8, 8, dtype=torch.uint8)
    assert views.weak(nothing).shape == views.strong(nothing).shape == (0, 1, 8, 8)
    assert views.normalise(views.strong(nothing)).shape == (0, 1, 8, 8)
