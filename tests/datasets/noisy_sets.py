"""Small genuine files in the layouts in which ANIMAL-10N, Food-101N and Red Mini-ImageNet are published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tests.datasets.image_trees import picture, save_jpeg, save_text


def write_animal10n(root: Path, by_class: int = 2) -> None:
    """training/ and testing/ with files LABEL_NUMBER.jpg of 64 x 64 pixels."""
    for part, count in (("training", by_class), ("testing", 1)):
        (root / part).mkdir(parents=True, exist_ok=True)
        for number in range(10 * count):
            image = picture(number, 19 * (number % 10), (64, 64))
            image.save(root / part / f"{number % 10}_{number:05d}.jpg", quality=90)


def record(identity: int, label: int, pixels: np.ndarray) -> bytes:
    """One image of the binary form: id and label, the highest byte first, and (3, 64, 64) pixels."""
    return identity.to_bytes(4, "big") + label.to_bytes(4, "big") + pixels.astype(np.uint8).tobytes()


def pixels_of(number: int) -> np.ndarray:
    """(3, 64, 64) with red, green and blue apart, and the first pixel of each channel apart from the others."""
    pixels = np.stack([np.full((64, 64), number + 100 * channel) for channel in range(3)])
    pixels[:, 0, 1] += 1
    return pixels


def write_animal10n_binary(root: Path, batches: int = 2) -> None:
    """data_batch_1.bin and so on, of ten images each, and test_batch.bin."""
    root.mkdir(parents=True, exist_ok=True)
    for batch in range(batches):
        content = [record(10 * batch + k, (k + batch) % 10, pixels_of(10 * batch + k)) for k in range(10)]
        (root / f"data_batch_{batch + 1}.bin").write_bytes(b"".join(content))
    (root / "test_batch.bin").write_bytes(b"".join(record(k, 9 - k, pixels_of(k)) for k in range(10)))


DISHES = ("waffles", "apple_pie", "sushi")
FOUND = {"waffles/a1.jpg": 1, "waffles/b2.jpg": 0, "sushi/a1.jpg": 1}
"""The verification labels of verified_train.tsv; apple_pie/c3.jpg is in verified_val.tsv, as wrong."""


def write_food101n(root: Path) -> tuple[Path, Path]:
    """Food-101N with four images for each of three dishes, and Food-101's test set with two; the two folders."""
    noisy, clean = root / "Food-101N_release", root / "food-101"
    keys = [f"{dish}/{key}.jpg" for dish in DISHES for key in ("a1", "b2", "c3", "d4")]
    for number, key in enumerate(keys):
        save_jpeg(noisy / "images" / key, number, shade=90 * (number // 4))
    save_text(noisy / "meta/classes.txt", "".join(f"{line}\n" for line in ("class_name", *DISHES)))
    save_text(noisy / "meta/imagelist.tsv", "".join(f"{line}\n" for line in ("class_name/key", *keys)))
    rows = "".join(f"{key}\t{label}\n" for key, label in FOUND.items())
    save_text(noisy / "meta/verified_train.tsv", f"class_name/key\tverification_label\n{rows}")
    save_text(noisy / "meta/verified_val.tsv", "class_name/key\tverification_label\napple_pie/c3.jpg\t0\n")
    tested = [f"{dish}/{number}" for dish in sorted(DISHES) for number in (1005649, 1014775)]
    for number, key in enumerate(tested):
        save_jpeg(clean / "images" / f"{key}.jpg", number)
    save_text(clean / "meta/test.txt", "".join(f"{key}\n" for key in tested))
    return noisy, clean


CLASSES = ("triceratops", "upright piano", "unicycle, monocycle")
LISTED = {"n0170432300000009": 0, "n0451500300000001": 1, "n0450941700000003": 2, "5922767e5677aef4": 1,
          "0a1b2c3d4e5f6071": 2, "ffffffffffffffff": 0}  # fmt: skip
"""Train: three images of ImageNet; one of the web that is wrong, one that is right, one without an annotation."""


def write_mini_imagenet_red(root: Path, rate: str = "0.2") -> Path:
    """dataset_no_images/ unpacked, with images where the published code has them; its folder mini-imagenet."""
    folder = root / "dataset_no_images" / "mini-imagenet"
    for number, (name, label) in enumerate(LISTED.items()):
        save_jpeg(folder / "all_images" / f"{name}.jpg", number, shade=60 * label)
    save_text(folder / "class_name.txt", "".join(f"{name}\n" for name in CLASSES) + "\n")
    save_text(folder / f"split/red_noise_nl_{rate}", "".join(f"{k}.jpg {v}\n" for k, v in LISTED.items()))
    tested = [(f"ILSVRC2012_val_{number:08d}.jpg", number % 3) for number in range(6)]
    for number, (name, label) in enumerate(tested):
        save_jpeg(folder / "validation" / str(label) / name, number)
    save_text(folder / "split/clean_validation", "".join(f"{name} {label}\n" for name, label in tested))
    entries = [annotation("5922767e5677aef4", 1, 0), annotation("0a1b2c3d4e5f6071", 2, 1)]
    content = {"name": "image-search noisy labels", "version": "1.0", "data": [[entry] for entry in entries]}
    save_text(folder.parent / "mini-imagenet-annotations.json", json.dumps(content))
    return folder


def annotation(identity: str, label: int, clean: int) -> dict[str, object]:
    """What the annotations say of one image."""
    return {"image/uri": f"https://example.org/{identity}.jpg", "image/id": identity, "image/class/label": label,
            "image/class/label/is_clean": clean}  # fmt: skip
