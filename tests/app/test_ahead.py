"""How long a run takes is told before it starts, changes none of its results, and has faster ways beside it."""

import re
from dataclasses import replace

import pytest
import torch
from tests.conftest import SMALL
from tests.datasets.image_trees import write_folders

from cpc_lightning.app import ahead, rehearsal
from cpc_lightning.app.compose import compose as compose_plain
from cpc_lightning.app.folders import with_folder
from cpc_lightning.app.rehearsal import Rehearsal, candidates, faster_ways, without
from cpc_lightning.training.forecast import Forecast
from cpc_lightning.training.trial import Costs

COSTS = Costs(warmup=2.0, stage_two=6.0, look=0.01, first_cleaning=3.0, cleaning=3.0, divides=True)
TOLD = re.compile(r"^this run takes about .+ on this CPU, if 50 % of the labels look clean: .+$", re.MULTILINE)


@pytest.mark.long
@pytest.mark.parametrize("cleaner", ["cpc_awr", "none"])
def test_a_run_that_is_told_is_the_run_that_is_not(command, tmp_path, cleaner):
    runs = []
    for callbacks in ("default", "none"):
        folder = tmp_path / callbacks
        code, _, error = command(*SMALL, f"cleaner={cleaner}", f"callbacks={callbacks}", f"hydra.run.dir={folder}")
        assert code == 0, error
        runs.append((folder / "labels.csv").read_bytes())
        assert ("about " in error and "on this CPU" in error) == (callbacks == "default")
        networks = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        runs.append({name: value.clone() for name, value in networks.items()})
    assert runs[0] == runs[2]
    assert runs[1].keys() == runs[3].keys()
    assert all(torch.equal(runs[1][name], runs[3][name]) for name in runs[1])


@pytest.mark.long
def test_the_run_says_what_is_expected_of_it_and_a_resumed_one_of_the_rest(command, monkeypatch, tmp_path):
    # 1 epoch of warm-up: 2 x 3 steps of 512; 2 of stage 2: 2 x 2 steps, cut, of which half look clean.
    monkeypatch.setattr(ahead, "try_out", lambda *more: COSTS)
    common = (*SMALL, "callbacks=default", f"hydra.run.dir={tmp_path}")
    code, _, error = command(*common)
    assert code == 0, error
    (line,) = TOLD.findall(error)
    # 12 s + 2 x 12 s + 3 evaluations of 359 + 3 stages 1 of 1,438 and 3 s + 359 held out: 3.59, 14.38 and 3 s each
    seconds = 12 + 2 * 2 * 6 * 1.0 + 3 * 3.59 + 3 * (14.38 + 3) + 3.59
    assert seconds == pytest.approx(102.5, abs=0.1)
    assert line.startswith("this run takes about 1 min 42 s on this CPU")
    code, _, error = command(f"resume={tmp_path}")
    assert code == 0, error
    assert "the rest takes about 4 s on this CPU" in error  # what is held out: all epochs are over


@pytest.mark.long
def test_what_goes_wrong_in_a_trial_costs_the_run_nothing(command, monkeypatch, tmp_path):
    def fails(*more):
        raise RuntimeError("out of memory, perhaps")

    monkeypatch.setattr(ahead, "try_out", fails)
    code, _, error = command(*SMALL, "callbacks=default", f"hydra.run.dir={tmp_path}")
    assert code == 0
    assert "how long this takes cannot be told: out of memory, perhaps" in error
    assert (tmp_path / "labels.csv").is_file()


def test_overrides_without_groups():
    typed = ["dataset=digits", "+training.x=1", "training.epochs=5", "trainer=ddp", "backbone.width=3"]
    assert without(typed, "training", "backbone") == ["dataset=digits", "trainer=ddp"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Parts of a run on photos, which are 40 x 32 pixels."""
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "data", {"a": 10, "b": 10})

    def photos(*more):
        texts = ["dataset=imagefolder", f"dataset.root={tmp_path / 'data'}", *more]
        settings = with_folder(compose_plain([*texts, f"run_dir={tmp_path / 'run'}"]))
        return Rehearsal(settings, overrides=["mode=check", *texts]).ready()

    return photos


@pytest.mark.long
def test_what_may_be_faster_on_photos(photos, tmp_path):
    root = f"dataset.root={tmp_path / 'data'}"
    data = ["dataset=imagefolder", root]
    large = ("views.size=224", "training.epochs=9", "training.warmup_epochs=2", "optimizer.schedule.milestones=[5]")
    assert candidates(photos(*large, "seed=3")) == [
        [*data, "seed=3", "experiment=photos"],
        [*data, *large, "seed=3", "backbone=small_resnet"],
        [*data, *large[1:], "seed=3", "backbone=small_resnet", "views.size=56", "dataset.crop.resize=64"],
    ]


@pytest.mark.long
def test_faster_ways_are_those_that_take_half_the_time(photos, monkeypatch):
    parts = photos("backbone=preact_resnet18", "training.num_workers=0")
    seconds = {"torchvision": 10.0, "mlp": 10.0, "small_resnet": 60.0}

    def of(parts, features=0.0):
        name = str(parts.settings["backbone"]["_target_"]).rpartition(".")[2]
        return Forecast({"all": 1}, {"all": seconds[name]})

    monkeypatch.setattr(rehearsal, "forecast_of", of)
    whole = Forecast({"all": 1}, {"all": 100.0})
    assert [(way.total, texts[-1]) for way, texts in faster_ways(parts, whole)] == [(10.0, "experiment=photos")]
    twice = replace(whole, seconds={"all": 200.0})
    assert [way.total for way, _ in faster_ways(parts, twice)] == [10.0, 60.0]


def test_ways_are_looked_for_where_it_takes_over_an_hour_on_a_cpu(photos):
    parts = photos("training.num_workers=0")
    assert not ahead.is_long(parts, Forecast({"all": 1}, {"all": 3600.0}))
    assert ahead.is_long(parts, Forecast({"all": 1}, {"all": 3601.0}))


def test_a_command_can_be_pasted():
    texts = ["dataset.root='a b'", "experiment=photos"]
    assert ahead.command(texts) == """python -m cpc_lightning 'dataset.root='"'"'a b'"'"'' experiment=photos"""
