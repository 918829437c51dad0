"""What changed between a run and a second one on the cleaned set, by hand."""

import json

import pytest
import yaml
from tests.report.judged import PATHS

from cpc_lightning.errors import InputError
from cpc_lightning.report.comparison import Before, columns, compare
from cpc_lightning.report.run_folder import read_run_folder

HEADER = "index,path,noisy_label,clean_probability,suspected,row,trusted\n"


def run(folder, rows, names=("cat", "dog"), data=None, summary=None):
    """The folder of a run with these rows of labels.csv."""
    folder.mkdir()
    (folder / "labels.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    (folder / "classes.json").write_text(json.dumps(list(names)))
    (folder / "config.yaml").write_text(yaml.safe_dump({"dataset": data or {}}))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return read_run_folder(str(folder))


FIRST = (
    "0,a/1.png,0,0.8,false,,",
    "1,b/1.png,0,0.1,true,,",
    "2,a/2.png,1,0.3,true,,",
    "3,a/3.png,1,0.9,false,,",
    "4,b/2.png,1,0.2,true,,true",
)
# 0 was dropped; 1 became a dog and is fine now; 2 is suspected still; 3 is suspected now; 4 became a cat, and still is.
# Line 4 of the table is line break's second half: rows end where the csv reader says.
TABLE = (
    "path,label,split,true_class,trusted,index,source\n"
    "x/1.png,dog,train,,true,1,b/1.png\n"
    '"x/\n2.png",dog,train,,false,2,a/2.png\n'
    "x/3.png,dog,train,,false,3,a/3.png\n"
    "x/4.png,cat,train,,true,4,b/2.png\n"
    "t/1.png,cat,test,,,,\n"
)
SECOND = (
    "0,x/1.png,1,1.0,false,2,true",
    "1,x/2.png,1,0.4,true,4,false",
    "2,x/3.png,1,0.2,true,5,false",
    "3,x/4.png,0,0.4,true,6,true",
)


def test_what_changed_by_a_table_of_mode_apply(tmp_path):
    (tmp_path / "cleaned.csv").write_text(TABLE)
    first = run(
        tmp_path / "one", FIRST, summary={"test_accuracy_best": 80.0, "test_accuracy_last": None, "seconds": 3.0}
    )
    second = run(
        tmp_path / "two", SECOND, data={"file": str(tmp_path / "cleaned.csv")}, summary={"test_accuracy_best": 85.5}
    )
    found = compare(first, second)
    assert found.pairs.tolist() == [[1, 0], [2, 1], [3, 2], [4, 3]]
    assert (found.dropped, found.added) == (1, 0)
    assert found.relabeled.tolist() == [True, False, False, True]
    assert found.trusted.tolist() == [True, False, False, False]  # sample 4 was before
    assert found.settled.tolist() == [True, False, False, False]
    assert found.still.tolist() == [False, True, False, True]
    assert found.new.tolist() == [False, False, True, False]
    # 1 - mean clean probability: 1 - 2.3 / 5 and 1 - 2 / 4.
    assert [(row.name, row.first, row.second) for row in found.numbers] == [
        ("labels", 5, 4), ("suspected labels", 3, 3),
        ("estimated noise rate", pytest.approx(54.0), pytest.approx(50.0)), ("test accuracy best", 80.0, 85.5),
    ]  # fmt: skip
    assert found.sentences == [
        "4 samples are in both runs; 1 of the first are gone, 0 are new.",
        "2 have another label than before, 1 are newly trusted.",
        "Of the labels suspected before, 1 no longer are and 2 still are; 1 are suspected for the first time.",
        "1 of the labels that were changed are suspected now: look at them again.",
    ]


def test_classes_are_compared_by_name(tmp_path):
    """The second run numbers them otherwise: no label has changed."""
    first = run(tmp_path / "one", FIRST[:2], names=("dog", "cat"))
    second = run(tmp_path / "two", ["0,a/1.png,1,0.9,false,,", "1,b/1.png,1,0.9,false,,"], names=("ant", "dog"))
    assert compare(first, second).relabeled.tolist() == [False, False]


def test_without_such_a_table_paths_tell(tmp_path):
    first = run(tmp_path / "one", FIRST)
    second = run(tmp_path / "two", ["0,new.png,0,0.9,false,,", "1,a/2.png,0,0.9,false,,", "2,a/1.png,-1,,,,"])
    found = compare(first, second)
    assert found.pairs.tolist() == [[2, 1], [0, 2]]
    assert (found.dropped, found.added) == (3, 1)
    assert found.relabeled.tolist() == [True, True]


def test_rows_of_another_run_are_no_pairs(tmp_path):
    (tmp_path / "cleaned.csv").write_text(TABLE.replace("b/1.png", "other.png"))
    second = run(tmp_path / "two", SECOND, data={"file": str(tmp_path / "cleaned.csv")})
    assert compare(run(tmp_path / "one", FIRST), second).pairs.tolist() == [[2, 1], [3, 2], [4, 3]]


def test_arrays_are_compared_by_their_index(tmp_path):
    rows = [row.replace(path, "") for row, path in zip(FIRST, PATHS, strict=True)]
    found = compare(run(tmp_path / "one", rows), run(tmp_path / "two", rows))
    assert found.pairs.tolist() == [[k, k] for k in range(5)]
    with pytest.raises(InputError, match=r"compare=.*one: has no sample in common with this run"):
        compare(read_run_folder(str(tmp_path / "one")), run(tmp_path / "three", rows[:3]))


def test_numbers_as_people_read_them():
    numbers = [Before("labels", 1438, None), Before("rate", 12.345, 3.0)]
    assert columns(numbers) == [("labels", "1,438", ""), ("rate", "12.35", "3.00")]
