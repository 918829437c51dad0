"""The command line: what a person who mistypes sees, and what help says."""

import csv
import importlib.metadata
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig

import cpc_lightning.datasets.digits
from cpc_lightning.app.command_line import main
from cpc_lightning.report.sweep import read_runs, sweep_rows

MISTAKES = [
    # arguments, the setting that the line must name, what else it must say
    (["cleaner=cpc_arw"], "cleaner=cpc_arw", "did you mean cpc_awr?"),
    (["logger=wandb2"], "logger=wandb2", "csv, tensorboard, wandb"),
    (["logger=[csv,wandbb]"], "logger=wandbb", "did you mean wandb?"),
    (["noise=symmetric", "noise.rat=0.5"], "noise.rat=0.5", "did you mean noise.rate?"),
    (["trainnig.epochs=3"], "trainnig.epochs=3", "did you mean training.epochs?"),
    (["noise=symmetric", "noise.rate=1.5"], "noise.rate=1.5", "[0, 1]"),
    (["noise=symmetric", "noise.rate=-0.1"], "noise.rate=-0.1", "[0, 1]"),
    (["noise=symmetric", "noise.rate=nan"], "noise.rate=nan", "[0, 1]"),
    (["noise=symmetric", "noise.rate=much"], "noise.rate=much", "[0, 1]"),
    (["noise=file"], "noise.path", "must be given"),
    (["noise=file", "noise.path=/nowhere/labels.npy"], "noise.path=/nowhere/labels.npy", "not there"),
    (["+noise.colour=red"], "noise", "colour"),
    (["cleaner.threshold=0"], "cleaner.threshold=0", "(0, 1)"),
    (["cleaner.threshold=1"], "cleaner.threshold=1", "(0, 1)"),
    (["cleaner=gmm_agn", "cleaner.threshold=2"], "cleaner.threshold=2", "(0, 1)"),
    (["cleaner.alpha=-1"], "cleaner.alpha=-1", "at least 0"),
    (["cleaner.steps=0"], "cleaner.steps=0", "at least 1"),
    (["semisup.temperature=0"], "semisup.temperature=0", "above 0"),
    (["semisup.lambda_u=-3"], "semisup.lambda_u=-3", "at least 0"),
    (["seed=abc"], "seed=abc", "whole number"),
    (["seed=-1"], "seed=-1", "whole number"),
    (["training.epochs=3"], "training.epochs=3", "training.warmup_epochs=8"),
    (["training.epochs=2.5"], "training.epochs=2.5", "whole number"),
    (["training.warmup_epochs=0"], "training.warmup_epochs=0", "at least 1"),
    (["training.batch_size=1"], "training.batch_size=1", "at least 2"),
    (["training.limit_batches=0"], "training.limit_batches=0", "batches"),
    (["training.confidence_penalty=-1"], "training.confidence_penalty=-1", "at least 0"),
    (["noise=open_set", "noise/source=fashon_mnist"], "noise/source=fashon_mnist", "did you mean fashion_mnist?"),
    (["experiment=cifar10_sym2"], "experiment=cifar10_sym2", "did you mean cifar10_sym20?"),
    (["resume=/nowhere"], "resume=/nowhere", "checkpoint"),
    (["cleaner=cpc_awr,gmm_awr"], "cleaner=cpc_awr,gmm_awr", "-m"),
    (["just words"], "just words", "SETTING=VALUE"),
    (["dataset.root=~/x"], "dataset.root=~/x: quote it", "\"dataset.root='~/x'\""),
    (["noise=file", "noise.path=a(1).npy"], "noise.path=a(1).npy: quote it", "\"noise.path='a(1).npy'\""),
    (["dataset.root=it's"], "dataset.root=it's: quote it", "\"dataset.root='it\\'s'\""),
    (["dataset.root='it's'"], "dataset.root='it's': quote it", "\"dataset.root='it\\'s'\""),
    (["dataset.root=a$(b"], "dataset.root=a$(b: quote it", "'dataset.root='\"'\"'a$(b'\"'\"''"),
    (["dataset.root=a,b"], "dataset.root=a,b: several values need -m", "\"dataset.root='a,b'\""),
]  # fmt: skip
LATER_MISTAKES = [  # found when the parts of a run are there: a second each
    (["optimizer.network.lr=-1"], "optimizer.network.lr=-1: ", "learning rate"),
    (["optimizer.network.momentum=null"], "optimizer.network.momentum=null: ", "NoneType"),
    (["+optimizer.network.foo=1"], "optimizer.network.foo=1: ", "unexpected keyword argument"),
    (["optimizer.network.momentum=-1", "optimizer.network.weight_decay=-1"], "optimizer.network.momentum=-1: ", "mom"),
    (["optimizer.schedule.milestones=3"], "optimizer.schedule", "milestones"),
    (["embedding_size=4096"], "embedding_size=4096", "128"),
    (["backbone=torchvision", "backbone.name=resnet51"], "backbone.name=resnet51", "did you mean"),
    (["dataset=fashion_mnist", "dataset.root=/nowhere"], "dataset.root=/nowhere", "not a folder"),
    (["dataset.test_share=1"], "dataset.test_share=1", "(0, 1)"),
    (["backbone=timm", "backbone.name=vit_tiny_patch16_224"], "backbone", "cannot take images of 8 x 8"),
    (["noise=cifar10n", "noise.path=/nowhere.pt"], "noise.path=/nowhere.pt", "is not there"),
    (["noise=cifar10n", "noise.labels=wrost"], "noise.labels=wrost", "aggre"),
    (["noise=open_set", "noise.source.root=/nowhere"], "noise.source.root=/nowhere", "is not a folder"),
    (["backbone.weights=/nowhere"], "backbone.weights=/nowhere", "is not there"),
    (["views.mean=[0.5,0.5,0.5]", "views.std=[0.5,0.5,0.5]"], "views.", "1"),
    (["trainer.devices=0"], "trainer", "devices"),
    # Lightning's Trainer has arguments under which an epoch would not be one.
    *[
        ([f"+trainer.{setting}"], f"trainer.{setting.partition('=')[0]}", says)
        for setting, says in [
            ("fast_dev_run=true", "training.limit_batches"), ("overfit_batches=1", "training.limit_batches"),
            ("limit_train_batches=0", "training.limit_batches"), ("limit_val_batches=0", "co-training"),
            ("max_steps=3", "training.limit_batches"), ("max_time=1", "co-training"), ("min_epochs=99", "co-training"),
            ("check_val_every_n_epoch=2", "co-training"), ("val_check_interval=1", "training.limit_batches"),
            ("accumulate_grad_batches=2", "co-training"), ("gradient_clip_val=1", "co-training"),
            ("enable_checkpointing=false", "co-training"), ("barebones=true", "co-training"),
            ("strategy=ddp", "use trainer=ddp"),
        ]
    ],
    (["trainer.max_epochs=3"], "trainer.max_epochs=3", "must be 48"),
    (["trainer.precision=64-true"], "trainer.precision=64-true", "bf16-mixed"),
    (["trainer=ddp", "trainer.strategy.timeout.minutes=0"], "trainer.strategy.timeout.minutes=0", "above 0"),
    (["trainer=ddp", "trainer.strategy.timeout.minutes=-1"], "trainer.strategy.timeout.minutes=-1", "above 0"),
    # What is no part of a run, and what is too large for any.
    (["backbone=torchvision", "backbone.name=null"], "backbone.name=null", "text"),
    (["backbone=timm", "backbone.name=null"], "backbone.name=null", "text"),
    (["optimizer.schedule=null"], "optimizer.schedule=null", "group of settings"),
    (["+logger.x=3"], "logger.x=3", "_target_"),
    (["+callbacks.foo={_target_:os.getcwd}"], "callbacks.foo._target_=str", "Callback"),
    (["+logger.foo={_target_:os.getcwd}"], "logger.foo._target_=str", "Logger"),
    (["optimizer.network.lr=nan"], "optimizer.network.lr=nan", "finite"),
    (["noise=cifar100n", "noise.path=-7"], "noise.path=-7", "path"),
    (["noise=cifar100n", "noise.root=[[1]]"], "noise.root=[[1]]", "path"),
    (["noise=open_set", "noise.source.root={a: 1}"], "noise.source.root={'a': 1}", "path"),
    (["training.epochs=99999999999"], "training.epochs=99999999999", "at most"),
    (["training.batch_size=100000000000"], "training.batch_size=100000000000", "at most"),
    (["backbone.width=100000000"], "backbone.width=100000000", "at most"),
    (["training.num_workers=99999"], "training.num_workers=99999", "at most"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "setting", "says"),
    [*MISTAKES, *(pytest.param(*mistake, marks=pytest.mark.long) for mistake in LATER_MISTAKES)],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_gives_one_line_and_code_2(command, tmp_path, arguments, setting, says):
    code, out, err = command(*arguments, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith(f"error: {setting}"), err
    assert says in err
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_a_data_set_without_a_map_refuses_asymmetric_noise(command, tmp_path):
    code, _, err = command("noise=asymmetric", "noise.class_map={0:77}", f"hydra.run.dir={tmp_path}")
    assert code == 2
    assert err.startswith("error: noise.class_map")


def test_a_noise_file_of_the_wrong_length(command, tmp_path):
    np.save(tmp_path / "labels.npy", np.zeros(7, dtype=np.int64))
    code, _, err = command("noise=file", f"noise.path={tmp_path / 'labels.npy'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 2
    assert err.startswith("error: noise.path")
    assert "7" in err
    assert "1438" in err


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(command, tmp_path):
    code, _, err = command("trainer=gpu", f"hydra.run.dir={tmp_path}")
    assert (code, err.count("\n")) == (2, 1)
    assert "trainer.accelerator=gpu" in err


@pytest.mark.parametrize("parent", ["file", "/proc"])
def test_a_folder_that_cannot_be_written(command, tmp_path, parent):
    (tmp_path / "file").write_text("in the way")
    folder = os.path.join(tmp_path, parent, "run")  # an absolute parent wins
    code, out, err = command(f"hydra.run.dir={folder}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: hydra.run.dir={folder}: cannot be written")


def test_every_value_of_a_sweep_is_checked_before_the_first_job(command, tmp_path):
    code, out, err = command("-m", "cleaner=gmm_agn,gmm_arw", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert (code, out) == (2, "")
    assert "did you mean gmm_awr?" in err
    assert not (tmp_path / "sweep").exists()


def test_control_characters_in_a_value_cannot_forge_output(command, tmp_path):
    code, _, err = command("noise=file", "noise.path='/x\x1b[2Jerror: all is well.npy'", f"hydra.run.dir={tmp_path}")
    assert code == 2
    assert "\x1b" not in err


# What Hydra itself reads: arguments, and how the one line begins.
FOR_HYDRA = [
    (["hydra.run.dir="], "hydra.run.dir=: must be a folder's name"),
    (["hydra.run.dir=${foo}"], "hydra.run.dir=(an interpolation): Interpolation key 'foo' not found"),
    (["hydra.run.dir=null"], "hydra.run.dir=null: "),
    (["hydra.job.name=null"], "hydra.job.name=null: "),
    (["hydra.mode=FOO"], "hydra.mode=FOO: Invalid value 'FOO', expected one of [RUN, MULTIRUN]"),
    (["hydra.searchpath=[/nowhere]"], "hydra.searchpath=/nowhere: is not a folder"),
    (["hydra.searchpath=[pkg://nope]"], "hydra.searchpath=pkg://nope: is no package that can be imported"),
    (["hydra.searchpath=[pkg://json.decoder]"], "hydra.searchpath=pkg://json.decoder: is no package"),
    (["training.epochs='3'"], "training.epochs=3: must be a whole number of at least 1, without quotes"),
    (["noise=symmetric", "noise.rate='0.5'"], "noise.rate=0.5: must be a number in [0, 1], without quotes"),
    (["noise=symmetric", "noise.rate=null"], "noise.rate=null: must be a number"),
    (["seed=true"], "seed=true: must be a whole number"),
    (["~seed=3"], "seed=(deleted): "),
    (["=3"], "SETTING==3: is not of the form SETTING=VALUE"),
    (["cleaner=[cpc_awr]"], "cleaner=[cpc_awr]: takes one choice"),
    (["training=null"], "training=null: must be a group of settings"),
    (["-m", "hydra.sweep.dir="], "hydra.sweep.dir=: must be a folder's name"),
    (["-m", "hydra.sweep.dir=${foo}"], "hydra.sweep.dir=(an interpolation): "),
    (["-m", "hydra.sweep.subdir=${foo}"], "hydra.sweep.subdir=(an interpolation): "),
    (["-m", "hydra.sweep.subdir=same", "seed=1,2"], "hydra.sweep.subdir=same: must name a folder for each job"),
    (["-m", "backbone.width=8,2", "seed=1,2", "embedding_size=16"], "embedding_size=16: "),
    (["-m", "training.batch_size=64,1"], "training.batch_size=1: must be a whole number of at least 2"),
    (["-m", "optimizer.head.fused=true,maybe"], "optimizer.head.fused=maybe: must be true or false"),
    (["-m", "backbone=small_resnet,timm", "optimizer.network.lr=0.1,nan"], "optimizer.network.lr=nan: "),
    (["--config-name", "config", "cleaner=foo"], "cleaner=foo: is no choice"),
    (["--config-name", "foo"], "--config-name=foo: must be config"),
    (["--config-dir", "/nowhere"], "--config-dir=/nowhere: is not a folder"),
    (["--run", "seed=-1"], "seed=-1: must be a whole number"),
    (["--colour", "seed=1"], "--colour=: is no option"),
]


@pytest.mark.long
@pytest.mark.parametrize(("arguments", "line"), FOR_HYDRA, ids=lambda value: str(value)[:40])
def test_what_hydra_reads_is_checked_too(command, tmp_path, monkeypatch, arguments, line):
    inside = tmp_path / "outer" / "inner"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    code, out, err = command(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"error: {line}")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "outer", inside]


@pytest.mark.long
def test_a_folder_of_own_choices_is_checked_like_our_own(command, small, tmp_path):
    (tmp_path / "mine, too" / "experiment").mkdir(parents=True)
    (tmp_path / "mine, too" / "experiment" / "short.yaml").write_text("# @package _global_\nseed: -3\n")
    options = ["--config-dir", str(tmp_path / "mine, too"), f"hydra.run.dir={tmp_path / 'run'}"]
    assert command("experiment=shrt", *options)[2].startswith("error: experiment=shrt: is no choice of this group; did")
    assert command("experiment=short", *options)[2].startswith("error: seed=-3: ")
    assert command(*small, "cleaner=none", "experiment=short", "seed=3", *options)[0] == 0


def test_a_reader_of_the_help_may_leave(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        call = [sys.executable, "-m", "cpc_lightning", "--help"]
        done = subprocess.run(call, cwd=tmp_path, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_help_names_every_group(command):
    code, out, _ = command("--help")
    assert code == 0
    for group in ("dataset", "noise", "cleaner", "backbone", "semisup", "optimizer", "trainer", "logger", "experiment"):
        assert f"\n    {group}  " in out or f"\n  {group}  " in out
    some = (
        "gmm_awr, graph, high_confidence, knn, mixture_2d, neighbour_labels, none, oracle, probe, small_loss, uniform"
    )
    assert f"{some}, wrong_events" in out


@pytest.mark.long
def test_the_default_folder_is_named_after_the_choices(command, tmp_path, monkeypatch, small):
    monkeypatch.chdir(tmp_path)
    assert command(*small, "cleaner=none")[0] == 0
    (folder,) = (tmp_path / "runs" / "digits_symmetric_none").iterdir()
    assert (folder / "summary.json").exists()


@pytest.mark.long
def test_a_sweep_and_its_table(command, tmp_path, monkeypatch, small):
    monkeypatch.chdir(tmp_path)
    assert command("-m", *small, "cleaner=none,gmm_agn", "seed=1,2")[0] == 0
    (folder,) = (tmp_path / "multirun").iterdir()
    header, rows = sweep_rows(read_runs([folder]))
    assert [row[:2] for row in rows] == [["cleaner=none", "2"], ["cleaner=gmm_agn", "2"]]
    assert header[2] == "accuracy, best"


@pytest.mark.long
def test_a_run_opens_its_data_once(command, small, tmp_path, monkeypatch):
    """The check before the run opens them; a folder of a million images is not gone through again."""
    opened, digits = [], cpc_lightning.datasets.digits.digits
    monkeypatch.setattr(
        "cpc_lightning.datasets.digits.digits", lambda **settings: opened.append(1) or digits(**settings)
    )
    code, _, err = command(*small, f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, err) == (0, "")
    assert opened == [1]


def test_as_a_person_types_it(tmp_path, small):
    """Another process, another working directory: exit codes and streams are real."""
    call = [sys.executable, "-m", "cpc_lightning"]
    wrong = subprocess.run([*call, "seed=x"], cwd=tmp_path, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: seed=x: must be a whole number of at least 0\n"
    right = subprocess.run([*call, *small, "hydra.run.dir=here"], cwd=tmp_path, capture_output=True, text=True)
    assert right.returncode == 0, right.stderr
    assert right.stderr == ""
    assert "test accuracy" in right.stdout
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["epochs"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]  # nothing outside the run's folder


DELETED = [
    ["~trainer.accelerator"], ["~trainer.devices"], ["~trainer.sync_batchnorm"], ["~trainer.precision"],
    ["~backbone._partial_"], ["~backbone._target_"],
    ["noise=open_set", "noise/source=digits", "~noise.source._target_"],
    ["backbone=inception_resnet_v2", "~backbone.name"],
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("mode", ["train", "check"])
@pytest.mark.parametrize("arguments", DELETED, ids=" ".join)
def test_what_is_needed_cannot_be_deleted(command, tmp_path, arguments, mode):
    code, out, err = command(*arguments, f"mode={mode}", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 2
    assert err.count("\n") == (0 if "this run would fail" in out else 1)
    assert arguments[-1].split(".")[1] in out + err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["train", "check"])
@pytest.mark.parametrize("wrong", ["backbone._target_=nowhere", "backbone.weights=-7", "backbone.weights=[[1]]"])
def test_a_backbone_that_is_none(command, tmp_path, wrong, mode):
    code, out, err = command(wrong, f"mode={mode}", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 2
    assert wrong.partition("=")[2] in out + err
    assert "Traceback" not in err


def test_what_was_renamed_answers_with_its_new_name(command, monkeypatch):
    names = {"training.length": "training.epochs", "cleaner=cpc": "cleaner=cpc_awr"}
    monkeypatch.setattr("cpc_lightning.app.settings.RENAMED", names)
    monkeypatch.setattr("cpc_lightning.app.compose.RENAMED", names)
    for typed in ("training.length=3", "+training.length=3"):
        assert command(typed) == (2, "", "error: training.length=3: is now called training.epochs\n")
    assert command("cleaner=cpc") == (2, "", "error: cleaner=cpc: is now called cleaner=cpc_awr\n")


QUICK = """
import sys
from cpc_lightning.__main__ import main
sys.argv[1:] = {arguments}
code = main()
assert code == {code}, code
heavy = sorted({{"torch", "torchvision", "pytorch_lightning", "wandb", "numpy", "sklearn", "rich"}} & {{*sys.modules}})
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["noize=symmetric"], 2),
        (["noise=symetric"], 2),
        (["training.epoch=3"], 2),
        (["+training.epoch=3"], 2),
        (["~seed"], 2),
    ],
    ids=str,
)
def test_what_needs_no_torch_does_not_import_it(arguments, code, tmp_path):
    script = QUICK.format(arguments=arguments, code=code)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version(command):
    code, out, err = command("--version")
    assert (code, err) == (0, "")
    assert out == f"cpc-lightning {importlib.metadata.version('cpc-lightning')}\n"


@pytest.mark.long
def test_a_run_in_a_process_leaves_it_as_it_was(tmp_path, small, monkeypatch):
    """A notebook goes on after a run, and starts the next one."""
    monkeypatch.setattr(sys, "argv", ["notebook", "-f", "kernel.json"])
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    filters = list(warnings.filters)
    for folder in ("first", "second"):
        assert main([*small, "cleaner=none", f"hydra.run.dir={tmp_path / folder}"]) == 0
        assert sys.argv == ["notebook", "-f", "kernel.json"]
        assert "PL_GLOBAL_SEED" not in os.environ
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_float32_matmul_precision() == "highest"
        assert warnings.filters == filters
        assert HydraConfig.instance().cfg is None
    assert (tmp_path / "first/labels.csv").read_bytes() == (tmp_path / "second/labels.csv").read_bytes()


def test_a_run_that_fails_in_a_process_answers_with_its_code(tmp_path, small, capsys):
    exploding = ["optimizer.schedule.milestones=[1]", "optimizer.schedule.gamma=1e30"]
    assert main([*small, "cleaner=none", *exploding, f"hydra.run.dir={tmp_path / 'run'}"]) == 1
    assert capsys.readouterr().err.startswith("error: the loss became")


STOP = "+callbacks.stop={{_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: {}, patience: 0}}"


@pytest.mark.long
@pytest.mark.parametrize("cleaner", ["none", "cpc_awr"])
def test_a_run_that_ends_early_has_its_verdict(command, tmp_path, small, cleaner):
    """An accuracy that is to stay below zero stops the run after its first epoch of six, a warm-up."""
    stop = STOP.format("test/accuracy").replace("patience: 0", "divergence_threshold: 0.0")
    settings = [*small, "training.epochs=6", f"cleaner={cleaner}", stop]
    code, _, err = command(*settings, f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, err) == (0, "")
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["epochs"] == 1
    with (tmp_path / "run/labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1438
    assert summary["suspected_labels"] == (None if cleaner == "none" else sum(r["suspected"] == "true" for r in rows))
    code, _, err = command(f"resume={tmp_path / 'run'}")
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "run/summary.json").read_text())["epochs"] == 2


@pytest.mark.long
def test_a_metric_to_stop_by_that_there_is_not(command, tmp_path, small):
    code, _, err = command(*small, "cleaner=none", STOP.format("test/acuracy"), f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: callbacks=[stop]: Early stopping conditioned on metric `test/acuracy`")


def test_a_callback_that_does_not_work_here_is_named(command, tmp_path, small):
    averaging = "+callbacks.swa={_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 0.1}"
    code, _, err = command(*small, "cleaner=none", averaging, f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: callbacks=[swa]: SWA currently works with 1 `optimizer`")


@pytest.mark.long
def test_a_run_says_that_it_goes_on_from_an_older_checkpoint(command, tmp_path, small):
    run = tmp_path / "run"
    assert command(*small, "cleaner=none", f"hydra.run.dir={run}")[0] == 0
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="last.ckpt is not whole: the run goes on from best.ckpt"):
        code, _, _ = command(f"resume={run}")
    assert code == 0
