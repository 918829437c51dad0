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
