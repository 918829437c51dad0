"""The benchmarks measure what their tables say, at tiny sizes, and the GPU's say so where there is none."""

import json
import math
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.long
def test_without_a_gpu_the_report_says_so_and_writes_nothing():
    report = BENCHMARKS / "results" / "gpu.md"
    before = report.read_bytes() if report.exists() else None
    answer = subprocess.run(
        ["bash", str(BENCHMARKS / "gpu.sh")], capture_output=True, text=True,
        env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert answer.returncode == 3
    assert answer.stderr.strip() == "benchmarks/gpu.sh: torch finds no CUDA device here, so there is nothing to measure"
    assert (report.read_bytes() if report.exists() else None) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "epoch",
        "utilisation",
        "where",
        "input",
        "growth",
        "memory",
        "start",
        "threads",
        "channels_last",
        "departures",
        "auto",
        "clean_set",
        "duration",
        "decoding",
        "photos",
        "vectors",
        "predict",
        "letters",
        "fashion",
        "feature_sets",
        "verdicts",
        "openclipart",
        "cleaners",
        "people",
    ],
)
def test_a_benchmark_explains_itself(name):
    answer = subprocess.run([sys.executable, BENCHMARKS / f"{name}.py", "--help"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert f"python benchmarks/{name}.py" in answer.stdout


PYTHON = """#!/usr/bin/env bash
case "$*" in
  *torch.cuda.is_available*) ;;
  -) echo "Measured on a card" ;;
  *where.py*) echo "out of memory"; exit 1 ;;
  *utilisation.py*) echo "| half a table |" > "$CPC_BENCHMARK_RESULTS/utilisation.md"; sleep 60 ;;
  *pytest*) echo "7 passed" ;;
  *.py*) echo "| $(basename "$1") |" > "$CPC_BENCHMARK_RESULTS/$(basename "$1" .py).md" ;;
esac
"""
"""A stand-in that finds a GPU: one benchmark fails, one goes on for ever, the others leave a table."""


@pytest.fixture
def on_a_card(tmp_path):
    """Runs gpu.sh with the stand-in; answers its exit code, what it said, and the report."""

    def on_a_card(*parts, **more):
        python = tmp_path / "python"
        python.write_text(PYTHON)
        python.chmod(0o755)
        answer = subprocess.run(
            ["bash", str(BENCHMARKS / "gpu.sh"), *parts], capture_output=True, text=True,
            env={**os.environ, "PYTHON": str(python), "OUT": str(tmp_path / "out"), **more},
        )  # fmt: skip
        report = tmp_path / "out" / "gpu.md"
        return answer.returncode, answer.stdout + answer.stderr, report.read_text() if report.exists() else None

    return on_a_card


def test_a_part_that_fails_or_is_cut_leaves_the_others_results(on_a_card, tmp_path):
    code, said, report = on_a_card("right", "measure", "learn", SECONDS_IN_ALL="25", CPC_CUT="3")
    assert code == 1, said
    for part in ("Measured on a card", "7 passed", "| epoch.py |", "| half a table |", "out of memory", "| input.py |"):
        assert part in report
    assert "exit code 124, 3 s of 3" in report
    assert report.count("exit code 0") == 6  # both of tests, step, input, compiled and learning
    assert "plain loop" not in report  # of a table that is committed
    with tarfile.open(tmp_path / "out" / "gpu.tgz") as archive:
        assert "results/utilisation.md" in archive.getnames()
    assert "out of memory" in (tmp_path / "out" / "gpu.log").read_text()


def test_parts_that_are_asked_for_and_no_others(on_a_card):
    code, said, report = on_a_card("learn")
    assert (code, report.count("exit code")) == (0, 1), said
    assert on_a_card("lern")[:2] == (2, "benchmarks/gpu.sh: there is no part lern; there are right, measure, learn\n")


def test_no_part_begins_when_the_time_is_over(on_a_card):
    code, _, report = on_a_card("right", SECONDS_IN_ALL="0")
    assert code == 1
    assert report.count("no time was left") == 2


@pytest.fixture
def fashion_mnist():
    """For what measures on it."""
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("needs Fashion-MNIST: apt-get install dataset-fashion-mnist")


@pytest.fixture
def measured(tmp_path):
    """Runs a benchmark into a folder of its own; answers what it found, which has a value in every cell."""

    def measured(name, *arguments):
        answer = subprocess.run(
            [sys.executable, BENCHMARKS / f"{name}.py", *arguments], capture_output=True, text=True,
            env={**os.environ, "CPC_BENCHMARK_RESULTS": str(tmp_path)},
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert found["title"] in answer.stdout
        assert (tmp_path / f"{name}.md").read_text().startswith(f"## {found['title']}\n")
        for row in found["rows"]:
            assert len(row) == len(found["columns"])
            assert None not in row
            assert all(math.isfinite(cell) for cell in row if isinstance(cell, float))
        return found

    return measured


@pytest.mark.slow
def test_growth_measures_every_stage_at_every_size(measured):
    found = measured("growth", "--samples", "400", "800", "--classes", "3", "5", "--features", "80", "--rounds", "1")
    stages = ["one mixture", "class mixtures", "prototypes", "metrics", "losses by class, once", "labels.csv"]
    assert found["columns"] == [
        "samples", "classes", "evidence, MB", *(f"{stage}, {unit}" for stage in stages for unit in ("s", "MB"))
    ]  # fmt: skip
    *sizes, by_samples, by_classes = found["rows"]
    assert [row[:2] for row in sizes] == [[400, 5], [800, 5], [800, 3]]
    assert [by_samples[:2], by_classes[:2]] == [["exponent", 5], [800, "exponent"]]
    assert all(row[3:][::2] > [0.0] * len(stages) for row in sizes)
    seconds = found["columns"].index("labels.csv, s")
    exponent = math.log2(sizes[1][seconds] / sizes[0][seconds])  # of twice the samples
    assert float(by_samples[seconds]) == pytest.approx(exponent, abs=0.006)


@pytest.mark.slow
def test_where_shares_out_the_whole_epoch(measured, tmp_path, fashion_mnist):
    found = measured("where", "--steps", "1", "--samples", "1024")
    assert found["columns"] == ["workload", "part", "s an epoch", "share"]
    parts = ["views", "guess", "train", "loader", "logging", "rest of a step", "pass", "mixtures", "prototypes"]
    for rows in (found["rows"][:9], found["rows"][9:]):
        assert [part for _, part, *_ in rows] == parts
        whole = sum(seconds for *_, seconds, _ in rows)
        for _, part, seconds, share in rows:
            assert seconds > 0 or part in ("rest of a step", "prototypes"), part  # what is left of a difference
            assert float(share.removesuffix(" %")) == pytest.approx(100 * seconds / whole, abs=0.006)
        dearest = max(rows, key=lambda row: row[2])
        assert dearest[1] in ("guess", "train", "mixtures", "prototypes")
    assert (tmp_path / "where.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_epoch_holds_each_side_against_the_plain_loop(measured, fashion_mnist):
    found = measured("epoch", "--workloads", "small", "--steps", "1", "--rounds", "1")
    assert found["columns"] == [
        "workload", "side", "s a step", "faster", "warm-up images/s", "pass images/s", "s an epoch", "faster (epoch)"
    ]  # fmt: skip
    plain, *ours = found["rows"]
    assert plain[1] == "plain loop"
    assert ours[0][1] == "this library"
    assert len(ours) == 2  # the other in float32
    for _, _, step, faster, warm_up, look, epoch, faster_epoch in found["rows"]:
        assert min(step, warm_up, look, epoch) > 0
        assert faster == pytest.approx(plain[2] / step)
        assert faster_epoch == pytest.approx(plain[6] / epoch)
        # 30,000 labeled images in batches of 128, and a look at 60,000, of each network; stage 1's fits take the rest.
        assert epoch > 2 * (30_000 / 128 * step + 60_000 / look)


@pytest.mark.gpu
@pytest.mark.slow
def test_utilisation_is_a_share_of_what_the_device_can(measured, fashion_mnist):
    found = measured("utilisation", "--steps", "2", "--rounds", "1", "--size", "1024")
    assert found["columns"][1:] == [
        "precision", "GFLOP a step", "s a step", "GFLOP/s", "product's GFLOP/s", "of the product", "of the stack",
        "GPU memory, MB",
    ]  # fmt: skip
    assert [row[1] for row in found["rows"]] == ["32-true", "bf16-mixed"] * 2
    for _, _, flops, step, speed, peak, of_product, of_stack, _ in found["rows"]:
        assert speed == pytest.approx(flops / step)
        assert float(of_product.removesuffix(" %")) == pytest.approx(100 * speed / peak, abs=0.5)
        assert 0 < float(of_product.removesuffix(" %")) <= 100
        assert 0 < float(of_stack.removesuffix(" %")) <= 100
    # The arithmetic of a network does not depend on its precision.
    assert found["rows"][0][2] == found["rows"][1][2]
