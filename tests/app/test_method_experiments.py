"""Every experiment of a method (`conf/experiment/METHOD/`): all its parts are built on files in real formats."""

import math
import re

import pytest
from tests.app.test_experiments import FOLDER, write_files

from cpc_lightning.app.overrides import composed_of
from cpc_lightning.app.parts import Parts

NAMES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix()
    for path in FOLDER.glob("*/*.yaml")
    if not path.parent.name.startswith("_")
)
SMALL = ("training.batch_size=8", "training.num_workers=0", "backbone=small_resnet", "backbone.width=8",
         "embedding_size=8", "callbacks=none", "logger=[]")  # fmt: skip
LOWEST = {"ncr": 0.0, "ngc": 2e-4, "protomix": 2e-4, "ssr": 4e-4, "promix": 5e-5}
"""Where cosines end: of 0.02 a fiftieth (SSR), of 0.05 a thousandth (ProMix), and where RRL's and NGC's code end."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Settings that read small files in the format of a data set, which are written once."""
    written = {}

    def files(dataset):
        if dataset not in written:
            written[dataset] = write_files(dataset, tmp_path_factory.mktemp(dataset) / "files")
        return written[dataset]

    return files


def data_of(name):
    """The data set of an experiment, which the cell is named after."""
    return name.partition("/")[2].partition("_")[0]


def test_there_are_as_many_as_cells():
    counts = {}
    for name in NAMES:
        counts[name.partition("/")[0]] = counts.get(name.partition("/")[0], 0) + 1
    assert counts == {
        "elr": 10, "elr_plus": 11, "gjs": 6, "longremix": 11, "mopro": 1, "ncr": 11, "ngc": 10, "promix": 2,
        "protomix": 9, "ssr": 2,
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_sound_run_of_its_method(files, tmp_path, name):
    """As the command line takes it: names, kinds, what the method reads, cleaner, schedule, networks, batches."""
    method, lines = name.partition("/")[0], (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert lines[1].startswith(f"# python -m cpc_lightning experiment={name} trainer=gpu")
    header = " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
    assert re.search(r"published .*\d\d\.\d+|number not quoted", header)
    assert "GPU hours: not measured." in header
    texts = [f"experiment={name}", *SMALL, *files(data_of(name))]
    composed = composed_of(texts)
    settings = composed.settings(str(tmp_path / "run"))
    parts = Parts(settings, texts, composed.usual).ready()
    assert type(parts.method).__module__.rpartition(".")[2] == method
    assert parts.method.takes_cleaner is parts.cleaner.active
    check_rates(name, parts, method)


def check_rates(name, parts, method):
    """The learning rate in the middle and at the end, where it falls along a cosine; there is one name for that."""
    schedule = parts.settings["optimizer"]["schedule"]
    falls = method in LOWEST and name != "ncr/clothing1m"  # which has steps, as CPC
    assert (schedule["_target_"] == "cpc_lightning.training.schedules.cosine") is falls
    assert falls or schedule["_target_"].rpartition(".")[2] != "CosineAnnealingLR"
    if falls:
        (of_network, *_), (scheduled, *_) = parts.module.configure_optimizers()
        rate, epochs = parts.settings["optimizer"]["network"]["lr"], parts.settings["training"]["epochs"]
        assert of_network.param_groups[0]["lr"] == rate
        for epoch in (0, epochs // 4, epochs):
            expected = LOWEST[method] + (rate - LOWEST[method]) * (1 + math.cos(math.pi * epoch / epochs)) / 2
            assert scheduled.lr_lambdas[0](epoch) * rate == pytest.approx(expected, abs=1e-12)
