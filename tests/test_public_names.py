"""Names that people rely on do not change unnoticed: settings, what a run leaves, Python names.

`public_names.json` lists them, and no line ever leaves it. A name that is gone must be written down as renamed: a
setting or choice in `RENAMED`, which the command line reads, any other name under "renamed" in the list; and both names
in CHANGELOG.md.
"""

import ast
import csv
import json
from pathlib import Path

import cpc_lightning.conf
import hydra
import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from tests.conftest import SMALL

from cpc_lightning.app.command_line import main
from cpc_lightning.app.modes import MODE_SETTINGS
from cpc_lightning.inference.predictions import columns as predictions_columns
from cpc_lightning.training.same_run import RENAMED

ROOT = Path(__file__).parents[1]
CONF = Path(cpc_lightning.conf.__path__[0])
LIST = json.loads((ROOT / "tests" / "public_names.json").read_text())
CHANGES_NO_SETTINGS = ("experiment", "hparams_search")  # groups whose choices set what others have brought
WITHIN = {"noise/source": ("noise=open_set",)}  # a group within a choice of another


def check(what, listed, present, renamed, table):
    """Every listed name is there or renamed to one that is, and every name that is there is listed."""
    gone = [name for name in listed if name not in present and name not in renamed]
    assert not gone, (
        f"{what}: {', '.join(gone)} gone, on which people rely. If renamed, write it down: "
        f'"{gone[0]}": "NEW NAME" in {table}, the new name in tests/public_names.json below the old one, and both in '
        "CHANGELOG.md. If removed on purpose, say so there, and why, and take it from the list."
    )
    lost = [f"{name} -> {renamed[name]}" for name in listed if name in renamed and renamed[name] not in present]
    assert not lost, f"{what}: renamed to what is not there: {', '.join(lost)}"
    both = [name for name in listed if name in renamed and name in present]
    assert not both, f"{what}: both renamed and still there: {', '.join(both)}"
    new = [name for name in present if name not in listed]
    assert not new, f"{what}: new names, which stay from now on; add them to tests/public_names.json: {', '.join(new)}"


def check_settings(what, listed, present):
    check(what, listed, present, RENAMED, "RENAMED, which the command line reads")


def check_others(what, listed, present):
    check(what, listed, present, LIST["renamed"], '"renamed" of tests/public_names.json')


# Settings -------------------------------------------------------------------------------------------------------------


def choices():
    """Group and choice, as the command line writes them."""
    leaves = [path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml")]
    named = [leaf for leaf in leaves if "/" in leaf and "/_" not in leaf]
    in_folders = "experiment/"  # experiments of a method: experiment=METHOD/CELL
    return sorted(tuple(n.split("/", 1) if n.startswith(in_folders) else n.rsplit("/", 1)) for n in named)


def leaves(node, prefix=""):
    """Full names of all settings below `node`, but for those that say what to build."""
    for name in node:
        value = node._get_node(name)
        if isinstance(value, DictConfig) and not OmegaConf.is_missing(node, name):
            yield from leaves(value, f"{prefix}{name}.")
        elif not str(name).startswith("_"):
            yield f"{prefix}{name}"


def found_settings():
    """Each setting with the choices that bring it, where not every choice of the group does."""
    by_group: dict[str, dict[str, set[str]]] = {}
    with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):  # once: most of the time goes there
        for group, choice in choices():
            if group not in CHANGES_NO_SETTINGS:
                value = f"[{choice}]" if group == "logger" else choice
                config = hydra.compose("config", ["run_dir=unused", *WITHIN.get(group, ()), f"{group}={value}"])
                by_group.setdefault(group, {})[value.strip("[]")] = set(leaves(config))
    brought = {name: [] for names in by_group.values() for one in names.values() for name in one}
    for group, names in by_group.items():
        everywhere = set.intersection(*names.values())
        for choice, own in names.items():
            for name in own - everywhere:
                brought[name].append(f"{group}={choice}")
    return {name: sorted(brought[name]) for name in sorted(brought)}


@pytest.mark.long
def test_settings():
    found = found_settings()
    check_settings("settings", LIST["settings"], found)
    for name, bringing in found.items():
        check_settings(f"choices that bring {name}", LIST["settings"][name], bringing)


def test_choices():
    check_settings("choices", LIST["choices"], [f"{group}={choice}" for group, choice in choices()])


# A run ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of three epochs with a cleaner that leaves every column."""
    folder = tmp_path_factory.mktemp("names") / "run"
    assert main([*SMALL, "report=true", "cleaner=cpc_awr", "cleaner.steps=20", f"hydra.run.dir={folder}"]) == 0
    return folder


def columns(path):
    with path.open(newline="") as file:
        return next(csv.reader(file))


@pytest.mark.long
def test_files_of_a_run(finished):
    files = [path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()]
    check_others("files of a run", LIST["files"], files)


@pytest.mark.long
def test_columns_of_labels(finished):
    """In their order too: people cut columns out by number."""
    found = columns(finished / "labels.csv")
    check_others("columns of labels.csv", LIST["labels.csv"], found)
    assert found == list(dict.fromkeys(LIST["renamed"].get(name, name) for name in LIST["labels.csv"]))


@pytest.mark.long
def test_columns_of_metrics(finished):
    check_others("columns of metrics.csv", LIST["metrics.csv"], columns(finished / "metrics.csv"))


@pytest.mark.long
def test_keys_of_the_summary(finished):
    check_others("keys of summary.json", LIST["summary.json"], json.loads((finished / "summary.json").read_text()))


@pytest.mark.long
def test_arrays_of_the_warmup_losses(finished):
    with np.load(finished / "warmup_losses.npz") as file:
        check_others("arrays of warmup_losses.npz", LIST["warmup_losses.npz"], sorted(file.files))


@pytest.mark.long
def test_what_evaluation_leaves(finished):
    assert main(["mode=evaluate", f"run={finished}", f"output={finished.parent}/evaluation"]) == 0
    folder = finished.parent / "evaluation"
    check_others("files of mode=evaluate", LIST["evaluation"], sorted(path.name for path in folder.iterdir()))
    numbers = json.loads((folder / "evaluation.json").read_text())
    check_others("keys of evaluation.json", LIST["evaluation.json"], list(numbers))


def test_columns_of_predictions():
    check_others("columns of mode=predict", LIST["predictions.csv"], predictions_columns(5))


def test_settings_of_modes():
    check_others("modes", list(LIST["modes"]), list(MODE_SETTINGS))
    for mode, names in MODE_SETTINGS.items():
        check_others(f"settings of mode={mode}", LIST["modes"][mode], names)


# Python ---------------------------------------------------------------------------------------------------------------


def defined(name):
    """Whether the source defines `name`: a module, something in it, or a member of a class."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath("src", *parts[:length])
        source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if source.is_file():
            return holds(ast.parse(source.read_text()).body, parts[length:])
    return False


def holds(body, names):
    """Whether statements define the first name, and that one the next."""
    if not names:
        return True
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) and statement.name == names[0]:
            return holds(statement.body, names[1:])
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == names[0] for target in targets):
            return len(names) == 1
    return False


def test_python_names():
    """What people import, implement or name in a `_target_`: not all that has no underscore."""
    names = {*LIST["python"], *LIST["renamed"].values(), *named_in_conf()}
    check_others("Python names", LIST["python"], sorted(filter(defined, names)))


def named_in_conf():
    """Our own parts that conf/ names."""
    lines = [line.split() for path in CONF.rglob("*.yaml") for line in path.read_text().splitlines()]
    return {words[1] for words in lines if words[:1] == ["_target_:"] and words[1].startswith("cpc_lightning.")}


def test_the_reader_of_source_knows_what_is_not_there():
    assert defined("cpc_lightning.cleaning.evidence.Cleaner.history_length")
    assert not defined("cpc_lightning.cleaning.evidence.Cleaner.history")
    assert not defined("cpc_lightning.cleaning.evidence.Cleanser")
    assert not defined("cpc_lightning.cleanings")


# Renames --------------------------------------------------------------------------------------------------------------


def test_what_is_gone_must_be_written_down():
    check("columns", ["a", "b"], ["b", "a"], {}, "TABLE")
    check("columns", ["a", "b", "c"], ["c", "b"], {"a": "c"}, "TABLE")
    for listed, present, renamed, says in (
        (["a", "b"], ["b"], {}, '^columns: a gone.*"a": "NEW NAME" in TABLE.*CHANGELOG'),
        (["a", "b"], ["b"], {"a": "c"}, "renamed to what is not there: a -> c"),
        (["a", "c"], ["a", "c"], {"a": "c"}, "both renamed and still there: a"),
        (["a"], ["a", "b"], {}, "new names.*public_names.json: b"),
    ):
        with pytest.raises(AssertionError, match=says):
            check("columns", listed, present, renamed, "TABLE")


def test_a_rename_is_in_the_changelog():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    for old, new in {**RENAMED, **LIST["renamed"]}.items():
        assert [line for line in lines if f"`{old}`" in line and f"`{new}`" in line], (
            f"CHANGELOG.md needs a line that says that `{old}` is now called `{new}`"
        )
