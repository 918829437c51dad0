"""Numbers that the documentation quotes are those of the committed measurements (whole tables: tests/test_docs.py)."""

import csv
import json
import re

import pytest
from tests.docs.blocks import ROOT

RESULTS = ROOT / "benchmarks/results"


def measured(name):
    """The rows of a result, each as its values by column."""
    result = json.loads((RESULTS / f"{name}.json").read_text())
    return [dict(zip(result["columns"], row, strict=True)) for row in result["rows"]]


def cells(page, header):
    """The cells of the table of a page of docs/ whose header begins so, row by row; of a file of results likewise."""
    lines = (ROOT / page).read_text().splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith(header))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_verdicts():
    """The better of regression and cleanlab, the probe, and their paired difference, of each set and kind of noise."""
    names = {"to the next class 40 %": "next class 40 %", "53 letters": "letters", "clothes": "fashion"}
    found = {}
    for data, noise, _, measure, regression, cleanlab, probe, difference, _ in cells(
        "benchmarks/results/verdicts.md", "| set | noise | n |"
    ):
        better = max(regression.split(" ")[0], cleanlab.split(" ")[0])  # all have three decimals
        found[data, noise, measure] = [better, probe.split(" ")[0], difference]
    rows = cells("docs/features.md", "| set | noise | AUC, better of the two |")
    assert len(rows) == 15
    for data, noise, *numbers in rows:
        of = names.get(data, data), names.get(noise, noise)
        assert numbers[0:3] == found[(*of, "auc")], of
        assert numbers[3:6] == found[(*of, "accuracy")], of


def test_what_the_last_step_of_the_probe_is_worth():
    with (RESULTS / "verdicts.csv").open(newline="") as file:
        runs = [*csv.DictReader(file)]
    off = [abs(float(run["estimated_rate"]) - float(run["true_rate"])) for run in runs if run["method"] == "probe"]
    page = " ".join((ROOT / "docs/features.md").read_text().split())
    mean, most = 100 * sum(off) / len(off), 100 * max(off)
    assert f"off by {mean:.1f} points in the mean of these {len(off)} runs, and by {most:.1f}" in page
    parts = {row[0]: row[2:] for row in cells("benchmarks/results/verdicts.md", "| method | n | auc |")}
    (auc, _, share), (auc_without, _, share_without) = parts["probe"], parts["factor_1"]
    shares = [f"{100 * float(value):.1f} %" for value in (share, share_without)]
    told = f"mean AUC {auc} with it, {auc_without} without; true classes found of {shares[0]} of the samples, and of"
    assert f"{told} {shares[1]}" in page


def test_threads_beside_other_work():
    """Ratios to the best setting; the worst one is the largest of a row."""
    by = {(row["workload"].split(" ")[0], row["setting"]): row for row in measured("threads")}
    settings = ("2 threads", "2 threads, passive", "2 threads, spin 1,000", "1 thread")
    rows = cells("docs/reliability.md", "| setting | PreAct ResNet-18, alone |")
    assert len(rows) == len(settings)
    for setting, row in zip(settings, rows, strict=True):
        expected = []
        for workload in ("PreAct", "small_resnet,"):
            best = min(other["busy / best alone"] for (name, _), other in by.items() if name == workload)
            mine = by[workload, setting]
            expected += [mine["alone / best alone"], mine["busy / best alone"] / best]
        assert row[1:] == [f"{ratio:.2f}" for ratio in [*expected, max(expected)]], setting


def test_stage_1_at_the_size_of_webvision():
    columns = ("one mixture", "class mixtures", "prototypes", "metrics", "labels.csv")
    rows = cells("docs/distributed.md", "| samples | features | one mixture")
    assert len(rows) == 2
    for row, result in zip(rows, measured("webvision")[: len(rows)], strict=True):
        assert int(row[0].replace(",", "")) == result["samples"]
        assert row[1] == f"{result['samples'] * 2048 * 2 / 1e9:.1f} GB"  # half precision, one network
        for cell, column in zip(row[2:], columns, strict=True):
            seconds = result[f"{column}, s"]
            assert cell == f"{seconds:.{0 if seconds > 100 else 1}f} s, {result[f'{column}, MB']:.0f} MB", column


def test_a_folder_of_photos():
    found = {(row[0], row[1]): row[2:] for row in cells("benchmarks/results/photos.md", "| network | part |")}
    small, large = ({part: row for (of, part), row in found.items() if name in of} for name in ("ResNet", "Lite0"))
    page = " ".join((ROOT / "docs/features.md").read_text().split())
    first, second = (network["the whole command"] for network in (small, large))
    assert f"takes {first[0]} s with ResNet-18 and {second[0]} s with EfficientNet-Lite0" in page
    clock, cores = ((small["ratio"][kind], large["ratio"][kind]) for kind in (0, 1))
    assert f"This is {' and '.join(clock)} times the bare forward passes of the network by the clock" in page
    assert f"{' and '.join(cores)} times in processor time" in page
    assert f"needs {first[-1].removesuffix(' MB')} and {second[-1]} of memory" in page


def test_what_speed_says_of_an_epoch():
    page = (ROOT / "docs/speed.md").read_text()
    shares = {}
    for row in measured("where"):
        shares.setdefault(row["workload"], {})[row["part"]] = float(row["share"].removesuffix(" %"))
    networks = [sum(parts[name] for name in ("guess", "train")) for parts in shares.values()]
    assert f"{min(networks):.0f} to {max(networks):.0f} % of an epoch" in page
    assert max(parts["mixtures"] + parts["prototypes"] for parts in shares.values()) < 1
    speeds = [float(row["of the stack"].removesuffix(" %")) for row in measured("utilisation")]
    assert f"{round(min(speeds), -1):.0f} to {round(max(speeds), -1):.0f} % of the speed" in page
    memory = [float(row["of the plain loop"]) for row in measured("memory") if row["side"] == "this library"]
    assert memory == pytest.approx([2 / 3, 2 / 3], abs=0.03)
    assert "two thirds of the memory" in re.sub(r"\s+", " ", page)


def test_what_speed_says_of_float32_without_avx_512():
    """The table as it is, and the ratios in the text; what another order for each pass saves comes from the speeds."""
    page = " ".join((ROOT / "docs/speed.md").read_text().split())
    table = [line for line in (RESULTS / "operators.md").read_text().splitlines() if line.startswith("|")]
    assert "\n".join(table) in (ROOT / "docs/speed.md").read_text()
    steps = measured("operators")
    gains = [row["channels first, s"] / row["channels last, s"] for row in steps]
    assert f"{gains[0]:.2f} and {gains[1]:.2f} times as fast. oneDNN" in page
    most = [row["channels first, s"] / row["bound, s"] for row in steps]
    assert f"could be {most[0]:.2f} and {most[1]:.2f} times as fast as channels first" in page
    preact = steps[0]
    left = preact["channels first, s"] / 1.5 - preact["bound, s"]
    assert left / (preact["channels last, s"] - preact["bound, s"]) == pytest.approx(1 / 5, abs=0.01)
    assert "in a fifth of their time" in page
    saved = []
    for step, images in zip(steps, (64, 128), strict=True):
        better = 0.0
        for row in measured("convolutions"):
            if row["workload"] == step["workload"]:
                inputs, outputs, kernel, _, stride, side, _ = map(int, re.findall(r"\d+", row["convolution"]))
                flops = 2 * images * inputs * outputs * kernel**2 * (side // stride) ** 2 / 1e9
                times = row["in the network"] * (10 if row["pass"] == "forward" else 4)
                last = row["channels last"]
                better += times * flops * (1 / last - 1 / max(last, row["GFLOP/s, channels first"]))
        saved.append(100 * better / step["channels last, s"])
    assert f"save {saved[0]:.0f} % of a step of PreAct ResNet-18 and {saved[1]:.0f} % of one of the small" in page
