"""Label Studio: a labeling interface and tasks with the suggested labels as predictions.

Format: https://labelstud.io/guide/tasks.html and https://labelstud.io/guide/predictions.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from cpc_lightning.datasets.reading.image_files import ImageFiles
from cpc_lightning.files import atomic_write
from cpc_lightning.report.formats.contract import Exported, number
from cpc_lightning.report.pictures import Pictures

CONTROL, OBJECT = "label", "image"
TASKS, INTERFACE = "tasks.json", "interface.xml"


def write_labelstudio(exported: Exported, folder: Path) -> list[str]:
    """interface.xml and tasks.json, the most suspicious label first; images/ where images lie in no folder by now."""
    images = exported.images
    root = Path(os.path.abspath(images.root)) if isinstance(images, ImageFiles) else None
    with atomic_write(folder / INTERFACE) as file:
        file.write(interface(exported.names))
    with atomic_write(folder / TASKS) as file:
        for place, task in enumerate(tasks(exported, root, folder)):
            file.write(b"[\n" if place == 0 else b",\n")
            file.write(json.dumps(task).encode())
        file.write(b"\n]\n")
    served = f"LOCAL_FILES_DOCUMENT_ROOT={root}" if root else "LOCAL_FILES_DOCUMENT_ROOT set to this folder"
    return [
        f"To import it: {INTERFACE} is the project's labeling interface, {TASKS} its tasks. Images are served from "
        f"this machine, by Label Studio started with LOCAL_FILES_SERVING_ENABLED=true and {served}, and a local "
        "storage added in the project's settings.",
        "Each task has the given label in its data, and the suggested one as a prediction, whose score is the mean "
        "softmax of both networks. Tasks come in the order of the run's page, the most suspicious label first.",
    ]


def interface(names: list[str]) -> bytes:
    """The labeling interface: one choice among the classes' names, with the given label and the verdict beside it."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": OBJECT, "value": f"${OBJECT}"})
    ElementTree.SubElement(view, "Text", {"name": "given", "value": "$verdict"})
    shown = {"name": CONTROL, "toName": OBJECT, "choice": "single", "showInline": "true"}
    choices = ElementTree.SubElement(view, "Choices", shown)
    for name in names:
        ElementTree.SubElement(choices, "Choice", {"value": name})
    ElementTree.indent(view)
    return bytes(ElementTree.tostring(view, encoding="utf-8")) + b"\n"


def tasks(exported: Exported, root: Path | None, folder: Path) -> Iterator[dict[str, Any]]:
    """A task for each sample.

    Args:
        exported: what there is to write.
        root: the folder that the images lie in, from which Label Studio serves them; None puts them into `folder`.
        folder: that is filled.
    """
    verdicts, pictures = exported.verdicts, Pictures(exported.images, copy=True)
    if root is None:
        (folder / "images").mkdir()
    for k in verdicts.most_suspicious_first.tolist():
        if isinstance(exported.images, ImageFiles) and root is not None:
            served = os.path.relpath(os.path.abspath(exported.images.file(k)), root)
        else:
            served = f"images/{k:06}{pictures.ending(k)}"
            pictures.put(k, folder / served)
        given, suggested = exported.name(int(verdicts.noisy_label[k])), exported.name(int(verdicts.suggested_label[k]))
        clean, confidence = number(verdicts.clean_probability[k]), number(verdicts.confidence[k])
        says = f"given label: {given or 'none'}" + ("" if clean is None else f", clean with probability {clean:.3f}")
        task: dict[str, Any] = {
            "data": {
                OBJECT: f"/data/local-files/?d={quote(os.fsencode(served))}",
                "verdict": says,
                "index": k,
                "path": verdicts.path[k],
                "given_label": given,
                "suspected": bool(verdicts.suspected[k]),
                "clean_probability": clean,
            }
        }
        if suggested is not None:
            choice = {"from_name": CONTROL, "to_name": OBJECT, "type": "choices", "value": {"choices": [suggested]}}
            prediction = {"model_version": "cpc-lightning", "score": confidence, "result": [choice]}
            task["predictions"] = [prediction]
        yield task
