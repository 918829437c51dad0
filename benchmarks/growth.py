"""How the fits of stage 1 grow with samples and classes: time and peak memory, with fitted exponents.

    python benchmarks/growth.py [--samples N ...] [--classes K ...]

Every size runs in a process of its own, so that its peak of memory is its own. An exponent of 1 is linear growth.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import numpy as np
from measure import report, seconds
from workloads import make_task

from cpc_lightning.cleaning.cpc import CpcCleaner

FEATURES = 128


def megabytes() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(samples: int, classes: int) -> dict[str, float]:
    """Seconds and megabytes of each stage, for both networks."""
    task, cleaner = make_task(samples, classes, FEATURES), CpcCleaner(class_aware=True)
    before = megabytes()
    mixtures = seconds(lambda: [cleaner.gmm.estimate(task, network) for network in (0, 1)])
    after = megabytes()
    prototypes = max(0.0, seconds(lambda: cleaner.clean(task)) - mixtures)
    return {
        "mixtures s": mixtures, "prototypes s": prototypes, "evidence MB": before,
        "mixtures MB": after - before, "prototypes MB": megabytes() - after,
    }  # fmt: skip


def exponent(sizes: list[int], values: list[float]) -> float | None:
    """The slope of log value over log size; None where a value is 0."""
    if min(values) <= 0 or len(sizes) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(*asked.one)))
        return
    middle_classes, middle_samples = asked.classes[len(asked.classes) // 2], asked.samples[len(asked.samples) // 2]
    sizes = [(n, middle_classes) for n in asked.samples] + [(middle_samples, k) for k in asked.classes]
    found = {}
    for size in dict.fromkeys(sizes):
        command = [sys.executable, __file__, "--one", *map(str, size)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        found[size] = json.loads(answer.stdout.splitlines()[-1])
    names = list(next(iter(found.values())))
    rows = [[*size, *values.values()] for size, values in found.items()]
    by_samples = [exponent(asked.samples, [found[n, middle_classes][name] for n in asked.samples]) for name in names]
    by_classes = [exponent(asked.classes, [found[middle_samples, k][name] for k in asked.classes]) for name in names]
    rows += [["exponent", f"{middle_classes} classes", *map(exponent_cell, by_samples)]]
    rows += [[f"{middle_samples} samples", "exponent", *map(exponent_cell, by_classes)]]
    notes = [
        f"both networks, {FEATURES} features, class-aware mixtures, prototypes by at most 2,000 SGD steps a network",
        "MB: by how much a stage raises the process's peak; evidence: the process with all that stage 1 looks at",
    ]
    report("growth", "Stage 1 by samples and classes", ["samples", "classes", *names], rows, notes)


def exponent_cell(value: float | None) -> str:
    """Two digits, or why there is none."""
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
