"""What each cleaner does for training, on image sets that two cores can pay: runs over seeds, and their tables.

    python benchmarks/cleaners.py                       # the runs that are missing, for 40 minutes at most; then tables
    python benchmarks/cleaners.py --sets letters --choices cpc_awr gmm_awr --seeds 1     # some of them
    python benchmarks/cleaners.py --choices paper later  # groups of choices, of `cleaners_choices.py`
    python benchmarks/cleaners.py --choices people       # what people use: cleanlab, Co-teaching, ...
    python benchmarks/cleaners.py --choices pretrained   # from a backbone that learnt from the images alone, by SimCLR
    python benchmarks/cleaners.py --choices ablations    # of cpc_awr, on three cells
    python benchmarks/cleaners.py --warmups              # the losses of Figure 1: warm-ups alone, a minute each
    python benchmarks/cleaners.py --table                # tables and figures alone, from the rows that there are

Sets (they are made once, in --data):

* letters: 53 letters, 100 images each to train on (`letters.py`), at 16 x 16
* fashion: 6,000 images of Fashion-MNIST to train on and 2,000 to test by, drawn once, at 14 x 14
* digits: the library's own, 1,438 to train on, 8 x 8
* 100 digits, 300 digits: so many of them to train on, 497 others to test by
* clipart: Debian's openclipart-png by its folders of 30 pictures and more, 16 x 16 in colour; half to train on

Each run is a command of its own on one thread; `--jobs` of them at once. Runs of a seed share wrong labels, first
weights and the order of their first batches. "equal time": plain training for as many epochs as take about the time of
the cleaners' runs. A run's row goes to RESULTS/cleaners_runs.csv when it ends, its curves to cleaners_curves.csv;
started again, the script takes up what is missing. Seconds are of the processor: other work on the machine changes
them less. Co-teaching is told the noise rate. "cleanlab" (see `people.py`) spends on its folds what plain training
costs, so that all of it costs two plain trainings; "full folds" trains on each fold as long as plain training does.
"pretrained": mode=pretrain comes first, once for a set and a seed, as it looks at no label; what it has learnt is kept
in --data, and its seconds are part of every row that starts from it.
`precision_at_errors`: of as many labels as are wrong, the least trusted, the share that is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from cleaners_choices import ABLATED, ABLATIONS, CHOICES, FOLD_EPOCHS, rate_of
from cleaners_claims import LONG
from cleaners_data import SETS, files_of
from cleaners_figures import FIGURE_1, OF_LOSSES, draw, warmup_rows
from cleaners_tables import tables
from measure import RESULTS, SHARED, append_rows, cpu_name, read_rows
from people import precision_at_errors

from cpc_lightning.report.warmup_losses import WARMUP_LOSSES

SEEDS = (1, 2, 3)
LONGER = 3
"""So many times the epochs has the plain training of equal time: a step of stage 2 on its guesses, and stage 1."""

NUMBERS = (
    "test_accuracy_best", "test_accuracy_last", "test_accuracy_last10", "cleaner_auc_gmm", "cleaner_auc_cpc",
    "cleaner_auc_verdict", "cleaner_precision_cpc", "cleaner_recall_cpc", "ks_deviating_clean_1",
    "noise_rate_actual", "suspected_labels",
)  # fmt: skip
COLUMNS = (
    "set", "noise", "choice", "seed", *NUMBERS, "seconds", "settings", "version", "commit", "host",
)  # fmt: skip
OWN_COLUMNS = (*COLUMNS, "precision_at_errors")
CURVES = {
    "accuracy": "test/accuracy", "auc_gmm": "gmm/auc", "auc_cpc": "cpc/auc", "agreement_1": "gmm_cpc/agreement_1",
}  # fmt: skip
OF_CURVES = ("set", "noise", "choice", "seed", "epoch", *CURVES)
DIVERGENCE = {"kl_divergence_1": "gmm_cpc/kl_divergence_1"}
OWN_CURVES = (*OF_CURVES, *DIVERGENCE)


# Runs ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        set: of `SETS`.
        noise: of that set's.
        choice: what is compared, by name.
        seed: of the run.
        chosen: the choice's settings.
        times: so many times the set's epochs.
        warms_up: whether what is chosen has a warm-up: a method that no cleaner divides the data for has none.
    """

    set: str
    noise: str
    choice: str
    seed: int
    chosen: tuple[str, ...]
    times: int = 1
    warms_up: bool = True

    def settings(self) -> list[str]:
        """Without those that name files."""
        of_set = SETS[self.set]
        return [
            *of_set.settings, *of_set.noises[self.noise], *of_set.schedule(self.times, self.warms_up), *self.chosen,
            f"seed={self.seed}",
        ]  # fmt: skip

    @property
    def folds(self) -> tuple[str, ...]:
        """Arguments of `people.py`, for what trains on folds first; else none."""
        share = FOLD_EPOCHS.get(self.choice)
        return () if share is None else (f"--fold-epochs={-(-SETS[self.set].epochs // share)}",)

    @property
    def pretraining(self) -> list[str]:
        """Settings of the pretraining that comes first, for as many epochs as the training; none where none comes."""
        of_set = SETS[self.set]
        return (
            [f"pretraining.epochs={of_set.epochs}", *of_set.pretraining] if self.choice.endswith(", pretrained") else []
        )

    @property
    def key(self) -> dict[str, str]:
        """Its columns."""
        return {"set": self.set, "noise": self.noise, "choice": self.choice, "seed": str(self.seed)}


def start(run: Run, settings: Sequence[str], data: Path, home: str, folder: str = "run") -> Any:
    """Run it into HOME/FOLDER, and wait: what the system counts of it and its children."""
    program = [str(Path(__file__).with_name("people.py")), *run.folds] if run.folds else ["-m", "cpc_lightning"]
    command = [sys.executable, *program, *SHARED, *settings, *files_of(run.set, data), f"hydra.run.dir={home}/{folder}"]
    with Path(home, "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{Path(home, 'log').read_text()[-2000:]}")
    return used


def train(run: Run, data: Path, commit: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The run's row, and the rows of its curves."""
    with tempfile.TemporaryDirectory(prefix="cleaners_") as home:
        settings, (learnt, seconds) = run.settings(), pretrained(run, data, home)
        used = start(run, [*settings, *learnt], data, home)
        folder = Path(home, "run")
        summary = json.loads((folder / "summary.json").read_text())
        summary.setdefault("precision_at_errors", precision_of(read_rows(folder / "labels.csv")))
        version = json.loads((folder / "versions.json").read_text())["cpc-lightning"]
        epochs = read_rows(folder / "metrics.csv")
    measured = (*NUMBERS, "precision_at_errors")
    row = run.key | {
        **{name: "" if summary.get(name) is None else f"{summary[name]:.6g}" for name in measured},
        "seconds": f"{seconds + used.ru_utime + used.ru_stime:.1f}", "megabytes": str(used.ru_maxrss // 1024),
        "settings": " ".join([*run.folds, *run.pretraining, *settings]), "version": version, "commit": commit,
        "host": cpu_name(),
    }  # fmt: skip
    shown = {**CURVES, **DIVERGENCE}
    curves = [
        run.key
        | {"epoch": epoch["epoch"]}
        | {name: f"{float(epoch[column]):.4g}" if epoch.get(column) else "" for name, column in shown.items()}
        for epoch in epochs
    ]
    return row, curves


def pretrained(run: Run, data: Path, home: str) -> tuple[list[str], float]:
    """The setting that starts from what a pretraining has learnt, and its seconds; nothing for a run without one."""
    if not run.pretraining:
        return [], 0.0
    kept = data / "_".join([run.set, str(run.seed), *run.pretraining]).replace("=", "_")
    if not (kept / "seconds").exists():
        used = start(run, [*run.settings(), "mode=pretrain", *run.pretraining], data, home, "learnt")
        kept.mkdir(exist_ok=True)
        shutil.copy(Path(home, "learnt", "backbone.pt"), kept)
        (kept / "seconds").write_text(str(used.ru_utime + used.ru_stime))
    return [f"backbone.weights={kept / 'backbone.pt'}"], float((kept / "seconds").read_text())


def precision_of(verdicts: Sequence[Mapping[str, str]]) -> float | None:
    """`precision_at_errors` of a run's labels.csv; None where nothing judges labels, or none is wrong."""
    wrong = np.array([row["noisy_label"] != row["true_label"] for row in verdicts])
    if not wrong.any() or not all(row["clean_probability"] for row in verdicts):
        return None
    return precision_at_errors(np.array([float(row["clean_probability"]) for row in verdicts]), wrong)


def record_warmups(data: Path) -> None:
    """Append the loss densities of the cells of Figure 1 that are missing: warm-ups of the first seed, and no more."""
    file = RESULTS / "cleaners_losses.csv"
    done = {(row["set"], row["noise"]) for row in read_rows(file)}
    for name, noise in FIGURE_1:
        if (name, noise) in done:
            continue
        run = Run(name, noise, "cpc_awr", SEEDS[0], CHOICES["paper"]["cpc_awr"])
        with tempfile.TemporaryDirectory(prefix="cleaners_") as home:
            # One epoch more: there is no warm-up without something after it.
            start(run, [*run.settings(), f"training.epochs={SETS[name].warmup_epochs + 1}"], data, home)
            rows = warmup_rows(Path(home, "run", WARMUP_LOSSES), {"set": name, "noise": noise, "seed": str(SEEDS[0])})
        append_rows(file, OF_LOSSES, rows)
        print(name, noise, "warm-up", flush=True)


def run_missing(
    runs: Sequence[Run],
    study: str,
    columns: Sequence[str],
    data: Path,
    jobs: int,
    minutes: float,
    of_curves: Sequence[str] = OF_CURVES,
) -> None:
    """Train what has no row yet, in the order given; no run begins after that many minutes.

    Args:
        runs: all of the study.
        study: the rows go to RESULTS/STUDY_runs.csv, the curves to STUDY_curves.csv.
        columns: of the rows.
        data: where the sets' files are, or are to be.
        jobs: runs at once.
        minutes: see above.
        of_curves: columns of the curves.
    """
    file, curves = RESULTS / f"{study}_runs.csv", RESULTS / f"{study}_curves.csv"
    done = {tuple(row[name] for name in ("set", "noise", "choice", "seed")) for row in read_rows(file)}
    missing = [run for run in runs if tuple(run.key.values()) not in done]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    ).stdout.strip()
    for name in {run.set for run in missing}:
        files_of(name, data)  # before several processes would
    end, lock = time.monotonic() + 60 * minutes, Lock()

    def one(run: Run) -> None:
        if time.monotonic() > end:
            return
        row, epochs = train(run, data, commit)
        with lock:
            append_rows(file, columns, [{name: row[name] for name in columns}])
            append_rows(curves, of_curves, [{name: epoch[name] for name in of_curves} for epoch in epochs])
        print(*run.key.values(), row["test_accuracy_last"], row["seconds"], "s", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, missing))


def main() -> None:
    """Run what is missing, and print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for group in CHOICES.values() for name in group]
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--warmups", action="store_true", help="train warm-ups for Figure 1, and nothing else")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--noises", nargs="+", help="by name (default: all of each set)")
    parser.add_argument("--choices", nargs="+", default=["paper"], choices=[*CHOICES, *names],
                        metavar="NAME", help="groups or names")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir(), "cleaners_data"))
    options = parser.parse_args()
    if options.warmups:
        record_warmups(options.data)
    elif not options.table:
        asked = [name for choice in options.choices for name in CHOICES.get(choice, {choice: ()})]
        settings = {choice: chosen for names in CHOICES.values() for choice, chosen in names.items()}
        runs = [
            Run(
                name, noise, choice, seed, (*settings[choice], *rate_of(choice, noise)),
                LONGER if choice == LONG else 1, not settings[choice][0].startswith("method="),
            )
            for seed, name in product(options.seeds, options.sets)
            for noise, choice in product(SETS[name].noises, dict.fromkeys(asked))
            if options.noises is None or noise in options.noises
            if choice not in ABLATIONS or (name, noise) in ABLATED
        ]  # fmt: skip
        run_missing(runs, "cleaners", OWN_COLUMNS, options.data, options.jobs, options.minutes, OWN_CURVES)
    rows, curves, losses = (read_rows(RESULTS / f"cleaners_{name}.csv") for name in ("runs", "curves", "losses"))
    text = tables(rows, curves)
    print(text)
    (RESULTS / "cleaners_runs.md").write_text(text)
    draw(curves, losses, RESULTS)


if __name__ == "__main__":
    main()
