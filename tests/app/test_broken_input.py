"""Whatever is wrong with a command line or a file: code 2, one line, and nothing left behind.

Settings are found by walking what conf/ composes, so that a new one is tried without being listed here.
"""

import contextlib
import copy
import functools
import gzip
import io
import os
import tempfile
from pathlib import Path

import hydra
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from cpc_lightning.app import command_line
from cpc_lightning.app.command_line import main
from cpc_lightning.app.compose import CONFIG_MODULE, config_groups

# Choices that only other machines have, or that would fetch something.
ELSEWHERE = {"trainer": ("gpu",), "dataset": ("animal10n", "clothing1m", "food101n", "mini_imagenet_red", "webvision")}
BASE = ["noise=symmetric", "callbacks=none"]
DRAWN = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(autouse=True, scope="module")
def composed_once():
    """What Hydra composes for the same overrides is the same: most of the time would go into it."""
    compose, known = hydra.compose, {}

    def compose_once(name, overrides, **more):
        key = (tuple(overrides), *more.items())
        if key not in known:
            known[key] = compose(name, list(overrides), **more)
        return copy.deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hydra, "compose", compose_once)
        yield


def test_what_the_others_break_is_accepted_unbroken(tmp_path):
    with pytest.raises(AssertionError, match="accepted"):
        fails(BASE, tmp_path)


def fails(arguments, parent):
    """Run the command line in `parent`/inside; assert that it is refused, in one line or a table, without a trace.

    Paths among the arguments are best relative: what is composed for them is composed once.
    """
    folder = Path(parent, "inside")
    folder.mkdir(exist_ok=True)
    out, err = io.StringIO(), io.StringIO()
    accepted = []
    before, here = tree(parent), os.getcwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
            patch.setattr(command_line, "call_hydra", lambda *_: accepted.append(True))
            try:
                code = main([*arguments, *([] if given_folder(arguments) else ["hydra.run.dir=run"])])
            except SystemExit as exit:
                code = exit.code
    finally:
        os.chdir(here)
    said = f"{arguments}: {err.getvalue()}"
    assert not accepted, f"accepted: {arguments}"
    assert (code, tree(parent)) == (2, before), said
    if "mode=check" in arguments and "this run would fail" in out.getvalue():
        return
    assert err.getvalue().startswith("error: "), said
    assert err.getvalue().count("\n") == 1, said
    assert err.getvalue().rstrip("\n").isprintable(), said
    assert out.getvalue() == "", said


def given_folder(arguments):
    return any("hydra.run.dir=" in argument or argument == "-m" for argument in arguments)


def tree(folder):
    return sorted(str(path) for path in Path(folder).rglob("*"))


def composed(*overrides):
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return hydra.compose("config", [*BASE, *overrides])


def leaves(config, prefix=""):
    """Full name and value of every setting; a list is one."""
    for name in config:
        node = None if OmegaConf.is_missing(config, name) else config._get_node(name)
        if isinstance(node, DictConfig):
            yield from leaves(node, f"{prefix}{name}.")
        elif OmegaConf.is_missing(config, name) or OmegaConf.is_interpolation(config, name):
            yield f"{prefix}{name}", None
        else:
            yield f"{prefix}{name}", config[name]


@functools.cache
def walk():
    """(overrides that bring the setting, its name, its value) of every setting of every choice of every group."""
    found = {}
    for group, choices in config_groups().items():
        for choice in choices:
            if (
                "/" in group
                or group in ("experiment", "hparams_search", "logger")
                or choice in ELSEWHERE.get(group, ())
            ):
                continue
            bring = [f"{group}={choice}"]
            for name, value in leaves(composed(*[o for o in bring if o not in BASE])):
                found.setdefault(name, (bring, name, value))
    return list(found.values())


# What looks wrong by the default's kind, and is not.
FINE = {
    "semisup.lambda_u": ("2.5",), "views.size": ("[1, 2]",), "trainer.strategy.timeout.minutes": ("2.5",),
    "trainer.devices": ("'3'", "-1", "[1, 2]"), "optimizer.schedule.milestones": ("[null]", "-1"),
    "optimizer.network.momentum": ("-1",),
}  # fmt: skip


def wrong_values(name, value):
    """Values that this setting cannot take, as they are typed."""
    values = ["nan", "inf", "-inf", "{a: 1}", "[[]]", "${nowhere}", "1e999"]
    if isinstance(value, bool):
        values += ["maybe", "3", "0.5", "[true]", "''"]
    elif isinstance(value, int):
        values += ["word", "true", "'3'", "[1, 2]", "2.5", "-1", "''"]
    elif isinstance(value, float):
        values += ["word", "true", "'0.5'", "[0.5]", "''", "-1"]
    elif isinstance(value, str):
        values = ["{a: 1}", "[1]", "${nowhere}", "no/such\\tthing", "''"]
    elif value is None:
        values = ["{a: 1}", "[[1]]", "${nowhere}", "nan", "no-such-thing", "-7"]
    else:
        values += ["word", "[word]", "[nan]"]
    return [value for value in values if value not in FINE.get(name, ())]


def with_group(choice):
    """`BASE` with a choice in place of its own."""
    own = [own for own in BASE if own.split("=")[0] != choice.split("=")[0]]
    return [*own, choice, *(["trainer.accelerator=cpu"] if choice == "trainer=ddp" else [])]


@st.composite
def broken_settings(draw):
    bring, name, value = draw(st.sampled_from(walk()))
    return [*with_group(bring[0]), f"{name}={draw(st.sampled_from(wrong_values(name, value)))}"]


names = st.deferred(lambda: st.sampled_from([name for _, name, _ in walk() if "." in name]))
# Letters, and what means something to Hydra, to a shell or to a terminal.
words = st.text(
    st.sampled_from("abcxyz019._-+~=@:/\\,{}[]()$'\"*?#% \t\n\x00\x1b\u202e\u00e9"), min_size=1, max_size=12
)
broken_syntax = st.one_of(
    words.filter(lambda word: "=" not in word and not word.startswith(("-", "~"))),
    words.map(lambda word: f"zz{word}=1"),
    words.map(lambda word: f"+zz{word}=1"),
    names.map(lambda name: f"{name}x=1"),
    names.map(lambda name: f"~{name}x"),
    names.map(lambda name: f"{name}=[1"),
    names.map(lambda name: f"{name}='"),
    st.tuples(st.sampled_from(["dataset", "noise", "cleaner", "backbone", "trainer", "logger"]), words).map(
        lambda pair: f"{pair[0]}=zz{pair[1]}"
    ),
    st.sampled_from(["cleaner", "noise", "semisup", "views", "dataset", "backbone", "trainer"]).map(
        lambda group: f"{group}._target_=builtins.dict"
    ),
)

EACH = [
    "~seed", "~training", "~training.epochs", "~cleaner", "~noise", "training=null", "training=5", "noise=null",
    "cleaner=null", "optimizer=null", "logger=null", "callbacks=null", "seed=${seed}", "seed=${noise_seed}",
    "run_dir=elsewhere", "+training.colour=red", "objective=-7", "objective=${nowhere}", "backbone.weights=${nowhere}",
    "hydra.run.dir=", "hydra.run.dir=[1]", "hydra.run.dir=${nowhere}", "cleaner._target_=os",
    "noise._target_=builtins.dict", "cleaner.class_aware=maybe", "optimizer.schedule.milestones=word",
    "trainer.accelerator=tpu", "trainer.precision=7", "resume=nowhere", "resume=[1]", "resume=''", "resume=/dev/null",
    "resume=/", "resume=1", "experiment=[nowhere]", "hparams_search=nowhere", "hparams_search=[optuna]",
    "logger=[csv,nowhere]", "logger=[[csv]]", "callbacks=nowhere", "+callbacks.mine=5",
    "+callbacks.mine={_target_: nowhere}", "+callbacks.mine={_target_: builtins.dict}", "+logger.mine=[1]",
    "+logger.mine={_target_: builtins.dict}", "=", "=1", "-x", "--", "--config-path=.",
]  # fmt: skip
TOGETHER = [
    ["experiment=digits_sym80", "training.epochs=0"], ["experiment=digits_sym80", "cleaner=nowhere"],
    ["logger=tensorboard", "logger.tensorboard.colour=red"], ["logger=wandb", "logger.wandb.offline=maybe"],
    ["logger=wandb", "callbacks.dashboard.every_n_epochs=0"], ["logger=wandb", "callbacks.dashboard.suspects=word"],
    ["callbacks=default", "callbacks.progress_bar.leave=3"], ["callbacks=default", "callbacks.progress_bar=null"],
    ["callbacks=default", "callbacks.progress_bar.leave=3", "mode=check"],
    ["trainer=ddp", "trainer.devices=word"], ["trainer=ddp", "trainer.strategy=null"],
    ["trainer=ddp", "trainer.strategy.find_unused_parameters=word"], ["trainer=ddp", "trainer.strategy.timeout=word"],
    ["-m", "hydra.sweep.dir="], ["-m", "hydra.sweep.subdir=one", "seed=1,2"], ["-m", "seed=1,-1"],
    ["-m", "hparams_search=optuna", "objective=luck"], ["-m", "hydra.sweep.subdir=${nowhere}"],
    ["hparams_search=optuna", "cleaner.threshold=word"], ["seed=1", "--help-me"],
]  # fmt: skip
CHECKED = [pytest.param([argument, "mode=check"], marks=pytest.mark.long) for argument in EACH]


@pytest.mark.parametrize("arguments", [*([argument] for argument in EACH), *TOGETHER, *CHECKED], ids=" ".join)
def test_each_of_these(arguments, tmp_path):
    groups = {argument.split("=")[0] for argument in arguments}
    fails([*[own for own in BASE if own.split("=")[0] not in groups], *arguments], tmp_path)


@pytest.mark.slow
def test_every_wrong_value_of_every_setting(tmp_path):
    for bring, name, value in walk():
        for wrong in wrong_values(name, value):
            fails([*with_group(bring[0]), f"{name}={wrong}"], tmp_path)


@pytest.mark.long
@settings(max_examples=45, **DRAWN)
@given(broken_settings())
def test_a_setting_of_a_wrong_kind_or_out_of_range(arguments):
    with tempfile.TemporaryDirectory() as folder:
        fails(arguments, folder)


@pytest.mark.long
@settings(max_examples=45, **DRAWN)
@given(broken_syntax)
def test_what_is_no_setting_at_all(argument):
    with tempfile.TemporaryDirectory() as folder:
        fails([*BASE, argument], folder)


# Broken files ---------------------------------------------------------------------------------------------------------


def damaged(draw, content):
    """The content of a file, cut, garbled, lengthened or gone."""
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    return draw(st.sampled_from([content[:place], b"", b"\x00" * len(content), content + b"\x00", content[::-1],
                                 gzip.compress(content)[:-5], draw(st.binary(max_size=40))]))  # fmt: skip


@pytest.mark.long
@settings(max_examples=40, **DRAWN)
@given(st.data())
def test_a_broken_file_of_labels(data):
    suffix = data.draw(st.sampled_from([".txt", ".json", ".csv", ".npy", ".exe", ""]))
    good = io.BytesIO()
    np.save(good, np.zeros(9, dtype=np.int64))
    contents = {".txt": b"1\n" * 9, ".json": b"[1, 2]", ".csv": b"index,noisy_label\n0,1\n", ".npy": good.getvalue()}
    content = damaged(data.draw, contents.get(suffix, b"1\n"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"labels{suffix}")
        data.draw(st.sampled_from([lambda: path.write_bytes(content), path.mkdir, lambda: None]))()
        fails(["noise=file", f"noise.path=../{path.name}", "callbacks=none"], folder)


IDX = {
    "train-images-idx3-ubyte": (3, 8, 8), "train-labels-idx1-ubyte": (3,),
    "t10k-images-idx3-ubyte": (2, 8, 8), "t10k-labels-idx1-ubyte": (2,),
}  # fmt: skip


@pytest.mark.long
@settings(max_examples=40, **DRAWN)
@given(st.data())
def test_a_broken_data_set(data):
    """Four idx files, one of them damaged, of other sizes than it should be, or with labels of no class."""
    broken = data.draw(st.sampled_from(list(IDX)))
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in IDX.items():
            shape = data.draw(st.sampled_from([(0, *shape[1:]), (7, *shape[1:])])) if name == broken else shape
            header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
            content = header + bytes([77 if name == broken else 1]) * int(np.prod(shape))
            if name == broken and data.draw(st.booleans()):
                content = damaged(data.draw, content)
            Path(folder, name).write_bytes(content)
        fails(["dataset=fashion_mnist", "dataset.root=..", "callbacks=none"], folder)


def picture():
    """A small PNG file's content."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "png")
    return file.getvalue()


FILES = [
    "backbone=small_resnet", "embedding_size=16", "views.size=8", "dataset.crop.resize=8", "training.num_workers=0",
    "callbacks=none",
]  # fmt: skip
TREE = [f"set/{label}/{number}.png" for label in ("ape", "bee") for number in range(4)]


def write_tree(folder):
    """Eight images of two classes; answers the table that lists them."""
    for name in TREE:
        Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        Path(folder, name).write_bytes(picture())
    rows = ["path,label", *(f"{name},{name.split('/')[1]}" for name in TREE)]
    return "\n".join(rows).encode()


@pytest.mark.long
@pytest.mark.parametrize("dataset", [["imagefolder", "dataset.root=../set"], ["table", "dataset.file=../set.csv"]])
def test_the_unbroken_tree_is_accepted(dataset, tmp_path):
    (tmp_path / "set.csv").write_bytes(write_tree(tmp_path))
    with pytest.raises(AssertionError, match="accepted"):
        fails([f"dataset={dataset[0]}", *dataset[1:], *FILES], tmp_path)


@pytest.mark.long
@settings(max_examples=40, **DRAWN)
@given(st.data())
def test_a_broken_folder_of_images(data):
    """One image that is none, or classes that are none."""
    with tempfile.TemporaryDirectory() as folder:
        write_tree(folder)
        broken = Path(folder, data.draw(st.sampled_from(TREE)))
        kind = data.draw(st.sampled_from(["content", "content", "alone", "nothing"]))
        if kind == "content":
            content = picture()
            cut = data.draw(st.integers(0, len(content) - 30))
            broken.write_bytes(data.draw(st.sampled_from([content[:cut], b"\0" * cut, content[::-1], b"GIF89a"])))
        else:
            for name in TREE:
                if kind == "nothing" or "bee" in name:
                    Path(folder, name).unlink()
        fails(["dataset=imagefolder", "dataset.root=../set", *FILES], folder)


@pytest.mark.long
@settings(max_examples=40, **DRAWN)
@given(st.data())
def test_a_broken_table(data):
    with tempfile.TemporaryDirectory() as folder:
        good = write_tree(folder)
        content = data.draw(st.sampled_from([
            b"", b"path,label\n", good.replace(b"label", b"lable", 1), good.replace(b"path", b"", 1),
            good + b"\nset/ape/9.png,ape", good + b"\n,ape", good + b"\nset/ape/0.png,bee", good + b"\n\x00,\xff",
            good.replace(b"bee\n", b"\n"), good[::-1], gzip.compress(good), data.draw(st.binary(max_size=40)),
            good.decode().encode("utf-16"),
        ]))  # fmt: skip
        Path(folder, "set.csv").write_bytes(content)
        fails(["dataset=table", "dataset.file=../set.csv", *FILES], folder)
