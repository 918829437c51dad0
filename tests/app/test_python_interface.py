"""Runs from a script or a notebook, through Hydra's compose."""

import json
import re
from pathlib import Path

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from tests.conftest import SMALL

from cpc_lightning.app.folders import with_folder
from cpc_lightning.app.run import run
from cpc_lightning.errors import InputError

TIME = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"


def compose(*overrides, **options):
    with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):
        return hydra.compose("config", [*SMALL, *overrides], **options)


@pytest.mark.parametrize(
    ("options", "overrides", "folder"),
    [
        ({}, [], f"runs/{TIME}"),
        ({"return_hydra_config": True}, [], f"runs/digits_symmetric_gmm_agn/{TIME}"),
        ({"return_hydra_config": True}, ["hydra.run.dir=by/hand"], "by/hand"),
        ({"return_hydra_config": True}, ["run_dir=mine", "hydra.run.dir=by/hand"], "mine"),
        ({}, ["run_dir=mine"], "mine"),
    ],
)
def test_where_a_composed_run_goes(options, overrides, folder, monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # whatever tests before have left there
    config = compose("cleaner=gmm_agn", "logger=tensorboard", *overrides, **options)
    before = OmegaConf.to_container(config, resolve=False)
    settings = with_folder(config)
    assert re.fullmatch(folder, settings["run_dir"])
    assert (
        settings["trainer"]["default_root_dir"] == settings["logger"]["tensorboard"]["save_dir"] == settings["run_dir"]
    )
    assert "hydra" not in settings
    assert OmegaConf.to_container(config, resolve=False) == before
    assert not HydraConfig.initialized()


@pytest.mark.long
def test_a_composed_run_as_the_docstring_says(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    summary = run(compose("cleaner=gmm_agn", return_hydra_config=True))
    (folder,) = (tmp_path / "runs" / "digits_symmetric_gmm_agn").iterdir()
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert (folder / "labels.csv").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_folder_that_refers_to_nothing_is_an_error():
    with pytest.raises(InputError, match="run_dir"):
        with_folder(compose("run_dir='${nothing}'"))


def test_within_a_job_of_hydra_the_folder_is_the_jobs(tmp_path):
    config = compose(return_hydra_config=True)
    OmegaConf.set_readonly(config.hydra, False)
    config.hydra.runtime.output_dir = str(tmp_path)
    HydraConfig.instance().set_config(config)
    try:
        assert Path(with_folder(config)["run_dir"]) == tmp_path
    finally:
        HydraConfig.instance().cfg = None
