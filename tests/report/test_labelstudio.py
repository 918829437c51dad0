"""Tasks and interface for Label Studio, validated by its own SDK.

It keeps numpy below 2.3 (by its pin on opencv), so it is no part of the extra `dev`: .ci/run installs it at its end.
"""

import json
from urllib.parse import parse_qs, urlparse

import pytest
from tests.report.judged import NAMES, PATHS, arrays, files, level, verdicts

from cpc_lightning.report.formats.contract import Exported
from cpc_lightning.report.formats.labelstudio import write_labelstudio

HOSTILE = ("a/b", '<script>"\x1b[31m&')
SHOWN = ("a/b", '<script>"\\x1b[31m&')  # control characters escaped, as in labels.csv


def exported(images, names=NAMES, **changes):
    return Exported(verdicts(**changes), names, images)


def interface_of(folder):
    """The interface, as the SDK understands it."""
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="pip install label-studio-sdk")
    return sdk.LabelInterface((folder / "interface.xml").read_text())


def test_label_studio_validates_interface_and_tasks(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    paths = ["a b/1#.png", "b/\u00e9?.png", *PATHS[2:]]
    notes = write_labelstudio(exported(files(tmp_path / "photos", paths), HOSTILE, path=paths), out)
    interface = interface_of(out)
    interface.validate()
    assert list(interface.get_control("label").labels) == list(SHOWN)
    tasks = json.loads((out / "tasks.json").read_text())
    # Suspected ones by clean probability: 0.15, 0.3, 0.3, of which the contradicted one is first; 0.8; no label.
    assert [task["data"]["index"] for task in tasks] == [1, 4, 2, 0, 3]
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction, return_errors=True) == []
    assert tasks[0]["predictions"][0]["result"][0]["value"] == {"choices": [SHOWN[1]]}
    assert tasks[0]["predictions"][0]["score"] == 0.97
    assert tasks[0]["data"]["verdict"] == "given label: a/b, clean with probability 0.150"
    assert tasks[4]["data"]["verdict"] == "given label: none"
    served = [parse_qs(urlparse(task["data"]["image"]).query)["d"][0] for task in tasks]
    assert served == [paths[1], paths[4], paths[2], paths[0], paths[3]]
    assert f"LOCAL_FILES_DOCUMENT_ROOT={tmp_path}/photos," in notes[0]
    assert sorted(path.name for path in out.iterdir()) == ["interface.xml", "tasks.json"]


def test_a_wrong_prediction_would_not_be_valid(tmp_path):
    """The validator of the test above knows a class that there is not."""
    write_labelstudio(exported(arrays()), tmp_path)
    interface = interface_of(tmp_path)
    task = json.loads((tmp_path / "tasks.json").read_text())[0]
    task["predictions"][0]["result"][0]["value"]["choices"] = ["owl"]
    assert interface.validate_prediction(task["predictions"][0], return_errors=True) != []


def test_tasks_come_in_the_order_of_the_page(tmp_path):
    """A label that is not suspected comes after those that are, though its clean probability is the lowest."""
    write_labelstudio(exported(arrays(), suspected=[False, False, True, False, True]), tmp_path)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["index"] for task in tasks] == [4, 2, 1, 0, 3]


def test_label_studio_gets_the_images_that_lie_in_no_files(tmp_path):
    write_labelstudio(exported(arrays()), tmp_path)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=images/000001.png"
    assert level(tmp_path / "images/000001.png") == 1
