"""Where an epoch's time goes: views, guesses, training, loader, the pass of stage 1, mixtures, prototypes.

    python benchmarks/where.py [--steps N]

A short epoch is timed part by part (on a GPU the parts wait for each other, which a run does not), the fits of stage 1
at full size, and a full epoch is put together from them: half of the samples labeled. Also draws results/where.png.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from epoch import STEPS, Ours
from measure import RESULTS, report, seconds, wait
from workloads import WORKLOADS, halves, make_task

from cpc_lightning.cleaning.cpc import CpcCleaner

PARTS = ("views", "guess", "train", "loader", "logging", "rest of a step", "pass", "mixtures", "prototypes")


class Clock:
    """Seconds of each part; a part within a part counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        wait()
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, whose time goes to `part`."""

        def timed(*arguments: Any, **named: Any) -> Any:
            self._turn()
            self._open.append(part)
            try:
                return work(*arguments, **named)
            finally:
                self._turn()
                self._open.pop()

        return timed


def step_parts(ours: Ours, samples: int) -> dict[str, float]:
    """Seconds a step of each part of it."""
    clock, module = Clock(), ours.module
    for name in ("weak", "strong", "normalise"):
        setattr(module.views, name, clock.timed("views", getattr(module.views, name)))
    module.method.risk.guess = clock.timed("guess", module.method.risk.guess)
    module.method.risk.risk = clock.timed("train", module.method.risk.risk)
    module.manual_backward = clock.timed("train", module.manual_backward)
    module.log = clock.timed("logging", module.log)
    images = ours.datamodule.dataset.train.images
    object.__setattr__(images, "fetch_views", clock.timed("loader", images.fetch_views))
    partitions = halves(samples)
    ours.epoch(partitions)
    clock.seconds.clear()
    whole = ours.epoch(partitions)
    steps = len(ours.datamodule.train_dataloader())
    parts = {part: spent / steps for part, spent in clock.seconds.items()}
    return parts | {"rest of a step": max(0.0, whole - sum(parts.values()))}  # optimizer, Lightning


def main() -> None:
    """Measure, report and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="steps of each network; 1 for preact, 8 for small")
    parser.add_argument("--samples", type=int, help="of the full data set; by default its true number")
    asked = parser.parse_args()
    found, rows, beyond = {}, [], {}
    for name, workload in WORKLOADS.items():
        full = asked.samples or workload.full_samples
        steps = asked.steps or STEPS[name]
        samples = 2 * steps * workload.batch_size
        ours = Ours(workload, samples)
        each_step = step_parts(ours, samples)
        ours.loss_pass()
        parts = {part: spent * full / workload.batch_size for part, spent in each_step.items()}  # both networks
        parts["pass"] = 2 * full * ours.loss_pass()
        task, cleaner = make_task(full, workload.classes, workload.features), CpcCleaner(class_aware=True)
        parts["mixtures"] = seconds(lambda: [cleaner.gmm.estimate(task, network) for network in (0, 1)])  # noqa: B023
        parts["prototypes"] = max(0.0, seconds(lambda: cleaner.clean(task)) - parts["mixtures"])  # noqa: B023
        found[workload.title] = parts
        whole = sum(parts.values())
        for part in PARTS:
            spent = parts.get(part, 0.0)
            rows.append([workload.title, part, spent, f"{100 * spent / whole:.2f} %"])
        about = f"{workload.title}; {full} samples, {workload.classes} classes"
        beyond[about] = 100 * (parts["mixtures"] + parts["prototypes"]) / whole
    notes = [f"stage 1 beyond its pass: {share:.2f} % of an epoch ({about})" for about, share in beyond.items()]
    notes.append("seconds of a full epoch of both networks, put together from a short one and from fits at full size")
    report("where", "Where an epoch's time goes", ["workload", "part", "s an epoch", "share"], rows, notes)
    draw(found)


def draw(found: dict[str, dict[str, float]]) -> None:
    """One stacked bar for each workload, in shares of its epoch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 2.6), layout="constrained")
    left = dict.fromkeys(found, 0.0)
    for part in PARTS:
        shares = [100 * parts.get(part, 0.0) / sum(parts.values()) for parts in found.values()]
        axes.barh(list(found), shares, left=list(left.values()), label=part)
        left = {title: start + share for (title, start), share in zip(left.items(), shares, strict=True)}
    axes.set(xlabel="share of an epoch (%)", xlim=(0, 100))
    figure.legend(ncols=len(PARTS), fontsize="x-small", loc="outside upper center", frameon=False)
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "where.png", dpi=100)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    main()
