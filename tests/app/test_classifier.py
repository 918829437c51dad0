"""The Python interface: what it takes, what it answers, and that it leaves nothing behind."""

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.utils.estimator_checks import parametrize_with_checks

from cpc_lightning import CpcClassifier
from cpc_lightning.app.given import take
from cpc_lightning.app.guest import as_guest
from cpc_lightning.app.overrides import in_grammar
from cpc_lightning.errors import InputError

SMALL = {"training.limit_batches": 2, "backbone.width": 8, "embedding_size": 16, "trainer.precision": "32-true"}
FEATURES = {"cleaner.folds": 2, "cleaner.decays": [0.1]}


def two_kinds(count: int = 24, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Dark and light images of 8 x 8, (N, 8, 8, C) uint8, and 0 or 1."""
    generator = np.random.RandomState(0)
    labels = np.arange(count) % 2
    images = generator.randint(0, 80, (count, 8, 8, channels)) + 150 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def quick(**more) -> CpcClassifier:
    """A classifier of images that learns little."""
    settings = {**SMALL, **more.pop("settings", {})}
    return CpcClassifier(**{"epochs": 2, "device": "cpu", "settings": settings, **more})


@pytest.fixture(scope="module")
def digits():
    """Features of digits, a fifth of whose labels name the next class; the classes are texts."""
    features, labels = load_digits(return_X_y=True)
    features, labels = features[:400], labels[:400]
    wrong = np.arange(400) % 5 == 0
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    return features, names[np.where(wrong, (labels + 1) % 10, labels)], names[labels], wrong


@pytest.fixture(scope="module")
def fitted(digits):
    """On features, by the usual cleaner."""
    features, given, *_ = digits
    return CpcClassifier(epochs=8, device="cpu", settings=FEATURES).fit(features, given)


def test_it_learns_and_finds_wrong_labels(fitted, digits):
    features, given, true, wrong = digits
    assert fitted.score(features, true) > 0.9
    assert fitted.classes_.tolist() == sorted({*given.tolist()})
    issues = fitted.find_label_issues()
    assert wrong[issues].mean() > 0.85  # 80 are wrong, and a coin would find a fifth of what it names
    assert wrong[issues].sum() > 64
    assert wrong[issues[:20]].all()  # the worst first


def test_labels_are_a_row_for_each_sample_in_its_own_words(fitted, digits):
    _, given, _, _ = digits
    assert fitted.labels_["label"].tolist() == given.tolist()
    assert {*fitted.labels_["suggested_label"]} <= {*given.tolist()}
    assert fitted.labels_["suspected"].sum() == fitted.summary_["suspected_labels"] == len(fitted.find_label_issues())
    assert sorted(fitted.labels_["rank"]) == list(range(400))
    assert fitted.history_["epoch"].tolist() == list(range(8))


def test_probabilities(fitted, digits):
    probabilities = fitted.predict_proba(digits[0][:7])
    assert probabilities.shape == (7, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert fitted.predict(digits[0][:7]).tolist() == fitted.classes_[probabilities.argmax(axis=1)].tolist()


@pytest.mark.parametrize("copied", ["pickle", "file"])
def test_a_copy_answers_the_same(fitted, digits, tmp_path, copied):
    if copied == "pickle":
        copy = pickle.loads(pickle.dumps(fitted))
    else:
        fitted.save(tmp_path / "classifier.pt")
        torch.load(tmp_path / "classifier.pt", weights_only=True)
        copy = CpcClassifier.load(tmp_path / "classifier.pt")
    assert np.array_equal(copy.predict_proba(digits[0]), fitted.predict_proba(digits[0]))
    pd.testing.assert_frame_equal(copy.labels_, fitted.labels_)
    assert copy.get_params() == fitted.get_params()
    assert copy.find_label_issues().tolist() == fitted.find_label_issues().tolist()
    with pytest.raises(ValueError, match="needs the images"):
        copy.report()


def test_a_clone_is_not_fitted(fitted, digits):
    with pytest.raises(NotFittedError):
        clone(fitted).predict(digits[0])


@pytest.mark.long
def test_as_the_command_line(command, tmp_path):
    """The same settings give the same run, verdict for verdict."""
    images, labels = two_kinds(60, 1)
    quick(output=tmp_path / "python", settings={"noise": "symmetric", "noise.rate": 0.3}).fit(images, labels)
    typed = (tmp_path / "python" / "overrides.json").read_text()
    assert "dataset=arrays" in typed
    arguments = [f"{name}={in_grammar(value)}" for name, value in SMALL.items()]
    code, _, error = command(
        "dataset=arrays", f"dataset.file={tmp_path / 'python' / 'data.npz'}", "dataset.test_share=0", "noise=symmetric",
        "noise.rate=0.3", "training.epochs=2", "training.warmup_epochs=1", "optimizer.schedule.milestones=[1]",
        "views.padding=1", "callbacks=none", "logger=[]", *arguments, f"hydra.run.dir={tmp_path / 'command'}",
    )  # fmt: skip
    assert code == 0, error
    ours, theirs = ((tmp_path / name / "labels.csv").read_bytes() for name in ("python", "command"))
    assert ours == theirs
    assert {*pd.read_csv(tmp_path / "python" / "labels.csv")["suspected"]} == {True, False}


# What fit takes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder for each of two classes, with pictures of different sizes."""
    root = tmp_path_factory.mktemp("tree")
    images, labels = two_kinds(12)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = root / ("light" if label else "dark") / f"{number:02}.png"
        place.parent.mkdir(exist_ok=True)
        picture = Image.fromarray(image)
        picture.resize((8 + number, 9)).save(place)
    return root


def pictures(root: Path) -> list[Path]:
    return sorted(root.rglob("*.png"), key=lambda path: path.name)


KINDS = {
    "texts": np.array(["cat", "dog"]),
    "numbers": np.array([7, -3]),
    "whole": np.array([2.0, 5.0]),
    "truth": np.array([False, True]),
    "objects": np.array(["b", "a"], dtype=object),
}


@pytest.mark.long
@pytest.mark.parametrize("classes", KINDS.values(), ids=KINDS)
def test_labels_of_any_kind(classes):
    images, labels = two_kinds()
    given = classes[labels]
    classifier = quick().fit(images, given)
    assert classifier.classes_.tolist() == sorted(classes.tolist())
    predicted = classifier.predict(images)
    assert predicted.dtype == given.dtype
    assert {*predicted.tolist()} <= {*classes.tolist()}
    assert classifier.labels_["label"].tolist() == given.tolist()


def test_images_of_many_kinds_are_the_same():
    images, _ = two_kinds(6, 3)
    expected = torch.from_numpy(np.moveaxis(images, 3, 1))
    for given in (images, np.moveaxis(images, 3, 1), images.tolist(), torch.from_numpy(images), images.astype(float)):
        assert torch.equal(take(given).images, expected)
    assert torch.equal(take([Image.fromarray(image) for image in images]).images, expected)
    assert take([Image.fromarray(image[..., 0]) for image in images]).images.shape == (6, 1, 8, 8)


def test_pictures_of_different_sizes_become_one(tree):
    files = pictures(tree)
    found = take([Image.open(file) for file in files]).images
    assert found.shape == (12, 3, 9, 9)  # the median of the shorter sides, 8 once and 9 eleven times


@pytest.mark.long
@pytest.mark.parametrize("kind", ["names", "frame", "ImageFolder", "folder"])
def test_files(tree, kind):
    """Names, tables and folders, in the order given; classes as given."""
    from torchvision.datasets import ImageFolder

    files = pictures(tree)
    words = [file.parent.name for file in files]
    settings = {"views.size": 8, "dataset.crop.resize": 8, "training.num_workers": 0, "backbone": "small_resnet"}
    classifier = quick(settings=settings)
    if kind == "names":
        classifier.fit(files, words)
    elif kind == "frame":
        classifier.fit(pd.DataFrame({"path": map(str, files), "label": words}))
    elif kind == "ImageFolder":
        classifier.fit(ImageFolder(tree))
    else:
        classifier.fit(tree)
    if kind == "ImageFolder":
        assert classifier.classes_.tolist() == [0, 1]
        assert classifier.labels_["label"].tolist() == [0] * 6 + [1] * 6
    else:
        assert classifier.classes_.tolist() == ["dark", "light"]
    if kind in ("names", "frame"):
        assert classifier.labels_["label"].tolist() == words
        assert [Path(path).name for path in classifier.labels_["path"]] == [file.name for file in files]
    by_name = classifier.predict_proba([str(file) for file in files])
    in_folder = [str(file) for folder in ("dark", "light") for file in sorted((tree / folder).iterdir())]
    assert np.array_equal(classifier.predict_proba(tree), classifier.predict_proba(in_folder))
    decoded = np.stack([np.asarray(Image.open(file).convert("RGB").resize((8, 8))) for file in files])
    assert by_name.shape == classifier.predict_proba(decoded).shape == (12, 2)


def test_data_sets_of_torchvision_and_hugging_face(tree):
    from torchvision.datasets import FakeData

    import datasets

    found = take(FakeData(5, (3, 8, 8), num_classes=2, transform=None))
    assert found.images.shape == (5, 3, 8, 8)
    assert found.labels.shape == (5,)
    files = pictures(tree)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"])})
    rows = {"image": [str(file) for file in files], "label": [int(file.parent.name == "light") for file in files]}
    found = take(datasets.Dataset.from_dict(rows, features=features))
    assert found.images.shape == (12, 3, 9, 9)
    assert found.class_names == ["dark", "light"]
    assert found.labels.tolist() == rows["label"]


# Mistakes -------------------------------------------------------------------------------------------------------------

IMAGES, ZEROS_AND_ONES = two_kinds(8)
MISTAKES = {
    "a setting that there is not": ({"settings": {"training.epoch": 3}}, IMAGES, ZEROS_AND_ONES, "training.epochs"),
    "a cleaner that there is not": ({"cleaner": "cpc_arw"}, IMAGES, ZEROS_AND_ONES, "cpc_awr"),
    "a value out of range": (
        {"settings": {"noise": "symmetric", "noise.rate": 2}}, IMAGES, ZEROS_AND_ONES, "noise.rate=2: must be a number",
    ),
    "several processes": ({"settings": {"trainer": "ddp"}}, IMAGES, ZEROS_AND_ONES, "trainer=ddp: starts several"),
    "settings that are none": ({"settings": 3}, IMAGES, ZEROS_AND_ONES, "settings=3: must be a dict"),
    "a value of no kind": ({"settings": {"training.epochs": object}}, IMAGES, ZEROS_AND_ONES, "must be numbers, texts"),
    "names that are none": ({}, pd.DataFrame({"path": ["a.png", None]}), [0, 1], "is no name of a file"),
    "no epochs": ({"epochs": 0}, IMAGES, ZEROS_AND_ONES, "epochs=0"),
    "a device": ({"device": "tpu"}, IMAGES, ZEROS_AND_ONES, "device=tpu: must be cpu, gpu or mps"),
    "one class": ({}, IMAGES, ZEROS_AND_ONES * 0, "at least 2 classes"),
    "labels missing": ({}, IMAGES, np.array([0, 1, np.nan, 1, 0, 1, 0, 1]), "every sample needs a label"),
    "no labels": ({}, IMAGES, None, "y=null: requires y to be passed"),
    "fewer labels": ({}, IMAGES, ZEROS_AND_ONES[:5], "y=5 labels: must be as many as samples, 8"),
    "no such folder": ({}, "/nowhere", None, "X=/nowhere: is no folder of images"),
    "no such file": ({}, ["/nowhere.png"] * 4, [0, 1, 0, 1], "nowhere.png"),
    "levels": ({}, IMAGES * 4.0, ZEROS_AND_ONES, "levels in 0..255"),
    "features of features": ({"features": "torchvision"}, np.eye(8), ZEROS_AND_ONES, "computed of images"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(name):
    arguments, X, y, says = MISTAKES[name]
    with pytest.raises(InputError) as caught:
        CpcClassifier(**{"device": "cpu", **arguments}).fit(X, y)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message


def test_the_output_must_be_new(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is there already: name a new folder"):
        quick(output=tmp_path).fit(*two_kinds())


@pytest.mark.parametrize("content", [b"", b"no classifier", b"\x80\x02c__builtin__\neval\n."])
def test_what_is_no_saved_classifier(tmp_path, content):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(ValueError, match="is no file that save wrote"):
        CpcClassifier.load(tmp_path / "file.pt")


def test_a_saved_classifier_of_somebody_else_runs_no_code(fitted, digits, tmp_path):
    fitted.save(tmp_path / "own.pt")
    saved = torch.load(tmp_path / "own.pt", weights_only=True)
    config = saved["state"]["_checkpoint"]["run"]["config"]
    config["features"] = {"_target_": "os.mkdir", "path": str(tmp_path / "was here")}
    saved["state"]["predict"] = 3
    torch.save(saved, tmp_path / "evil.pt")
    foreign = CpcClassifier.load(tmp_path / "evil.pt")
    for classifier in (foreign, pickle.loads(pickle.dumps(foreign))):
        with pytest.raises(ValueError, match=r"run=os.mkdir: names code that is not this library's"):
            classifier.predict(digits[0])
    assert not (tmp_path / "was here").exists()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["datetime64[D]", "timedelta64[s]"])
def test_labels_of_time_can_be_saved(tmp_path, kind):
    images, labels = two_kinds()
    given = np.array([3, 5]).astype(kind)[labels]
    quick().fit(images, given).save(tmp_path / "saved.pt")
    loaded = CpcClassifier.load(tmp_path / "saved.pt")
    assert loaded.classes_.tolist() == np.array([3, 5]).astype(kind).tolist()
    assert loaded.predict(images).dtype == given.dtype


def test_what_cannot_be_saved_says_so(fitted, tmp_path):
    with pytest.raises(ValueError, match=r"path=.*nowhere.*: cannot be written"):
        fitted.save(tmp_path / "nowhere" / "saved.pt")
    odd = clone(fitted)
    odd.__dict__.update(vars(fitted), classes_=np.array([(1, 2), None], dtype=object))
    with pytest.raises(ValueError, match="cannot be saved as plain data; pickle keeps"):
        odd.save(tmp_path / "saved.pt")


# A guest --------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_nothing_is_left_behind(tmp_path, monkeypatch):
    """Generators, environment, signals, logging, the working directory, temporary folders."""
    import logging
    import tempfile

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")

    def shared():
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return states, dict(os.environ), handlers, log.level, torch.get_float32_matmul_precision(), sys.argv[:]

    before = shared()
    classifier = quick(verbose=False).fit(*two_kinds())
    classifier.predict(two_kinds()[0])
    assert shared() == before
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert len([*(tmp_path / "temporary").iterdir()]) == 1
    del classifier
    assert [*(tmp_path / "temporary").iterdir()] == []


@pytest.mark.long
def test_no_line_is_printed_where_nobody_watches(capfd):
    quick().fit(*two_kinds())
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
def test_the_same_seed_the_same_model():
    images, labels = two_kinds()
    one, same, other = (quick(random_state=seed).fit(images, labels).predict_proba(images) for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    drawn = quick(random_state=np.random.RandomState(0)).fit(images, labels)
    assert drawn.predict_proba(images).shape == one.shape


@pytest.mark.long
def test_ctrl_c_leaves_what_the_last_epoch_has_learnt():
    """In the fourth of very many epochs."""
    images, labels = two_kinds()
    classifier = quick(epochs=400, settings={"training.warmup_epochs": 1, "optimizer.schedule.milestones": [2]})

    def interrupt():
        while not (getattr(classifier, "_temporary", None) and checkpoint().exists()):
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def checkpoint():
        return Path(classifier._temporary.name, "checkpoints", "last.ckpt")

    thread = threading.Thread(target=interrupt)
    thread.start()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(images, labels)
    thread.join()
    assert signal.getsignal(signal.SIGINT) is handler
    assert classifier.predict(images).shape == (24,)
    assert 1 <= len(classifier.history_) < 400
    with pytest.raises(NotFittedError, match="interrupted before its verdict"):
        classifier.find_label_issues()


def test_an_exit_that_is_not_of_ctrl_c_stays_one():
    with pytest.raises(SystemExit), as_guest():
        raise SystemExit(3)


@pytest.mark.long
def test_within_another_threads_and_one_after_another():
    images, labels = two_kinds()
    expected = quick().fit(images, labels).predict_proba(images)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(quick().fit(images, labels).predict_proba(images))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [np.array_equal(answer, expected) for answer in found] == [True, True]


def test_the_package_is_imported_at_once():
    code = "import sys, cpc_lightning; assert 'torch' not in sys.modules; print(dir(cpc_lightning))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "CpcClassifier" in run.stdout
    with pytest.raises(AttributeError, match="no attribute 'CpcClasifier'"):
        __import__("cpc_lightning").CpcClasifier  # noqa: B018


@pytest.mark.long
def test_the_page(tmp_path):
    classifier = quick().fit(*two_kinds())
    page = classifier.report()
    assert page.is_file()
    assert classifier.report(tmp_path / "page") == tmp_path / "page" / "index.html"
    with pytest.raises(ValueError, match="is there already: name a new folder"):
        classifier.report(tmp_path / "page")
    text = (tmp_path / "page" / "index.html").read_text()
    assert "cannot be opened" not in text


@pytest.mark.long
def test_a_grid_search_over_settings():
    images, labels = two_kinds(24)
    grid = {"cleaner": ["none", "gmm_agn"]}
    found = GridSearchCV(quick(), grid, cv=2).fit(images, labels)
    assert len(found.cv_results_["params"]) == 2


@pytest.mark.slow
def test_in_processes_of_joblib(digits):
    features, given, true, _ = digits
    classifier = CpcClassifier(epochs=20, device="cpu", settings=FEATURES)
    alone, together = (cross_val_predict(classifier, features, given, cv=2, n_jobs=jobs) for jobs in (1, 2))
    assert alone.tolist() == together.tolist()
    assert (alone == true).mean() > 0.8


@pytest.mark.slow
@parametrize_with_checks([CpcClassifier(epochs=2, device="cpu", settings=FEATURES)])
def test_scikit_learns_own_checks(estimator, check):
    """All that there are, on features; none is expected to fail."""
    check(estimator)
