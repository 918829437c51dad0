"""Decoders of JPEG: images a second and memory of Pillow, torchvision, torchcodec and simplejpeg, in one run.

    python benchmarks/decoding.py [--images N] [--rounds N] [--threads N]

Files of 500 x 375 (`pictures.py`) become the views of 160 x 160 that a network sees. Decoders that are not installed
(`pip install simplejpeg torchcodec`) are left out and named. Each way's memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measure import report
from pictures import write_pictures
from PIL import Image

from cpc_lightning.datasets.reading.image_files import Crop, decode

CROP = Crop(183, 160)
"""What `features.size=160` asks of a data set of photos."""

Decode = Callable[[Path], Any]


def pillow(file: Path, draft: int = 0) -> Image.Image:
    """With `draft`, at half, a quarter or an eighth of its size, but no shorter than that."""
    with Image.open(BytesIO(file.read_bytes())) as image:
        if draft:
            image.draft(None, (draft, draft))
        return image.convert("RGB")


def of_array(array: np.ndarray) -> Image.Image:
    """The array (H, W, 3) as the resizing wants it."""
    return Image.fromarray(array)


def ways() -> tuple[dict[str, Decode], list[str]]:
    """From a file to RGB by each decoder, and those that are not there."""
    found: dict[str, Decode] = {
        "this library's reader": lambda file: decode(str(file), CROP.resize),
        "Pillow": pillow,
        "Pillow, draft down to the size": lambda file: pillow(file, CROP.resize),
    }
    absent = []
    try:
        io = importlib.import_module("torchvision.io")
        rgb = io.ImageReadMode.RGB
        found["torchvision.io"] = lambda file: of_array(
            io.decode_jpeg(io.read_file(str(file)), rgb).permute(1, 2, 0).numpy()
        )
    except (ImportError, RuntimeError) as error:
        absent.append(f"torchvision.io ({error})")
    try:
        decoders = importlib.import_module("torchcodec.decoders")
        found["torchcodec"] = lambda file: of_array(
            decoders.decode_jpeg(torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8))
            .permute(1, 2, 0).numpy()
        )  # fmt: skip
    except (ImportError, RuntimeError) as error:
        absent.append(f"torchcodec ({error})")
    try:
        turbo = importlib.import_module("simplejpeg")
        found["simplejpeg"] = lambda file: of_array(turbo.decode_jpeg(file.read_bytes()))
        found["simplejpeg, down to the size"] = lambda file: of_array(
            turbo.decode_jpeg(file.read_bytes(), min_height=CROP.resize, min_width=CROP.resize, min_factor=1)
        )
    except ImportError as error:
        absent.append(f"simplejpeg ({error})")
    return found, absent


def view(way: Decode, file: Path) -> np.ndarray:
    """What a network sees of a file."""
    return np.asarray(CROP.centre(CROP.scaled(way(file))))


def memory_of(kind: str) -> float:
    """Megabytes of this process, as Linux has them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def spent(work: Callable[[Path], Any], files: list[Path], threads: ThreadPoolExecutor) -> tuple[float, float]:
    """Seconds, and seconds of all cores together."""
    begin, used = time.perf_counter(), time.process_time()
    for _ in threads.map(work, files):
        pass
    return time.perf_counter() - begin, time.process_time() - used


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.memory:
        name, folder = asked.memory
        view(ways()[0][name], sorted(Path(folder).rglob("*.jpg"))[0])  # what is imported is not meant
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before = memory_of("VmRSS")
        with ThreadPoolExecutor(asked.threads) as threads:
            spent(lambda file: view(ways()[0][name], file), sorted(Path(folder).rglob("*.jpg"))[:100], threads)
        print(memory_of("VmHWM") - before)
        return
    found, absent = ways()
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(asked.threads) as threads:
        write_pictures(Path(folder), asked.images)
        files = sorted(Path(folder).rglob("*.jpg"))
        whole: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
        for _ in range(asked.rounds):
            for name, way in found.items():
                whole[name].append(spent(way, files, threads))
                seen[name].append(spent(lambda file, way=way: view(way, file), files, threads))
        base = median(used for _, used in seen["this library's reader"])
        for name, way in found.items():
            apart = [np.abs(view(way, file).astype(int) - view(pillow, file)) for file in files[:50]]
            command = [sys.executable, __file__, "--threads", str(asked.threads), "--memory", name, folder]
            memory = subprocess.run(command, capture_output=True, text=True, check=True)
            cost = median(used for _, used in seen[name])
            rows.append([
                name, len(files) / median(used for _, used in whole[name]), len(files) / cost,
                len(files) / min(wall for wall, _ in seen[name]), f"{base / cost:.2f}",
                float(memory.stdout.strip()), int(np.max(apart)), float(np.mean(apart)),
            ])  # fmt: skip
    kilobytes = "500 x 375 JPEG, quality 90"
    notes = [
        f"{len(files)} files ({kilobytes}) made by benchmarks/pictures.py, read from the page cache; {asked.threads} "
        f"threads; medians of {asked.rounds} rounds that alternate; a view: shorter side to 183, the middle 160 x 160",
        "images a second of a core: by the processor's time of all threads, which a busy machine hardly changes; the "
        "column behind them is by the clock, the best round",
        "speed: of views, in units of this library's; MB: what decoding 100 files adds to the process",
        "levels apart: of 50 views, from those of Pillow's whole image",
        *(f"not installed: {name}" for name in absent),
    ]
    columns = ["decoder", "decoded / s of a core", "views / s of a core", "views / s", "speed", "MB",
               "most levels apart", "mean"]  # fmt: skip
    report("decoding", "Decoders of JPEG", columns, rows, notes)


if __name__ == "__main__":
    main()
