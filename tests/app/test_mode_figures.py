"""mode=figures: what it writes, what it refuses, and what a run keeps for it."""

import csv
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from tests.conftest import SMALL

from cpc_lightning.analysis.metrics import ks_deviating_share
from cpc_lightning.app.command_line import main
from cpc_lightning.app.modes import items
from cpc_lightning.report.warmup_losses import read_warmup_losses

RUNS = {"cpc": ["cleaner=cpc_awr", "cleaner.steps=20"], "gmm": ["cleaner=gmm_awr"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with two runs: "cpc" and "gmm"."""
    root = tmp_path_factory.mktemp("figures")
    for name, own in RUNS.items():
        assert main([*SMALL, *own, f"hydra.run.dir={root / name}"]) == 0
    return root


@pytest.fixture
def root(finished, tmp_path, monkeypatch):
    """A copy of it, to write into; it is the present folder."""
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "root"))
    return tmp_path / "root"


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# What a run keeps -----------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_the_losses_that_a_run_keeps_give_the_shares_that_it_logged(finished, name):
    by_network, epoch = read_warmup_losses(finished / name / "warmup_losses.npz")
    assert epoch == 1
    first = rows_of(finished / name)[0]
    for number, seen in enumerate(by_network, start=1):
        assert len(seen.losses) == 1438
        right = seen.noisy_labels == seen.true_labels
        assert 1 - right.mean() == pytest.approx(float(first["noise/rate_actual"]))
        for kind, kept in (("clean", right), ("noisy", ~right)):
            labels = torch.from_numpy(seen.noisy_labels[kept].astype(np.int64))
            share = ks_deviating_share(torch.from_numpy(seen.losses[kept]), labels)
            assert share == float(first[f"losses/ks_deviating_{kind}_{number}"])


@pytest.mark.long
def test_they_are_compact(finished):
    assert (finished / "cpc" / "warmup_losses.npz").stat().st_size < 1438 * 2 * 8  # bytes of a sample and network


@pytest.mark.long
def test_without_a_cleaner_there_are_none(command, tmp_path):
    assert command(*SMALL, "cleaner=none", "training.epochs=1", f"hydra.run.dir={tmp_path / 'run'}")[0] == 0
    assert not (tmp_path / "run" / "warmup_losses.npz").exists()
    code, out, err = command("mode=figures", f"run={tmp_path / 'run'}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has nothing to draw: losses: " in err


@pytest.mark.long
def test_settings_of_modes_are_no_part_of_a_record(finished):
    recorded = yaml.safe_load((finished / "cpc" / "config.yaml").read_text())
    assert not {"run", "output", "format", "overwrite"} & {*recorded}


# What it draws --------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_one_run_into_its_own_folder(command, root):
    code, out, err = command("mode=figures", "run=cpc")
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"cpc/figures/{name}.svg" for name in ("losses", "auc", "agreement")]
    assert files(root / "cpc" / "figures") == ["agreement.svg", "auc.svg", "losses.svg"]
    agreement, auc, losses = (path.read_text() for path in sorted((root / "cpc" / "figures").iterdir()))
    for text in (
        "mean of the classes",
        "95 % confidence interval of the mean",
        "all classes together",
        "farthest from",
    ):
        assert text in losses
    share = float(rows_of(root / "cpc")[0]["losses/ks_deviating_noisy_2"])
    assert f"{100 * share:.0f} % of 10 classes deviate" in losses
    assert "root/cpc: prototypes (CPC)" in auc
    assert "root/cpc: loss mixture (GMM)" in auc
    assert "n = 1,438 training labels" in auc
    assert "root/cpc: network 2" in agreement
    assert "nats" in agreement


@pytest.mark.long
@pytest.mark.parametrize("runs", ["cpc,gmm", "[cpc,gmm]", "['cpc', gmm]", "cpc/checkpoints/last.ckpt,gmm"])
def test_several_runs_into_the_folder_of_the_first(command, root, runs):
    code, out, err = command("mode=figures", f"run={runs}", "format=png")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 4
    assert files(root / "cpc" / "figures") == ["agreement.png", "auc.png", "losses_1.png", "losses_2.png"]
    assert not (root / "gmm" / "figures").exists()
    for path in (root / "cpc" / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.long
def test_runs_are_named_by_what_tells_them_apart(command, root):
    assert command("mode=figures", "run=cpc,gmm", "output=there/it is")[0] == 0
    text = (root / "there/it is/auc.svg").read_text()
    assert "cleaner=cpc_awr cleaner.steps=20: prototypes (CPC)" in text
    assert "cleaner=gmm_awr: loss mixture (GMM)" in text
    assert "noise.rate" not in text


@pytest.mark.long
def test_only_a_run_without_prototypes(command, root):
    code, out, _ = command("mode=figures", "run=gmm")
    assert code == 0
    assert out.splitlines()[-1].startswith("agreement: metrics.csv holds no gmm_cpc/kl_divergence_1 or ")
    assert files(root / "gmm" / "figures") == ["auc.svg", "losses.svg"]


@pytest.mark.long
def test_an_older_run_has_the_other_figures(command, root):
    (root / "cpc" / "warmup_losses.npz").unlink()
    code, out, _ = command("mode=figures", "run=cpc,gmm")
    assert code == 0
    assert out.splitlines()[-1] == "losses: cpc has no warmup_losses.npz (of an older version, or without a cleaner)"
    assert files(root / "cpc" / "figures") == ["agreement.svg", "auc.svg", "losses_2.svg"]


@pytest.mark.long
def test_nothing_is_overwritten_unless_asked_and_the_same_run_gives_the_same_bytes(command, root):
    assert command("mode=figures", "run=cpc")[0] == 0
    folder = root / "cpc" / "figures"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "auc.svg").write_text("mine")
    code, out, err = command("mode=figures", "run=cpc")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: output=cpc/figures/losses.svg: is there already; overwrite=true")
    assert (folder / "auc.svg").read_text() == "mine"
    assert command("mode=figures", "run=cpc", "overwrite=true")[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# What it refuses ------------------------------------------------------------------------------------------------------

REFUSED = [
    (["mode=figures"], "run=(not set): must name the folder of a run"),
    (["mode=figures", "run="], "run=: must name the folder of a run"),
    (["mode=figures", "run=nowhere"], "run=nowhere: is no folder of a run"),
    (["mode=figures", "run=cpc,nowhere"], "run=nowhere: is no folder of a run"),
    (["mode=figures", "run=cpc/checkpoints"], "run=cpc/checkpoints: is not the folder of a run"),
    (["mode=figures", "run=cpc", "format=pdf"], "format=pdf: must be one of svg, png"),
    (["mode=figures", "run=cpc", "overwrite=maybe"], "overwrite=maybe: must be true or false"),
    (["mode=figures", "run=cpc", "output=a,b"], "output=a,b: must name one file or folder"),
    (["mode=figures", "run=cpc", "output=cpc/metrics.csv"], "output=cpc/metrics.csv: cannot be written"),
    (["mode=figures", "run=cpc", "seed=3"], "seed=3: is no setting of mode=figures, which has run, output, "),
    (["mode=figures", "run=cpc", "hydra.run.dir=x"], "hydra.run.dir=x: is no setting of mode=figures"),
    (["-m", "mode=figures", "run=cpc,gmm"], "-m=mode=figures: starts no sweep"),
    (["run=cpc"], "run=cpc: is a setting of mode=figures"),
    (["mode=check", "+output=x"], "output=x: is a setting of mode=figures"),
    (["mode=train", "overwrite=true"], "overwrite=true: is a setting of mode=figures"),
    (["mode=figurs"], "mode=figurs: must be train; other modes (check, figures"),
]


@pytest.mark.long
@pytest.mark.parametrize(("arguments", "line"), REFUSED, ids=lambda value: str(value)[:50])
def test_a_mistake_gives_one_line_and_writes_nothing(command, root, arguments, line):
    before = files(root)
    code, out, err = command(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"error: {line}"), err
    assert files(root) == before


@pytest.mark.long
@pytest.mark.parametrize("name", ["metrics.csv", "warmup_losses.npz", "overrides.json", "classes.json"])
@pytest.mark.parametrize("content", [b"", b"garbage\n\xff\x00", b"PK\x03\x04", b'{"a": 1}'])
def test_a_garbled_file_is_named(command, root, name, content):
    (root / "cpc" / name).write_bytes(content)
    code, out, err = command("mode=figures", "run=cpc")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"error: run=cpc/{name}: "), err


@pytest.mark.long
def test_losses_of_a_class_without_a_name(command, root):
    (root / "cpc" / "classes.json").write_text('["a", "b"]')
    code, _, err = command("mode=figures", "run=cpc")
    assert code == 2
    assert err == "error: run=cpc/warmup_losses.npz: tells of a class 9, which classes.json does not have\n"


@pytest.mark.long
def test_a_mistake_is_told_without_torch_and_matplotlib(tmp_path):
    program = """
import sys
from cpc_lightning.app.command_line import main
assert main(["mode=figures", "run=nowhere"]) == 2
print(sorted({"torch", "matplotlib", "pytorch_lightning"} & {*sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.long
def test_nothing_of_matplotlib_is_shared(command, root):
    """No pyplot, which keeps every figure, and no setting that stays."""
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert command("mode=figures", "run=cpc")[0] == 0
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A", ["A"]), ("A,B", ["A", "B"]), ("[A, B]", ["A", "B"]), ("'a,b',c", ["a,b", "c"]), ("~/a (1)=x", ["~/a (1)=x"]),
     ("", []), ("'[x]'", ["[x]"]), ("it's", ["it's"])],
)  # fmt: skip
def test_items(text, expected):
    assert items(text) == expected
