"""Which settings a resumed run may change, and that the record of an older run still means what it did."""

import json
from pathlib import Path

import pytest

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.errors import InputError
from cpc_lightning.training import same_run
from cpc_lightning.training.records import check_same_data
from cpc_lightning.training.same_run import as_begun, check_same_config, recorded

OLDER = json.loads(Path(__file__).with_name("older_record.json").read_text())
"""What a run of the commit before the package's rooms wrote into its checkpoint (tests/training/older_record.json)."""

BEFORE = {
    "seed": 1,
    "noise": {"_target_": "cpc_lightning.data.noise.SymmetricNoise", "rate": 0.5},
    "trainer": {"devices": 1},
    "run_dir": "here",
}


def test_a_run_of_the_version_before_goes_on(compose):
    settings = plain(compose(*OLDER["overrides"]))
    check_same_config(OLDER["config"], settings)
    parts = Parts(settings)
    check_same_data(OLDER["data"], parts.dataset.train.labels, parts.dataset)
    with pytest.raises(InputError, match=r"^seed=2: the run to resume has 1, and cannot continue with another$"):
        check_same_config(OLDER["config"], settings | {"seed": 2})


def test_modules_that_moved_are_found_where_they_are_now():
    assert recorded(BEFORE)["noise._target_"] == "cpc_lightning.noise.noise.SymmetricNoise"
    nested = {"crop": {"_target_": "cpc_lightning.data.image_files.Crop"}, "x": {"_target_": "torch.optim.SGD"}}
    assert recorded(nested)["crop._target_"] == "cpc_lightning.datasets.reading.image_files.Crop"
    assert recorded(nested)["x._target_"] == "torch.optim.SGD"


@pytest.mark.parametrize("module", sorted(same_run.MOVED.values()))
def test_what_moved_is_there(module):
    assert __import__(module, fromlist=["__doc__"]).__doc__


def test_a_setting_that_the_older_run_lacked_means_what_it_did(monkeypatch):
    now = BEFORE | {"noise": {"_target_": "cpc_lightning.noise.noise.SymmetricNoise", "rate": 0.5, "shape": "round"}}
    with pytest.raises(InputError, match=r"^noise.shape=round: the run to resume does not have it"):
        check_same_config(BEFORE, now)
    monkeypatch.setattr(same_run, "AS_BEFORE", {"noise.shape": "round", "cleaner.colour": "red"})
    check_same_config(BEFORE, now)
    now["noise"]["shape"] = "square"
    with pytest.raises(InputError, match=r"^noise.shape=square: the run to resume has 'round'"):
        check_same_config(BEFORE, now)


@pytest.mark.parametrize(
    ("overrides", "alpha", "policy"),
    [
        (["dataset=imagefolder", "seed=1"], 0.5, "imagenet"),
        (["dataset=imagefolder", "trainer.devices=2", "+report=false"], 0.5, "imagenet"),  # free to a resumed run
        (["dataset=imagefolder", "seed=1", "views.policy=weak"], 0.01, "weak"),  # which is refused
        (["dataset=table"], 0.01, "weak"),
    ],
)
def test_what_this_version_would_choose_otherwise_is_as_the_run_has_it(overrides, alpha, policy):
    """But for what is no matter of training, and what to build."""
    begun = {"semisup": {"_target_": "a", "mixup_alpha": 0.5}, "views": {"policy": "imagenet"}, "seed": 1, "other": 2}
    record = {"config": begun, "overrides": ["dataset=imagefolder", "seed=1"]}
    now = {"semisup": {"_target_": "b", "mixup_alpha": 0.01}, "views": {"policy": "weak"}, "seed": 3}
    now["training"] = {"new": 1}
    expected = now | {"semisup": {"_target_": "b", "mixup_alpha": alpha}, "views": {"policy": policy}}
    assert as_begun(now, record, overrides) == expected
    assert now["views"] == {"policy": "weak"}


def test_parts_are_built_of_the_settings_that_count(compose):
    parts = Parts(plain(compose("dataset=digits")))
    assert parts.risk.mixup_alpha == 4.0
    cleaner = parts.cleaner
    parts.settle(parts.settings | {"semisup": parts.settings["semisup"] | {"mixup_alpha": 0.5}})
    assert parts.risk.mixup_alpha == 0.5
    assert parts.cleaner is cleaner


def test_a_setting_that_is_gone_is_refused_and_places_are_free():
    now = {"noise": BEFORE["noise"], "trainer": {"devices": 2}, "run_dir": "there"}
    with pytest.raises(InputError, match=r"^noise._target_=cpc_lightning.data.noise.SymmetricNoise: the run to resume"):
        check_same_config(BEFORE, now)  # today's settings are those of today's modules
    now["noise"] = {"_target_": "cpc_lightning.noise.noise.SymmetricNoise", "rate": 0.5}
    with pytest.raises(InputError, match=r"^seed=\(not set\): the run to resume has 1"):
        check_same_config(BEFORE, now)
    check_same_config(BEFORE, now | {"seed": 1})


def test_an_older_run_is_read_in_todays_names(monkeypatch):
    names = {"training.length": "training.epochs", "cleaner=cpc": "cleaner=cpc_awr"}
    monkeypatch.setattr(same_run, "RENAMED", names)
    assert same_run.renamed("training.length=3") == "training.epochs=3"
    assert same_run.renamed("+training.length=a=b") == "+training.epochs=a=b"
    assert same_run.renamed("cleaner=cpc") == "cleaner=cpc_awr"
    assert same_run.renamed("cleaner=gmm_agn") == "cleaner=gmm_agn"
    assert same_run.renamed("~callbacks") == "~callbacks"
    assert "training.length" not in recorded({"training": {"length": 3}})
    assert recorded({"training": {"length": 3}})["training.epochs"] == 3
