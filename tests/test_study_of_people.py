"""What the study of cleaners adds to its cleaners: cleanlab on folds, ablations, and their tables and figures."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from cpc_lightning.app.overrides import as_override, composed_of
from cpc_lightning.app.parts import Parts

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DIGITS = ("digits", "symmetric 80 %")


@pytest.fixture(scope="module")
def people(benchmarks):
    return benchmarks("people")


# cleanlab -----------------------------------------------------------------------------------------------------------


class Remembering:
    """Remembers what it was shown; says of a sample its own number, and which class it was not shown."""

    def __init__(self, images, labels, seen):
        self.shown, self.classes_ = {int(image[0]) for image in images}, np.unique(labels)
        self.seen = seen
        assert len(images) == len(labels)

    def predict_proba(self, images):
        numbers = [int(image[0]) for image in images]
        assert not self.shown & {*numbers}, "judged a sample that it was trained on"
        self.seen.append(numbers)
        return np.array([[number + 0.1 * label for label in self.classes_] for number in numbers])


def test_every_sample_is_predicted_once_by_a_model_that_has_not_seen_it(people):
    images, seen, shown = np.arange(60.0)[:, None], [], []
    given = np.arange(60) % 4

    def fit(learnt, labels):
        shown.append(len(learnt))
        return Remembering(learnt, labels, seen)

    found = people.predict_out_of_fold(images, given, 4, fit, seed=1)
    assert shown == [48] * 5
    assert sorted(number for numbers in seen for number in numbers) == [*range(60)]
    np.testing.assert_allclose(found, images + 0.1 * np.arange(4))  # each row is the sample's own
    for numbers in seen:  # of 15 of a class, 3 lie in each fold
        assert np.bincount(given[numbers]).tolist() == [3, 3, 3, 3]
    again = people.predict_out_of_fold(images, given, 4, fit, seed=2)
    np.testing.assert_allclose(again, found)
    assert sorted(map(sorted, seen[:5])) != sorted(map(sorted, seen[5:]))  # other folds


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_a_class_that_a_model_was_not_shown_has_probability_0(people):
    """Class 2 has one sample: the model that judges it has not seen its class."""
    images, given = np.arange(21.0)[:, None], np.array([0, 1] * 10 + [2])
    found = people.predict_out_of_fold(images, given, 3, lambda x, y: Remembering(x, y, []), seed=0)
    assert found[20].tolist() == pytest.approx([20, 20.1, 0])
    assert found[3].tolist() == pytest.approx([3, 3.1, 3.2])


def confident(classes, true):
    """(N, K): 0.9 for the true class."""
    rest = 0.1 / (classes - 1)
    return np.where(np.arange(classes) == np.asarray(true)[:, None], 0.9, rest)


def test_cleanlab_flags_the_labels_that_contradict_sure_predictions_and_they_score_below_all_others(people):
    true = np.arange(90) % 3
    given = true.copy()
    given[[4, 40, 77]] = (true[[4, 40, 77]] + 1) % 3
    flagged, right = people.judge(given, confident(3, true))
    assert np.flatnonzero(flagged).tolist() == [4, 40, 77]
    assert right[[4, 40, 77]].max() < right[~flagged].min()
    np.testing.assert_allclose(right[~flagged], 0.9)
    np.testing.assert_allclose(right[flagged], 0.05 - 1)


def test_precision_among_as_many_labels_as_are_wrong(people):
    """Three are wrong; of the three least trusted (0.1, 0.2, 0.3) two are."""
    right, wrong = np.array([0.9, 0.1, 0.2, 0.8, 0.3]), np.array([True, True, False, False, True])
    assert people.precision_at_errors(right, wrong) == pytest.approx(2 / 3)


def test_precision_of_a_verdict_on_labels(benchmarks):
    rows = [
        {"noisy_label": given, "true_label": true, "clean_probability": right}
        for given, true, right in (("1", "1", "0.2"), ("2", "1", "0.1"), ("0", "2", "0.7"), ("0", "0", "0.9"))
    ]
    study = benchmarks("cleaners")
    assert study.precision_of(rows) == 0.5
    assert study.precision_of([row | {"clean_probability": ""} for row in rows]) is None
    assert study.precision_of(rows[:1]) is None


@pytest.mark.parametrize(
    ("noise", "name"),
    [*product(("noise=symmetric noise.rate=0.8", "noise=asymmetric noise.rate=0.4"), ("digits", "arrays"))],
)
def test_networks_on_folds_learn_as_those_of_the_run(people, noise, name):
    """All settings of the networks' learning are those of the run, those of the noise included that are no noise."""
    own = (
        ["dataset.file=a.npz", "backbone.width=16", "embedding_size=32", "views.flip=true"] if name == "arrays" else []
    )
    asked = composed_of([f"dataset={name}", *own, *noise.split(), "cleaner=none", "trainer.precision=32-true"])
    settings = asked.settings("x")
    texts = [as_override(*pair) for pair in people.trained_alike(settings).items()]
    found = composed_of(["dataset=arrays", "dataset.file=b.npz", *texts]).settings("x")
    apart = {key for key in settings if settings[key] != found[key]}
    assert apart <= {"dataset", "noise", "semisup"}  # cleaner=none has no use for the last
    assert found["training"]["confidence_penalty"] == (1 if "asymmetric" in noise else 0)


def test_what_is_flagged_is_dropped_and_the_summary_is_of_all_labels(people, monkeypatch, tmp_path):
    """Networks that know the truth (they are told it by the images) have cleanlab flag the wrong labels."""
    overrides = [
        "dataset=digits", "noise=symmetric", "noise.rate=0.2", "noise.include_true_class=false", "cleaner=none",
        "seed=5", "training.epochs=6", f"hydra.run.dir={tmp_path}",
    ]  # fmt: skip
    train = Parts(composed_of(overrides).settings("x")).dataset.train
    truth = {image.tobytes(): int(label) for image, label in zip(people.pixels(train), train.true_labels, strict=True)}
    wrong = (train.labels != train.true_labels).numpy()
    asked, runs = [], []

    class Knows:
        classes_ = np.arange(10)

        def __init__(self, settings, random_state, device, verbose):
            asked.append((settings["training.epochs"], settings["optimizer.schedule.milestones"], random_state))

        def fit(self, images, labels):
            return self

        def predict_proba(self, images):
            return confident(10, [truth[image.tobytes()] for image in images])

    def run(command, check):
        settings = dict(text.split("=", 1) for text in command[3:])
        file = settings["dataset.file"].strip("'\"")
        runs.append((settings, dict(np.load(file)), dict(np.load(settings["dataset.test_file"].strip("'\"")))))
        (tmp_path / "summary.json").write_text(json.dumps({"test_accuracy_last": 7, "suspected_labels": None}))

    monkeypatch.setattr(people, "CpcClassifier", Knows)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["people.py", "--fold-epochs=3", *overrides])
    people.main()
    assert asked == [(3, [2], 5)] * 5
    ((settings, kept, test),) = runs
    assert settings["training.epochs"] == "6"
    assert settings["seed"] == "5"
    assert settings["hydra.run.dir"] == str(tmp_path)
    np.testing.assert_array_equal(kept["labels"], train.labels.numpy()[~wrong])
    np.testing.assert_array_equal(kept["images"], people.pixels(train)[~wrong])
    assert (kept["labels"] == kept["true_labels"]).all()
    assert len(test["labels"]) == 359
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "test_accuracy_last": 7, "suspected_labels": 287, "cleaner_auc_verdict": 1.0, "precision_at_errors": 1.0,
        "noise_rate_actual": pytest.approx(287 / 1438),
    }  # fmt: skip


# Runs -----------------------------------------------------------------------------------------------------------------


def runs_of(study, monkeypatch, tmp_path, *arguments):
    found = []
    monkeypatch.setattr(study, "run_missing", lambda runs, *_: found.extend(runs))
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["cleaners.py", *arguments])
    study.main()
    return found


def test_runs_of_what_people_use(benchmarks, monkeypatch, tmp_path):
    study = benchmarks("cleaners")
    runs = runs_of(study, monkeypatch, tmp_path, "--choices", "people", "--sets", "digits", "letters", "--seeds", "1")
    found = {(run.set, run.noise, run.choice): run for run in runs}
    assert found["digits", "symmetric 80 %", "cleanlab"].folds == ("--fold-epochs=12",)  # 5 x 4/5 x 48/4 = 48 epochs
    assert found["digits", "symmetric 80 %", "cleanlab, full folds"].folds == ("--fold-epochs=48",)
    assert found["letters", "symmetric 50 %", "cleanlab"].folds == ("--fold-epochs=8",)
    assert found["digits", "symmetric 80 %", "none"].folds == ()
    assert "method.forget_rate=0.8" in found["digits", "symmetric 80 %", "co_teaching"].settings()
    assert "method.forget_rate=0.4" in found["digits", "asymmetric 40 %", "co_teaching"].settings()
    for choice in ("none", "cleanlab"):  # plain also where noise=asymmetric would bring a penalty
        settings = found["digits", "asymmetric 40 %", choice].settings()
        assert composed_of(settings).settings("x")["training"]["confidence_penalty"] == 0


def test_cleanlab_is_started_by_people_py_with_the_settings_of_the_run(benchmarks, people, monkeypatch, tmp_path):
    """What `cleaners.py` starts is read by `people.py`: its folds' epochs, and overrides that compose."""
    study, choices, started = benchmarks("cleaners"), benchmarks("cleaners_choices"), []

    class Process:
        pid = 7

        def __init__(self, command, **_):
            started.append(command)

    monkeypatch.setattr(study.subprocess, "Popen", Process)
    monkeypatch.setattr(study.os, "wait4", lambda pid, options: (pid, 0, "used"))
    for name in ("cleanlab", "none"):
        run = study.Run(*DIGITS, name, 1, choices.PEOPLE[name])
        assert study.start(run, run.settings(), tmp_path, str(tmp_path)) == "used"
    folds, plain = started
    assert folds[:3] == [sys.executable, str(BENCHMARKS / "people.py"), "--fold-epochs=12"]
    assert plain[:3] == [sys.executable, "-m", "cpc_lightning"]
    assert folds[3:] == plain[3:]
    monkeypatch.setattr(sys, "argv", folds[1:])
    seen = []
    monkeypatch.setattr(people, "Parts", lambda settings: seen.append(settings) or sys.exit(3))
    with pytest.raises(SystemExit, match="3"):
        people.main()
    assert seen[0]["training"]["epochs"] == 48
    assert seen[0]["run_dir"] == f"{tmp_path}/run"


def test_ablations_are_run_on_their_three_cells(benchmarks, monkeypatch, tmp_path):
    study, choices = benchmarks("cleaners"), benchmarks("cleaners_choices")
    runs = runs_of(study, monkeypatch, tmp_path, "--choices", "ablations", "--seeds", "1", "2")
    assert {(run.set, run.noise) for run in runs} == {*choices.ABLATED}
    assert len(runs) == 3 * 2 * len(choices.ABLATIONS)
    assert len({run.chosen for run in runs}) == len(choices.ABLATIONS)


@pytest.mark.long
def test_each_ablation_is_another_run_that_can_start(benchmarks):
    """None is the default under another name."""
    study, choices = benchmarks("cleaners"), benchmarks("cleaners_choices")
    whole = []
    for name, chosen in choices.ABLATIONS.items():
        settings = composed_of(study.Run(*DIGITS, name, 1, chosen).settings()).settings("x")
        Parts(settings).check_method()
        whole.append(repr(settings))
    assert len({*whole}) == len(whole)


# Tables ---------------------------------------------------------------------------------------------------------------


def row(choice, seed, accuracy, cell=DIGITS, **more):
    place = {"set": cell[0], "noise": cell[1], "choice": choice, "seed": str(seed), "commit": "c", "host": "h"}
    return {**place, "test_accuracy_last": str(accuracy), "seconds": "10", **more}


def test_what_people_use_by_cell(benchmarks):
    """Less the default that was run beside them, 60, 62, 64; letters have plain training alone.

    Plain training 0, -2, -4: mean -2, half of the interval 4.302653 * 2 / sqrt(3) = 4.968. cleanlab 1, 0, -1: 0, 2.484.
    """
    made = benchmarks("cleaners_tables")
    rows = [
        *(row("none", seed, 60) for seed in (1, 2, 3)), row("none", 1, 60, ("letters", "symmetric 50 %")),
        *(row("cleanlab", seed, 60 + seed, cleaner_auc_verdict="0.9", precision_at_errors="0.75",
              seconds=f"{10 * seed}") for seed in (1, 2, 3)),
        *(row("cpc_awr, default", seed, 58 + 2 * seed, cleaner_auc_gmm="0.1", cleaner_auc_cpc="0.8")
          for seed in (3, 2, 1)),
        row("cpc_awr", 1, 99),
    ]  # fmt: skip
    assert [*made.people_table(made.Study(rows))][2:] == [
        "| digits | symmetric 80 % | none | 3 | 60.00 ± 0.00 | - | - | 10 "
        "| -2.00 (-6.97 to +2.97): within noise, n = 3 |",
        "| digits | symmetric 80 % | cleanlab | 3 | 62.00 ± 1.00 | 0.900 ± 0.000 | 0.750 | 20 "
        "| +0.00 (-2.48 to +2.48): within noise, n = 3 |",
        "| digits | symmetric 80 % | cpc_awr | 1 | 99.00 | - | - | 10 | - |",
        "| digits | symmetric 80 % | cpc_awr, default | 3 | 62.00 ± 2.00 | 0.800 ± 0.000 | - | 10 | - |",
    ]


def test_ablations_less_the_default(benchmarks):
    """-4, -3, -2: mean -3, half of the interval 4.302653 / sqrt(3) = 2.484; rows of cpc_awr of old do not count."""
    made = benchmarks("cleaners_tables")
    letters = ("letters", "asymmetric 40 %")
    rows = [
        *(row("cpc_awr, default", seed, 90) for seed in (1, 2, 3)), row("cpc_awr, default", 1, 50, letters),
        *(row("cpc_awr, tau 0.7", seed, 85 + seed) for seed in (3, 1, 2)), row("cpc_awr, tau 0.7", 1, 52.5, letters),
        row("cpc_awr", 1, 10), row("cpc_awr, alpha 1", 4, 10),
    ]  # fmt: skip
    study = made.Study(rows)
    assert [*made.ablation_table(study, made.ACCURACY, 1.0)][2:] == [
        "| cpc_awr, tau 0.7 | - | +2.50, one seed | -3.00 (-5.48 to -0.52): below, n = 3 |",
        "| cpc_awr, alpha 1 | - | - | - |",
    ]
