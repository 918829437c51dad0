"""The W&B logger: its mode, what it is refused for before training, and where it keeps its things."""

import os
import pwd
import subprocess
import sys

import pytest
import wandb
from tests.training.wandb_files import Run

from cpc_lightning.errors import InputError
from cpc_lightning.training import weights_and_biases
from cpc_lightning.training.weights_and_biases import finish_wandb, group_of, may_have_key, shortened, wandb_logger


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch, tmp_path):
    """No key, no mode, an empty home."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    for name in (
        *weights_and_biases.FOLDERS,
        *weights_and_biases.WITHOUT_HOME,
    ):  # so that they are gone again afterwards
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weights_and_biases, "_GIVEN", set())


@pytest.mark.parametrize(
    ("offline", "environment", "mode"),
    [
        (None, None, "offline"),
        (None, "", "offline"),
        (None, "online", "online"),
        (None, "run", "online"),
        (None, "disabled", "disabled"),
        (None, "dryrun", "offline"),
        (True, "online", "offline"),
        (False, None, "online"),
        (False, "disabled", "online"),
    ],
)
def test_the_setting_decides_then_the_environment_then_it_is_offline(monkeypatch, tmp_path, offline, environment, mode):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    logger = wandb_logger(str(tmp_path), offline, project="p")
    assert logger._wandb_init["mode"] == mode
    assert logger._wandb_init["project"] == "p"
    assert os.environ.get("WANDB_MODE") == environment


@pytest.mark.parametrize(
    ("offline", "environment", "line"),
    [
        (False, None, "offline=false: needs a key: `wandb login`, or WANDB_API_KEY; "
                      "logger.wandb.offline=true needs none, and no network"),
        (None, "online", "offline=null (WANDB_MODE=online): needs a key"),
        (None, "onlin", "offline=null (WANDB_MODE=onlin): WANDB_MODE must be one of online, offline, disabled"),
        ("no", None, "offline=no: must be true, false or null"),
    ],
)  # fmt: skip
def test_what_could_not_log_is_refused(monkeypatch, tmp_path, offline, environment, line):
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    with pytest.raises(InputError) as caught:
        wandb_logger(str(tmp_path), offline)
    assert str(caught.value).startswith(line)


def test_where_a_key_may_be(monkeypatch, tmp_path):
    assert not may_have_key()
    home = tmp_path / "home"
    (home / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password 1234\n")
    assert may_have_key()
    (home / ".config" / "wandb").mkdir(parents=True)
    (home / ".config" / "wandb" / "settings").write_text("[default]\nbase_url = https://ours.example:8080\n")
    assert not may_have_key()  # that one is another server's
    (home / "_netrc").write_text("machine ours.example login user password 1234\n")
    assert may_have_key()
    monkeypatch.setenv("NETRC", str(home / "none"))
    assert not may_have_key()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert may_have_key()


@pytest.mark.parametrize("home", [None, "/proc/none"])
def test_without_a_home_it_keeps_its_things_with_the_run(monkeypatch, tmp_path, home):
    wandb_logger(str(tmp_path))
    assert "WANDB_DATA_DIR" not in os.environ  # there is one
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # as docker --user with a number that nobody knows
    for run in ("one", "two"):
        wandb_logger(str(tmp_path / run))
        kept = {name: os.environ[name] for name in weights_and_biases.FOLDERS}
        assert kept == {
            "WANDB_DATA_DIR": str(tmp_path / run / "wandb" / "data"),
            "WANDB_CACHE_DIR": str(tmp_path / run / "wandb" / "cache"),
            "WANDB_CONFIG_DIR": str(tmp_path / run / "wandb" / "config"),
        }
    assert not (tmp_path / "one").exists()


def test_without_the_variable_the_part_of_wandb_that_reads_nothing_else_keeps_its_things_with_the_run(
    monkeypatch, tmp_path
):
    """Who the user is tells where their settings are; the part that is no Python asks HOME alone."""
    monkeypatch.delenv("HOME")
    wandb_logger(str(tmp_path))
    assert {name: os.environ.get(name) for name in (*weights_and_biases.FOLDERS, *weights_and_biases.WITHOUT_HOME)} == {
        **dict.fromkeys(weights_and_biases.FOLDERS),
        "XDG_DATA_HOME": str(tmp_path / "wandb" / "data"),
        "XDG_CACHE_HOME": str(tmp_path / "wandb" / "cache"),
    }


def test_folders_that_the_user_has_named_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setenv("WANDB_DATA_DIR", "/elsewhere")
    monkeypatch.setattr(weights_and_biases, "_GIVEN", {"WANDB_DATA_DIR"})
    wandb_logger(str(tmp_path))
    assert os.environ["WANDB_DATA_DIR"] == "/elsewhere"


def test_what_fails_when_it_is_closed_is_told_and_costs_nothing(monkeypatch):
    def fail():
        raise wandb.errors.CommError("gone")

    monkeypatch.setattr(wandb, "finish", fail)
    with pytest.warns(UserWarning, match="W&B could not finish its run: gone"):
        finish_wandb()


# Groups ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "group"),
    [
        ([], "defaults"),
        (["seed=3", "noise_seed=1", "dataset.split_seed=2"], "defaults"),
        (["experiment=digits_sym80", "seed=3"], "digits_sym80"),
        (["cleaner=gmm_agn", "experiment=digits_sym80", "seed=3"], "digits_sym80 cleaner=gmm_agn"),
        (["experiment=null", "noise=symmetric"], "noise=symmetric"),
        (["noise.rate=0.2", "noise.rate=0.5"], "noise.rate=0.5"),  # the last one counts
        (["+cleaner.more=1", "logger=wandb", "callbacks=none", "trainer=ddp", "trainer.devices=4", "dataset.root=/x",
          "training.num_workers=2", "run_dir=x", "hydra.sweep.dir=y"], "cleaner.more=1"),
        (["dataset.classes=[a\nb]"], r"dataset.classes=[a\nb]"),
    ],
)  # fmt: skip
def test_a_group_is_what_runs_share_but_for_their_seeds(overrides, group):
    assert group_of(overrides) == group


def test_long_groups_differ_where_what_was_cut_off_does():
    one, other = shortened("a" * 128 + "1"), shortened("a" * 128 + "2")
    assert len(one) == 128
    assert one != other
    assert shortened("a" * 128) == "a" * 128


def described(folder, overrides, **given):
    """What W&B keeps offline of a run whose logger was given that."""
    logger = wandb_logger(str(folder), True, project="p", **given)
    settings = {"seed": 7, "noise_seed": 7, "noise": {"rate": 0.5}}
    logger.describe(settings, overrides)
    logger.log_metrics({"gmm/auc": 0.75, "epoch": 4}, step=99)
    (folder / "report" / "sheets").mkdir(parents=True)
    (folder / "report" / "index.html").write_text("<p>page</p>")
    (folder / "report" / "sheets" / "0.js").write_text("1")
    logger.conclude({"test_accuracy_best": 80.5, "cleaner_auc_cpc": None}, folder / "report" / "index.html")
    finish_wandb()
    return Run(folder)


@pytest.mark.long
def test_two_seeds_are_one_group_and_one_panel(tmp_path):
    runs = [described(tmp_path / seed, ["experiment=digits_sym80", f"seed={seed}"]) for seed in ("1", "2")]
    assert [run.run.run_group for run in runs] == ["digits_sym80"] * 2
    assert [run.run.display_name for run in runs] == ["digits_sym80 seed=7"] * 2  # as the settings have it
    assert [run.axis for run in runs] == ["epoch"] * 2
    for run in runs:
        (row,) = (row for row in run.rows if "gmm/auc" in row)
        assert (row["gmm/auc"], row["epoch"]) == (0.75, 4)
        assert "trainer/global_step" not in row
        assert run.config["noise"] == {"rate": 0.5}
        assert run.summary["test_accuracy_best"] == 80.5
        assert "cleaner_auc_cpc" not in run.summary


def test_the_page_is_an_artifact_with_what_lies_beside_it(tmp_path):
    assert described(tmp_path, []).artifacts["page"] == [["index.html", "sheets/0.js"]]


def test_of_a_page_with_too_many_images_the_page_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(weights_and_biases, "LARGEST_PAGE", 11)
    assert described(tmp_path, []).artifacts["page"] == [["index.html"]]


def test_what_the_user_names_stays(monkeypatch, tmp_path):
    for variable in ("WANDB_NAME", "WANDB_JOB_TYPE"):
        monkeypatch.setenv(variable, "mine")  # wandb reads it itself, once in a process
    logger = wandb_logger(str(tmp_path), True, group="ours")
    logger.describe({"seed": 7, "noise_seed": 8}, ["experiment=digits_sym80"])
    assert [logger._wandb_init.get(name) for name in ("group", "name", "job_type")] == ["ours", None, None]
    monkeypatch.delenv("WANDB_NAME")
    logger.describe({"seed": 7, "noise_seed": 8}, ["experiment=digits_sym80"])
    assert logger._wandb_init["name"] == "digits_sym80 seed=7 noise_seed=8"


# Whole runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_without_a_key_a_run_is_refused_before_there_is_a_folder(command, small, tmp_path):
    run = (*small, "logger=wandb", "logger.wandb.offline=false", f"hydra.run.dir={tmp_path / 'run'}")
    code, _, error = command(*run)
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("error: logger.wandb.offline=false: needs a key")
    assert not (tmp_path / "run").exists()
    code, out, _ = command(*run, "mode=check")
    assert code == 2
    assert "logger.wandb.offline=false" in out


@pytest.mark.long
@pytest.mark.parametrize(("mode", "home", "files"), [("disabled", "/proc/none", 0), ("offline", "/proc/none", 1),
                                                     ("offline", None, 1)])  # fmt: skip
def test_a_run_follows_wandb_mode_without_a_home(monkeypatch, command, small, tmp_path, mode, home, files):
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # as docker --user with a number that nobody knows
    code, _, error = command(*small, "logger=wandb", "cleaner=gmm_agn", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0, error
    assert "does not show" not in error
    assert len(list((tmp_path / "run").rglob("*.wandb"))) == files
    assert (tmp_path / "run" / "labels.csv").exists()


@pytest.mark.long
@pytest.mark.parametrize("place", ["Table", "finalize"])
def test_a_logger_that_fails_at_the_end_costs_no_verdict(monkeypatch, command, small, tmp_path, place):
    def fail(*_, **__):
        raise OSError(28, "No space left on device", "/elsewhere")

    if place == "Table":
        monkeypatch.setattr(wandb, "Table", fail)
    else:
        monkeypatch.setattr("pytorch_lightning.loggers.WandbLogger.finalize", fail)
    run = tmp_path / "run"
    code, _, error = command(*small, "logger=wandb", "cleaner=gmm_agn", f"hydra.run.dir={run}")
    assert (run / "labels.csv").read_text().count("\n") == 1439
    if place == "Table":  # no part of the run
        assert code == 0
        assert (run / "summary.json").exists()
    else:
        assert code == 1
        assert error.splitlines()[-1] == "error: /elsewhere: No space left on device"


@pytest.mark.long
def test_where_wandb_is_not_installed_a_run_trains_and_only_its_logger_is_refused(small, tmp_path):
    """A module that is None cannot be imported; in a process of its own, for here it has been."""
    both = (
        "import sys; sys.modules['wandb'] = None; small = sys.argv[1:]; "
        "from cpc_lightning.app.command_line import main; "
        "print(main([*small, 'hydra.run.dir=run']), file=sys.stderr); "
        "print(main([*small, 'logger=wandb', 'hydra.run.dir=logged']), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", both, *small], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, trained, line, refused = done.stderr.splitlines()
    assert (trained, refused) == ("0", "2"), done.stderr
    assert line.startswith("error: ")
    assert line.endswith("needs wandb: pip install wandb")
    assert (tmp_path / "run" / "labels.csv").exists()
    assert not (tmp_path / "logged").exists()
