"""Verdicts in the formats of other tools, read back by those tools where they are to be had."""

import json
from contextlib import redirect_stdout
from io import StringIO

import cleanlab
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
from tests.report.judged import NAMES, PATHS, arrays, files, level, verdicts

import datasets
from cpc_lightning.noise.open_set import MixedImages
from cpc_lightning.report.formats.cleanlab import write_cleanlab
from cpc_lightning.report.formats.contract import Answers, Exported
from cpc_lightning.report.formats.fiftyone import write_fiftyone
from cpc_lightning.report.formats.huggingface import write_huggingface
from cpc_lightning.report.formats.tables import write_csv, write_parquet

HOSTILE = ("a/b", '<script>"\x1b[31m&')
SHOWN = ("a/b", '<script>"\\x1b[31m&')  # control characters escaped, as in labels.csv


def exported(images, names=NAMES, answers=None, copy=False, **changes):
    return Exported(verdicts(**changes), names, images, answers, copy)


# cleanlab -------------------------------------------------------------------------------------------------------------


def test_cleanlab_has_the_samples_with_a_label(tmp_path):
    answers = Answers(np.arange(10, dtype=np.float32).reshape(5, 2), np.arange(15, dtype=np.float16).reshape(5, 3))
    notes = write_cleanlab(exported(arrays(), answers=answers), tmp_path)
    assert (tmp_path / "label_issues.csv").read_text() == (
        "is_label_issue,label_score,given_label,predicted_label,index,path\n"
        "False,0.8,0,0,0,a/1.png\n"
        "True,0.15,0,1,1,b/1.png\n"
        "True,0.3,1,1,2,a/2.png\n"
        "True,0.3,1,0,4,b/2.png\n"
    )
    assert np.load(tmp_path / "pred_probs.npy").tolist() == [[0, 1], [2, 3], [4, 5], [8, 9]]
    assert np.load(tmp_path / "features.npy").tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [12, 13, 14]]
    assert json.loads((tmp_path / "classes.json").read_text()) == ["cat", "dog"]
    assert any("not out of sample" in note for note in notes)
    assert "Left out: 1 image without a label." in notes


def test_datalab_takes_what_is_written(tmp_path):
    """60 samples of 3 classes, of which the first three are labeled wrong: its own verdict is the same as ours."""
    count = 60
    true = np.arange(count) % 3
    given = np.where(np.arange(count) < 3, (true + 1) % 3, true)
    probabilities = np.full((count, 3), 0.05, dtype=np.float32)
    probabilities[np.arange(count), true] = 0.9
    wrong = given != true
    changes = {
        "index": range(count), "path": [""] * count, "noisy_label": given, "suggested_label": true, "suspected": wrong,
        "true_label": true, "row": [-1] * count, "trusted": [False] * count, "confidence": [0.9] * count,
        **{f"clean_probability{end}": np.where(wrong, 0.05, 0.9) for end in ("", "_1", "_2")},
    }  # fmt: skip
    features = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float16)
    write_cleanlab(exported(arrays(), ("a", "b", "c"), Answers(probabilities, features), **changes), tmp_path)
    issues = pd.read_csv(tmp_path / "label_issues.csv")
    lab = cleanlab.Datalab({"labels": issues.given_label.tolist()}, label_name="labels")
    with redirect_stdout(StringIO()):
        lab.find_issues(
            pred_probs=np.load(tmp_path / "pred_probs.npy"), features=np.load(tmp_path / "features.npy"),
            issue_types={"label": {}, "outlier": {}, "near_duplicate": {}},
        )  # fmt: skip
    theirs = lab.get_issues("label")
    ours = issues[list(theirs.columns)]
    assert list(ours.columns) == ["is_label_issue", "label_score", "given_label", "predicted_label"]
    assert ours.is_label_issue.tolist() == theirs.is_label_issue.tolist() == wrong.tolist()
    assert ours.predicted_label.tolist() == theirs.predicted_label.tolist()
    assert ours.given_label.tolist() == theirs.given_label.tolist()
    np.testing.assert_allclose(ours.label_score, theirs.label_score, atol=1e-6)
    assert lab.get_issues("outlier").shape[0] == count


def test_cleanlab_without_a_verdict(tmp_path):
    """Without a cleaner nothing is suspected, and nothing is called fine."""
    answers = Answers(np.zeros((5, 2), np.float32), np.zeros((5, 2), np.float16))
    blank = {f"clean_probability{end}": [np.nan] * 5 for end in ("", "_1", "_2")} | {"suspected": [False] * 5}
    notes = write_cleanlab(exported(arrays(), answers=answers, **blank), tmp_path)
    assert (tmp_path / "label_issues.csv").read_text().splitlines()[1] == ",,0,0,0,a/1.png"
    assert any("has no cleaner" in note for note in notes)


# Tables ---------------------------------------------------------------------------------------------------------------


def test_csv_byte_for_byte(tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    out.mkdir()
    write_csv(exported(files(folder)), out)
    assert (out / "labels.csv").read_text().splitlines()[:3] == [
        "index,path,file,noisy_label,clean_probability_1,clean_probability_2,clean_probability,suspected,"
        "suggested_label,confidence,true_label,noisy_class,suggested_class,true_class,row,trusted",
        f"0,a/1.png,{folder}/a/1.png,0,0.9,0.7,0.8,False,0,0.95,0,cat,cat,cat,,False",
        f"1,b/1.png,{folder}/b/1.png,0,0.1,0.2,0.15,True,1,0.97,1,cat,dog,dog,,False",
    ]
    last = (out / "labels.csv").read_text().splitlines()[4:]
    assert last == [
        f"3,a/3.png,{folder}/a/3.png,,,,,,0,0.99,,,cat,,,False",
        f"4,b/2.png,{folder}/b/2.png,1,0.4,0.2,0.3,True,0,0.6,-2,dog,cat,none,,False",
    ]


def test_parquet_has_kinds_that_pandas_knows(tmp_path):
    write_parquet(exported(arrays(), HOSTILE), tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "labels.parquet")
    assert table["noisy_label"].to_pylist() == [0, 0, 1, None, 1]
    assert table["suspected"].to_pylist() == [False, True, True, None, True]
    assert table["true_label"].to_pylist() == [0, 1, 1, None, -2]
    assert table["true_class"].to_pylist() == [SHOWN[0], SHOWN[1], SHOWN[1], None, "none"]
    assert table["file"].to_pylist() == [""] * 5
    assert {str(table.schema.field(name).type) for name in ("noisy_label", "index", "row")} == {"int64"}
    assert str(table.schema.field("confidence").type) == "double"
    assert table["row"].null_count == 5


def test_real_names_of_files_whatever_they_hold(tmp_path):
    """labels.csv has them escaped; parquet has them as they are, and csv opens in a terminal."""
    paths = ["a\n1.png", *PATHS[1:]]
    images = files(tmp_path / "photos", paths)
    for write in (write_parquet, write_csv):
        write(exported(images, path=["a\\n1.png", *PATHS[1:]]), tmp_path)
    assert pd.read_parquet(tmp_path / "labels.parquet").file[0] == str(tmp_path / "photos" / "a\n1.png")
    assert pd.read_csv(tmp_path / "labels.csv").file[0] == str(tmp_path / "photos" / "a\\n1.png")


# Folders --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [False, True])
def test_datasets_loads_the_image_folder(tmp_path, copy, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    out = tmp_path / "out"
    out.mkdir()
    notes = write_huggingface(exported(files(tmp_path / "photos"), HOSTILE, copy=copy), out)
    assert any("are links" in note for note in notes) is not copy
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    rows = sorted(loaded["train"], key=lambda row: row["index"])
    assert [np.asarray(row["image"])[0, 0, 0] // 10 for row in rows] == [0, 1, 2, 3, 4]
    assert [row["label"] for row in rows] == [SHOWN[0], SHOWN[0], SHOWN[1], None, SHOWN[1]]
    assert [row["suggested_label"] for row in rows] == [SHOWN[k] for k in (0, 1, 1, 0, 0)]
    assert [row["suspected"] for row in rows] == [False, True, True, None, True]
    assert [row["clean_probability"] for row in rows] == [0.8, 0.15, 0.3, None, 0.3]
    assert [row["true_label"] for row in rows] == [SHOWN[0], SHOWN[1], SHOWN[1], None, "none"]
    assert [row["path"] for row in rows] == PATHS


def read_fiftyone(folder, labels_path="labels.json"):
    """What its documentation says of a FiftyOneImageClassificationDataset: file, label, confidence and attributes."""
    content = json.loads((folder / labels_path).read_text())
    assert set(content) == {"classes", "labels"}
    data = folder / "data"
    by_uuid = {path.relative_to(data).with_suffix("").as_posix(): path for path in data.rglob("*")}
    samples = []
    for uuid, target in content["labels"].items():
        label = confidence = None
        attributes = {}
        if target is not None:
            assert set(target) <= {"label", "confidence", "attributes"}
            label = content["classes"][target["label"]]
            confidence, attributes = target.get("confidence"), target.get("attributes", {})
        samples.append((by_uuid[uuid], label, confidence, attributes))
    return samples


def test_fiftyone_as_its_documentation_describes_it(tmp_path):
    notes = write_fiftyone(exported(arrays(), HOSTILE), tmp_path)
    assert not any("are links" in note for note in notes)
    given = read_fiftyone(tmp_path)
    assert [level(path) for path, *_ in given] == [0, 1, 2, 3, 4]
    assert [label for _, label, *_ in given] == [SHOWN[0], SHOWN[0], SHOWN[1], None, SHOWN[1]]
    assert given[1][3] == {
        "index": 1, "path": "b/1.png", "suspected": True, "clean_probability": 0.15, "suggested_label": SHOWN[1],
        "confidence_of_suggestion": 0.97, "trusted": False,
    }  # fmt: skip
    suggested = read_fiftyone(tmp_path, "suggestions.json")
    assert [(label, confidence) for _, label, confidence, _ in suggested] == [
        (SHOWN[0], 0.95), (SHOWN[1], 0.97), (SHOWN[1], 0.99), (SHOWN[0], 0.99), (SHOWN[0], 0.6),
    ]  # fmt: skip


def test_foreign_images_come_from_their_own_files(tmp_path):
    """Open-set noise: sample 1 shows image 9 of another set; of two files there is one link each."""
    own, other = files(tmp_path / "a"), files(tmp_path / "b", ["x.png"], first=9)
    mixed = MixedImages(own, other, torch.tensor([-1, 0, -1, -1, -1]))
    (tmp_path / "out").mkdir()
    write_fiftyone(exported(mixed), tmp_path / "out")
    assert [level(path) for path, *_ in read_fiftyone(tmp_path / "out")] == [0, 9, 2, 3, 4]
    assert (tmp_path / "out/data/000001.png").resolve() == tmp_path / "b" / "x.png"
