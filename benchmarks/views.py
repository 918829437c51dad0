"""How fast strong views are, against torchvision's AutoAugment image by image. One CPU thread.

    python benchmarks/views.py [ROUNDS]

Every round times each way once, in turn, so that a busy machine slows all of them alike; the ratio is that of the
medians over the rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_pil_image

from cpc_lightning.views.views import Views


def ways(
    channels: int, side: int, batch: int, policy: str, padding: int, flip: bool
) -> dict[str, Callable[[], object]]:
    """Each way to make the strong views of one batch, by name."""
    images = torch.randint(0, 256, (batch, channels, side, side), dtype=torch.uint8)
    pictures = [to_pil_image(image) for image in images]
    published = v1.AutoAugmentPolicy.CIFAR10  # torchvision has no policy for symbols
    views = Views(side, padding, flip, policy, [0.5], [0.25])
    augdesc = Views(side, padding, flip, policy, [0.5], [0.25], augdesc=True)
    found: dict[str, Callable[[], object]] = {
        "strong": lambda: views.strong(images),
        "strong as AugDesc": lambda: augdesc.strong(images),
        "weak only": lambda: views.weak(images),
    }
    for name, library in (("torchvision v1, PIL", v1), ("torchvision v2, PIL", v2)):
        each = library.Compose(
            [
                library.RandomCrop(side, padding=padding),
                library.RandomHorizontalFlip(0.5 if flip else 0.0),
                library.AutoAugment(published),
                library.PILToTensor(),
            ]
        )
        found[name] = lambda each=each: torch.stack([each(picture) for picture in pictures])
    return found


def main(rounds: int) -> None:
    """Print one line for each way and batch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for case in (
        (3, 32, 512, "cifar10", 4, True),
        (3, 224, 64, "imagenet", 0, True),
        (1, 8, 256, "cifar10", 1, False),
        (1, 8, 256, "symbols", 1, False),
    ):
        channels, side, batch, policy, _, _ = case
        print(f"{batch} images {side} x {side} x {channels}, policy {policy}, {rounds} rounds")
        timed = ways(*case)
        seconds: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(rounds + 1):
            for name, make in timed.items():
                start = time.perf_counter()
                make()
                seconds[name].append(time.perf_counter() - start)
        ours = median(seconds["strong"][1:])
        for name, values in seconds.items():
            spent = median(values[1:])  # the first round warms up
            print(f"  {name:20} {1e3 * spent:8.2f} ms {batch / spent:10.0f} images/s {spent / ours:7.2f} x strong")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
