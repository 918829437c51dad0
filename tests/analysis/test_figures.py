"""Figures hold what they are given: curves, numbers in titles, legends."""

import io

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cpc_lightning.analysis.figures import RunCurves, agreement_over_epochs, auc_over_epochs, loss_densities
from cpc_lightning.cleaning.evidence import Draw, Evidence
from cpc_lightning.training.measures import measure_losses

NAN = float("nan")


def curves(name, **columns):
    named = {key.replace("__", "/"): np.array(values, dtype=float) for key, values in columns.items()}
    return RunCurves(name, {"epoch": np.arange(4.0), **named})


CPC = curves(
    "cleaner=cpc_awr", gmm__auc=[NAN, 0.6, 0.7, 0.8], cpc__auc=[NAN, 0.65, NAN, 0.9],
    partition__labeled_1=[NAN, 3, 4, 5], partition__unlabeled_1=[NAN, 1997, 1996, 1995],
    gmm_cpc__kl_divergence_1=[NAN, 3, 2, 1], gmm_cpc__kl_divergence_2=[NAN, 6, 5, 4],
    gmm_cpc__agreement_1=[NAN, 0.5, 0.75, 1], gmm_cpc__agreement_2=[NAN, 0.25, 0.5, 0.625],
)  # fmt: skip
GMM = curves("cost $5 & $6", gmm__auc=[NAN, NAN, 0.5, 0.55])
NONE = curves("nothing")


def lines(axis):
    return {line.get_label(): [line.get_xdata().tolist(), line.get_ydata().tolist()] for line in axis.lines}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_auc_by_run_and_source():
    figure = auc_over_epochs([CPC, NONE, GMM])
    (axis,) = figure.axes
    assert lines(axis) == {  # the epoch 0 is over when one epoch is trained
        "cleaner=cpc_awr: prototypes (CPC)": [[2, 4], [0.65, 0.9]],
        "cleaner=cpc_awr: loss mixture (GMM)": [[2, 3, 4], [0.6, 0.7, 0.8]],
        r"cost \$5 & \$6: loss mixture (GMM)": [[3, 4], [0.5, 0.55]],
    }
    assert legend(figure) == list(lines(axis))
    first, second, third = axis.lines
    assert first.get_color() == second.get_color() != third.get_color()
    assert (first.get_linestyle(), second.get_linestyle()) == ("-", "--")
    assert (first.get_marker() == second.get_marker(), first.get_marker() == third.get_marker()) == (True, False)
    assert "n = 2,000 " in figure.get_suptitle()
    assert "epochs trained" in axis.get_xlabel()


def test_agreement_by_run_and_network():
    figure = agreement_over_epochs([GMM, CPC])
    left, right = figure.axes
    assert lines(left) == {
        "cleaner=cpc_awr: network 1": [[2, 3, 4], [3, 2, 1]],
        "cleaner=cpc_awr: network 2": [[2, 3, 4], [6, 5, 4]],
    }
    assert [line.get_ydata().tolist() for line in right.lines] == [[0.5, 0.75, 1], [0.25, 0.5, 0.625]]
    assert [line.get_color() for line in right.lines] == [line.get_color() for line in left.lines]
    assert legend(figure) == list(lines(left))
    assert ("nats" in left.get_ylabel(), "share of samples" in right.get_ylabel()) == (True, True)


@pytest.mark.long
def test_fifty_runs_differ_in_colour_or_marker():
    figure = auc_over_epochs([curves(f"run {i}", cpc__auc=[1, 1, 1, 1]) for i in range(50)])
    assert len({(line.get_color(), line.get_marker()) for line in figure.axes[0].lines}) == 50


@pytest.fixture(scope="module")
def warm():
    """Losses of two networks on 600 samples of 3 classes; class 2 has larger losses by network 1."""
    random = np.random.default_rng(3)
    true = np.tile([0, 1, 2], 200)
    noisy = np.where(random.random(600) < 0.4, random.integers(0, 3, 600), true)
    losses = [random.gamma(2, 1, 600).astype(np.float32) for _ in range(2)]
    losses[0][noisy == 2] += 2
    true = np.where(np.arange(600) % 50 == 7, -1, true)
    return losses, [noisy] * 2, [true] * 2


def test_titles_hold_the_shares_that_the_run_logged(warm):
    losses, noisy, true = warm
    draw = Draw(torch.arange(600), torch.from_numpy(noisy[0]), torch.from_numpy(true[0]))
    none = torch.empty(0)
    judging = tuple(Evidence(torch.from_numpy(one), none, none, none, none, none) for one in losses)
    logged = measure_losses(judging, (draw, draw))
    assert len({*logged.values()}) > 1
    figure = loss_densities(losses, noisy, true, ["a", "b", "c"], epoch=8, name="the run")
    titles = [axis.get_title() for axis in figure.axes]
    right, known = noisy[0] == true[0], true[0] != -1
    counts = {"clean": int(right.sum()), "noisy": int((known & ~right).sum())}
    assert sum(counts.values()) == 588
    for title, (number, kind) in zip(titles, [(1, "clean"), (1, "noisy"), (2, "clean"), (2, "noisy")], strict=True):
        share = logged[f"losses/ks_deviating_{kind}_{number}"]
        assert title.split("\n")[:2] == [
            f"network {number}: {kind} labels, n = {counts[kind]}",
            f"{100 * share:.0f} % of 3 classes deviate (KS, p < 0.05)",
        ]
    assert figure.get_suptitle() == "Losses by class at the end of the warm-up (epoch 8)\nthe run"


@pytest.mark.long
def test_every_panel_holds_classes_mean_band_and_whole(warm):
    figure = loss_densities(*warm, ["a", "b", "$c_"], epoch=8)
    for axis in figure.axes:
        drawn = lines(axis)
        assert len(axis.lines) == 3 + 3  # each class; mean, farthest, all
        for _, values in drawn.values():
            assert np.mean(values) == pytest.approx(1)
        mean, whole = drawn["mean of the classes"][1], drawn["all classes together"][1]
        assert mean != whole
    expected = ["each class", "95 % confidence interval of the mean", "mean of the classes", "class farthest from all"]
    assert legend(figure) == [*expected, "all classes together"]
    clean = (warm[1][0] == 2) & (warm[2][0] == 2)
    assert figure.axes[0].get_title().split("\n")[2] == rf"farthest from all: \$c_ (n = {clean.sum()})"
    figure.savefig(io.BytesIO(), format="svg")  # no text is taken for mathematics


def test_without_true_labels_there_is_one_column(warm):
    losses, noisy, _ = warm
    figure = loss_densities(losses, noisy, [np.full(600, -1)] * 2, ["a", "b", "c"], epoch=1)
    assert [axis.get_title().split("\n")[0] for axis in figure.axes] == [
        "network 1: all labels (truth unknown), n = 600",
        "network 2: all labels (truth unknown), n = 600",
    ]


def test_losses_that_are_all_the_same_are_drawn():
    same = [np.ones(4, np.float32)] * 2
    figure = loss_densities(same, [np.array([0, 0, 1, 1])] * 2, [np.array([0, 0, 1, 1])] * 2, ["a", "b"], epoch=1)
    assert len(figure.axes) == 2


def test_a_kind_with_samples_of_one_class_is_compared_with_nothing():
    """As where one class alone is taken for another: its wrong labels are all there are."""
    noisy, true = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 0, 0])
    losses = [np.array([0.1, 0.2, 0.3, 0.9, 2.0, 3.0], np.float32)] * 2
    figure = loss_densities(losses, [noisy] * 2, [true] * 2, ["cat", "dog"], epoch=1)
    assert [axis.get_title().split("\n") for axis in figure.axes[1::2]] == [
        [f"network {number}: noisy labels, n = 2", "of one class alone:", "dog (n = 2)"] for number in (1, 2)
    ]
    assert [len(axis.lines) for axis in figure.axes] == [2 + 3, 2] * 2  # each class; mean, farthest, all


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a" * 30, "a" * 30), ("long_name_without_any_space_in_it", "long_name_without_any_space_i…")],
)
def test_a_long_name_is_cut_not_dropped(name, shown):
    figure = loss_densities([np.arange(4.0)] * 2, [np.array([0, 0, 1, 1])] * 2, [np.full(4, -1)] * 2, [name] * 2, 1)
    assert figure.axes[0].get_title().split("\n")[2] == f"farthest from all: {shown} (n = 2)"


@pytest.mark.parametrize(("draw", "length", "columns"), [
    (auc_over_epochs, 4, 2), (auc_over_epochs, 20, 1), (auc_over_epochs, 90, 1), (agreement_over_epochs, 20, 2),
])  # fmt: skip
def test_the_legend_lies_within_the_figure(draw, length, columns):
    """As Agg draws it; no letter is wider than an m."""
    figure = draw([RunCurves("m" * length, CPC.metrics)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.legends[0].get_window_extent(canvas.get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert figure.legends[0]._ncols == columns
