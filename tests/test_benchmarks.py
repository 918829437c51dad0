"""The benchmarks start, and the GPU's say so where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


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
@pytest.mark.parametrize("name", ["epoch", "utilisation", "where", "input", "growth", "memory"])
def test_a_benchmark_explains_itself(name):
    answer = subprocess.run([sys.executable, BENCHMARKS / f"{name}.py", "--help"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert f"python benchmarks/{name}.py" in answer.stdout


def test_the_report_holds_what_was_measured_there_and_how_a_part_failed(tmp_path):
    """A stand-in for Python: it finds a GPU, one benchmark fails, the others leave a table."""
    python = tmp_path / "python"
    python.write_text(
        """#!/usr/bin/env bash
        case "$*" in
          *torch.cuda.get_device_name*) echo "a card" ;;
          -c*) ;;
          *where.py*) echo "out of memory"; exit 1 ;;
          *fashion_mnist*)
            mkdir "$CPC_BENCHMARK_RESULTS/fashion"
            echo '{}' > "$CPC_BENCHMARK_RESULTS/fashion/summary.json" ;;
          *pytest*) echo "7 passed" ;;
          *) echo "| $(basename "$1") |" > "$CPC_BENCHMARK_RESULTS/$(basename "$1" .py).md" ;;
        esac
        """
    )
    python.chmod(0o755)
    answer = subprocess.run(
        ["bash", str(BENCHMARKS / "gpu.sh")], capture_output=True, text=True,
        env={**os.environ, "PYTHON": str(python), "REPORT": str(tmp_path / "gpu.md")},
    )  # fmt: skip
    assert answer.returncode == 1, answer.stderr
    report = (tmp_path / "gpu.md").read_text()
    for part in ("Measured on a card", "| epoch.py |", "| utilisation.py |", "out of memory", "7 passed", "{}"):
        assert part in report
    assert report.count("exit code 0") == 4
    assert "plain loop" not in report  # of a table that is committed
