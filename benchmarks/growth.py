"""How stage 1 beyond its pass, and the report, grow with samples and classes: seconds, memory and fitted exponents.

    python benchmarks/growth.py [--samples N ...] [--classes K ...] [--features D] [--rounds N] [--name NAME]

Each number of samples goes with the middle number of classes, each number of classes with the middle number of samples,
and the largest of both together. Every size runs in a process of its own. An exponent of 1 is linear growth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from measure import report, seconds
from workloads import make_task

from cpc_lightning.cleaning.cpc import CpcCleaner
from cpc_lightning.cleaning.evidence import CleaningResult, CleaningTask, Estimate
from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.report.labels import LabelReport
from cpc_lightning.training.measures import measure_losses, measure_result


def resident(field: str) -> float:
    """Megabytes of this process: "VmRSS" now, "VmHWM" at most since the peak was last cleared."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


class Stages:
    """Seconds of each stage, and by how many megabytes the process grows in it."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def measure(self, name: str, work: Callable[[], object]) -> None:
        """Measure `work`."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
        self.found[f"{name}, s"] = seconds(work)
        self.found[f"{name}, MB"] = resident("VmHWM") - before


def one(samples: int, classes: int, features: int) -> dict[str, float]:
    """Seconds and megabytes of each stage, for both networks."""
    task, stages = make_task(samples, classes, features), Stages()
    stages.found["evidence, MB"] = resident("VmRSS")
    agnostic, cleaner = GmmCleaner(class_aware=False), CpcCleaner(class_aware=True)
    estimates: list[Estimate] = []
    results: list[CleaningResult] = []
    stages.measure("one mixture", lambda: [agnostic.estimate(task, network) for network in (0, 1)])
    stages.measure("class mixtures", lambda: estimates.extend(cleaner.gmm.estimate(task, n) for n in (0, 1)))
    cleaner.gmm.estimate = lambda task, network: estimates[network]  # type: ignore[method-assign] # known by now
    stages.measure("prototypes", lambda: results.append(cleaner.clean(task)))
    stages.measure("metrics", lambda: measure_result(results[0], task.draws))
    stages.measure("losses by class, once", lambda: measure_losses(task.judging, task.draws))
    labels = final_report(task, results[0], classes)
    with tempfile.TemporaryDirectory() as folder:
        stages.measure("labels.csv", lambda: labels.write(Path(folder) / "labels.csv"))
    return stages.found


def final_report(task: CleaningTask, result: CleaningResult, classes: int) -> LabelReport:
    """The verdict on every label."""
    draw, seen = task.draws[0], task.judging[0]
    chances = torch.stack([estimate.clean_probability for estimate in result.estimates])
    names = [f"class {k}" for k in range(classes)]
    paths = PathList(f"images/{place:08d}.jpg" for place in range(len(draw.index)))
    return LabelReport(
        draw.noisy_labels, draw.true_labels, chances, result.threshold, seen.predicted, seen.confidence, names, paths
    )


def exponent(sizes: list[int], values: list[float]) -> str:
    """The slope of log value over log size; a dash where there is none."""
    if min(values) <= 0 or len(sizes) < 2:
        return "-"
    return f"{np.polyfit(np.log(sizes), np.log(values), 1)[0]:.2f}"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--features", type=int, default=512, help="D")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="growth", help="of the files of results")
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(*asked.one, asked.features)))
        return
    middle_samples, middle_classes = (sizes[len(sizes) // 2] for sizes in (asked.samples, asked.classes))
    sizes = [(n, middle_classes) for n in asked.samples] + [(middle_samples, k) for k in asked.classes]
    answers: dict[tuple[int, int], list[dict[str, float]]] = defaultdict(list)
    for _ in range(asked.rounds):
        for size in dict.fromkeys([*sizes, (max(asked.samples), max(asked.classes))]):
            command = [sys.executable, __file__, "--features", str(asked.features), "--one", *map(str, size)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            answers[size].append(json.loads(answer.stdout.splitlines()[-1]))
    names = list(answers[sizes[0]][0])
    found = {size: {name: median(one[name] for one in some) for name in names} for size, some in answers.items()}
    rows = [[*size, *values.values()] for size, values in found.items()]
    by_samples = [exponent(asked.samples, [found[n, middle_classes][name] for n in asked.samples]) for name in names]
    by_classes = [exponent(asked.classes, [found[middle_samples, k][name] for k in asked.classes]) for name in names]
    rows += [["exponent", middle_classes, *by_samples], [middle_samples, "exponent", *by_classes]]
    notes = [
        f"both networks, {asked.features} features; prototypes: at most {CpcCleaner(True).steps} SGD steps a network, "
        "fewer where their loss has settled",
        "MB: by how much a stage grows the process; evidence: the process with all that stage 1 looks at",
        f"medians of {asked.rounds} rounds; the pass before these stages is linear in samples",
    ]
    report(asked.name, "Stage 1 and the report by samples and classes", ["samples", "classes", *names], rows, notes)


if __name__ == "__main__":
    main()
