"""Where an epoch's time goes: views, guesses, training, loader, the pass of stage 1, mixtures, prototypes.

    python benchmarks/where.py [--workloads preact small] [--steps N]
    python benchmarks/where.py --readme HEAD^ HEAD [--rounds N]     # the README's first run, at these revisions

A short epoch is timed part by part (on a GPU the parts wait for each other, which a run does not), the fits of stage 1
at full size, and a full epoch is put together from them: half of the samples labeled. Also draws results/where.png.

With --readme, the README's first run is trained as it is, at each revision in turn, and timed part by part, in seconds
of the processor, on one thread: a wall clock on a busy machine tells of its neighbours. Rows are added to
results/readme_runs.csv; the table of all rows (`--readme` without revisions makes it alone) goes to results/readme.md.
"""

from __future__ import annotations

import argparse
import csv
import runpy
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from epoch import STEPS, Ours
from measure import RESULTS, append_rows, interval, read_rows, report, seconds, wait
from same_result import take_out
from workloads import USUAL, WORKLOADS, halves, make_task

from cpc_lightning.cleaning.cpc import CpcCleaner

PARTS = ("views", "guess", "train", "loader", "logging", "rest of a step", "pass", "mixtures", "prototypes")


class Clock:
    """Seconds of each part, by a clock; a part within a part counts for itself alone."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._read = now
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        wait()
        now = self._read()
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
    """Measure, report and draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=USUAL, default=USUAL)
    parser.add_argument("--steps", type=int, help="steps of each network; 1 for preact, 8 for small")
    parser.add_argument("--samples", type=int, help="of the full data set; by default its true number")
    parser.add_argument("--readme", metavar="REV", nargs="*", help="time the README's first run at these revisions")
    parser.add_argument("--rounds", type=int, default=1, help="of them, in turns (default: 1)")
    parser.add_argument("--clock", metavar="FILE", help="of --readme: be such a run, and write its seconds there")
    asked = parser.parse_args()
    if asked.clock:
        run_timed(Path(asked.clock))
    elif asked.readme is not None:
        readme(asked.readme, asked.rounds)
    else:
        epochs_of_workloads(asked)


def epochs_of_workloads(asked: argparse.Namespace) -> None:
    """Put together and draw an epoch of each workload."""
    found, rows, beyond = {}, [], {}
    for name in asked.workloads:
        workload = WORKLOADS[name]
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


README = ("dataset=digits", "noise=symmetric", "noise.rate=0.8", "cleaner=cpc_awr")
README_PARTS = (
    "imports and composing", "forecast", "views", "guesses", "losses", "gradients", "rest of training", "pass",
    "mixtures", "prototypes", "metrics of stage 1", "test", "checkpoints", "writing and page",
)  # fmt: skip

OUTSIDE = ("imports and composing", "forecast", "writing and page")
"""Of them, what no epoch has."""


def run_timed(file: Path) -> None:
    """Be the README's first run; write to `file` what each part took."""
    import pytorch_lightning as pl

    from cpc_lightning.app import run
    from cpc_lightning.cleaning import cpc, gmm
    from cpc_lightning.methods.codivide import CoDivide
    from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
    from cpc_lightning.training import stage_one
    from cpc_lightning.training.module import CoTrainingModule
    from cpc_lightning.views.views import Views

    clock = Clock(time.process_time)
    for part, owner, *names in (
        ("forecast", run, "announce"), ("views", Views, "weak", "strong", "normalise"),
        ("guesses", EmpiricalVicinalRisk, "guess"), ("losses", CoDivide, "losses"),
        ("gradients", CoTrainingModule, "manual_backward"), ("pass", stage_one, "observe"),
        ("mixtures", gmm.GmmCleaner, "estimate"), ("prototypes", cpc.CpcCleaner, "_estimate"),
        ("metrics of stage 1", stage_one.StageOne, "_judge"), ("test", CoTrainingModule, "validation_step"),
        ("checkpoints", pl.Trainer, "save_checkpoint"), ("rest of training", pl.Trainer, "fit"),
        ("writing and page", run, "run_parts"),
    ):  # fmt: skip
        for name in names:
            setattr(owner, name, clock.timed(part, getattr(owner, name)))
    sys.argv = ["cpc_lightning", *README, f"hydra.run.dir={file.parent / 'run'}"]
    try:
        runpy.run_module("cpc_lightning", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    parts = {part: clock.seconds[part] for part in README_PARTS}
    parts["imports and composing"] = time.process_time() - sum(clock.seconds.values())
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerow([*parts.values()])


def readme(revisions: list[str], rounds: int) -> None:
    """Train at each revision in turn, and make the table of all rows so far, newest revision last."""
    file = RESULTS / "readme_runs.csv"
    with tempfile.TemporaryDirectory() as home:
        taken = [take_out(str(place), revision, Path(home)) for place, revision in enumerate(revisions)]
        for turn in range(rounds):
            for revision in taken:
                folder = Path(home, f"{turn}_{revision.name}")
                folder.mkdir()
                done = revision.call([str(Path(__file__).resolve()), "--clock", str(folder / "seconds")], folder)
                if done.returncode:
                    raise SystemExit(done.stderr[-2000:])
                spent = [f"{float(value):.3f}" for value in (folder / "seconds").read_text().split(",")]
                row = {"commit": revision.commit.split()[0], **dict(zip(README_PARTS, spent, strict=True))}
                append_rows(file, ("commit", *README_PARTS), [row])
    commits, table, notes = readme_table(read_rows(file))
    report("readme", "Where the time of the README's first run goes", ["part", *commits], table, notes)


def readme_table(rows: list[dict[str, str]]) -> tuple[list[str], list[list[Any]], list[str]]:
    """Commits, medians of each part for each of them, and notes, of rows of results/readme_runs.csv."""
    commits = list(dict.fromkeys(row["commit"] for row in rows))
    notes = [f"`python -m cpc_lightning {' '.join(README)}`, seconds of the processor on one thread, by commit"]
    found = {}
    for commit in commits:
        own = [row for row in rows if row["commit"] == commit]
        parts = {part: median(float(row[part]) for row in own) for part in README_PARTS}
        epochs = sum(spent for part, spent in parts.items() if part not in OUTSIDE)
        beyond = sum(parts[part] for part in ("mixtures", "prototypes", "metrics of stage 1"))
        found[commit] = parts | {"all": sum(parts.values())}
        notes.append(
            f"{commit}: medians of {len(own)} runs; stage 1 beyond its pass is {100 * beyond / epochs:.1f} % of the "
            f"epochs' {epochs:.0f} s (those of warm-up included)"
        )
    return commits, [[part, *(found[commit][part] for commit in commits)] for part in (*README_PARTS, "all")], notes


QUALITY = {
    "test_accuracy_last": "test accuracy, last (%)", "test_accuracy_last10": "test accuracy, mean of last 10 (%)",
    "cleaner_auc_gmm": "AUC of the mixture", "cleaner_auc_cpc": "AUC of the prototypes", "steps": "prototype steps",
}  # fmt: skip


def quality_table(rows: list[dict[str, str]]) -> str:
    """How two revisions' runs of the same seeds differ, as Markdown: of rows of results/stage_one_runs.csv.

    Their `side` is before or after; `steps` are those of both networks' prototypes in a stage 1, on average.
    """
    lines = ["| set | cleaner | measure | seeds | before | after | difference |", "|---|---|---|---|---|---|---|"]
    for name, cleaner in dict.fromkeys((row["set"], row["cleaner"]) for row in rows):
        own = [row for row in rows if (row["set"], row["cleaner"]) == (name, cleaner)]
        before, after = ({row["seed"]: row for row in own if row["side"] == side} for side in ("before", "after"))
        seeds = [seed for seed in before if seed in after]
        for column, title in QUALITY.items():
            pairs = [(float(before[seed][column]), float(after[seed][column])) for seed in seeds]
            differences = [new - old for old, new in pairs]
            digits = 4 if "auc" in column else 2
            old, new = (f"{fmean(side):.{digits}f}" for side in zip(*pairs, strict=True))
            change = f"{fmean(differences):+.{digits}f}"
            if len(seeds) > 1:
                low, high = interval(differences)
                change += f" ({low:+.{digits}f} to {high:+.{digits}f})"
            lines.append(f"| {name} | {cleaner} | {title} | {len(seeds)} | {old} | {new} | {change} |")
    return "\n".join(lines)


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
