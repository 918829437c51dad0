"""Fashion-MNIST: 60,000 + 10,000 grayscale images of 28 x 28 pixels, 10 kinds of clothes (Xiao et al. 2017)."""

from __future__ import annotations

from pathlib import Path

from torchvision import datasets

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.datasets.reading.folders import is_folder
from cpc_lightning.datasets.reading.idx import find_idx_files, first_missing, idx_dataset
from cpc_lightning.datasets.reading.roots import own_root, roots
from cpc_lightning.errors import InputError, require

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# Each class and the most alike one, which it is mistaken for.
CLASS_MAP = {0: 6, 2: 4, 5: 7, 9: 7, 6: 0}

DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"


def fashion_mnist(root: str | None = None, download: bool = False) -> ImageDataset:
    """Fashion-MNIST, (N, 1, 28, 28) uint8, from its four idx files.

    Args:
        root: folder that holds the files themselves or torchvision's FashionMNIST/raw/. None looks into the folder that
            the environment variable CPC_DATA names, ./data, and where Debian's package dataset-fashion-mnist puts them.
        download: fetch the files if they are not there, into torchvision's layout under `root` (None: the folder that
            CPC_DATA names, else ./data).

    Raises:
        InputError: if a folder or file is not there or unusable, or the download fails.
    """
    folders = [base / inner for base in roots(root, DEBIAN_FOLDER) for inner in ("FashionMNIST/raw", "")]
    files = find_idx_files(folders)
    if files is None and download:
        _download(own_root(root))
        files = find_idx_files(folders)
    if files is None:
        require(root is None or is_folder("root", Path(root).expanduser()), "root", root, "is not a folder")
        how = "set download=true, or install Debian's package dataset-fashion-mnist and leave root empty"
        raise InputError("root", root, f"there is no {first_missing(folders)}: {how}")
    return idx_dataset(files, "fashion_mnist", CLASS_NAMES, CLASS_MAP)


def _download(root: str) -> None:
    try:
        datasets.FashionMNIST(root, download=True)
    except (RuntimeError, OSError, ValueError) as error:  # URLError is an OSError; ValueError: files that do not parse
        raise InputError("download", True, f"failed, into {root}: {error}") from error
