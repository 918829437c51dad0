"""Methods and cleaners that belong together, settings that do not fit, and what a run of one network leaves."""

import json

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from cpc_lightning.app.compose import compose, with_own_cleaner
from cpc_lightning.app.overrides import composed_of, scaled
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.app.unread import check_read, told
from cpc_lightning.errors import InputError
from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.methods.elr import Elr
from cpc_lightning.methods.gjs import Gjs


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


@pytest.mark.long
def test_the_command_line_composes_it(command):
    code, out, _ = command("--cfg", "job", "dataset=digits", "method=ssr")
    assert code == 0
    assert "KnnCleaner" in out
    config = composed_of(with_own_cleaner(["experiment=digits_sym80", "method=ngc"])).config
    assert config.cleaner._target_.endswith(".GraphCleaner")


@pytest.mark.long
@pytest.mark.parametrize("methods", ["elr,label_smoothing", "ssr,codivide"])
def test_each_job_of_a_sweep_over_methods_is_what_its_command_is_alone(command, small, tmp_path, methods):
    """The experiment's cleaner is cpc_awr; ssr has its own, and the first two have none."""
    settings = [*fitting(small, ["method=elr"] if "elr" in methods else []), "experiment=digits_sym80", "seed=3"]
    settings = [text for text in settings if not text.startswith("noise")]
    code, _, err = command("-m", *settings, f"method={methods}", f"hydra.sweep.dir={tmp_path}")
    assert code == 0, err
    for number, method in enumerate(methods.split(",")):
        texts = with_own_cleaner([*settings, f"method={method}"])
        job = OmegaConf.to_container(OmegaConf.load(tmp_path / str(number) / "config.yaml"))
        alone = Parts(composed_of(texts).settings(job["run_dir"])).settings
        assert job == alone
        typed = json.loads((tmp_path / str(number) / "summary.json").read_text())["overrides"]
        assert [text for text in typed if text.startswith("cleaner=")] == texts[len(settings) + 1 :]


def test_settings_can_be_composed_within_a_job_which_stays_as_it_is():
    with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):
        job = GlobalHydra.instance().hydra
        assert compose(["method=elr"]).method._target_.endswith(".Elr")
        assert GlobalHydra.instance().hydra is job
        assert job is not None
    assert not GlobalHydra.instance().is_initialized()


def test_what_is_shown_has_the_methods_own_cleaner(command):
    code, out, _ = command("--cfg", "job", "experiment=digits_sym80", "method=ssr")
    assert code == 0
    assert "KnnCleaner" in out


REFUSED = {
    "method=elr cleaner=gmm_agn": "cleaner=gmm_agn: divides the data, and method=elr trains on all of it",
    "method=ssr cleaner=none": "cleaner=none: divides nothing, and method=ssr needs a division",
    "method=elr semisup.lambda_u=3": "semisup.lambda_u=3: is not for this method",
    "method=promix cleaner=knn": "cleaner=knn: must be small_loss",
    "method=promix cleaner.matched_above=0.9": "cleaner.matched_above=0.9: must be method.matched_above=0.99",
    "method=longremix cleaner=gmm_agn": "cleaner=gmm_agn: must be high_confidence",
    "method=longremix cleaner.first_share=0.3": "cleaner.first_share=0.3: must be method.first_share=0.5",
    "cleaner=high_confidence": "cleaner=high_confidence: is for method=longremix alone",
    "method=label_smoothing method.smoothing=1": "method.smoothing=1: ",
    "method=ngc cleaner.learn_above=1": "cleaner.learn_above=1: ",
    "method=ncr method.mixup_alpha=0.001": "method.mixup_alpha=0.001: must be 0, or at least 0.01",
    "method=gjs training.warmup_epochs=1": "training.warmup_epochs=1: is not for this method, which learns in the same",
    "method=ncr +training.warmup_batch_size=9": "training.warmup_batch_size=9: is not for this method, which learns in",
    "method=elr training.confidence_penalty=0": "training.confidence_penalty=0: is not for this method, which has no",
    "method=ssr training.confidence_penalty=1": "training.confidence_penalty=1: is not for this method, which has no",
    "method=promix training.warmup_policy=weak": "training.warmup_policy=weak: is not for this method, which has no",
    "method=protomix semisup=unmixed": "semisup=unmixed: is not for this method, which does not learn with the",
}
WITHOUT_WARMUP = ("co_teaching", "elr", "elr_plus", "gjs", "label_smoothing", "mopro", "ncr")


def fitting(small, typed):
    """Settings of a small run that the method reads, if one of those is typed that have no warm-up."""
    method = next((text.partition("=")[2] for text in typed if text.startswith("method=")), None)
    return [text for text in small if method not in WITHOUT_WARMUP or not text.startswith("training.warmup")]


@pytest.mark.long
@pytest.mark.parametrize(("typed", "says"), REFUSED.items(), ids=REFUSED)
def test_what_does_not_fit_is_one_line(command, small, tmp_path, typed, says):
    typed = typed.split()
    code, out, err = command(*fitting(small, typed), *typed, f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {says}"), err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_nobody_typed_is_called_by_its_file(compose):
    """In Python, where settings are composed before."""
    config = compose("method=elr_plus", "cleaner=graph")
    with pytest.raises(InputError, match=r"^cleaner=graph: divides the data, and method=elr_plus trains on all of it"):
        _ = Parts(plain(config)).cleaner
    with pytest.raises(InputError, match=r"^cleaner=knn: must be small_loss, which method=promix brings"):
        _ = Parts(plain(compose("method=promix", "cleaner=knn"))).cleaner


@pytest.mark.long
@pytest.mark.parametrize("typed", [text for text in REFUSED if "semisup" in text or "training" in text])
def test_a_check_finds_what_the_method_does_not_read(command, small, typed):
    typed = typed.split()
    code, out, _ = command("mode=check", *fitting(small, typed), *typed)
    assert code == 2
    assert f"{typed[-1].lstrip('+')}: is not for this method" in " ".join(out.split())


@pytest.mark.long
def test_a_sweep_finds_it_before_its_first_job(command, small, tmp_path):
    folder = tmp_path / "sweep"
    code, _, err = command("-m", *small, "method=codivide,elr", f"hydra.sweep.dir={folder}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: training.warmup_epochs=1: is not for this method")
    assert not folder.exists()


@pytest.mark.long
def test_what_an_experiment_sets_for_its_method_is_refused_and_for_another_set_aside(command, small, tmp_path):
    (tmp_path / "experiment").mkdir()
    lines = "# @package _global_\ndefaults:\n  - override /method: {}\n  - override /cleaner: {}\ntraining:\n  {}\n"
    for name, *parts in (("wrong", "elr", "none", "warmup_policy: cifar10"),
                         ("right", "codivide", "cpc_awr", "confidence_penalty: 1.0")):  # fmt: skip
        (tmp_path / "experiment" / f"{name}.yaml").write_text(lines.format(*parts))
    own = [*fitting(small, ["method=elr"]), f"--config-dir={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}"]
    code, _, err = command(*own, "experiment=wrong")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: training.warmup_policy=cifar10: is not for this method, which has no warm-up that")
    code, out, _ = command("mode=check", *own, "experiment=right", "method=elr")
    assert code == 0, out


@pytest.mark.long
@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (
            ["method=elr", "views.policy=weak", "vector_views.noise=0"],
            "not used: views.policy=weak, vector_views.noise=0",
        ),
        (["method=gjs", "views.policy=symbols"], ""),
        (["method=elr", "views.flip=true"], ""),
    ],
)
def test_policies_of_strong_views_are_said_not_to_be_used_by_what_takes_none(command, small, typed, says):
    code, out, _ = command("mode=check", *fitting(small, typed), *typed)
    assert code == 0
    words = " ".join(out.split())
    assert ("not used" in words) is bool(says)
    assert says in words


def test_epochs_of_the_python_interface_scale_a_warm_up_where_there_is_one(tmp_path):
    for method, there in (("codivide", True), ("elr", False), ("ssr", True)):
        texts = scaled(composed_of([f"method={method}"]), 12, {}, str(tmp_path))
        assert ("training.warmup_epochs=2" in texts) is there  # 8 of 48 are 2 of 12
        assert texts[0] == "training.epochs=12"


@pytest.mark.long
def test_a_run_of_one_network_is_exported_as_one(command, small, tmp_path):
    folder = tmp_path / "run"
    settings = [text for text in fitting(small, ["method=gjs"]) if not text.startswith("report=")]
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


def test_settings_typed_as_a_dict_are_seen_too():
    with pytest.raises(InputError, match=r"^training.warmup_epochs=3: is not for this method, which learns"):
        check_read(Elr(), {}, {}, ["method=elr", "training={warmup_epochs: 3}"])
    check_read(Elr(), {}, {}, ["method=elr", "training={epochs: 3}"])


@pytest.mark.parametrize(
    ("method", "views", "line"),
    [
        (Gjs(), {"policy": "weak"}, "views.policy=weak: there are no strong views, which this method learns from; "),
        (Gjs(), {"policy": "symbols"}, ""),
        (Gjs(), None, ""),  # vectors
        (CoDivide(), {"policy": "weak"}, ""),
        (Elr(), {"policy": "weak"}, ""),
    ],
)
def test_strong_views_that_are_weak_are_told_where_a_method_needs_others(method, views, line):
    said = told(method, {"views": views}, [])
    assert said.startswith(line)
    assert bool(said) is bool(line)
