"""Whether dividing the data pays, and a division that waits for it."""

import numpy as np
import pytest
import torch
from tests.training.test_stage_one import Probe, fit

from cpc_lightning.cleaning.evidence import Draw, Evidence
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.datasets.vectors import ArrayVectors
from cpc_lightning.errors import InputError
from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.methods.elr import Elr
from cpc_lightning.methods.longremix import LongReMix
from cpc_lightning.training import dividing, stage_one
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.dividing import effective_gain, gain_of, is_asked

# Of four labels two look right, with 0.9 in the mean; (0.9 + 0.9 + 0.3 + 0.1) / 4 = 0.55 do in all.
GAINS = {
    "as the posteriors have it": ([0.8, 1.0, 0.3, 0.1], 0.2, 0.5 * 0.9**2 / 0.55**2),
    "the mixture takes more for right": ([0.8, 1.0, 0.3, 0.1], 0.75, 0.5 * 0.9**2 / 0.75**2),
    "all right": ([1.0, 1.0, 1.0], 0.9, 1.0),
    "none looks right": ([0.5, 0.2], 0.3, 0.0),
}


@pytest.mark.parametrize(("right", "by_mixture", "gain"), GAINS.values(), ids=GAINS)
def test_how_many_times_as_many_labels_there_are_in_effect(right, by_mixture, gain):
    assert effective_gain(torch.tensor(right), by_mixture) == pytest.approx(gain)


def seen_by_a_network(apart, wrong, seed=0):
    """300 labels of three classes: features in clusters so far apart; losses of about 3 for what looks wrong, else 0.3.

    That are wrong labels where features tell the classes apart; else a quarter of all, right or wrong.
    """
    rng = np.random.default_rng(seed)
    true = np.arange(300) % 3
    given = np.where(rng.random(300) < wrong, (true + rng.integers(1, 3, 300)) % 3, true)
    features = rng.normal(size=(300, 8)).astype(np.float32)
    features[np.arange(300), true] += apart
    looks_wrong = given != true if apart > 2 else rng.random(300) < 0.25
    losses = np.where(looks_wrong, 3.0, 0.3) + rng.random(300) * 0.3
    draw = Draw(torch.arange(300), torch.from_numpy(given), torch.from_numpy(true))
    none = torch.zeros(300)
    told = torch.from_numpy(losses).float()
    return draw, Evidence(told, none[None], none, none.long(), none, torch.from_numpy(features))


def test_it_pays_where_features_tell_the_classes_apart_and_not_where_they_do_not():
    """40 % wrong: of 0.6 right, a network that tells all has 0.6 / 0.6^2 = 1.67 times as many."""
    assert gain_of(*seen_by_a_network(6.0, 0.4), 3, 0) == pytest.approx(1 / 0.6, rel=0.15)
    assert gain_of(*seen_by_a_network(0.3, 0.4), 3, 0) < 1


def test_of_very_many_labels_some_are_looked_at(monkeypatch):
    monkeypatch.setattr(dividing, "MOST", 90)  # but a hundred of each class, at least
    looked = []
    monkeypatch.setattr(dividing, "infer_true_classes", lambda x, y, k: looked.append((len(x), len(y))) or 1 / 0)
    draw, seen = seen_by_a_network(6.0, 0.4)
    with pytest.raises(ZeroDivisionError):
        gain_of(draw, seen, 2, 0)
    assert looked == [(200, 200)]


def test_nothing_is_gained_where_features_say_nothing_of_the_labels():
    """Two classes, where chance alone would make it pay in a third of the cases."""
    gains = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(2, (120,), generator=generator)
        draw = Draw(torch.arange(120), labels, labels)
        none = torch.zeros(120)
        losses, features = torch.rand(120, generator=generator), torch.randn(120, 8, generator=generator)
        seen = Evidence(losses, losses[None], none, none.long(), none, features)
        gains.append(gain_of(draw, seen, 2, 0))
    assert gains == [0.0] * 6


@pytest.mark.parametrize("count", [1, 3, 39])
def test_of_fewer_than_twenty_labels_a_class_it_is_not_asked(count):
    draw, seen = seen_by_a_network(6.0, 0.4)
    few = Draw(draw.index[:count], draw.noisy_labels[:count] % 2, draw.true_labels[:count])
    assert gain_of(few, seen, 2, 0) == 0.0


def asked(warmup_epochs, epochs):
    return [trained for trained in range(warmup_epochs, epochs) if is_asked(trained, warmup_epochs, epochs)]


def test_it_is_asked_less_and_less_often_and_not_in_the_second_half():
    assert asked(5, 90) == [5, 6, 7, 9, 13, 14, 21, 23, 32, 37, 41]
    assert asked(2, 9) == [2, 3, 4]
    assert asked(7, 9) == [7]  # once at least


@pytest.fixture
def dataset():
    split = Split(ArrayImages(torch.zeros(200, 1, 2, 2, dtype=torch.uint8)), torch.arange(200) % 4)
    return ImageDataset("set", tuple("abcd"), split, {"test": split})


def test_who_does_not_wait(dataset):
    """By the schedule, without a cleaner, a method that has another warm-up, and vectors."""
    asked = {"warmup_epochs": 1, "method": CoDivide(), "divide_when": "paying"}
    assert CoTrainingDataModule(dataset, 4, 1, **asked).waits
    vectors = Split(ArrayVectors(torch.zeros(200, 1, 8), torch.zeros(200, 8)), torch.arange(200) % 4)
    of_vectors = ImageDataset("set", tuple("abcd"), vectors, {})
    for data, change in (
        (dataset, {"divide_when": "scheduled"}), (dataset, {"warmup_epochs": 0}), (dataset, {"method": Elr()}),
        (dataset, {"method": LongReMix()}), (of_vectors, {}),
    ):  # fmt: skip
        assert not CoTrainingDataModule(data, 4, 1, **{**asked, **change}).waits
    with pytest.raises(InputError, match="must be one of scheduled, paying"):
        CoTrainingDataModule(dataset, 4, 1, divide_when="never")


@pytest.fixture
def when(monkeypatch):
    """Has it be asked after every epoch, also late ones, and pay from the n-th time on."""

    def when(times):
        monkeypatch.setattr(stage_one, "is_asked", lambda *_: True)
        answers = iter([0.9] * (times - 1) + [1.1] * 9)
        monkeypatch.setattr(stage_one, "gain_of", lambda *_: next(answers))

    return when


def waiting(folder, cleaner, **more):
    """Three epochs, the first of them warm-up, with a division that waits."""
    return fit(folder, cleaner, warmup_epochs=1, method=CoDivide(), divide_when="paying", **more)


def test_the_division_waits_until_it_pays(tmp_path, when):
    """Asked after epochs 1 and 2; the second time it does. What CPC calls its progress begins with the division."""
    when(2)
    done = waiting(tmp_path, Probe())
    assert [bool(batch["warmup"]) for epoch, batch in done.seen if epoch < 2] == [True] * sum(
        e < 2 for e, _ in done.seen
    )
    assert not any(bool(batch["warmup"]) for epoch, batch in done.seen if epoch == 2)
    assert [task.progress for task in done.probe.tasks] == [0.0, pytest.approx(1 / 3)]
    assert {"stage1/effective_gain", "partition/labeled_1", "losses/ks_deviating_clean_1"} <= done.logged
    assert done.stage_one.state_dict()["waited"] == 1
    again = stage_one.StageOne(Probe(), seed=1)
    again.load_state_dict(done.stage_one.state_dict())
    assert again.state_dict()["waited"] == 1


def test_where_it_never_pays_training_is_plain_and_the_labels_are_judged_once(tmp_path, when):
    when(99)
    done = waiting(tmp_path, Probe())
    assert all(bool(batch["warmup"]) for _, batch in done.seen)
    assert done.datamodule.partitions is None
    assert len(done.probe.tasks) == 1
    assert done.probe.tasks[0].progress == 0
    assert "partition/labeled_1" not in done.logged
    assert done.stage_one.label_report(done.datamodule).clean_probability is not None


def test_between_two_times_nobody_looks_at_the_labels(tmp_path, when, monkeypatch):
    """Asked once, after epoch 1 of three; after the second nothing is; after the last all are."""
    when(99)
    monkeypatch.setattr(stage_one, "is_asked", lambda trained, *_: trained == 1)
    done = waiting(tmp_path, Probe())
    assert [len(first) > 0 for first, _ in done.passes] == [True, False, True]
    assert done.stage_one.state_dict()["waited"] == 2


def test_it_is_not_asked_at_the_end(tmp_path, when, monkeypatch):
    """Nothing would be trained on such a division, so that the run was plain training."""
    when(1)
    monkeypatch.setattr(stage_one, "is_asked", lambda *_: False)
    done = waiting(tmp_path, Probe())
    assert done.datamodule.partitions is None
    assert not {"partition/labeled_1", "stage1/effective_gain"} & done.logged


@pytest.mark.long
def test_a_cleaner_without_features_waits_too(tmp_path):
    """Whether it pays is asked of the networks' features, which its evidence then has."""
    probe = Probe()
    probe.needs_features = False
    done = waiting(tmp_path, probe)
    assert "stage1/effective_gain" in done.logged


@pytest.mark.long
def test_the_unlabeled_loss_rises_from_the_division_on(tmp_path, when):
    when(2)
    done = waiting(tmp_path, Probe())
    assert done.module.method.warmup_epochs == 2
