"""The input pipeline alone: images a second by number of workers, against torchvision's data sets and v2 transforms.

    python benchmarks/input.py [--images N] [--workers 0 1 2]

One random crop of each image, as in warm-up. Arrays are 32x32, files are 400x300 JPEG, scaled to 256 and cropped to
224. What this library leaves to the device (flips, normalisation) is not part of it, on neither side.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from measure import alternate, report
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from workloads import WORKLOADS, load

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.datasets.image_folder import image_folder
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.training.datamodule import CoTrainingDataModule

BATCH = 64


def write_pictures(folder: Path, count: int) -> None:
    """Smooth random JPEG pictures of 400 x 300 in four folders of classes."""
    generator = torch.Generator().manual_seed(0)
    for place in range(count):
        noise = torch.randint(0, 256, (12, 16, 3), dtype=torch.uint8, generator=generator)
        target = folder / f"class_{place % 4}" / f"{place}.jpg"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.numpy()).resize((400, 300), Image.Resampling.BICUBIC).save(target, quality=90)


class Arrays(Dataset):
    """Images in memory, one at a time through a transform."""

    def __init__(self, pixels: torch.Tensor, labels: torch.Tensor, transform: Callable) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, place: int) -> tuple:
        """One cropped image and its label."""
        return self.transform(self.pixels[place]), self.labels[place]


def ours(dataset: ImageDataset, workers: int) -> tuple[Callable[[], None], int]:
    """One epoch of both networks' warm-up batches, and how many images that is."""
    datamodule = CoTrainingDataModule(dataset, BATCH, seed=0, num_workers=workers)

    def epoch() -> None:
        for _ in datamodule.train_dataloader():
            pass

    return epoch, BATCH * len(datamodule.train_dataloader())


def theirs(dataset: Dataset, workers: int) -> tuple[Callable[[], None], int]:
    """Two epochs of torchvision's way, and how many images that is."""
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def epoch() -> None:
        for _ in range(2):
            for _ in loader:
                pass

    return epoch, 2 * len(dataset)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="files; of arrays there are 20 times as many")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    arrays = load(WORKLOADS["preact"], 20 * asked.images)
    pixels = arrays.train.images.fetch(torch.arange(len(arrays.train)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), asked.images)
        files = image_folder(folder, Crop(size=224, resize=256), test_share=0.01)
        cropped = v2.Compose([v2.Resize(256), v2.RandomCrop(224), v2.PILToTensor()])
        each = {
            "arrays 32x32": (arrays, Arrays(pixels, arrays.train.labels, v2.RandomCrop(32, padding=4))),
            "JPEG 400x300": (files, ImageFolder(folder, cropped)),
        }
        for kind, (dataset, torchvisions) in each.items():
            for workers in asked.workers:
                sides = {"this library": ours(dataset, workers), "torchvision": theirs(torchvisions, workers)}
                times = alternate({side: work for side, (work, _) in sides.items()}, asked.rounds)
                speeds = {side: count / times[side] for side, (_, count) in sides.items()}
                ratio = speeds["this library"] / speeds["torchvision"]
                rows.append([kind, workers, speeds["this library"], speeds["torchvision"], ratio])
    notes = [
        f"batches of {BATCH}; medians of {asked.rounds} rounds in which the sides take turns, workers running",
        "this library crops arrays on the device, in batch, so that its loader only gathers them",
    ]
    columns = ["images", "workers", "this library, images/s", "torchvision, images/s", "faster"]
    report("input", "Input pipeline alone", columns, rows, notes)


if __name__ == "__main__":
    main()
