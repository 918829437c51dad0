"""Operations of AutoAugment that change levels and leave pixels where they are, on a batch of images.

Shapes: n images that share an operation, C channels (1 or 3), H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def brightness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Images times 1 + magnitude; (n, C, H, W) uint8, magnitudes (n,) float32."""
    return to_levels(images * per_image(1.0 + magnitudes))


def color(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Images blended with their grayscale, which weighs -magnitude; grayscale images stay as they are, as in PIL."""
    if images.shape[1] == 1:
        return images
    return blend(images, grayscale(images), magnitudes)


def contrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Images blended with their mean grey level, which weighs -magnitude."""
    return blend(images, grayscale(images).mean(dim=(1, 2, 3), keepdim=True), magnitudes)


def sharpness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Images blended with a 3 x 3 smoothing of themselves (centre 5, others 1), which weighs -magnitude; edges stay."""
    if min(images.shape[-2:]) <= 2:
        return images
    levels = images.float()
    # Sums of slices, not a convolution: exact in float32 also where convolutions run in TF32.
    rows = levels[..., :-2, :] + levels[..., 1:-1, :] + levels[..., 2:, :]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    centre = levels[..., 1:-1, 1:-1]
    smooth = torch.round((sums + 4.0 * centre) / 13.0)
    centre.addcmul_(smooth - centre, per_image(-magnitudes))
    return to_levels(levels)


def posterize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """The upper bits of each level; the magnitude is the number of bits kept."""
    dropped = per_image(8 - magnitudes.to(torch.uint8))
    return (images >> dropped) << dropped


def solarize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Levels from the magnitude on, inverted."""
    return torch.where(images >= per_image(magnitudes), ~images, images)


def autocontrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Each channel's levels stretched to 0..255; a constant channel stays."""
    levels = images.float()
    low, high = levels.amin(dim=(2, 3), keepdim=True), levels.amax(dim=(2, 3), keepdim=True)
    constant = low == high
    scale = ((high - low) * (1.0 / 255.0)).masked_fill(constant, 1.0)
    return to_levels((levels - low.masked_fill(constant, 0.0)) / scale)


def equalize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Each channel's histogram made flat, by the whole-number scheme of PIL's `ImageOps.equalize`."""
    pixels = images.shape[-2] * images.shape[-1]
    if pixels < 256:
        return images  # the scheme's step is 0 then: nothing changes, as in PIL
    channels = images.shape[0] * images.shape[1]
    # One table of 256 entries for each image and channel, all in one vector; `index` is each pixel's entry.
    offsets = torch.arange(channels, device=images.device).view(channels, 1) * 256
    index = (images.reshape(channels, pixels) + offsets).flatten()
    histogram = torch.zeros(channels * 256, dtype=torch.int32, device=images.device)
    histogram.scatter_add_(0, index, torch.ones_like(index, dtype=torch.int32))
    histogram = histogram.view(channels, 256)
    total = histogram.cumsum(dim=1, dtype=torch.int32)
    brightest = histogram.gather(1, total.argmax(dim=1, keepdim=True))  # the count of the highest level present
    step = (pixels - brightest) // 255
    below = total - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step == 0, torch.arange(256, dtype=torch.int32, device=images.device), table)
    return table.to(torch.uint8).flatten()[index].view_as(images)


def invert(images: Tensor, magnitudes: Tensor) -> Tensor:
    """255 minus each level."""
    return ~images


def keep(images: Tensor, magnitudes: Tensor) -> Tensor:
    """The images as they are."""
    return images


def grayscale(images: Tensor) -> Tensor:
    """The grey level of each pixel, (n, 1, H, W) float32, a whole number (ITU-R 601)."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.unbind(dim=1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_().unsqueeze(1)


def blend(images: Tensor, degenerate: Tensor, magnitudes: Tensor) -> Tensor:
    """(1 + magnitude) image - magnitude degenerate, cut to 0..255; `degenerate` broadcasts to the images' shape."""
    scaled = images * per_image(1.0 + magnitudes)
    return to_levels(scaled.addcmul_(degenerate, per_image(-magnitudes)))


def to_levels(images: Tensor) -> Tensor:
    """Float images cut to 0..255, fractions dropped, as uint8."""
    return images.clamp_(0, 255).to(torch.uint8)


def per_image(values: Tensor) -> Tensor:
    """(n,) values as (n, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


POINTWISE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightness,
    "color": color,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "invert": invert,
}
"""Operations that change levels: (n, C, H, W) uint8 and magnitudes (n,) float32 to (n, C, H, W) uint8."""
