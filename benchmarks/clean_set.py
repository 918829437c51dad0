"""What the defaults suspect of the digits' labels where none is wrong, where a few are, and where many are.

    OMP_NUM_THREADS=1 python benchmarks/clean_set.py                  # 18 runs of a minute or two
    python benchmarks/clean_set.py --runs FOLDER --noise none 0.05 0.2 0.5 0.8 asymmetric --seeds 1 2 3
    python benchmarks/clean_set.py --runs FOLDER --noise none 0.05 0.2 --finished

A row is the mean over its n seeds, which draw other labels too. "below tau" is what was suspected before a set could
look clean. Runs stay in FOLDER, and those that are finished there are not repeated: a rule is judged anew on what they
left (--finished: on these alone). Writes benchmarks/results/clean_set.md.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from measure import report
from omegaconf import OmegaConf
from torch import Tensor

from cpc_lightning.report.labels import LabelReport

CLEANERS = ("cpc_awr", "cpc_agn", "gmm_agn")
COLUMNS = (
    "wrong labels", "cleaner", "n", "looks clean", "below tau, %", "suspected, %", "recall, before", "recall",
    "precision, before", "precision", "held out: below tau, %", "held out: suspected, %",
)  # fmt: skip


def noise_of(text: str) -> list[str]:
    """The settings of "none", "asymmetric" (40 %) or a rate of symmetric noise."""
    if text == "none":
        return ["noise=none"]
    kind, rate = ("asymmetric", "0.4") if text == "asymmetric" else ("symmetric", text)
    return [f"noise={kind}", f"noise.rate={rate}"]


def train(folder: Path, settings: Sequence[str]) -> None:
    """A run on one thread, unless it is finished."""
    if not (folder / "summary.json").exists():
        call = [sys.executable, "-m", "cpc_lightning", "callbacks=none", *settings, f"hydra.run.dir={folder}"]
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(call, check=True, env=alone, stdout=subprocess.DEVNULL)


def read_verdict(folder: Path, name: str) -> LabelReport:
    """The verdict that a run left in the file `name`, on labels of which each has one."""
    config = OmegaConf.load(folder / "config.yaml")
    with (folder / name).open(newline="") as file:
        rows = list(csv.DictReader(file))

    def column(key: str, kind: type[float] | type[int]) -> Tensor:
        return torch.tensor([kind(row[key]) for row in rows])

    return LabelReport(
        noisy_labels=column("noisy_label", int),
        true_labels=column("true_label", int),
        clean_probabilities=torch.stack([column(f"clean_probability_{number}", float) for number in (1, 2)]),
        threshold=config.cleaner.threshold,
        suggested=column("suggested_label", int),
        confidence=column("confidence", float),
        class_names=(),
    )


def measure(folder: Path) -> dict[str, float | None]:
    """What one run suspects, by the names of COLUMNS; None for a recall or a precision of nothing."""
    verdict, held_out = (read_verdict(folder, name) for name in ("labels.csv", "labels_test.csv"))
    wrong = verdict.noisy_labels != verdict.true_labels
    found: dict[str, float | None] = {"looks clean": float(bool(verdict.looks_clean))}
    for suspected, name, after in (
        (verdict.below_threshold, "below tau", ", before"), (verdict.suspected, "suspected", "")
    ):  # fmt: skip
        assert suspected is not None
        hits = int((suspected & wrong).sum())
        found[f"{name}, %"] = 100 * int(suspected.sum()) / len(wrong)
        found[f"recall{after}"] = hits / int(wrong.sum()) if bool(wrong.any()) else None
        found[f"precision{after}"] = hits / int(suspected.sum()) if bool(wrong.any() and suspected.any()) else None
    for suspected, name in ((held_out.below_threshold, "below tau"), (held_out.suspected, "suspected")):
        assert suspected is not None
        found[f"held out: {name}, %"] = 100 * int(suspected.sum()) / len(suspected)
    return found


def row_of(noise: str, cleaner: str, runs: Sequence[dict[str, float | None]]) -> list[Any]:
    """A row of the table: means over runs, "-" where none has a value."""
    clean = f"{sum(int(run['looks clean'] or 0) for run in runs)} of {len(runs)}"
    means: list[float | str] = []
    for name in COLUMNS[4:]:
        values = [value for run in runs if (value := run[name]) is not None]
        means.append(fmean(values) if values else "-")
    shown = {"none": "none", "asymmetric": "asymmetric 40 %"}.get(noise) or f"symmetric {100 * float(noise):.0f} %"
    return [shown, cleaner, len(runs), clean, *means]


def main() -> None:
    """Train what is not trained yet, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="of the runs, which stay (default: a temporary one)"
    )
    parser.add_argument("--noise", nargs="+", default=["none", "0.05"], help="none, asymmetric or a rate (none 0.05)")
    parser.add_argument("--cleaners", nargs="+", default=CLEANERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--processes", type=int, default=1, help="runs at a time, one thread each (default: 1)")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="SETTING=VALUE", help="of every run, such as a short one"
    )
    parser.add_argument("--finished", action="store_true", help="train nothing: only the runs that FOLDER has")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        at: Path = options.runs or Path(home)
        each = list(product(options.seeds, options.noise, options.cleaners))
        folders = {key: at.joinpath(*map(str, key)).resolve() for key in each}
        if options.finished:
            folders = {key: folder for key, folder in folders.items() if (folder / "summary.json").exists()}
        with ThreadPoolExecutor(options.processes) as pool:
            jobs = [
                pool.submit(train, folder, [*noise_of(noise), f"cleaner={cleaner}", f"seed={seed}", *options.set])
                for (seed, noise, cleaner), folder in folders.items()
            ]
            for job in jobs:
                job.result()
        rows = []
        for noise, cleaner in product(options.noise, options.cleaners):
            runs = [measure(folder) for key, folder in folders.items() if key[1:] == (noise, cleaner)]
            rows += [row_of(noise, cleaner, runs)] if runs else []
    notes = [
        "digits, 1,438 labels to train on, 359 held out (all of them right); means over n seeds from 1 on",
        "before: all below tau were suspected; now, in a set that looks clean, those that are predicted otherwise",
    ]
    report("clean_set", "Labels suspected in a clean set, and in others", COLUMNS, rows, notes)


if __name__ == "__main__":
    main()
