"""The duration of whole runs, from costs that are given and counts worked out by hand."""

import dataclasses

import pytest
import torch

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.training import forecast as training_forecast
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.forecast import PAGE, Forecast, forecast
from cpc_lightning.training.pace import EVALUATION, HELD_OUT, STAGE_ONE, STAGE_TWO, WARMUP
from cpc_lightning.training.trial import Costs


def split(count):
    return Split(ArrayImages(torch.zeros(count, 1, 4, 4, dtype=torch.uint8)), torch.arange(count) % 2)


def data(warmup_epochs=2, **more):
    dataset = ImageDataset("own", ("a", "b"), split(100), {"test": split(20)})
    return CoTrainingDataModule(dataset, 10, 0, warmup_epochs=warmup_epochs, **more)


COSTS = Costs(warmup=1.0, stage_two=5.0, look=0.1, first_cleaning=7.0, cleaning=3.0, divides=True)


def test_a_run_of_five_epochs():
    # 2 epochs of warm-up: 2 networks x 10 steps x 1 s. 3 of stage 2: 2 x 6 steps x 5 s, as 60 % look clean.
    # 5 evaluations of 20 images x 0.1 s. Stage 1 after epochs 2, 3, 4, 5: 100 x 0.1 s, and 7 + 3 + 3 + 3 s of cleaning.
    # At the end the 20 held out once more.
    found = forecast(COSTS, data(), epochs=5, labeled=0.6)
    assert found.total == pytest.approx(2 * 20 + 3 * 60 + 5 * 2 + 4 * 10 + 16 + 2)
    assert found.supposing == "if 60 % of the labels look clean"
    assert found.words == "about 4 min 48 s on this CPU"  # 288 s
    assert found.shares == "stage 2 3 min, stage 1 56 s, warm-up 40 s, evaluation 10 s"


def test_a_division_that_may_wait_is_supposed_to_come_at_once():
    may_wait = data(method=CoDivide(), divide_when="paying")
    found = forecast(COSTS, may_wait, epochs=5, labeled=0.6)
    assert found.supposing == "if 60 % of the labels look clean, and are divided after epoch 2"
    assert forecast(COSTS, may_wait, epochs=5, done=3).supposing == "if all labels look clean"


def test_where_nobody_knows_all_labels_are_supposed_to_look_clean():
    found = forecast(COSTS, data(), epochs=5)
    assert found.seconds[STAGE_TWO] == 2 * 10 * 5
    assert found.supposing == "if all labels look clean"


def test_soft_targets_are_learnt_on_all_samples_and_nothing_is_supposed():
    costs = Costs(1.0, 5.0, 0.1, 7.0, 3.0, divides=False)
    found = forecast(costs, data(), epochs=5, labeled=0.6)
    assert found.seconds[STAGE_TWO] == 2 * 10 * 5
    assert found.supposing == ""


def test_without_a_cleaner_all_epochs_train_as_in_warm_up():
    found = forecast(Costs(1.0, 0.0, 0.1, 0.0, 0.0, True), data(warmup_epochs=0), epochs=5)
    assert found.total == pytest.approx(5 * 20 + 5 * 2 + 10 + 2)  # and one look at all labels, at the end
    assert found.supposing == ""


def test_a_cleaner_that_remembers_looks_at_all_samples_in_each_epoch_of_the_warm_up():
    costs = Costs(1.0, 5.0, 0.1, 7.0, 3.0, True, remembers=True)
    before, found = forecast(COSTS, data(), epochs=5), forecast(costs, data(), epochs=5)
    assert found.seconds[WARMUP] - before.seconds[WARMUP] == pytest.approx(found.seconds[STAGE_ONE] - 3 - 4 / 4)


def test_of_a_resumed_run_only_the_rest_counts():
    # 1 epoch of stage 2 with its evaluation and stage 1, whose cleaning is not the first one.
    found = forecast(COSTS, data(), epochs=5, done=4, labeled=0.6)
    assert found.total == pytest.approx(60 + 2 + 10 + 3 + 2)
    assert found.counts[WARMUP] == 0
    assert found.seconds[EVALUATION] == found.seconds[HELD_OUT] == 2
    assert found.seconds[STAGE_ONE] == 13


def test_processes_share_the_images_but_not_the_cleaning():
    found = forecast(COSTS, data(), epochs=5, labeled=0.6, processes=2)
    assert found.seconds[WARMUP] == 2 * 5 * 1
    assert found.seconds[STAGE_TWO] == 2 * 3 * 5
    assert found.seconds[STAGE_ONE] == pytest.approx(5 + 4)


def test_features_come_first_and_the_page_last():
    found = forecast(COSTS, data(), epochs=5, labeled=0.6, page=True, look_back=True, features=1000.0)
    assert found.total == pytest.approx(288 + 120 * 0.1 + 1000)
    assert found.shares.startswith("features 17 min, ")


def test_the_page_draws_the_first_pictures_itself_and_the_others_beside_it(monkeypatch):
    monkeypatch.setattr(training_forecast, "EMBEDDED", 30)
    monkeypatch.setattr(training_forecast, "PICTURES", 90)
    monkeypatch.setattr(training_forecast, "usable_cores", lambda: 3)
    drawing = dataclasses.replace(COSTS, within=0.5, beside=0.25)
    assert forecast(drawing, data(), epochs=5, page=True).seconds[PAGE] == 30 * 0.5 + 60 * 0.25  # one sheet, one core
    monkeypatch.setattr(training_forecast, "SHEET", 30)  # two sheets, on two of three cores
    assert forecast(drawing, data(), epochs=5, page=True).seconds[PAGE] == 30 * 0.5 + 60 * 0.25 / 2
    assert forecast(drawing, data(), epochs=5, page=True, look_back=True).seconds[PAGE] == 22.5 + 120 * 0.1
    assert forecast(drawing, data(), epochs=5).seconds[PAGE] == 0


def test_no_part_that_is_not_there_is_named():
    assert Forecast({"a": 0, "b": 2}, {"a": 5.0, "b": 30.0}, on="this GPU").shares == "b 1 min"
