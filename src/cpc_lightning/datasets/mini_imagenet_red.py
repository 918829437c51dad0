"""Red Mini-ImageNet: 100 classes of ImageNet with a known share of wrongly labeled photos from the web (CNWL).

Jiang et al., "Beyond Synthetic Noise: Deep Learning on Controlled Noisy Labels", ICML 2020. The archive with lists and
annotations, dataset_no_images.zip, is that of google.github.io/controlled-noisy-web-labels. What is in it is documented
by TensorFlow Datasets, which reads it (controlled_noisy_web_labels.py). In its folder `mini-imagenet/`:

* `class_name.txt`: a line a class;
* `split/red_noise_nl_RATE` (0.0, 0.05, 0.1, ...) and `split/clean_validation`: lines `NAME.jpg LABEL`. Images of
  ImageNet are named as in Mini-ImageNet (n0170432300000009.jpg), those of the web by an id (5922767e5677aef4.jpg).

Beside that folder, or in it: `mini-imagenet-annotations.json`, whose "data" are lists of dicts with "image/id" and
"image/class/label/is_clean" (0 or 1). Images have to be fetched by everybody. They are looked for where the published
code of this benchmark has them (PropMix, InstanceGM): `all_images/NAME.jpg`, and for the validation list
`validation/LABEL/NAME.jpg`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES, UNKNOWN, ImageDataset
from cpc_lightning.datasets.file_dataset import Listed, file_dataset, require_no_repeat
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.reading.list_files import labeled_lines, lines_of, require_folder
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, first_line, require, require_number

RATES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
CLASSES, TEST, ANNOTATIONS = "class_name.txt", "split/clean_validation", "mini-imagenet-annotations.json"
OF_IMAGENET = re.compile(rb"n\d{8}")


def mini_imagenet_red(root: str, crop: Crop, rate: float = 0.2, on_bad_image: str = "error") -> ImageDataset:
    """The list of one noise rate to train on, with the clean validation list as "test".

    True labels are for metrics only. Images of ImageNet are labeled right. Of those of the web the annotations say it:
    the true label of one that is not clean is `NONE_OF_THE_CLASSES`, as nobody says what it shows; of one without an
    annotation it is not known.

    Args:
        root: the folder `mini-imagenet`.
        crop: makes views of one size; 32 x 32 in the papers that compare on it.
        rate: share of images from the web with a wrong label, one of `RATES`.
        on_bad_image: see `file_dataset`.

    Raises:
        InputError: if a file is not there, a line does not parse, a label lies outside the classes of class_name.txt,
            an image is listed twice, or a class has no image.
    """
    folder = require_folder("root", root)
    require_number("rate", rate, 0, 1)
    known = [one for one in RATES if abs(one - rate) < 1e-9]
    require(len(known) == 1, "rate", rate, f"must be one of {', '.join(f'{one:g}' for one in RATES)}")
    class_names = [name.decode(errors="replace") for _, name in lines_of(folder, CLASSES)]
    train = listed(folder, f"split/red_noise_nl_{known[0]}", class_names, "all_images", clean_ids(folder))
    test = listed(folder, TEST, class_names, "validation")
    return file_dataset("mini_imagenet_red", class_names, train, {"test": test}, crop, on_bad_image)


def listed(
    folder: Path, name: str, class_names: list[str], images: str, clean: Mapping[str, bool] | None = None
) -> Listed:
    """The images of a list.

    Args:
        folder: the data set's.
        name: of the list.
        class_names: K names.
        images: the folder in it with the images; without `clean`, with a folder in it for each label.
        clean: of images from the web, whether their label is right; None: no true labels.
    """
    given: list[int] = []
    true: list[int] = []

    def names() -> Iterator[bytes]:
        for path, label in labeled_lines(folder, name, len(class_names)):
            given.append(label)
            true.append(label if OF_IMAGENET.match(path) else truth(path, label, clean or {}))
            yield path if clean is not None else b"%d/%s" % (label, path)

    paths = PathList(names())
    require_no_repeat("root", str(folder / name), paths)
    labels = torch.tensor(given, dtype=torch.int64)
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    empty = [class_name for class_name, count in zip(class_names, counts, strict=True) if count == 0]
    require(not empty, "root", str(folder / name), f"lists no image of class {', '.join(empty[:3])}")
    return Listed(str(folder / images), paths, labels, None if clean is None else torch.tensor(true, dtype=torch.int64))


def truth(path: bytes, label: int, clean: Mapping[str, bool]) -> int:
    """The true label of an image from the web."""
    right = clean.get(path.decode(errors="replace").rpartition(".")[0])
    return UNKNOWN if right is None else label if right else NONE_OF_THE_CLASSES


def clean_ids(folder: Path) -> dict[str, bool]:
    """Of each annotated image, by its id, whether its label is right."""
    places = [place / ANNOTATIONS for place in (folder, folder / "..")]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise InputError("root", str(folder), f"there is no {ANNOTATIONS} in it or beside it")
    try:
        content = json.loads(file.read_bytes())
        entries = [entry for group in content["data"] for entry in group]
        return {str(entry["image/id"]): bool(int(entry["image/class/label/is_clean"])) for entry in entries}
    except OSError as error:
        raise InputError("root", str(file), f"cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError) as error:
        kind = f"no {error.args[0]}" if isinstance(error, KeyError) else first_line(error)
        raise InputError("root", str(file), f"holds no annotations ({kind:.200})") from None
