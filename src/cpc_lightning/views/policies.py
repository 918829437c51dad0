"""Policies of AutoAugment and RandAugment: their sub-policies and the magnitudes of their steps.

Shapes: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Step = tuple[str, float, int]
"""An operation's name, the probability that it is applied, and its magnitude's bin (any where it has none)."""

CIFAR10: tuple[tuple[Step, Step], ...] = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)

IMAGENET: tuple[tuple[Step, Step], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)

# Ours, not published: for small grayscale symbols (digits, letters). Inverting, solarizing or posterizing changes what
# a symbol on an empty ground looks like, colour does not exist, and equalizing fewer than 256 pixels does nothing. The
# magnitudes move an 8 x 8 symbol by one pixel and turn it by at most 17 degrees.
SYMBOLS: tuple[tuple[Step, Step], ...] = (
    (("rotate", 0.8, 5), ("contrast", 0.5, 5)),
    (("rotate", 0.6, 3), ("shear_x", 0.6, 4)),
    (("shear_x", 0.8, 6), ("brightness", 0.5, 4)),
    (("shear_y", 0.8, 5), ("contrast", 0.5, 4)),
    (("shear_x", 0.6, 4), ("shear_y", 0.6, 4)),
    (("translate_x", 0.8, 3), ("rotate", 0.5, 4)),
    (("translate_y", 0.8, 3), ("rotate", 0.5, 4)),
    (("translate_x", 0.6, 3), ("translate_y", 0.6, 3)),
    (("sharpness", 0.8, 7), ("brightness", 0.6, 5)),
    (("contrast", 0.8, 6), ("sharpness", 0.6, 5)),
)

# RandAugment (Cubuk et al. 2020) with torchvision's settings: 2 operations, magnitude 9 of 0..30. Operations are drawn
# independently, so that every pair of them is a sub-policy. The identity is an operation that is never applied.
RANDAUGMENT_STEPS: tuple[Step, ...] = (
    *((name, 1.0, 9) for name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")),
    *((name, 1.0, 9) for name in ("brightness", "color", "contrast", "sharpness", "posterize", "solarize")),
    *((name, 1.0, 9) for name in ("autocontrast", "equalize")),
    ("invert", 0.0, 9),
)
RANDAUGMENT = tuple((first, second) for first in RANDAUGMENT_STEPS for second in RANDAUGMENT_STEPS)

POLICIES: Mapping[str, tuple[tuple[Step, Step], ...]] = {
    "cifar10": CIFAR10,
    "imagenet": IMAGENET,
    "symbols": SYMBOLS,
    "randaugment": RANDAUGMENT,
}
BINS: Mapping[str, int] = {"cifar10": 10, "imagenet": 10, "symbols": 10, "randaugment": 31}
"""Into how many magnitudes a policy divides an operation's range."""


def magnitude_spaces(height: int, width: int, bins: int = 10, augdesc: bool = False) -> dict[str, tuple[Tensor, bool]]:
    """For each operation its magnitudes by bin, and whether a random sign applies (Cubuk et al. 2019, Table 6).

    As torchvision has them: shears in pixels per pixel, translations in pixels (150 of 331 at most, so that the share
    is that of the paper's images), rotation in degrees, blends as factor - 1, posterize in bits kept, solarize as the
    grey level from which on pixels are inverted. In AugDesc's code a rotation has no sign, and that level begins at
    256.
    """
    none = torch.zeros(bins)
    shear = torch.linspace(0.0, 0.3, bins)
    blend = torch.linspace(0.0, 0.9, bins)
    return {
        "shear_x": (shear, True),
        "shear_y": (shear, True),
        "translate_x": (torch.linspace(0.0, 150.0 / 331.0 * width, bins), True),
        "translate_y": (torch.linspace(0.0, 150.0 / 331.0 * height, bins), True),
        "rotate": (torch.linspace(0.0, 30.0, bins), not augdesc),
        "brightness": (blend, True),
        "color": (blend, True),
        "contrast": (blend, True),
        "sharpness": (blend, True),
        "posterize": (8 - (torch.arange(bins) / ((bins - 1) / 4)).round(), False),
        "solarize": (torch.linspace(256.0 if augdesc else 255.0, 0.0, bins), False),
        "autocontrast": (none, False),
        "equalize": (none, False),
        "invert": (none, False),
    }
