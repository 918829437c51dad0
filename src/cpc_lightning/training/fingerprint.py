"""Digests of a data set, by which a resumed run recognises its data.

Shapes: N samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Images, Split
from cpc_lightning.datasets.reading.image_files import ImageFiles
from cpc_lightning.datasets.vectors import ArrayVectors
from cpc_lightning.noise.open_set import MixedImages

SAMPLE = 64
"""Image files that are read, evenly spread over a set: reading them all would take as long as an epoch."""


def describe_data(dataset: ImageDataset) -> dict[str, Any]:
    """The data set in plain containers: sizes, names, and digests of its labels, file names and images.

    "labels" is that of the labels to train on; "digests" holds the others' by set and content; "images" says what an
    image is, for those who use the networks later.
    """
    return {
        "training samples": len(dataset.train),
        "classes": list(dataset.class_names),
        "evaluation samples": {name: len(split) for name, split in dataset.evaluation.items()},
        "labels": digest_tensor(dataset.train.labels),
        "images": describe_images(dataset.train.images),
        "digests": {
            "train": digest_split(dataset.train, train=True),
            **{f"evaluation {name}": digest_split(split) for name, split in dataset.evaluation.items()},
        },
    }


def describe_images(images: Images) -> dict[str, Any]:
    """What an image is, before a network sees it.

    "shape" is (C, H, W), of what vectors were computed from where there is that, else (D); "top" the level that becomes
    255 in grayscale files of more than 8 bits; "features" the digest of the network that makes vectors, or "".
    """
    origin = images.origin if isinstance(images, ArrayVectors) else ""
    pictures = images.pictures if isinstance(images, ArrayVectors) and images.pictures is not None else images
    own = pictures.own if isinstance(pictures, MixedImages) else pictures
    if isinstance(own, ImageFiles):  # which need not be decoded for it
        return {"shape": [3, own.crop.size, own.crop.size], "top": own.top, "features": origin}
    return {"shape": [*own.fetch(torch.tensor([0])).shape[1:]], "top": None, "features": origin}


def digest_split(split: Split, train: bool = False) -> dict[str, str]:
    """Digests of a split by what they are of. Labels to train on are left out: they are compared one by one."""
    return {
        **({} if train else {"labels": digest_tensor(split.labels)}),
        "true labels": "" if split.true_labels is None else digest_tensor(split.true_labels),
        **({} if split.trusted is None else {"trusted labels": digest_tensor(split.trusted)}),
        "file names": "" if split.paths is None else digest_names(split.paths),
        "images": digest_images(split.images),
    }


def digest_tensor(values: Tensor) -> str:
    """sha256 of the numbers, of their kind and of their shape."""
    hashed = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
    hashed.update(values.contiguous().flatten().view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def digest_names(names: Sequence[str]) -> str:
    """sha256 of file names, in their order."""
    hashed = hashlib.sha256()
    for name in names:
        hashed.update(name.encode(errors="surrogateescape") + b"\0")
    return hashed.hexdigest()


def digest_images(images: Images) -> str:
    """sha256 of all pixels or vectors in memory, or of the bytes of `SAMPLE` image files; "" for any other kind.

    Of vectors that a pretrained network has computed, of the images and of what computed them: another machine rounds
    otherwise.

    A file that cannot be read counts as an empty one: whoever needs it says so.
    """
    if isinstance(images, MixedImages):
        parts = (digest_images(images.own), digest_images(images.other), digest_tensor(images.origin))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()
    if isinstance(images, ArrayImages):
        return digest_tensor(images.pixels)
    if isinstance(images, ArrayVectors):
        if images.pictures is None:
            return digest_tensor(images.vectors)
        return hashlib.sha256(f"{digest_images(images.pictures)} {images.origin}".encode()).hexdigest()
    if not isinstance(images, ImageFiles):
        return ""
    hashed = hashlib.sha256()
    for position in torch.linspace(0, len(images) - 1, min(SAMPLE, len(images)), dtype=torch.float64).long().tolist():
        try:
            with open(images.file(position), "rb") as file:
                content = file.read()
        except OSError:
            content = b""
        hashed.update(f"{position} {len(content)} ".encode() + content)
    return hashed.hexdigest()
