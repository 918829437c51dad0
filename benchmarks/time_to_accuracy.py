"""What accuracy costs: this library, and its faster choices, against a plain loop in the way of the published code.

    OMP_NUM_THREADS=1 python benchmarks/time_to_accuracy.py [--sets digits fashion] [--seeds 1 2 3] [--minutes 40]
    python benchmarks/time_to_accuracy.py --table

The plain loop (`plain_loop.py`: DivideMix on AugDesc's views, its data loaded in the same process) trains as many
epochs as the library's `preset=paper` with `cleaner=gmm_agn`, which computes the same (with lambda_u = 0 neither
forwards the unlabeled half with gradient); on the same images, wrong labels, first weights and schedule. Then come
`preset=fast` and what it is made of, one change at a time. Sets are those of `cleaners.py`. Seconds are of one
processor core, of whole processes with their imports, of which the library's runs have two. Rows go to
RESULTS/time_to_accuracy.csv; started again, the script takes up what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from cleaners_choices import PAPERS
from cleaners_data import SETS, files_of
from measure import RESULTS, SHARED, append_rows, cpu_name, difference, read_rows
from plain_loop import PlainLoop

from cpc_lightning.app.compose import read
from cpc_lightning.app.parts import Parts

NOISES = {"digits": "symmetric 80 %", "fashion": "symmetric 50 %", "letters": "symmetric 50 %"}
PLAIN, PAPER, FAST = "plain loop", "preset=paper", "preset=fast"
UNMIXED = ("semisup.temperature=1.0", "semisup.mixup_alpha=0.01", "semisup.prior_weight=0.0")
CHOICES: Mapping[str, tuple[str, ...]] = {
    PAPER: PAPERS,
    "one view": (*PAPERS, "semisup.views=1"),
    "kept guesses": (*PAPERS, "semisup.kept_guesses=true"),
    FAST: (*PAPERS, FAST),
    "weak views": (*PAPERS, "views.policy=weak"),
    "preset=fast, unmixed": (*PAPERS, FAST, *UNMIXED, "views.policy=weak"),
    "preset=fast, half of the epochs": (*PAPERS, FAST),
    "preset=fast, unmixed, half of the epochs": (*PAPERS, FAST, *UNMIXED, "views.policy=weak"),
}
"""By name the settings. Half of the epochs: along half a cosine, with five eighths of the warm-up."""
CLEANERS = ("gmm_agn", "cpc_awr")
FIELDS = ("set", "noise", "choice", "cleaner", "seed", "accuracy", "seconds", "commit", "host")


def settings_of(name: str, cleaner: str, seed: int, data: Path, chosen: Sequence[str], half: bool = False) -> list[str]:
    """Of a run of the library."""
    of_set = SETS[name]
    schedule = halved(of_set.epochs, of_set.warmup_epochs) if half else of_set.schedule()
    return [*SHARED, *of_set.settings, *of_set.noises[NOISES[name]], *schedule, *files_of(name, data),
            f"cleaner={cleaner}", f"seed={seed}", *chosen]  # fmt: skip


def halved(epochs: int, warmup_epochs: int) -> list[str]:
    """Settings of a schedule of half the epochs."""
    cosine = "optimizer.schedule._target_=cpc_lightning.training.schedules.cosine"
    return [f"training.epochs={epochs // 2}", f"training.warmup_epochs={round(warmup_epochs * 5 / 8)}", cosine,
            f"+optimizer.schedule.epochs={epochs // 2}", "optimizer.schedule.milestones=[]"]  # fmt: skip


def run_library(settings: Sequence[str]) -> float:
    """Accuracy in % after the last epoch."""
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, "-m", "cpc_lightning", *settings, f"hydra.run.dir={folder}/run"]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return float(json.loads(Path(folder, "run", "summary.json").read_text())["test_accuracy_last"])


def run_plain(settings: Sequence[str]) -> float:
    """The same of the plain loop, with what these settings compose."""
    asked = read(settings, multirun=False)
    composed = asked.compose(asked.first)
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(composed.settings(folder), settings, composed.usual)
        training, optimizer = parts.settings["training"], parts.settings["optimizer"]
        schedule, learning_rate = optimizer["schedule"], optimizer["network"]["lr"]
        networks, dataset = [*parts.networks], parts.dataset
        torch.manual_seed(parts.settings["seed"])
        np.random.seed(parts.settings["seed"])  # noqa: NPY002, which the loop draws from
        loop = PlainLoop(networks, dataset, parts.views, training["batch_size"], torch.device("cpu"), workers=0,
                         learning_rate=learning_rate, policy=parts.settings["views"]["policy"])  # fmt: skip
        warmup = training["warmup_epochs"]
        for epoch in range(training["epochs"]):
            if epoch in schedule["milestones"]:
                loop.slow_down(schedule["gamma"])
            if epoch < warmup:
                for number in (0, 1):
                    loop.warm_up(number, len(dataset.train))
            else:
                chances = [loop.clean_probability(loop.loss_pass(number)) for number in (0, 1)]
                for number in (0, 1):
                    loop.train(
                        number, chances[1 - number], parts.settings["semisup"]["lambda_u"], forward_unlabeled=False
                    )
    test = dataset.evaluation["test"]
    images = parts.views.normalise(test.images.fetch(torch.arange(len(test))))
    with torch.no_grad():
        logits = sum(network.eval()(images) for network in networks)
    return 100 * float((logits.argmax(dim=1) == test.labels).float().mean())


def one(name: str, choice: str, cleaner: str, seed: int, data: Path) -> None:
    """One run, in a process of its own; its accuracy as the last line."""
    settings = settings_of(name, cleaner, seed, data, CHOICES.get(choice, PAPERS), "half of" in choice)
    print(run_plain(settings) if choice == PLAIN else run_library(settings))


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: accuracy and seconds of each choice, against `preset=paper` and the plain loop."""
    text = ["## Accuracy, and what it costs", "",
            "`python benchmarks/time_to_accuracy.py`. Test accuracy in % after the last epoch, mean over n seeds.",
            "Δ: less that of preset=paper, paired over seeds, with the 95 % interval of the mean. Times: CPU seconds",
            "over those of preset=paper, paired over seeds, and over the mean of the plain loop's, which is DivideMix.",
            "",
            "| set | cleaner | choice | n | accuracy | Δ | time / paper | time / plain loop |",
            "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    found: dict[tuple[str, str, str], dict[str, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        cell = row["set"], row["cleaner"], row["choice"]
        found[cell][row["seed"]] = float(row["accuracy"]), float(row["seconds"])
    for name, cleaner, choice in product(NOISES, CLEANERS, (PLAIN, *CHOICES)):
        ours, paper = found.get((name, cleaner, choice)), found.get((name, cleaner, PAPER), {})
        if not ours:
            continue
        both = [seed for seed in ours if seed in paper]
        plain = [spent for _, spent in found.get((name, CLEANERS[0], PLAIN), {}).values()]
        cells = [
            f"{name}, {NOISES[name]}", cleaner, choice, str(len(ours)), f"{fmean(row[0] for row in ours.values()):.2f}",
            "-" if choice == PAPER else difference([ours[seed][0] - paper[seed][0] for seed in both]),
            f"{fmean(ours[seed][1] / paper[seed][1] for seed in both):.2f}" if both else "-",
            f"{fmean(row[1] for row in ours.values()) / fmean(plain):.2f}" if plain else "-",
        ]  # fmt: skip
        text.append(f"| {' | '.join(cells)} |")
    hosts = ", ".join(sorted({row["host"] for row in rows}))
    return "\n".join([*text, "", f"* host {hosts}, one thread, float32", ""])


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--sets", nargs="+", default=list(NOISES), choices=NOISES)
    parser.add_argument("--choices", nargs="+", default=[PLAIN, *CHOICES])
    parser.add_argument("--cleaners", nargs="+", default=CLEANERS[:1], choices=CLEANERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir(), "cleaners_data"))
    options = parser.parse_args()
    if options.one:
        name, choice, cleaner, seed = options.one
        return one(name, choice, cleaner, int(seed), options.data)
    file, end = RESULTS / "time_to_accuracy.csv", time.monotonic() + 60 * options.minutes
    there = {tuple(row[key] for key in FIELDS[:5]) for row in read_rows(file)} if file.exists() else set()
    runs = product(options.seeds, options.sets, options.cleaners, options.choices)
    for seed, name, cleaner, choice in runs if not options.table else ():
        place = (name, NOISES[name], choice, cleaner, str(seed))
        if place in there or time.monotonic() > end or (choice == PLAIN and cleaner != CLEANERS[0]):
            continue
        call = [sys.executable, __file__, "--data", str(options.data), "--one", name, choice, cleaner, str(seed)]
        before = os.times()
        done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        after = os.times()
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        accuracy = float(done.stdout.split()[-1])
        version = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        values = (*place, f"{accuracy:.4f}", f"{spent:.1f}", version, cpu_name())
        append_rows(file, FIELDS, [dict(zip(FIELDS, values, strict=True))])
        print(*place, f"{accuracy:.2f} {spent:.1f} s", flush=True)
    text = table(read_rows(file))
    print(text)
    file.with_suffix(".md").write_text(text)
    return None


if __name__ == "__main__":
    main()
