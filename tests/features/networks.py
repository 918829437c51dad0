"""Networks that tests take features of, which count what they see."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Patches(nn.Module):
    """The mean level of each of 4 x 4 patches and each channel: 48 numbers; its weights scale them.

    Where the environment names a file in SEEN, each pass adds a line to it: process and images. PASS_TAKES says how
    many seconds it takes.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images: Tensor) -> Tensor:
        if seen := os.environ.get("SEEN"):
            with Path(seen).open("a") as file:
                file.write(f"{os.getpid()} {len(images)}\n")
        time.sleep(float(os.environ.get("PASS_TAKES", 0)))
        return self.scale * F.adaptive_avg_pool2d(images, 4).flatten(1)

    def maps(self, images: Tensor) -> Tensor:
        """(B, 3, 2, 2)."""
        return F.adaptive_avg_pool2d(images, 2)

    def words(self, images: Tensor) -> Tensor:
        """(B, 4, 3)."""
        return self.maps(images).flatten(2).transpose(1, 2)

    def nothing(self, images: Tensor) -> None:
        """No tensor."""

    def infinite(self, images: Tensor) -> Tensor:
        return torch.full((len(images), 3), torch.inf)


class Random(nn.Module):
    """A linear layer with weights as torch draws them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def seen(file: Path) -> int:
    """How many images the networks of all processes have seen, in any view."""
    return sum(int(line.split()[1]) for line in file.read_text().splitlines()) if file.exists() else 0


def seen_by(file: Path) -> set[str]:
    """The processes whose networks have seen any."""
    return {line.split()[0] for line in file.read_text().splitlines()}
