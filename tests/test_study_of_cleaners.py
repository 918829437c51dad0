"""The study of cleaners: its statistics by hand, its settings, and its tables, made anew from the committed rows."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cpc_lightning.datasets.fashion_mnist import DEBIAN_FOLDER, fashion_mnist

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def study(benchmarks):
    return benchmarks("cleaners")


@pytest.fixture(scope="module")
def made(benchmarks):
    return benchmarks("cleaners_tables")


def row(choice, seed, accuracy, **more):
    measures = {"cleaner_auc_gmm": "", "cleaner_auc_cpc": "", "cleaner_auc_verdict": "", "seconds": "10", "host": "h"}
    place = {"set": "digits", "noise": "symmetric 80 %", "choice": choice, "seed": str(seed), "commit": "c"}
    return {**place, "test_accuracy_last": str(accuracy), **measures, **more}


ROWS = [
    *(row("none", seed, accuracy) for seed, accuracy in ((1, 60), (2, 61), (3, 62))),
    *(row("cpc_awr", seed, accuracy, seconds="25") for seed, accuracy in ((3, 65), (1, 61), (2, 63))),
    row("oracle", 1, 99),
]


def test_differences_are_those_of_one_seed_and_the_interval_is_student_s(made):
    """Differences 1, 2, 3: mean 2, standard deviation 1; t(0.975, 2) = 4.302653, over the root of 3: 2.484138."""
    study = made.Study(ROWS)
    cell = ("digits", "symmetric 80 %")
    found = study.differences(cell, ("cpc_awr", made.ACCURACY), ("none", made.ACCURACY))
    assert sorted(found) == [1, 2, 3]
    assert made.interval(found) == (pytest.approx(-0.484138), pytest.approx(4.484138))
    assert made.verdict(found) == "within noise"
    assert made.verdict([2.0, 2.1, 2.2]) == "holds"  # 2.1 - 2.484138 * 0.1 > 0
    assert made.verdict([-2.0, -2.1, -2.2]) == "does not hold"
    assert made.verdict([5.0]) == "one seed"
    assert study.differences(cell, ("gmm_agn", made.ACCURACY), ("none", made.ACCURACY)) == []


def test_the_best_of_a_column_is_bold_and_is_not_the_oracle(made):
    assert [*made.accuracy_table(made.Study(ROWS))] == [
        "| cleaner | digits symmetric 80 % |", "| --- | --- |", "| n | 1 to 3 |", "| none | 61.00 ± 1.00 |",
        "| cpc_awr | **63.00 ± 2.00** |", "| oracle | 99.00 |",
    ]  # fmt: skip
    assert [*made.time_table(made.Study(ROWS))][2:] == ["| none | 1.00 |", "| cpc_awr | 2.50 |", "| oracle | 1.00 |"]


def test_a_curve_that_is_flat_at_its_end(made):
    """Five epochs of mean 12 after five of mean 7, and an epoch before them that does not count."""
    curves = [
        {"set": "digits", "noise": "symmetric 80 %", "choice": "none", "seed": "1", "epoch": str(epoch),
         "accuracy": str(accuracy)}
        for epoch, accuracy in enumerate([99, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
    ]  # fmt: skip
    assert [*made.flat_table(made.Study(ROWS), curves)][2:] == ["| none | +5.00 |", "| cpc_awr | - |", "| oracle | - |"]


def test_pictures_are_shrunk_to_the_mean_of_what_falls_together(study):
    image = np.array([[[0, 2, 10, 10], [4, 6, 10, 10], [1, 1, 0, 255], [1, 1, 255, 0]]], dtype=np.uint8)
    assert sys.modules["cleaners_data"].shrink(image, 2).tolist() == [[[3, 10], [1, 128]]]  # 127.5, to the even number


@pytest.mark.skipif(not Path(DEBIAN_FOLDER).is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_fashion_subset_is_of_these_images_and_labels(study):
    made, whole = sys.modules["cleaners_data"].fashion(), fashion_mnist()
    assert made["images"].shape == (6000, 14, 14)
    assert made["test_images"].shape == (2000, 14, 14)
    drawn = int(np.random.default_rng(0).permutation(60_000)[17])
    pixels = whole.train.images.fetch(torch.tensor([drawn]))[0, 0].double().numpy()
    assert made["images"][17, 3, 5] == np.rint(pixels[6:8, 10:12].mean())
    assert made["labels"][17] == whole.train.labels[drawn]


def test_the_settings_of_a_run(study):
    settings = study.Run("clipart", "symmetric 40 %", "none, equal time", 2, ("cleaner=none",), 3).settings()
    assert {"training.epochs=72", "optimizer.schedule.milestones=[48]", "cleaner=none", "seed=2"} < set(settings)
    assert "training.epochs=24" in study.Run("clipart", "symmetric 40 %", "none", 2, ()).settings()


def test_a_pretraining_is_done_once_for_a_set_and_a_seed_and_its_seconds_are_kept(study, tmp_path, monkeypatch):
    started = []

    def start(run, settings, data, home, folder):
        started.append((run.seed, [text for text in settings if "pretrain" in text]))
        Path(home, folder).mkdir()
        Path(home, folder, "backbone.pt").write_text("learnt")
        return SimpleNamespace(ru_utime=2.5, ru_stime=0.5)

    monkeypatch.setattr(study, "start", start)
    for noise, seed, home in (("symmetric 90 %", 1, "a"), ("symmetric 50 %", 1, "b"), ("symmetric 90 %", 2, "c")):
        (tmp_path / home).mkdir()
        run = study.Run("letters", noise, "knn, pretrained", seed, ("cleaner=knn",))
        settings, seconds = study.pretrained(run, tmp_path, str(tmp_path / home))
        file = Path(settings[0].removeprefix("backbone.weights="))
        assert (file.read_text(), seconds) == ("learnt", 3.0)
    assert started == [(seed, ["mode=pretrain", "pretraining.epochs=30"]) for seed in (1, 2)]
    assert study.pretrained(study.Run("letters", "symmetric 90 %", "knn", 1, ()), tmp_path, "d") == ([], 0.0)


def test_the_committed_tables_are_those_of_the_committed_rows(study, made):
    rows, curves = (
        study.read_rows(BENCHMARKS / "results" / name) for name in ("cleaners_runs.csv", "cleaners_curves.csv")
    )
    assert rows
    assert made.tables(rows, curves) == (BENCHMARKS / "results" / "cleaners_runs.md").read_text()
    ends = {tuple(row[name] for name in ("set", "noise", "choice", "seed")): row["accuracy"] for row in curves}
    for row in rows:  # the curve's last epoch is the accuracy that the table has
        end = ends[row["set"], row["noise"], row["choice"], row["seed"]]
        assert float(row["test_accuracy_last"]) == pytest.approx(float(end), abs=0.006)


def test_the_documentation_quotes_the_committed_rows_of_pretrained_networks(study, made):
    found = made.Study(study.read_rows(BENCHMARKS / "results" / "cleaners_runs.csv"))
    page = (BENCHMARKS.parent / "docs" / "cleaners.md").read_text()
    section = page.split("## A start from the images alone")[1].split("\n## ")[0]
    cells = {"53 letters, 90 %": ("letters", "symmetric 90 %"), "digits, 80 %": ("digits", "symmetric 80 %")}
    quoted = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith(("| 53", "| digits"))]
    assert quoted
    for name, cleaner, before, after, seconds in quoted:
        cell, cleaner = cells[name], cleaner.strip("`")
        values = {
            measure: [found.values(cell, choice, measure).get("1") for choice in (cleaner, f"{cleaner}, pretrained")]
            for measure in ("test_accuracy_last", "seconds")
        }
        shown = ["-" if value is None else f"{value:.2f}" for value in values["test_accuracy_last"]]
        assert [before, after] == shown
        assert seconds == ", ".join("-" if value is None else f"{value:.0f}" for value in values["seconds"])
    over_seeds = made.mean_and_deviation([*found.values(cells["53 letters, 90 %"], "knn, pretrained").values()])
    assert f"Over three seeds `knn` from a pretrained backbone ends at {over_seeds} there" in " ".join(section.split())


def test_the_readme_quotes_the_committed_rows(study, made):
    found = made.Study(study.read_rows(BENCHMARKS / "results" / "cleaners_runs.csv"))
    readme = (BENCHMARKS.parent / "README.md").read_text()
    assert "\n".join(["", *made.readme_table(found), ""]) in readme
    cells = [("digits", "symmetric 80 %"), ("digits", "asymmetric 40 %")]
    gains = [found.differences(cell, ("cpc_awr", made.ACCURACY), ("none", made.ACCURACY)) for cell in cells]
    (low, high), (least, most) = map(made.interval, gains)
    text = (
        f"{made.fmean(gains[0]):.0f} and {made.fmean(gains[1]):.0f} points above plain training (`cleaner=none`), with "
    )
    assert f"{text}95 % intervals of {low:.0f} to {high:.0f} and {least:.0f} to {most:.0f}" in " ".join(readme.split())
    paper = ("gmm_agn", "gmm_awr", "cpc_agn", "cpc_awr")
    mean = {cell: {c: made.fmean(found.values(cell, c).values()) for c in ("none", *paper)} for cell in cells}
    floors = [int(min(mean[cell][choice] for choice in paper) - mean[cell]["none"]) for cell in cells]
    page = " ".join((BENCHMARKS.parent / "docs" / "cleaners.md").read_text().split())
    assert (
        f"at least {floors[0]} points above plain training, and with 40 % asymmetric noise at least {floors[1]} points"
        in page
    )
    ends = [found.values(cells[1], choice).values() for choice in ("gmm_agn", "cpc_agn")]
    assert [sum(end < 90 for end in each) for each in ends] == [1, 1]  # "one run of three ends below 90 %"


def test_the_documentation_quotes_the_committed_rows(study, made):
    found = made.Study(study.read_rows(BENCHMARKS / "results" / "cleaners_runs.csv"))
    page = (BENCHMARKS.parent / "docs" / "cleaners.md").read_text()
    assert "\n".join(["", *made.own_table(found), ""]) in page
    cell = ("digits", "symmetric 80 %")
    seconds = found.values(cell, "none", "seconds")
    for name, source in (("probe", "verdict"), ("knn", "verdict"), ("gmm_agn", "gmm"), ("mixture_2d", "verdict"),
                         ("uniform", "verdict"), ("cpc_awr", "cpc"), ("wrong_events", "verdict")):  # fmt: skip
        accuracy = made.mean_and_deviation([*found.values(cell, name).values()])
        auc = made.mean_and_deviation([*found.values(cell, name, f"cleaner_auc_{source}").values()])
        times = [own / seconds[seed] for seed, own in found.values(cell, name, "seconds").items()]
        assert f"| `{name}` | {accuracy} | {auc} | {made.fmean(times):.2f} |" in page
