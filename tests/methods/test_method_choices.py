"""Methods and cleaners that belong together, settings that do not fit, and what a run of one network leaves."""

import json

import pytest

from cpc_lightning.app.compose import with_own_cleaner
from cpc_lightning.app.overrides import composed_of

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("typed", "added"),
    [
        (["experiment=cifar10_sym50", "method=ssr"], ["cleaner=knn"]),
        (["method=elr", "experiment=photos"], ["cleaner=none"]),
        (["experiment=cifar10_sym50", "method=ssr", "cleaner=uniform"], []),  # a typed one stays
        (["experiment=cifar10_sym50", "method=codivide"], []),
        (["experiment=cifar10_sym50", "method=elr,gjs"], []),  # a sweep
        (["experiment=cifar10_sym50", "method=nothing"], []),  # which is told elsewhere
        (["method=ssr"], []),  # its own file says it
    ],
)
def test_a_typed_method_brings_its_own_cleaner_to_an_experiment(typed, added):
    assert with_own_cleaner(typed) == [*typed, *added]


def test_the_command_line_composes_it(command):
    code, out, _ = command("--cfg", "job", "dataset=digits", "method=ssr")
    assert code == 0
    assert "KnnCleaner" in out
    config = composed_of(with_own_cleaner(["experiment=digits_sym80", "method=ngc"])).config
    assert config.cleaner._target_.endswith(".GraphCleaner")


REFUSED = {
    "method=elr cleaner=gmm_agn": "cleaner=GmmCleaner: divides the data, and method Elr trains on all of it",
    "method=ssr cleaner=none": "cleaner=NoCleaner: divides nothing, and method Ssr needs a division",
    "method=elr semisup.lambda_u=3": "semisup.lambda_u=3: is not for this method",
    "method=promix cleaner=knn": "cleaner=KnnCleaner: must be small_loss",
    "method=promix cleaner.matched_above=0.9": "cleaner.matched_above=0.9: must be method.matched_above=0.99",
    "method=longremix cleaner=gmm_agn": "cleaner=GmmCleaner: must be high_confidence",
    "method=longremix cleaner.first_share=0.3": "cleaner.first_share=0.3: must be method.first_share=0.5",
    "cleaner=high_confidence": "cleaner=high_confidence: is for method=longremix alone",
    "method=label_smoothing method.smoothing=1": "method.smoothing=1: ",
    "method=ngc cleaner.learn_above=1": "cleaner.learn_above=1: ",
    "method=ncr method.mixup_alpha=0.001": "method.mixup_alpha=0.001: must be 0, or at least 0.01",
}


@pytest.mark.parametrize(("typed", "says"), REFUSED.items(), ids=REFUSED)
def test_what_does_not_fit_is_one_line(command, small, tmp_path, typed, says):
    code, out, err = command(*small, *typed.split(), f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {says}"), err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_of_one_network_is_exported_as_one(command, small, tmp_path):
    folder = tmp_path / "run"
    settings = [text for text in small if not text.startswith("report=")]
    assert command(*settings, "method=gjs", "report=true", f"hydra.run.dir={folder}")[0] == 0
    for networks in ("both", "best"):
        code, out, err = command(
            "mode=export", f"run={folder}", "format=torch", f"networks={networks}", f"output={tmp_path / networks}.pt2"
        )
        assert (code, err) == (0, ""), err
        assert "1 of 1 networks" in out
    page = (folder / "report" / "index.html").read_text()
    assert "both networks" not in page.split("Accuracy over the epochs")[1][:4000]
    assert "Losses of network 2" not in page
    assert json.loads((folder / "summary.json").read_text())["test_accuracy_last"] > 0
