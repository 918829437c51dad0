"""What tests of formats and decisions share: a run's verdict on five labels, and image files that it is about."""

import numpy as np
import torch
from PIL import Image

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.report.verdicts import Verdicts

# Sample 0 is fine; 1 is suspected and surely a dog; 2 is suspected and the networks agree with its label; 3 has no
# label; 4 is a dog that is suspected for a low score, and the suggestion is unsure.
LABELS = [0, 0, 1, -1, 1]
PATHS = ["a/1.png", "b/1.png", "a/2.png", "a/3.png", "b/2.png"]
NAMES = ("cat", "dog")


def verdicts(**changes):
    columns = {
        "index": [0, 1, 2, 3, 4],
        "path": PATHS,
        "noisy_label": LABELS,
        "clean_probability_1": [0.9, 0.1, 0.2, np.nan, 0.4],
        "clean_probability_2": [0.7, 0.2, 0.4, np.nan, 0.2],
        "clean_probability": [0.8, 0.15, 0.3, np.nan, 0.3],
        "suspected": [False, True, True, False, True],
        "suggested_label": [0, 1, 1, 0, 0],
        "confidence": [0.95, 0.97, 0.99, 0.99, 0.6],
        "true_label": [0, 1, 1, -1, -2],
        "row": [-1] * 5,
        "trusted": [False] * 5,
    } | changes
    kinds = {"suspected": bool, "trusted": bool} | {
        name: np.float64 for name in columns if name.startswith("clean") or name == "confidence"
    }
    arrays = {name: np.array(v, kinds.get(name, np.int64)) for name, v in columns.items() if name != "path"}
    return Verdicts(path=list(columns["path"]), **arrays)


def pixels(k):
    """Image k, (3, 4, 4): its red level tells which one it is."""
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    image[0] = 10 * k
    return image


def arrays(count=5):
    return ArrayImages(torch.stack([pixels(k) for k in range(count)]))


def files(folder, paths=PATHS, first=0):
    """Image files in a folder, the first of them image `first`."""
    for k, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(first + k).permute(1, 2, 0).numpy()).save(folder / path)
    return ImageFiles(str(folder), PathList(paths), Crop(4, 4))


def level(path):
    """Which image a file holds."""
    return np.asarray(Image.open(path))[0, 0, 0] // 10


def dataset(images, test_images, names=NAMES, paths=PATHS, labels=LABELS):
    """Five images to train on, and two to test on, of cat and dog."""
    test = Split(test_images, torch.tensor([0, 1]), None, ["t/0.png", "t/1.png"] if paths else None)
    train = Split(images, torch.tensor(labels), torch.tensor([0, 1, 1, -1, -2]), paths)
    return ImageDataset("five", tuple(names), train, {"test": test}, some_unlabeled=True)
