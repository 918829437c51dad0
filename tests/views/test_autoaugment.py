"""AutoAugment on batches against torchvision on single images, and the distribution of its draws."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from PIL import Image, ImageOps
from tests.device import DEVICE
from torch import Tensor
from torchvision.transforms import AutoAugment as TorchvisionAutoAugment
from torchvision.transforms import AutoAugmentPolicy
from torchvision.transforms import RandAugment as TorchvisionRandAugment
from torchvision.transforms.v2 import functional as tv
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from cpc_lightning.errors import InputError
from cpc_lightning.views import autoaugment
from cpc_lightning.views.autoaugment import GEOMETRIC, OPERATIONS, POINTWISE, UNTOUCHED, AutoAugment
from cpc_lightning.views.policies import BINS, POLICIES, magnitude_spaces

TORCHVISION_NAMES = {name.replace("_", ""): name for name in OPERATIONS}
SHAPES = [(1, 8, 8), (3, 8, 8), (3, 32, 32), (1, 28, 28), (3, 21, 34)]


def torchvision_operation(image: Tensor, name: str, magnitude: float, fill: float = 0.0) -> Tensor:
    """One image (C, H, W) through torchvision, called as its AutoAugment calls it."""
    shear = math.degrees(math.atan(magnitude))
    fills = [fill] * image.shape[0]
    match name:
        case "shear_x":
            return tv.affine(image, 0.0, [0, 0], 1.0, [shear, 0.0], fill=fills, center=[0, 0])
        case "shear_y":
            return tv.affine(image, 0.0, [0, 0], 1.0, [0.0, shear], fill=fills, center=[0, 0])
        case "translate_x":
            return tv.affine(image, 0.0, [int(magnitude), 0], 1.0, [0.0, 0.0], fill=fills)
        case "translate_y":
            return tv.affine(image, 0.0, [0, int(magnitude)], 1.0, [0.0, 0.0], fill=fills)
        case "rotate":
            return tv.rotate(image, magnitude, fill=fills)
        case "brightness":
            return tv.adjust_brightness(image, 1.0 + magnitude)
        case "color":
            return tv.adjust_saturation(image, 1.0 + magnitude)
        case "contrast":
            return tv.adjust_contrast(image, 1.0 + magnitude)
        case "sharpness":
            return tv.adjust_sharpness(image, 1.0 + magnitude)
        case "posterize":
            return tv.posterize(image, int(magnitude))
        case "solarize":
            return tv.solarize(image, magnitude)
        case "autocontrast":
            return tv.autocontrast(image)
        case "equalize":
            return tv.equalize(image)
        case "invert":
            return tv.invert(image)
    raise AssertionError(name)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augdesc_operation(image: Tensor, name: str, magnitude: float) -> Tensor:
    """One RGB image (3, H, W) through Pillow, as AugDesc's published SubPolicy (autoaugment.py) calls it.

    Shears and translations are affine transforms about the upper left corner that read their source at x + magnitude,
    so that a translation of ours, to the right, is one of Pillow's by the negative; `rotate` fills through an alpha
    channel.
    """
    gray, picture = (128, 128, 128), to_pil_image(image)
    of = {
        "shear_x": (1, magnitude, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, magnitude, 1, 0),
        "translate_x": (1, 0, -magnitude, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -magnitude),
    }
    if name in of:
        how = Image.Resampling.BICUBIC if name.startswith("shear") else Image.Resampling.NEAREST
        moved = picture.transform(picture.size, Image.Transform.AFFINE, of[name], how, fillcolor=gray)
    elif name == "rotate":
        turned = picture.convert("RGBA").rotate(magnitude)
        moved = Image.composite(turned, Image.new("RGBA", turned.size, (*gray, 128)), turned).convert("RGB")
    else:
        moved = ImageOps.solarize(picture, magnitude)
    return pil_to_tensor(moved)


def pictures(channels: int, height: int, width: int) -> Tensor:
    """(10, C, H, W) uint8: noise, dark noise, a ramp, a disc on black, a constant, few levels."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (10, channels, height, width), generator=generator, dtype=torch.uint8)
    images[2:4] //= 3
    images[4] = torch.linspace(0, 255, height * width).view(height, width).to(torch.uint8)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    images[5] = (((y - height / 2) ** 2 + (x - width / 2) ** 2) < (width / 3) ** 2).to(torch.uint8) * 200
    images[6] = 77
    images[7] = images[7] // 100 * 90
    return images


def signed_magnitudes(name: str, height: int, width: int) -> list[float]:
    levels, signed = magnitude_spaces(height, width)[name]
    positive = levels.unique().tolist()
    return positive + [-level for level in positive] if signed else positive


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("shape", SHAPES)
def test_level_operations_equal_torchvision(name: str, shape: tuple[int, int, int]) -> None:
    images = pictures(*shape)
    for magnitude in signed_magnitudes(name, *shape[1:]):
        ours = POINTWISE[name](images, torch.full((len(images),), magnitude))
        theirs = torch.stack([torchvision_operation(image, name, magnitude) for image in images])
        assert ours.dtype == torch.uint8
        assert torch.equal(ours, theirs), f"{name} {magnitude}: {(ours.int() - theirs.int()).abs().max()} levels apart"


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", [0, 130])
def test_geometric_operations_equal_torchvision(name: str, shape: tuple[int, int, int], fill: int) -> None:
    """No pixel differs on the machine this was written on; sources half-way between two pixels may go either way."""
    images = pictures(*shape)
    kinds = torch.full((len(images),), OPERATIONS.index(name))
    for magnitude in signed_magnitudes(name, *shape[1:]):
        ours = autoaugment.apply_step(images, kinds, torch.full((len(images),), magnitude), fill)
        theirs = torch.stack([torchvision_operation(image, name, magnitude, fill) for image in images])
        allowed = 0.0 if name.startswith("translate") else 0.02
        assert (ours != theirs).float().mean() <= allowed, magnitude


@pytest.mark.parametrize("name", [*GEOMETRIC, "solarize"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 21, 34), (3, 96, 96)])
def test_augdescs_operations_equal_its_own_on_pillow(name: str, shape: tuple[int, int, int]) -> None:
    """Which pixels are uncovered agrees; a cubic's exact whole number may round to the level below."""
    images = pictures(*shape)
    kinds = torch.full((len(images),), OPERATIONS.index(name))
    levels, signed = magnitude_spaces(*shape[1:], augdesc=True)[name]
    for magnitude in [*levels.tolist(), *(-levels).tolist()] if signed else levels.tolist():
        ours = autoaugment.apply_step(images, kinds, torch.full((len(images),), magnitude), 128, augdesc=True)
        theirs = torch.stack([augdesc_operation(image, name, magnitude) for image in images])
        apart = (ours.int() - theirs.int()).abs()
        if name.startswith("shear"):
            assert int(apart.max()) <= 1, magnitude
        assert (apart > 0).float().mean() <= (0.03 if name.startswith("shear") else 0.002), magnitude


def test_augdescs_geometry_on_literal_images() -> None:
    """By hand from its code. Bin 9 moves by 150 / 331 of 8 = 3.63 pixels: 4, where torchvision moves 3."""
    image = torch.arange(8, dtype=torch.uint8).mul(10).expand(1, 1, 8, 8)

    def moved(name: str, magnitude: float) -> list[list[int]]:
        kinds = torch.tensor([OPERATIONS.index(name)])
        return autoaugment.apply_step(image, kinds, torch.tensor([magnitude]), 128, augdesc=True)[0, 0].tolist()

    bin_9 = float(magnitude_spaces(8, 8, augdesc=True)["translate_x"][0][9])
    assert moved("translate_x", bin_9) == [[128] * 4 + [0, 10, 20, 30]] * 8
    assert moved("translate_x", -bin_9) == [[40, 50, 60, 70] + [128] * 4] * 8
    # Row 3 of a shear by 1/7 moves by 3.5 / 7 = 1/2: with a = -1 the cubic half-way is (5 (b + c) - (a + d)) / 8, on an
    # even slope the middle. At the ends a pixel counts twice: 0, 0, 10, 20 give 3.75, and 50, 60, 70, 70 give 66.25.
    assert moved("shear_x", 1 / 7)[3][:7] == [3, 15, 25, 35, 45, 55, 66]
    assert moved("shear_x", 1 / 7)[3][7] == 128


def test_augdesc_turns_one_way_alone() -> None:
    """Its lambdas draw a sign for shears, translations and blends; `rotate` has none."""
    kinds, magnitudes, _ = AutoAugment("imagenet", 128, augdesc=True).draw(5000, 32, 32, seeded(1))
    for name in ("rotate", "shear_x", "color", "contrast", "sharpness"):
        drawn = magnitudes[(kinds == OPERATIONS.index(name)) & (magnitudes != 0)]
        assert (drawn > 0).any()
        assert bool((drawn < 0).any()) == (name != "rotate"), name
    kinds, magnitudes, _ = AutoAugment("imagenet").draw(5000, 32, 32, seeded(1))
    assert (magnitudes[kinds == OPERATIONS.index("rotate")] < 0).any()  # torchvision's turns both ways


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_a_policy_of_augdesc_does_to_every_image_what_it_drew(policy: str) -> None:
    images = pictures(3, 32, 32).repeat(20, 1, 1, 1)
    augment = AutoAugment(policy, 128, augdesc=True)
    out = augment(images, seeded(3))
    kinds, magnitudes, applied = augment.draw(len(images), 32, 32, seeded(3))
    different = uncovered = 0
    for place, image in enumerate(images):
        expected = image
        for step in range(2):
            if applied[place, step]:
                name, magnitude = OPERATIONS[int(kinds[place, step])], float(magnitudes[place, step])
                own = name in (*GEOMETRIC, "solarize")
                expected = (augdesc_operation if own else torchvision_operation)(expected, name, magnitude)
                uncovered += name in GEOMETRIC and magnitude != 0
        different += int((out[place].int() - expected.int()).abs().gt(1).sum())
    assert uncovered > 10
    assert different <= 0.005 * out.numel()


def test_level_operations_on_literal_pixels() -> None:
    images = torch.tensor([0, 10, 100, 171, 250, 255], dtype=torch.uint8).view(1, 1, 2, 3)

    def levels(name: str, magnitude: float) -> list[int]:
        return POINTWISE[name](images, torch.tensor([magnitude])).flatten().tolist()

    assert levels("posterize", 4) == [0, 0, 96, 160, 240, 240]
    assert levels("posterize", 8) == [0, 10, 100, 171, 250, 255]
    assert levels("solarize", 171) == [0, 10, 100, 84, 5, 0]
    assert levels("solarize", 255) == [0, 10, 100, 171, 250, 0]
    assert levels("invert", 0) == [255, 245, 155, 84, 5, 0]
    assert levels("brightness", -0.5) == [0, 5, 50, 85, 125, 127]
    assert levels("brightness", 0.5) == [0, 15, 150, 255, 255, 255]
    assert levels("contrast", -1.0) == [131] * 6  # the mean is 786 / 6
    assert levels("color", 0.9) == [0, 10, 100, 171, 250, 255]


def test_geometric_operations_on_a_literal_image() -> None:
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3)

    def moved(name: str, magnitude: float, fill: int = 0) -> list[list[int]]:
        kinds = torch.tensor([OPERATIONS.index(name)])
        return autoaugment.apply_step(image, kinds, torch.tensor([magnitude]), fill)[0, 0].tolist()

    assert moved("translate_x", 1.9) == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]
    assert moved("translate_x", -1.9, fill=99) == [[2, 3, 99], [5, 6, 99], [8, 9, 99]]
    assert moved("translate_y", 2.0) == [[0, 0, 0], [0, 0, 0], [1, 2, 3]]
    assert moved("rotate", 90.0) == [[3, 6, 9], [2, 5, 8], [1, 4, 7]]  # counter-clockwise
    assert moved("shear_x", 0.4, fill=7) == [[1, 2, 3], [5, 6, 7], [8, 9, 7]]  # 0.2, 0.6, 1 pixels to the left
    assert moved("shear_y", 0.4) == [[1, 5, 6], [4, 8, 9], [7, 0, 0]]


def test_one_step_gives_every_image_its_own_operation_and_magnitude() -> None:
    """A shuffled batch that holds every operation, at two magnitudes, and untouched images."""
    source = pictures(3, 32, 32)
    space = magnitude_spaces(32, 32)
    todo = [(name, float(space[name][0][level])) for name in OPERATIONS for level in (3, 9)] + [("keep", 0.0)] * 4
    order = torch.randperm(len(todo), generator=torch.Generator().manual_seed(1)).tolist()
    todo = [todo[place] for place in order]
    images = source[torch.arange(len(todo)) % len(source)]
    kinds = torch.tensor([UNTOUCHED if name == "keep" else OPERATIONS.index(name) for name, _ in todo])
    out = autoaugment.apply_step(images, kinds, torch.tensor([magnitude for _, magnitude in todo]), 0)
    for place, (name, magnitude) in enumerate(todo):
        expected = images[place] if name == "keep" else torchvision_operation(images[place], name, magnitude)
        assert (out[place] != expected).float().mean() <= (0.02 if name in GEOMETRIC else 0.0), (place, name)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_a_policy_does_to_every_image_what_it_drew(policy: str, shape: tuple[int, int, int]) -> None:
    images = pictures(*shape).repeat(8, 1, 1, 1)
    augment = AutoAugment(policy)
    out = augment(images, torch.Generator().manual_seed(3))
    kinds, magnitudes, applied = augment.draw(len(images), *shape[1:], torch.Generator().manual_seed(3))
    assert not torch.equal(out, images)
    different = 0
    for place, image in enumerate(images):
        expected = image
        for step in range(2):
            if applied[place, step]:
                name = OPERATIONS[int(kinds[place, step])]
                expected = torchvision_operation(expected, name, float(magnitudes[place, step]))
        different += int((out[place] != expected).sum())
    assert different <= 0.005 * out.numel()


@pytest.mark.parametrize(
    ("policy", "published"), [("cifar10", AutoAugmentPolicy.CIFAR10), ("imagenet", AutoAugmentPolicy.IMAGENET)]
)
def test_policies_are_the_published_ones(policy: str, published: AutoAugmentPolicy) -> None:
    theirs = [
        tuple((TORCHVISION_NAMES[name.lower()], chance, level or 0) for name, chance, level in pair)
        for pair in TorchvisionAutoAugment(published).policies
    ]
    assert len(theirs) == 25
    assert list(POLICIES[policy]) == theirs


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (224, 300)])
def test_magnitudes_and_signs_are_torchvisions(size: tuple[int, int]) -> None:
    theirs = TorchvisionAutoAugment()._augmentation_space(10, size)
    ours = magnitude_spaces(*size)
    assert {TORCHVISION_NAMES[name.lower()] for name in theirs} == set(ours) == set(OPERATIONS)
    for name, (levels, signed) in theirs.items():
        our_levels, our_signed = ours[TORCHVISION_NAMES[name.lower()]]
        assert our_signed == signed
        assert torch.equal(our_levels, levels.float().expand(10)), name


def test_randaugment_is_torchvisions() -> None:
    """Two independent, uniform draws of its 14 operations, each at its own magnitude."""
    reference = TorchvisionRandAugment()
    theirs = reference._augmentation_space(reference.num_magnitude_bins, (32, 32))
    space = magnitude_spaces(32, 32, BINS["randaugment"])
    steps = [first for first, _ in POLICIES["randaugment"][:: len(theirs)]]
    assert list(POLICIES["randaugment"]) == [(first, second) for first in steps for second in steps]
    ours = {"identity" if chance == 0 else name: (space[name][0][bin], space[name][1]) for name, chance, bin in steps}
    expected = {
        TORCHVISION_NAMES.get(name.lower(), "identity"): (
            levels[reference.magnitude].float() if levels.ndim else torch.tensor(0.0),
            signed,
        )
        for name, (levels, signed) in theirs.items()
    }
    assert len(steps) == len(ours) == len(expected) == 14
    assert ours == expected


def test_symbols_keep_their_meaning() -> None:
    names = {name for pair in POLICIES["symbols"] for name, _, _ in pair}
    assert not names & {"invert", "solarize", "posterize", "color", "equalize"}
    _, magnitudes, _ = AutoAugment("symbols").draw(2000, 8, 8, torch.Generator().manual_seed(0))
    kinds, _, _ = AutoAugment("symbols").draw(2000, 8, 8, torch.Generator().manual_seed(0))
    assert magnitudes[kinds == OPERATIONS.index("rotate")].abs().max() < 17
    assert set(magnitudes[kinds == OPERATIONS.index("translate_x")].trunc().tolist()) == {-1.0, 1.0}


DRAWS = 50_000


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "randaugment"])
def test_draws_follow_the_policy(policy: str) -> None:
    """Sub-policies uniform (chi-square), steps applied with their probability."""
    kinds, magnitudes, applied = AutoAugment(policy).draw(DRAWS, 32, 32, torch.Generator().manual_seed(11))
    assert kinds.shape == magnitudes.shape == applied.shape == (DRAWS, 2)
    space = magnitude_spaces(32, 32, BINS[policy])

    def signature(names: tuple[str, str], levels: tuple[float, float]) -> tuple[object, ...]:
        return (*names, round(levels[0], 4), round(levels[1], 4))

    expected: dict[tuple[object, ...], list[tuple[float, float]]] = {}
    for (first, chance, level), (second, second_chance, second_level) in POLICIES[policy]:
        levels = (float(space[first][0][level]), float(space[second][0][second_level]))
        expected.setdefault(signature((first, second), levels), []).append((chance, second_chance))

    drawn = [
        signature((OPERATIONS[first], OPERATIONS[second]), (abs(a), abs(b)))
        for (first, second), (a, b) in zip(kinds.tolist(), magnitudes.tolist(), strict=True)
    ]
    counts = Counter(drawn)
    assert set(counts) == set(expected)
    share = DRAWS / len(POLICIES[policy])
    statistic = sum((counts[key] - share * len(rows)) ** 2 / (share * len(rows)) for key, rows in expected.items())
    freedom = len(expected) - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)

    members: dict[tuple[object, ...], list[int]] = {}
    for place, key in enumerate(drawn):
        members.setdefault(key, []).append(place)
    for key, rows in expected.items():
        chosen = applied[members[key]].double()
        for step in range(2):
            chance = sum(row[step] for row in rows) / len(rows)
            # Where two sub-policies look alike their mixture's variance is below that of one with the mean chance.
            bound = 4.5 * math.sqrt(chance * (1 - chance) / len(chosen))
            assert abs(chosen[:, step].mean() - chance) <= bound, (key, step)


def test_signs_are_fair_independent_and_only_where_they_mean_something() -> None:
    kinds, magnitudes, applied = AutoAugment("cifar10").draw(DRAWS, 32, 32, torch.Generator().manual_seed(5))
    signed = torch.tensor([magnitude_spaces(32, 32)[name][1] for name in OPERATIONS])[kinds]
    assert (magnitudes[~signed] >= 0).all()
    moving = signed & (magnitudes != 0)
    for step in range(2):
        negative = (magnitudes[moving[:, step], step] < 0).double()
        assert abs(negative.mean() - 0.5) < 4.5 * 0.5 / math.sqrt(len(negative))
    both = moving.all(dim=1)
    alike = ((magnitudes[both, 0] < 0) == (magnitudes[both, 1] < 0)).double()
    assert abs(alike.mean() - 0.5) < 4.5 * 0.5 / math.sqrt(len(alike))
    # Both steps of the sub-policy with 0.9 and 0.7, independent: 0.63 of the time together.
    twice = (kinds == OPERATIONS.index("translate_y")).all(dim=1)
    together = applied[twice].all(dim=1).double()
    assert abs(together.mean() - 0.63) < 4.5 * math.sqrt(0.63 * 0.37 / len(together))


def test_images_of_a_batch_get_different_parameters() -> None:
    one = pictures(3, 32, 32)[:1]
    out = AutoAugment("cifar10")(one.expand(64, -1, -1, -1), torch.Generator().manual_seed(0))
    assert len(out.flatten(1).unique(dim=0)) > 20


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
@pytest.mark.parametrize("policy", POLICIES)
def test_seeded_and_leaves_the_input_alone(policy: str, shape: tuple[int, int, int]) -> None:
    images = pictures(*shape).repeat(5, 1, 1, 1)
    before = images.clone()
    augment = AutoAugment(policy)
    first = augment(images, torch.Generator().manual_seed(2))
    assert torch.equal(images, before)
    assert first.data_ptr() != images.data_ptr()
    assert first.shape == images.shape
    assert torch.equal(first, augment(images, torch.Generator().manual_seed(2)))
    assert not torch.equal(first, augment(images, torch.Generator().manual_seed(3)))
    torch.manual_seed(4)
    unseeded = augment(images)
    assert not torch.equal(unseeded, augment(images))
    torch.manual_seed(4)
    assert torch.equal(unseeded, augment(images))


def test_an_untouched_image_stays_and_an_empty_batch_is_empty() -> None:
    images = pictures(3, 8, 8)
    out = autoaugment.apply_step(images, torch.full((len(images),), UNTOUCHED), torch.zeros(len(images)), 0)
    assert torch.equal(out, images)
    assert AutoAugment("cifar10")(images[:0]).shape == (0, 3, 8, 8)


def test_wrong_settings_and_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"policy=svhn: must be one of cifar10, imagenet, symbols, randaugment"):
        AutoAugment("svhn")
    with pytest.raises(InputError, match="fill"):
        AutoAugment("cifar10", fill=256)
    with pytest.raises(InputError, match="must be uint8"):
        AutoAugment("cifar10")(torch.zeros(2, 3, 8, 8))
    with pytest.raises(InputError, match="1 or 3 channels"):
        AutoAugment("cifar10")(torch.zeros(2, 4, 8, 8, dtype=torch.uint8))


def test_autocast_changes_no_pixel() -> None:
    """Views are made within the trainer's autocast, which would round the places that pixels come from."""
    images = pictures(3, 32, 32).repeat(10, 1, 1, 1)
    plain = AutoAugment("cifar10")(images, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = AutoAugment("cifar10")(images, torch.Generator().manual_seed(0))
    assert torch.equal(plain, rounded)


@pytest.mark.gpu
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("augdesc", [False, True])
def test_a_device_gives_what_the_cpu_gives(policy: str, augdesc: bool) -> None:
    images = pictures(3, 32, 32).repeat(10, 1, 1, 1)
    augment = AutoAugment(policy, augdesc=augdesc)
    on_cpu = augment(images, torch.Generator().manual_seed(0))
    on_device = augment(images.to(DEVICE), torch.Generator().manual_seed(0)).cpu()
    assert (on_cpu != on_device).float().mean() < 0.005
