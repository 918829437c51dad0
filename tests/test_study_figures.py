"""The figures of the study of cleaners: losses as rows, means over seeds, and those that are committed."""

from pathlib import Path

import numpy as np
import pytest

from cpc_lightning.report.warmup_losses import WarmupLosses, write_warmup_losses

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_losses_at_the_end_of_the_warm_up_as_rows(benchmarks, tmp_path):
    """Right labels of two classes with losses 0 and 1, wrong ones of class 0 alone at 2: scaled to 0, 1/2, 1."""
    figures = benchmarks("cleaners_figures")
    losses = np.repeat([0.0, 1.0, 2.0], 20).astype(np.float32)
    noisy, true = np.repeat([0, 1, 0], 20), np.repeat([0, 1, 1], 20)
    seen = WarmupLosses(losses, noisy, true)
    write_warmup_losses(tmp_path / "w.npz", (seen, WarmupLosses(losses[:1], noisy[:1], true[:1])), 8)
    rows = figures.warmup_rows(tmp_path / "w.npz", {"set": "digits", "noise": "asymmetric 40 %", "seed": "1"})
    of = {kind: [row for row in rows if row["kind"] == kind] for kind in ("clean", "noisy")}
    assert [len(of[kind]) for kind in of] == [50, 50]
    assert (of["clean"][0]["samples"], of["clean"][0]["classes"], of["clean"][0]["deviating"]) == ("40", "2", "1")
    assert (of["noisy"][0]["samples"], of["noisy"][0]["classes"]) == ("20", "1")
    for kind, centre in (("clean", 0.25), ("noisy", 1.0)):
        grid, whole = (np.array([float(row[name]) for row in of[kind]]) for name in ("grid", "whole"))
        assert whole.mean() == pytest.approx(1, abs=1e-3)
        assert (grid * whole).mean() == pytest.approx(centre, abs=0.04)
    figure = figures.losses_by_class(rows)
    assert [axis.get_title().split("\n")[0] for axis in figure.axes] == [
        "digits asymmetric 40 %: clean labels, n = 40", "digits asymmetric 40 %: noisy labels, n = 20",
    ]  # fmt: skip


def curve(choice, seed, cell=("digits", "symmetric 80 %"), **columns):
    names = [*columns]
    base = {"set": cell[0], "noise": cell[1], "choice": choice, "seed": str(seed)}
    empty = {"auc_gmm": "", "auc_cpc": "", "agreement_1": "", "kl_divergence_1": None}
    return [
        {**base, "epoch": str(epoch), **empty, **dict(zip(names, values, strict=True))}
        for epoch, values in enumerate(zip(*columns.values(), strict=True))
    ]


def test_figures_3_and_4_draw_means_over_seeds(benchmarks):
    figures = benchmarks("cleaners_figures")
    rows = [
        *curve("cpc_awr", 1, auc_gmm=("", "0.1"), auc_cpc=("", "0.6"), agreement_1=("", "0.5"),
               kl_divergence_1=("", "2")),
        *curve("cpc_awr", 2, auc_gmm=("", "0.1"), auc_cpc=("", "0.8"), agreement_1=("", "0.7"),
               kl_divergence_1=("", "1")),
        *curve("gmm_agn", 1, auc_gmm=("", "0.9")),
        *curve("cpc_awr", 1, ("letters", "symmetric 90 %"), auc_cpc=("0.5",), agreement_1=("0.5",)),
    ]  # fmt: skip
    (axis,) = figures.auc_over_epochs(rows).axes  # letters have one cleaner only; one seed has both
    assert axis.get_title() == "digits symmetric 80 %, n = 1"
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert drawn == {"gmm_agn": [[2, 0.9]], "cpc_awr": [[2, 0.6]]}
    left, right = figures.agreement_over_epochs(rows).axes
    assert [line.get_label() for line in left.lines] == ["digits symmetric 80 %, cpc_awr, n = 2"]
    assert left.lines[0].get_xydata().tolist() == [[2, 1.5]]
    assert right.lines[0].get_xydata().tolist() == [[2, pytest.approx(0.6)]]


def test_the_committed_figures_are_those_of_the_committed_rows(benchmarks, tmp_path):
    study, results = benchmarks("cleaners"), BENCHMARKS / "results"
    curves, losses = (study.read_rows(results / f"cleaners_{name}.csv") for name in ("curves", "losses"))
    study.draw(curves, losses, tmp_path)
    made = {file.name for file in tmp_path.iterdir()}
    assert made == {file.name for file in results.glob("cleaners_*.svg")}
    for name in made:  # the same words: numbers of seeds and samples, and shares of classes; letters lie as fonts do

        def words(file):
            return sorted(line.split(">")[1].split("<")[0] for line in file.read_text().split("\n") if "<text" in line)

        assert words(tmp_path / name) == words(results / name)
