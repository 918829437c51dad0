"""When networks begin to learn labels by heart, and a division that waits for it."""

import math
from dataclasses import replace

import pytest
import torch
from tests.training.test_stage_one import Probe, fit

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.datasets.vectors import ArrayVectors
from cpc_lightning.errors import InputError
from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.methods.elr import Elr
from cpc_lightning.methods.longremix import LongReMix
from cpc_lightning.training import stage_one
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.memorising import Memorised, kept_from, memorised

# A twentieth; at least 20, but no more than a fifth; at most 1,000. Of nine, a fifth is one: too few.
COUNTS = {1000: 50, 300: 20, 60: 12, 10: 2, 9: None, 0: None, 40_000: 1000}


@pytest.mark.parametrize(("labels", "count"), COUNTS.items())
def test_each_network_is_kept_from_labels_of_its_own(labels, count):
    positions = torch.arange(labels) * 3 + 1  # others have no label
    kept = kept_from(positions, 7)
    if count is None:
        assert kept is None
        return
    first, second = (set(part.tolist()) for part in kept)
    assert len(first) == len(second) == count
    assert not first & second
    assert first | second <= set(positions.tolist())
    assert all(torch.equal(part, part.sort().values) for part in kept)
    assert all(torch.equal(*pair) for pair in zip(kept, kept_from(positions, 7), strict=True))
    if labels > 10:
        assert not torch.equal(kept[0], kept_from(positions, 8)[0])


def test_what_training_on_a_label_takes_from_its_loss():
    """Network 1 is kept from the samples at 2 and 5, network 2 from those at 3 and 9; 7 is either's; 11 was not seen.

    d = 1.0, 0.4 and -0.2, -0.6: (0.7 + 0.4) / 2 = 0.55. Variances 0.18 and 0.08: sqrt(0.18 / 2 + 0.08 / 2) / 2.
    """
    index, kept = torch.tensor([2, 3, 5, 7, 9]), (torch.tensor([2, 5]), torch.tensor([3, 9, 11]))
    first = torch.tensor([2.0, 0.3, 5.4, 40.0, 1.4])
    second = torch.tensor([1.0, 0.5, 5.0, 1.0, 2.0])
    found = memorised(index, (first, second), kept)
    assert found.value == pytest.approx(0.55)
    assert found.error == pytest.approx(math.sqrt(0.13) / 2)
    harder = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0])  # as hard for both networks: no difference
    ahead = 2.0  # network 1 is ahead of network 2 everywhere: nor this
    again = memorised(index, (first + harder - ahead, second + harder), kept)
    assert again.value == pytest.approx(0.55, abs=1e-5)


def test_too_few_labels_tell_nothing():
    index, losses = torch.tensor([1, 2, 3]), torch.tensor([5.0, 0.0, 0.0])
    found = memorised(index, (losses, torch.zeros(3)), (torch.tensor([1]), torch.tensor([2, 3])))
    assert (found.value, found.error, found.begun) == (0.0, math.inf, False)


@pytest.mark.parametrize(
    ("value", "error", "begun"),
    [(0.2, 0.01, True), (0.19, 0.01, False), (0.3, 0.14, True), (0.3, 0.16, False), (-0.5, 0.01, False)],
)
def test_it_has_begun_where_it_is_much_and_no_chance(value, error, begun):
    assert Memorised(value, error).begun == begun


@pytest.fixture
def dataset():
    split = Split(ArrayImages(torch.zeros(200, 1, 2, 2, dtype=torch.uint8)), torch.arange(200) % 4)
    return ImageDataset("set", tuple("abcd"), split, {"test": split})


def shown(datamodule, epoch):
    """Positions that network 1 and network 2 train on in an epoch, each as a set."""
    seen = set(), set()
    for plan in datamodule.sampler(epoch):
        seen[plan.network].update(plan.labeled.tolist())
    return seen


def test_until_the_division_no_network_trains_on_what_it_is_kept_from(dataset):
    module = CoTrainingDataModule(
        dataset, 4, 1, warmup_epochs=1, warmup_batch_size=10, method=CoDivide(), divide_when="memorising"
    )
    for epoch, size in ((0, 10), (5, 4)):  # the second after the epochs of warm-up: the division waits
        assert module.batch_size_in(epoch) == size
        for network, seen in enumerate(shown(module, epoch)):
            assert seen == set(range(200)) - set(module.kept_from[network].tolist())


def test_rare_classes_and_trusted_labels_are_kept_from_no_network(dataset):
    labels = torch.cat([torch.zeros(100), torch.ones(9), torch.full((91,), 2)]).long()
    trusted = torch.arange(200) < 60
    split = replace(dataset.train, labels=labels, trusted=trusted)
    module = CoTrainingDataModule(
        replace(dataset, train=split), 4, 1, warmup_epochs=1, method=CoDivide(), divide_when="memorising"
    )
    assert {len(part) for part in module.kept_from} == {20}
    for part in module.kept_from:
        assert not trusted[part].any()
        assert not (labels[part] == 1).any()


def test_who_does_not_wait(dataset):
    """By the schedule, without a cleaner, a method that has another warm-up, and vectors."""
    asked = {"warmup_epochs": 1, "method": CoDivide(), "divide_when": "memorising"}
    assert CoTrainingDataModule(dataset, 4, 1, **asked).kept_from is not None
    vectors = Split(ArrayVectors(torch.zeros(200, 1, 8), torch.zeros(200, 8)), torch.arange(200) % 4)
    of_vectors = ImageDataset("set", tuple("abcd"), vectors, {})
    for data, change in (
        (dataset, {"divide_when": "scheduled"}), (dataset, {"warmup_epochs": 0}), (dataset, {"method": Elr()}),
        (dataset, {"method": LongReMix()}),        (of_vectors, {}),
    ):  # fmt: skip
        module = CoTrainingDataModule(data, 4, 1, **{**asked, **change})
        assert module.kept_from is None
        assert [len(index) for index in module.taught(0)] == [200, 200]
    with pytest.raises(InputError, match="must be one of scheduled, memorising"):
        CoTrainingDataModule(dataset, 4, 1, divide_when="never")


@pytest.fixture
def when(monkeypatch):
    """Has the networks memorise from the n-th time on that it is asked."""

    def when(times):
        answers = iter([0.05] * (times - 1) + [0.4] * 9)
        monkeypatch.setattr(stage_one, "memorised", lambda *_: Memorised(next(answers), 0.01))

    return when


def waiting(folder, cleaner):
    """Three epochs, the first of them warm-up, with a division that waits."""
    return fit(folder, cleaner, warmup_epochs=1, method=CoDivide(), divide_when="memorising")


def test_the_division_waits_until_networks_memorise(tmp_path, when):
    """Asked after epochs 1 and 2; the second time they do. What CPC calls its progress begins with the division."""
    when(2)
    done = waiting(tmp_path, Probe())
    assert [bool(batch["warmup"]) for epoch, batch in done.seen if epoch < 2] == [True] * sum(
        e < 2 for e, _ in done.seen
    )
    assert not any(bool(batch["warmup"]) for epoch, batch in done.seen if epoch == 2)
    assert [task.progress for task in done.probe.tasks] == [0.0, pytest.approx(1 / 3)]
    assert {"stage1/memorised", "partition/labeled_1", "losses/ks_deviating_clean_1"} <= done.logged
    assert done.stage_one.state_dict()["waited"] == 1
    again = stage_one.StageOne(Probe(), seed=1)
    again.load_state_dict(done.stage_one.state_dict())
    assert again.state_dict()["waited"] == 1


def test_networks_that_never_memorise_are_trained_plainly_and_the_labels_judged_once(tmp_path, when):
    when(99)
    done = waiting(tmp_path, Probe())
    assert all(bool(batch["warmup"]) for _, batch in done.seen)
    assert done.datamodule.partitions is None
    assert len(done.probe.tasks) == 1
    assert done.probe.tasks[0].progress == 0
    assert "partition/labeled_1" not in done.logged
    assert done.stage_one.label_report(done.datamodule).clean_probability is not None


def test_what_the_last_look_finds_divides_nothing(tmp_path, when):
    """Nothing is trained on such a division, so that the run was plain training."""
    when(3)
    done = waiting(tmp_path, Probe())
    assert done.datamodule.partitions is None
    assert "partition/labeled_1" not in done.logged


@pytest.mark.long
def test_the_unlabeled_loss_rises_from_the_division_on(tmp_path, when):
    when(2)
    done = waiting(tmp_path, Probe())
    assert done.module.method.warmup_epochs == 2
