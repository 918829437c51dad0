"""Choices of one's own (`--config-dir`), and what else reaches a run from outside: checked like the library's own."""

import csv

import pytest


@pytest.fixture
def own(tmp_path):
    """A folder of choices with mistakes in them."""
    leaves = {
        "noise/syntax": "_target_: cpc_lightning.noise.noise.SymmetricNoise\nrate: [0.5\n",
        "noise/more": "_target_: cpc_lightning.noise.noise.SymmetricNoise\nrate: 0.5\nbogus: 3\n",
        "noise/fine": "_target_: cpc_lightning.noise.noise.SymmetricNoise\nrate: 0.5\ninclude_true_class: true\n",
        "experiment/typo": "# @package _global_\ntraining:\n  epochz: 3\n",
        "experiment/nowhere": "training:\n  epochs: 3\n",
        "experiment/fine": "# @package _global_\ndefaults:\n  - override /noise: fine\nnoise:\n  rate: 0.25\n",
        "experiment/kind": "# @package _global_\nembedding_size: word\n",
        "experiment/mine/low": "# @package _global_\ndefaults:\n  - override /noise: fine\nnoise:\n  rate: 0.25\n",
    }
    for name, text in leaves.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / f"{name}.yaml").write_text(text)
    return [f"--config-dir={tmp_path / 'own'}", f"hydra.run.dir={tmp_path / 'run'}"]


@pytest.mark.parametrize(
    ("choice", "begins", "says"),
    [
        ("noise=syntax", "error: config=", "a file cannot be read: while parsing a flow sequence"),
        ("noise=more", "error: noise.bogus=3: ", "unexpected keyword argument"),
        ("experiment=typo", "error: training.epochz=3: is no setting; did you mean training.epochs?", ""),
        ("experiment=nowhere", "error: experiment.training.epochs=3: is no setting", ""),
        ("experiment=kind", "error: embedding_size=word: must be a number", ""),
    ],
)
def test_a_mistake_in_an_own_choice_is_one_line(command, own, tmp_path, choice, begins, says):
    code, out, err = command(choice, *own)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(begins)
    assert says in err
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("choice", ["fine", "mine/low"])
def test_a_sound_experiment_sets_what_others_have_brought(command, own, small, tmp_path, choice):
    """It may lie in a folder, whose name is then part of its own."""
    code, _, err = command(*small[2:], "cleaner=none", f"experiment={choice}", *own)
    assert (code, err) == (0, "")
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        assert {row["noise/rate_nominal"] for row in csv.DictReader(file)} == {"0.25"}


@pytest.mark.long
def test_a_mistake_is_reported_once_by_the_check(command, own):
    code, out, _ = command("mode=check", "noise=more", *own)
    assert code == 2
    assert "\n1 error: this run would fail" in out
    assert "noise.noise" not in out


def test_help_knows_own_choices(command, own):
    code, out, _ = command("--help", own[0], "noise=fine")
    assert code == 0
    assert "rate: 0.5" in out
    assert "  noise: asymmetric, cifar100n, cifar10n, file, fine," in out
    assert " mine/low," in out
    assert "experiment/mine" not in out


def test_an_option_that_shows_something_has_one_line_for_a_mistake(command):
    code, out, err = command("--cfg", "job", "noise=symetric")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: noise=symetric: is no choice of this group; did you mean symmetric?")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("cleaner=glob(zz*)", "error: cleaner=glob(zz*): matches none of "),
        ("training.epochs=glob(*)", "error: training.epochs=glob(*): a glob works for groups"),
    ],
)
def test_a_glob_that_matches_nothing(command, tmp_path, typed, line):
    code, out, err = command("-m", typed, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(line)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.long
def test_a_glob_sweeps_over_choices(command, small, tmp_path):
    folder = tmp_path / "sweep"
    assert command("-m", *small, "cleaner=glob(gmm*)", f"hydra.sweep.dir={folder}")[0] == 0
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0", "1"]


@pytest.mark.parametrize(("name", "value"), [("SLURM_NTASKS", "abc"), ("LOCAL_RANK", "-1")])
def test_a_variable_that_is_no_number(command, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    code, out, err = command("seed=1")
    assert (code, out) == (2, "")
    assert err == (f"error: {name}={value}: must be a whole number (an environment variable of torchrun or srun)\n")


@pytest.mark.long
def test_a_run_that_changes_the_working_directory_stays_in_one_folder(command, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*small, "cleaner=none", "hydra.job.chdir=true", "hydra.run.dir=here")
    assert (code, err) == (0, "")
    assert {path.name for path in (tmp_path / "here").iterdir()} >= {"labels.csv", "checkpoints", "config.yaml"}
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert f"run_dir: {tmp_path / 'here'}\n" in (tmp_path / "here/config.yaml").read_text()


@pytest.mark.long
def test_the_folder_is_shown_as_it_is_reached_from_here(command, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "\nruns/mine\n" in command(*small, "cleaner=none", "hydra.run.dir=runs/mine")[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            "+callbacks.x={_target_: own.Nope}",
            "error: callbacks.x._target_=own.Nope: cannot be imported (ModuleNotFound",
        ),
        ("optimizer.network._target_=torch.optim.SGDD", "error: optimizer.network._target_=torch.optim.SGDD: cannot"),
        ("~dataset", "error: dataset=(deleted): is needed"),
    ],
)
def test_what_is_to_be_built_cannot_be_found(command, tmp_path, typed, line):
    code, out, err = command(typed, f"hydra.run.dir={tmp_path / 'run'}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(line)


@pytest.mark.long
def test_choices_of_an_installed_package(command, own, tmp_path, monkeypatch):
    """Hydra's own way to name them, pkg://, is checked like a folder."""
    package = tmp_path / "site" / "choices_of_mine"
    (package / "noise").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "noise" / "half.yaml").write_text("_target_: cpc_lightning.noise.noise.SymmetricNoise\nrate: 3\n")
    monkeypatch.syspath_prepend(package.parent)
    search = "hydra.searchpath=[pkg://choices_of_mine]"
    code, _, err = command("noise=half", search, own[1])
    assert (code, err) == (2, "error: noise.rate=3: must be a number in [0, 1]\n")
    assert "did you mean half?" in command("noise=hafl", search, own[1])[2]
