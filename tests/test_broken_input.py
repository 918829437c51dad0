"""Whatever is wrong with a command line or a file: code 2, one line, and nothing left behind.

Settings are found by walking what conf/ composes, so that a new one is tried without being listed here.
"""

import contextlib
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

from cpc_lightning import command_line
from cpc_lightning.command_line import main
from cpc_lightning.overrides import CONFIG_MODULE, config_groups

# Choices that only other machines have, or that would fetch something.
ELSEWHERE = {"trainer": ("gpu", "ddp"), "dataset": ("clothing1m", "webvision")}
BASE = ["noise=symmetric", "callbacks=none"]


def test_what_the_others_break_is_accepted_unbroken(tmp_path):
    with pytest.raises(AssertionError, match="accepted"):
        fails(BASE, tmp_path)


def fails(arguments, folder):
    """Run the command line in the empty `folder`; assert that it is refused, in one line and without a trace."""
    out, err = io.StringIO(), io.StringIO()
    accepted = []
    start, command_line.start = command_line.start, lambda *_: accepted.append(True) or {}
    before, here = tree(folder), os.getcwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([*arguments, *([] if given_folder(arguments) else ["hydra.run.dir=run"])])
            except SystemExit as exit:
                code = exit.code
    finally:
        os.chdir(here)
        command_line.start = start
    said = f"{arguments}: {err.getvalue()}"
    assert not accepted, f"accepted: {arguments}"
    assert code == 2, said
    assert err.getvalue().startswith("error: "), said
    assert err.getvalue().count("\n") == 1, said
    assert err.getvalue().rstrip("\n").isprintable(), said
    assert out.getvalue() == "", said
    assert tree(folder) == before, said


def given_folder(arguments):
    return any("hydra.run.dir=" in argument for argument in arguments)


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


def walk():
    """(overrides that bring the setting, its name, its value) of every setting of every choice of every group."""
    found = {}
    for group, choices in config_groups().items():
        for choice in choices:
            if (
                "/" in group
                or group in ("experiment", "hparams_search", "logger", "callbacks")
                or choice in ELSEWHERE.get(group, ())
            ):
                continue
            bring = [f"{group}={choice}"]
            for name, value in leaves(composed(*[o for o in bring if o not in BASE])):
                found.setdefault(name, (bring, name, value))
    return list(found.values())


# What looks wrong by the default's kind, and is not.
FINE = {
    "semisup.lambda_u": ("2.5",), "views.size": ("[1, 2]",), "trainer.devices": ("'3'", "-1", "[1, 2]"),
    "optimizer.schedule.milestones": ("[null]", "-1"), "optimizer.network.momentum": ("-1",),
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


SETTINGS = walk()


def with_group(choice):
    """`BASE` with a choice in place of its own."""
    return [*[own for own in BASE if own.split("=")[0] != choice.split("=")[0]], choice]


@st.composite
def broken_settings(draw):
    bring, name, value = draw(st.sampled_from(SETTINGS))
    return [*with_group(bring[0]), f"{name}={draw(st.sampled_from(wrong_values(name, value)))}"]


names = st.sampled_from([name for _, name, _ in SETTINGS if "." in name])
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
    st.sampled_from(["~seed", "~training", "~training.epochs", "~cleaner", "~noise", "training=null", "training=5",
                     "noise=null", "cleaner=null", "seed=${seed}", "seed=${noise_seed}", "run_dir=elsewhere",
                     "+training.colour=red", "hydra.run.dir=", "hydra.run.dir=[1]", "cleaner._target_=os",
                     "trainer.accelerator=tpu", "trainer.precision=7", "resume=nowhere", "resume=[1]", "resume=''",
                     "resume=/dev/null", "resume=/", "resume=1"]),
)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(broken_settings())
def test_a_setting_of_a_wrong_kind_or_out_of_range(arguments):
    with tempfile.TemporaryDirectory() as folder:
        fails(arguments, folder)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
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


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
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
        fails(["noise=file", f"noise.path={path}", "callbacks=none"], folder)


IDX = {
    "train-images-idx3-ubyte": (3, 8, 8), "train-labels-idx1-ubyte": (3,),
    "t10k-images-idx3-ubyte": (2, 8, 8), "t10k-labels-idx1-ubyte": (2,),
}  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
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
        fails(["dataset=fashion_mnist", f"dataset.root={folder}", "callbacks=none"], folder)
