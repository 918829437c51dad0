"""Shears with cubic interpolation, as Pillow makes them in AugDesc's published code.

Shapes: n images, C channels, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shear_cubic(images: Tensor, magnitudes: Tensor, fill: int) -> Tensor:
    """Each image sheared along its rows: pixel (x, y) shows what lies at x + magnitude (y + 1/2) in that row.

    In between pixels, the cubic through the four next ones with slope (right - left) at each (Keys 1981, a = -1), cut
    to 0..255, fractions dropped; beyond the first and the last pixel their values go on, for as far as the cubic needs.
    A place outside of the row shows `fill`.

    Args:
        images: (n, C, H, W) uint8.
        magnitudes: (n,) pixels a row, signed; CPU.
        fill: grey level.

    Returns:
        (n, C, H, W) uint8.
    """
    if len(images) == 0:
        return images
    height, width = images.shape[-2:]
    # Four numbers a row travel. In double precision, as Pillow: where a row ends must not depend on a rounding error.
    shift = magnitudes.double()[:, None] * (torch.arange(height, dtype=torch.float64) + 0.5)
    whole, first, end = shift.floor(), (-0.5 - shift).ceil(), (width - 0.5 - shift).ceil()
    rows = torch.stack((whole, shift - whole, first, end)).float().to(images.device, non_blocking=True)
    whole, t, first, end = rows[:, :, None, :, None]
    x = torch.arange(width, device=images.device)
    left = x + whole.long()

    def level(offset: int) -> Tensor:
        return images.gather(3, (left + offset).clamp(0, width - 1).expand_as(images)).float()

    before, here, after, beyond = (level(offset) for offset in (-1, 0, 1, 2))
    # Written so that of equal levels nothing is left but the level itself.
    slope, bend = after - before, 2.0 * (before - here) + after - beyond
    cubic = here + t * (slope + t * (bend + t * (here - before - after + beyond)))
    sheared: Tensor = cubic.clamp_(0, 255).where((x >= first) & (x < end), float(fill))
    return sheared.to(torch.uint8)
