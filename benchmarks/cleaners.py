"""What each cleaner does for training, on image sets that two cores can pay: runs over seeds, and their tables.

    python benchmarks/cleaners.py                       # the runs that are missing, for 40 minutes at most; then tables
    python benchmarks/cleaners.py --sets letters --choices cpc_awr gmm_awr --seeds 1     # some of them
    python benchmarks/cleaners.py --choices paper later  # groups of choices: paper, own, later, "later, own", careful
    python benchmarks/cleaners.py --table                # the tables alone, from the rows that there are

Sets (they are made once, in --data):

* letters: 53 letters, 100 images each to train on (`letters.py`), at 16 x 16
* fashion: 6,000 images of Fashion-MNIST to train on and 2,000 to test by, drawn once, at 14 x 14
* digits: the library's own, 1,438 to train on, 8 x 8
* clipart: Debian's openclipart-png by its folders of 30 pictures and more, 16 x 16 in colour; half to train on

Each run is a command of its own on one thread; `--jobs` of them at once. Runs of a seed share wrong labels, first
weights and the order of their first batches. "equal time": plain training for as many epochs as take about the time of
the cleaners' runs. A run's row goes to RESULTS/cleaners_runs.csv when it ends, its curves to cleaners_curves.csv;
started again, the script takes up what is missing. Seconds are of the processor: other work on the machine changes
them less.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cleaners_tables import tables
from letters import find_fonts, make_letters
from measure import RESULTS, append_rows, cpu_name, read_rows
from PIL import Image, UnidentifiedImageError

from cpc_lightning.datasets.fashion_mnist import fashion_mnist

Arrays = dict[str, npt.NDArray[np.generic]]

SHARED = ("callbacks=none", "report=false", "trainer.precision=32-true", "trainer.enable_progress_bar=false")
SEEDS = (1, 2, 3)
CLIPART = Path("/usr/share/openclipart/png")
LONGER = 3
"""So many times the epochs has the plain training of equal time: a step of stage 2 on its guesses, and stage 1."""


@dataclass(frozen=True)
class Set:
    """What to train on, and how.

    Attributes:
        settings: beside the files'.
        epochs: of a run.
        warmup_epochs: of them.
        noises: by name, the settings.
    """

    settings: tuple[str, ...]
    epochs: int
    warmup_epochs: int
    noises: Mapping[str, tuple[str, ...]]

    def schedule(self, times: int = 1, warms_up: bool = True) -> list[str]:
        """Settings of a run of that many times the epochs; the learning rate falls after two thirds of them."""
        epochs = times * self.epochs
        return [
            f"training.epochs={epochs}", *([f"training.warmup_epochs={self.warmup_epochs}"] if warms_up else []),
            f"optimizer.schedule.milestones=[{2 * epochs // 3}]",
        ]  # fmt: skip


def symmetric(rate: float) -> tuple[str, ...]:
    """Settings."""
    return "noise=symmetric", f"noise.rate={rate}"


def asymmetric(class_map: str) -> tuple[str, ...]:
    """Settings; 40 %."""
    return "noise=asymmetric", "noise.rate=0.4", f"noise.class_map={class_map}"


INSTANCE = ("noise=instance", "noise.rate=0.4")
SMALL = ("dataset=arrays", "backbone.width=16", "embedding_size=32")
SETS = {
    "letters": Set(
        (*SMALL, "views.policy=symbols"), 30, 10,
        {
            "symmetric 50 %": symmetric(0.5), "symmetric 80 %": symmetric(0.8), "symmetric 90 %": symmetric(0.9),
            "asymmetric 40 %": asymmetric("{" + ", ".join(f"{k}: {(k + 1) % 53}" for k in range(53)) + "}"),
            "instance 40 %": INSTANCE,
        },
    ),
    "fashion": Set(
        (*SMALL, "views.policy=cifar10", "views.flip=true"), 30, 8,
        {
            "symmetric 50 %": symmetric(0.5), "symmetric 80 %": symmetric(0.8), "instance 40 %": INSTANCE,
            "asymmetric 40 %": asymmetric("{0: 6, 2: 4, 5: 7, 7: 9}"),
        },
    ),
    "digits": Set(
        ("dataset=digits",), 48, 8,
        {"symmetric 80 %": symmetric(0.8), "asymmetric 40 %": asymmetric("{7: 1, 2: 7, 5: 6, 6: 5, 3: 8}")},
    ),
    "clipart": Set(
        (*SMALL, "dataset.test_share=0.5", "views.policy=cifar10", "views.flip=true"), 24, 4,
        {"symmetric 40 %": symmetric(0.4)},
    ),
}  # fmt: skip

# How the networks learn: as in the paper (but for lambda_u), and as dataset=arrays has it.
PAPERS = ("semisup=mixmatch", "semisup.lambda_u=0", "training.full_epochs=false")
OWN = ("semisup=unmixed", "training.full_epochs=true", "views.policy=weak")
PLAIN, LONG = "none", "none, equal time"
LATER = ("uniform", "knn", "wrong_events", "mixture_2d", "probe")
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "paper": {
        PLAIN: ("cleaner=none",),
        LONG: ("cleaner=none",),
        **{name: (f"cleaner={name}", *PAPERS) for name in ("gmm_agn", "gmm_awr", "cpc_agn", "cpc_awr", "oracle")},
    },
    "own": {f"{name}, own data": (f"cleaner={name}", *OWN) for name in ("gmm_agn", "cpc_agn", "cpc_awr", "oracle")},
    "later": {name: (f"cleaner={name}", *PAPERS) for name in LATER},
    "later, own": {f"{name}, own data": (f"cleaner={name}", *OWN) for name in LATER},
    "careful": {  # own data, where plain training is ahead: no label left out but weighted, or divided late
        "gmm_agn, own data, weights": ("cleaner=gmm_agn", "cleaner.threshold=1e-6", *OWN),
        "cpc_awr, own data, weights": ("cleaner=cpc_awr", "cleaner.threshold=1e-6", "cleaner.gmm_threshold=0.5", *OWN),
        "cpc_awr, own data, late": ("cleaner=cpc_awr", *OWN, "training.warmup_epochs=16"),
    },
}
"""By group and name the settings of every choice."""

NUMBERS = (
    "test_accuracy_best", "test_accuracy_last", "test_accuracy_last10", "cleaner_auc_gmm", "cleaner_auc_cpc",
    "cleaner_auc_verdict", "cleaner_precision_cpc", "cleaner_recall_cpc", "ks_deviating_clean_1",
    "noise_rate_actual", "suspected_labels",
)  # fmt: skip
COLUMNS = (
    "set", "noise", "choice", "seed", *NUMBERS, "seconds", "settings", "version", "commit", "host",
)  # fmt: skip
CURVES = {
    "accuracy": "test/accuracy", "auc_gmm": "gmm/auc", "auc_cpc": "cpc/auc", "agreement_1": "gmm_cpc/agreement_1",
}  # fmt: skip
OF_CURVES = ("set", "noise", "choice", "seed", "epoch", *CURVES)


# Data ---------------------------------------------------------------------------------------------------------------


def shrink(images: npt.NDArray[Any], size: int) -> npt.NDArray[np.uint8]:
    """(N, H, W) to (N, size, size), H and W multiples of it: the mean of what falls together."""
    factor = images.shape[1] // size
    together = images.reshape(len(images), size, factor, size, factor)
    return together.mean(axis=(2, 4)).round().astype(np.uint8)


def letters() -> Arrays:
    """The arrays of both parts, under the names of dataset=arrays, "test_" before those of the test set."""
    made = make_letters(find_fonts())
    return {
        "images": shrink(made["images"], 16), "labels": made["labels"],
        "test_images": shrink(made["test_images"], 16), "test_labels": made["test_labels"],
    }  # fmt: skip


def fashion() -> Arrays:
    """As `letters`, of Debian's package."""
    whole = fashion_mnist(None, False)
    found: Arrays = {}
    for prefix, split, count in (("", whole.train, 6000), ("test_", whole.evaluation["test"], 2000)):
        drawn = np.random.default_rng(0).permutation(len(split))[:count]
        images = split.images.fetch(torch.from_numpy(drawn))[:, 0].numpy()
        found |= {f"{prefix}images": shrink(images, 14), f"{prefix}labels": split.labels.numpy()[drawn]}
    return found


def clipart(least: int = 30, side: int = 16, most: int = 20_000_000) -> Arrays:
    """Pictures on white, in the middle of a square; without those of more pixels than `most`."""
    images, labels, classes = [], [], 0
    for folder in sorted(path for path in CLIPART.iterdir() if path.is_dir()):
        files = sorted(folder.rglob("*.png"))
        if len(files) < least:
            continue
        for file in files:
            try:
                with Image.open(file) as picture:
                    if picture.width * picture.height > most:
                        continue
                    colour = picture.convert("RGBA")
            except (UnidentifiedImageError, Image.DecompressionBombError):
                continue
            colour.thumbnail((side, side))
            square = Image.new("RGB", (side, side), "white")
            square.paste(colour, ((side - colour.width) // 2, (side - colour.height) // 2), colour)
            images.append(np.asarray(square))
            labels.append(classes)
        classes += 1
    return {"images": np.stack(images), "labels": np.array(labels)}


MAKE: Mapping[str, Callable[[], Arrays]] = {"letters": letters, "fashion": fashion, "clipart": clipart}


def files_of(name: str, folder: Path) -> list[str]:
    """The settings that name a set's files, which are written where they are missing."""
    if name not in MAKE:
        return []
    train, test = folder / f"{name}.npz", folder / f"{name}_test.npz"
    if not train.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = MAKE[name]()
        tested = {key.removeprefix("test_"): value for key, value in arrays.items() if key.startswith("test_")}
        if tested:
            np.savez(test, **tested)
        np.savez(train, **{key: value for key, value in arrays.items() if not key.startswith("test_")})
    return [f"dataset.file={train}", *([f"dataset.test_file={test}"] if test.exists() else [])]


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
    def key(self) -> dict[str, str]:
        """Its columns."""
        return {"set": self.set, "noise": self.noise, "choice": self.choice, "seed": str(self.seed)}


def train(run: Run, data: Path, commit: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The run's row, and the rows of its curves."""
    with tempfile.TemporaryDirectory(prefix="cleaners_") as home:
        settings = run.settings()
        command = [sys.executable, "-m", "cpc_lightning", *SHARED, *settings, *files_of(run.set, data)]
        with Path(home, "log").open("w") as log:
            process = subprocess.Popen(
                [*command, f"hydra.run.dir={home}/run"], stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}\n{Path(home, 'log').read_text()[-2000:]}")
        folder = Path(home, "run")
        summary = json.loads((folder / "summary.json").read_text())
        version = json.loads((folder / "versions.json").read_text())["cpc-lightning"]
        with (folder / "metrics.csv").open(newline="") as file:
            epochs = list(csv.DictReader(file))
    row = run.key | {
        **{name: "" if summary.get(name) is None else f"{summary[name]:.6g}" for name in NUMBERS},
        "seconds": f"{used.ru_utime + used.ru_stime:.1f}", "megabytes": str(used.ru_maxrss // 1024),
        "settings": " ".join(settings), "version": version, "commit": commit, "host": cpu_name(),
    }  # fmt: skip
    curves = [
        run.key
        | {"epoch": epoch["epoch"]}
        | {name: f"{float(epoch[column]):.4g}" if epoch.get(column) else "" for name, column in CURVES.items()}
        for epoch in epochs
    ]
    return row, curves


def run_missing(runs: Sequence[Run], study: str, columns: Sequence[str], data: Path, jobs: int, minutes: float) -> None:
    """Train what has no row yet, in the order given; no run begins after that many minutes.

    Args:
        runs: all of the study.
        study: the rows go to RESULTS/STUDY_runs.csv, the curves to STUDY_curves.csv.
        columns: of the rows.
        data: where the sets' files are, or are to be.
        jobs: runs at once.
        minutes: see above.
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
            append_rows(curves, OF_CURVES, epochs)
        print(*run.key.values(), row["test_accuracy_last"], row["seconds"], "s", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, missing))


def main() -> None:
    """Run what is missing, and print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for group in CHOICES.values() for name in group]
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--noises", nargs="+", help="by name (default: all of each set)")
    parser.add_argument("--choices", nargs="+", default=["paper"], choices=[*CHOICES, *names], help="groups or names")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir(), "cleaners_data"))
    options = parser.parse_args()
    if not options.table:
        asked = [name for choice in options.choices for name in CHOICES.get(choice, {choice: ()})]
        settings = {choice: chosen for names in CHOICES.values() for choice, chosen in names.items()}
        runs = [
            Run(name, noise, choice, seed, settings[choice], LONGER if choice == LONG else 1)
            for seed, name in product(options.seeds, options.sets)
            for noise, choice in product(SETS[name].noises, asked)
            if options.noises is None or noise in options.noises
        ]
        run_missing(runs, "cleaners", COLUMNS, options.data, options.jobs, options.minutes)
    text = tables(read_rows(RESULTS / "cleaners_runs.csv"), read_rows(RESULTS / "cleaners_curves.csv"))
    print(text)
    (RESULTS / "cleaners_runs.md").write_text(text)


if __name__ == "__main__":
    main()
