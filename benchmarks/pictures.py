"""JPEG files of 500 x 375 in 20 classes that look like photos to a decoder and to a network, made for benchmarks.

A garment of Fashion-MNIST, enlarged and tinted, before a background with the spectrum of natural images (1/f): fine
grain for the first ten classes, coarse blotches for the others. Sensor noise on top; quality 90, about 85 KB a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cpc_lightning.datasets.fashion_mnist import fashion_mnist

WIDTH, HEIGHT, CLASSES = 500, 375, 20
TEXTURES = 16


def textures(stream: np.random.Generator, power: float) -> list[np.ndarray]:
    """Coloured noise whose amplitude falls with frequency to `power`; (512, 640, 3) float32 around 0."""
    down, across = np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(640)[None]
    fall = 1 / np.maximum(np.hypot(down, across), 1 / 640) ** power
    made = []
    for _ in range(TEXTURES):
        gray, colour = stream.normal(size=(512, 640, 1)), stream.normal(size=(512, 640, 3))
        noise = np.fft.irfft2(np.fft.rfft2(gray + 0.5 * colour, axes=(0, 1)) * fall[..., None], axes=(0, 1))
        made.append((noise / noise.std()).astype(np.float32))
    return made


def pictures(count: int, seed: int = 0) -> Iterator[tuple[int, Image.Image]]:
    """That many pictures, each with its class."""
    stream = np.random.default_rng(seed)
    kinds = [textures(stream, power) for power in (0.9, 1.8)]
    garments = fashion_mnist().train
    places = [torch.nonzero(garments.labels == label).flatten() for label in range(CLASSES // 2)]
    for number in range(count):
        label = number % CLASSES
        kind, garment = divmod(label, CLASSES // 2)
        pool = kinds[kind]
        background = pool[stream.integers(len(pool))]
        top, left = stream.integers(512 - HEIGHT), stream.integers(640 - WIDTH)
        levels = 120 + 45 * background[top : top + HEIGHT, left : left + WIDTH]
        place = places[garment][stream.integers(len(places[garment]))]
        small = Image.fromarray(garments.images.fetch(place[None])[0, 0].numpy())
        side = int(stream.integers(240, 340))
        shown = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32)[..., None]
        row, column = stream.integers(HEIGHT - side), stream.integers(WIDTH - side)
        window = levels[row : row + side, column : column + side]
        cover = np.clip(shown / 60, 0, 1)
        tint = stream.uniform(0.5, 1.0, 3).astype(np.float32)
        window += cover * (shown * tint * (1 + 0.1 * background[:side, :side]) - window)
        levels = levels + 4 * stream.standard_normal(levels.shape, np.float32)
        yield label, Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, count: int, misfiled: float = 0.2, seed: int = 0) -> None:
    """Write them to a folder for each class; a share of them, drawn at random, to the next class's."""
    stream = np.random.default_rng(seed + 1)
    for number, (label, picture) in enumerate(pictures(count, seed)):
        filed = (label + (stream.random() < misfiled)) % CLASSES
        target = folder / f"class_{filed:02}" / f"{number:05}_of_{label:02}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target, quality=90)
