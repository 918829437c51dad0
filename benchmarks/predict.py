"""Prediction: images a second and memory of mode=predict, against a plain loop over the same networks.

    python benchmarks/predict.py [--images N] [--size 224] [--workers 0 2] [--rounds N]

JPEG files of 400 x 300, scaled to 8/7 of the size and cropped to it, two ResNet-18 of torchvision. The plain loop
decodes one image after the other in this process, and adds up both networks' softmax in batches of the same size.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from input import write_pictures
from measure import alternate, report
from PIL import Image

from cpc_lightning.app.command_line import main as command
from cpc_lightning.inference.inputs import BLOCK, count_of_names, open_input
from cpc_lightning.inference.model import TrainedModel, read_model
from cpc_lightning.inference.predict import predict
from cpc_lightning.inference.predictions import Blocks

BATCH = 32


def train(folder: Path, pictures: Path, size: int) -> Path:
    """A run of two short epochs, whose checkpoint is looked at."""
    settings = [
        "dataset=imagefolder", f"dataset.root={pictures}", "backbone.name=resnet18", "training.epochs=1",
        "training.warmup_epochs=1", "cleaner=none", "training.batch_size=4", "training.warmup_batch_size=4",
        "report=false",
        "optimizer.schedule.milestones=[1]", "callbacks=none", "training.num_workers=0", f"hydra.run.dir={folder}",
        f"views.size={size}", f"dataset.crop.resize={size * 8 // 7}",
    ]  # fmt: skip
    code = command(settings)
    if code:
        raise SystemExit(code)
    return folder


def plain(model: TrainedModel, files: list[Path]) -> Callable[[], None]:
    """One image after the other, as a script would."""
    networks, crop = list(model.networks), model.crop
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.views.mean, model.views.std))

    def loop() -> None:
        with torch.inference_mode():
            for at in range(0, len(files), BATCH):
                batch = []
                for file in files[at : at + BATCH]:
                    image = Image.open(file).convert("RGB")
                    scale = crop.resize / min(image.size)
                    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.BILINEAR)
                    left, top = (image.width - crop.size) // 2, (image.height - crop.size) // 2
                    box = (left, top, left + crop.size, top + crop.size)
                    batch.append(torch.from_numpy(np.array(image.crop(box))))
                inputs = (torch.stack(batch).permute(0, 3, 1, 2) / 255 - mean) / std
                (sum(network(inputs).softmax(dim=1) for network in networks) / 2).argmax(dim=1)

    return loop


def ours(model: TrainedModel, pictures: Path, output: Path, workers: int) -> Callable[[], None]:
    """All that mode=predict does once it has the model, its output included."""

    def loop() -> None:
        given, kept = open_input(str(pictures), None), Blocks(output)
        total = count_of_names(given)
        kept.begin({}, True)
        predict(model, given, kept, total, BATCH, workers)
        kept.put_together(-(-total // BLOCK), model.class_names, min(5, len(model.class_names)))

    return loop


def peak(run: Path, listed: Path, output: Path) -> float:
    """Megabytes that a process of mode=predict has had at most, its workers aside."""
    code = (
        "import resource, sys; from cpc_lightning.app.command_line import main; code = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    arguments = ["mode=predict", f"run={run}", f"input={listed}", f"output={output}", "training.num_workers=0"]
    answer = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    kilobytes = int(answer.stdout.split()[-1])
    return kilobytes / 1024


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--listed", type=int, nargs="*", default=[20_000, 200_000], help="missing files, for the memory"
    )
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, count in (("train", 40), ("pictures", asked.images)):
            (folder / part).mkdir()
            write_pictures(folder / part, count)
        run = train(folder / "run", folder / "train", asked.size)
        model = read_model(str(run))
        files = sorted((folder / "pictures").rglob("*.jpg"))
        ways = {"plain loop": plain(model, files)} | {
            f"mode=predict, {workers} workers": ours(model, folder / "pictures", folder / "p.csv", workers)
            for workers in asked.workers
        }
        times = alternate(ways, asked.rounds, warm=0)
        speeds = {way: len(files) / spent for way, spent in times.items()}
        rows += [[way, speed, speed / speeds["plain loop"]] for way, speed in speeds.items()]
        memory = []
        for count in asked.listed:  # that are not there, so that names and rows alone take memory and time
            (folder / "list.txt").write_text("".join(f"photos/of/somebody/{k:09}.jpg\n" for k in range(count)))
            memory.append(f"{peak(run, folder / 'list.txt', folder / f'{count}.csv'):,.0f} MB for {count:,} names")
    notes = [
        f"batches of {BATCH} on {len(files):,} images of {asked.size} x {asked.size}",
        f"medians of {asked.rounds} rounds in which the sides take turns",
        *([f"memory of the process at most: {'; '.join(memory)}"] if memory else []),
        f"two ResNet-18, untrained; this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB",
    ]
    report("predict", "Prediction", ["", "images/s", "of the plain loop"], rows, notes)


if __name__ == "__main__":
    main()
