"""Chooses the size of the views by the sizes of the images, where the settings do not give it.

Runs on image files scale the shorter side of an image to `dataset.crop.resize`, and see `views.size` of it, 7/8 as a
rule. Where both are null, the headers of the images decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Any

from cpc_lightning.app.settings import select
from cpc_lightning.backbones.fitting import described_for
from cpc_lightning.datasets.dataset import ImageDataset, Split
from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles
from cpc_lightning.datasets.reading.sizes import shorter_sides
from cpc_lightning.noise.open_set import MixedImages

OPEN = ("views.size", "dataset.crop.resize", "backbone.size")
"""Settings that may be null until the images are known."""
SIDES = (16, 24, 32, 48, 64, 96, 128, 192, 256)
"""What images are scaled to: 7/8 of each is a whole number of pixels."""
PHOTOS = SIDES[-1]
"""What photos are scaled to, and all images before a pretrained network."""


def left_open(settings: Mapping[str, Any]) -> set[str]:
    """The names among `OPEN` that are null, of a run on image files."""
    if "resize" not in (select(settings, "dataset.crop") or {}):
        return set()
    groups = {name: select(settings, name.rpartition(".")[0]) for name in OPEN}
    return {
        name for name, group in groups.items()
        if isinstance(group, Mapping) and group.get(name.rpartition(".")[2], 0) is None
    }  # fmt: skip


def settled(settings: Mapping[str, Any], resize: int) -> dict[str, Any]:
    """The settings with what they leave open decided for images whose shorter side is scaled to `resize`.

    What is typed stays, and decides on the other of both sizes.
    """
    names = left_open(settings)
    size, typed = select(settings, "views.size"), select(settings, "dataset.crop.resize")
    if not names:
        return dict(settings)
    larger = max(size) if isinstance(size, list) and size else size
    if typed is not None:
        resize = typed
    elif isinstance(larger, int) and not isinstance(larger, bool):
        resize = -(-larger * 8 // 7)
    if size is None:
        size = max(1, resize * 7 // 8) if isinstance(resize, int) else resize  # what is no number, others refuse
    changed = dict(settings)
    if settings.get("views") is not None:  # null for vectors
        changed["views"] = {**settings["views"], "size": size}
    changed["dataset"] = {**settings["dataset"], "crop": {**settings["dataset"]["crop"], "resize": resize}}
    if "dataset.crop.resize" in names or "views.size" in names:
        crop = changed["dataset"]["crop"]
        crop["size"] = size if crop["size"] is None else crop["size"]
    if "backbone.size" in names:
        changed["backbone"] = {**settings["backbone"], "size": size}
    return changed


def as_recorded(settings: Mapping[str, Any], names: set[str], record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with what was open, `names` of them, as a run's record has it.

    A run of before the choice had ResNet-18, or the classifier of torchvision that was named.
    """
    if not names:
        return dict(settings)
    changed = {**settings, **{group: dict(settings[group]) for group in ("views", "dataset", "backbone")}}
    if "views.size" in names:
        changed["views"]["size"] = select(record, "views.size")
    if names & {"views.size", "dataset.crop.resize"} and select(record, "dataset.crop") is not None:
        changed["dataset"]["crop"] = dict(record["dataset"]["crop"]) | {
            name: value for name, value in settings["dataset"]["crop"].items() if name not in ("resize", "size")
        }
    if "size" in changed["backbone"] and names & {"views.size", "backbone.size"}:
        before, now = record["backbone"], changed["backbone"]
        chosen = "size" not in before and before.get("weights") == now["weights"]
        same = chosen and now["name"] in (None, before.get("name"))
        changed["backbone"] = dict(before) if same else {**now, "size": select(record, "views.size")}
    return changed


def fitted(settings: Mapping[str, Any], images: ImageFiles) -> tuple[dict[str, Any], str]:
    """The settings with what they leave open decided by the sizes of these images, and a line that says so.

    They are scaled to the largest of `SIDES` that enlarges no more than half of them.
    """
    sides = shorter_sides(images)
    resize, why = PHOTOS, "the size of no image can be read"
    if sides:
        middle = median(sides)
        resize = max((side for side in SIDES if side <= middle), default=SIDES[0])
        why = f"the shorter side of the images is {middle:.0f} pixels (median of {len(sides):,})"
    changed = settled(settings, resize)
    size, by = changed["views"]["size"], ""
    if "backbone.size" in left_open(settings) and changed["backbone"].get("name") is None:
        by = f" by {described_for(size)}"
    how = f"dataset.crop.resize={resize} views.size={size}"
    return changed, f"{why}: they are scaled to {resize} and seen in views of {size}{by} ({how})"


def cropped(dataset: ImageDataset, crop: Crop | None) -> ImageDataset:
    """The data set with other views of its image files; as it is where it has none, or for None."""
    if crop is None:
        return dataset

    def of(split: Split) -> Split:
        images = split.images
        if isinstance(images, MixedImages):
            images = replace(images, own=of(replace(split, images=images.own)).images)
            return replace(split, images=images)
        return replace(split, images=replace(images, crop=crop)) if isinstance(images, ImageFiles) else split

    evaluation = {name: of(split) for name, split in dataset.evaluation.items()}
    return replace(dataset, train=of(dataset.train), evaluation=evaluation)
