"""Data sets of anybody's own vectors: what they hold, and one line for each mistake."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from tests.datasets.embedding_files import arrays, write_embeddings

from cpc_lightning.datasets.dataset import ArrayImages, Vectors, pictures_of
from cpc_lightning.datasets.embeddings import embeddings
from cpc_lightning.errors import InputError

FOUR = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], dtype=np.float32)


def test_what_a_file_holds(tmp_path):
    train = write_embeddings(
        tmp_path / "a.npz", features=FOUR.astype(np.float64), labels=np.array([1, 0, 1, 0]),
        true_labels=np.array([1, 0, -1, 1], dtype=np.int8), ids=np.array([7, 8, 9, 10]),
    )  # fmt: skip
    test = write_embeddings(
        tmp_path / "b.npz", features=FOUR[:2], labels=np.array([0, 1]), true_labels=np.array([1, -1]), ids=None
    )
    dataset = embeddings(str(train), str(test))
    assert dataset.class_names == ("0", "1")
    assert dataset.train.labels.tolist() == [1, 0, 1, 0]
    assert dataset.train.true_labels.tolist() == [1, 0, -1, 1]
    assert dataset.train.paths == ["7", "8", "9", "10"]
    assert torch.equal(dataset.train.images.vectors, torch.from_numpy(FOUR))
    assert dataset.evaluation["test"].labels.tolist() == [1, 1]  # by the true label where it is known
    assert dataset.evaluation["test"].paths is None


def test_they_answer_as_images_do_but_for_shapes(tmp_path):
    images = embeddings(str(write_embeddings(tmp_path / "a.npz"))).train.images
    assert isinstance(images, Vectors)
    assert not isinstance(ArrayImages(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)), Vectors)
    assert pictures_of(images) is None
    positions = torch.tensor([3, 0, 3])
    assert torch.equal(images.fetch(positions), images.vectors[[3, 0, 3]])
    assert torch.equal(images.fetch_views(positions, 4, 1), images.vectors[[3, 0, 3]].expand(4, 3, 64))


def test_views_that_are_kept(tmp_path):
    """Two views of each of three samples: their mean is what is evaluated, one of both is what is trained on."""
    views = np.array([[[0, 2], [4, 2]], [[1, 1], [1, 3]], [[5, 5], [7, 9]]], dtype=np.float32)
    file = write_embeddings(tmp_path / "a.npz", features=views, labels=np.array([0, 1, 1]), true_labels=None, ids=None)
    images = embeddings(str(file), str(file)).train.images
    assert images.fetch(torch.arange(3)).tolist() == [[2, 2], [1, 2], [6, 7]]
    drawn = images.fetch_views(torch.tensor([2, 0]), 200, seed=3)
    assert drawn.shape == (200, 2, 2)
    assert torch.equal(drawn, images.fetch_views(torch.tensor([2, 0]), 200, seed=3))
    assert not torch.equal(drawn, images.fetch_views(torch.tensor([2, 0]), 200, seed=4))
    for column, both in ((0, [[5, 5], [7, 9]]), (1, [[0, 2], [4, 2]])):
        rows = drawn[:, column].tolist()
        assert sorted(map(list, set(map(tuple, rows)))) == both
        assert 60 < rows.count(both[0]) < 140  # 5.6 standard deviations of 200 fair draws
    both_first = ((drawn[:, 0, 0] == 5) & (drawn[:, 1, 0] == 0)).sum()
    assert 20 < both_first < 80  # samples draw apart from each other


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet"])
def test_kinds_of_files(tmp_path, kind):
    made = {**arrays(30), "labels": np.array([f"class {k % 3}" for k in range(30)])}
    del made["true_labels"]
    file = tmp_path / f"my_features.{kind}"
    if kind == "npz":
        np.savez_compressed(file, **made)
    elif kind == "npy":
        for name, value in made.items():
            np.save(tmp_path / f"my_{name}.npy", value)
    else:
        columns = {**made, "features": list(made["features"]), "remark": ["not looked at"] * 30}
        parquet.write_table(pa.table(columns), file)
    dataset = embeddings(str(file), str(file))
    assert dataset.class_names == ("class 0", "class 1", "class 2")
    assert dataset.train.labels.tolist() == [k % 3 for k in range(30)]
    assert dataset.train.paths == made["ids"].tolist()
    assert torch.equal(dataset.train.images.vectors, torch.from_numpy(made["features"]))
    assert dataset.train.true_labels is None


def test_a_share_of_each_class_is_set_aside(tmp_path):
    file = write_embeddings(tmp_path / "a.npz", 100)
    dataset = embeddings(str(file), test_share=0.25, split_seed=5)
    train, test = dataset.train, dataset.evaluation["test"]
    given = arrays(100)["labels"]
    expected = [max(1, round(0.25 * int((given == k).sum()))) for k in range(10)]
    names = {name: k for k, name in enumerate(arrays(100)["ids"].tolist())}
    of_test = [names[name] for name in test.paths]
    assert [sum(given[k] == label for k in of_test) for label in range(10)] == expected
    assert sorted([*of_test, *(names[name] for name in train.paths)]) == list(range(100))
    assert test.labels.tolist() == arrays(100)["true_labels"][of_test].tolist()


def test_a_share_of_nothing_trains_on_all(tmp_path):
    dataset = embeddings(str(write_embeddings(tmp_path / "a.npz", 20)), test_share=0)
    assert dataset.evaluation == {}
    assert dataset.train.labels.tolist() == arrays(20)["labels"].tolist()


BAD_ROW = np.where(np.arange(40)[:, None] == 7, np.nan, arrays()["features"])
MISTAKES = {
    "no labels": ({"labels": None}, "file=.*has no array labels; it has features, true_labels, ids"),
    "no features": ({"features": None}, "has no array features; it has labels"),
    "lengths": ({"labels": np.zeros(39, dtype=int)}, r"labels are \(39,\), where features are of 40 samples"),
    "nan": ({"features": BAD_ROW}, "features of sample 7 hold NaN or an infinite number"),
    "infinite": ({"features": np.where(np.isnan(BAD_ROW), np.inf, BAD_ROW)}, "features of sample 7 hold NaN or an inf"),
    "too large": ({"features": np.full((40, 3), 1e39)}, "features of sample 0 hold NaN or an infinite number"),
    "objects": ({"labels": np.array([{}] * 40)}, "its labels hold Python objects, which are not unpickled"),
    "texts as features": ({"features": np.full((40, 3), "x")}, "features must be numbers, and are <U1"),
    "one number": ({"features": np.ones((40, 1))}, r"at least 2 numbers, and features are \(40, 1\)"),
    "flat": ({"features": np.ones(40)}, r"features must be \(N, D\) or \(N, views, D\), and are \(40,\)"),
    "nothing": ({"features": np.ones((0, 3)), "labels": np.zeros(0, dtype=int)}, r"hold nothing: they are \(0, 3\)"),
    "fractions": ({"labels": np.full(40, 0.5)}, "labels must be whole numbers or texts, and are float64"),
    "a gap": ({"labels": np.arange(40) % 2 * 2, "true_labels": None}, "no label is 1, but one is 2"),
    "one class": ({"labels": np.zeros(40, dtype=int), "true_labels": None}, "holds one class only, 0"),
    "no label": ({"labels": np.where(np.arange(40) == 3, -1, np.arange(40) % 2)}, r"sample 3 has no label \(1 have"),
    "kinds": ({"true_labels": np.full(40, "a")}, "true_labels are texts, where the labels to train on are numbers"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_file(tmp_path, mistake):
    other, says = MISTAKES[mistake]
    with pytest.raises(InputError, match=says):
        embeddings(str(write_embeddings(tmp_path / "a.npz", **other)))


OTHER = {
    "another D": (
        {"features": np.ones((40, 5))},
        "test_file=.*has 5 numbers a vector, where those to train on have 64",
    ),
    "another class": ({"labels": np.arange(40) % 11, "true_labels": None}, "has a class that is not trained on: 10"),
    "texts": ({"labels": np.full(40, "3"), "true_labels": None}, "labels are texts, where the labels to train on are"),
    "nan": ({"features": BAD_ROW}, "test_file=.*features of sample 7"),
}


@pytest.mark.parametrize("mistake", OTHER)
def test_mistakes_in_what_is_tested_on(tmp_path, mistake):
    other, says = OTHER[mistake]
    train = write_embeddings(tmp_path / "a.npz")
    with pytest.raises(InputError, match=says):
        embeddings(str(train), str(write_embeddings(tmp_path / "b.npz", **other)))


def test_files_that_cannot_be_read(tmp_path):
    whole = write_embeddings(tmp_path / "whole.npz")
    cut, text, alone = tmp_path / "cut.npz", tmp_path / "a.csv", tmp_path / "vectors.npy"
    cut.write_bytes(whole.read_bytes()[:3000])
    np.save(alone, FOUR)
    objects = tmp_path / "features.npy"
    np.save(objects, np.array([[{}, {}]]), allow_pickle=True)
    (tmp_path / "garbled.parquet").write_bytes(b"PAR1 and nothing")
    uneven = pa.table({"features": [[1.0, 2.0], [3.0]], "labels": [0, 1]})
    parquet.write_table(uneven, tmp_path / "uneven.parquet")
    parquet.write_table(pa.table({"features": [[1.0, 2.0]] * 2, "labels": [0, None]}), tmp_path / "null.parquet")
    for file, says in (
        (tmp_path / "absent.npz", "is not there"),
        (tmp_path, "must be a file of one of the kinds .npz, .npy, .parquet"),
        (text, "must be a file of one of the kinds"),
        (cut, "cannot be read"),
        (alone, "call them alike but for features, labels, true_labels, ids, as in train_features.npy"),
        (objects, "its features hold Python objects"),
        (tmp_path / "garbled.parquet", "cannot be read"),
        (tmp_path / "uneven.parquet", "its features are lists of different lengths, 1 to 2"),
        (tmp_path / "null.parquet", r"its labels are not all there \(1 are null\)"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            embeddings(str(file))
        assert "\n" not in str(caught.value)
