"""Has a revision become slower, or larger in memory or on disk? Two revisions in one run, pair by pair.

    python benchmarks/regress.py main HEAD                  # all workloads, 5 pairs each; 20 minutes of one core
    python benchmarks/regress.py main HEAD --workloads digits --pairs 9

Takes both revisions out of git as `same_result.py` does, and trains each workload with one and the other in turns, on
one thread. Of every pair the ratio NEW / OLD counts: processor seconds, peak resident memory, size of last.ckpt and of
the run's folder. A table has the geometric mean of the ratios with its 95 % interval (Student's t of their logarithms).
The exit code is 1 where a mean is beyond 1.10 and its interval above 1, 2 where a run fails.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from measure import interval
from same_result import ROOT, THREADS, Revision, take_out, working_folder, write_data

LIMIT = 1.10
"""Beyond it a revision is worse."""

DIGITS = ("dataset=digits", "noise=symmetric", "noise.rate=0.5", "trainer.precision=32-true")
WORKLOADS: dict[str, tuple[str, ...]] = {
    "digits": (*DIGITS, "cleaner=cpc_awr", "training.epochs=10", "training.warmup_epochs=3"),
    "convolutions": (
        *DIGITS, "cleaner=gmm_agn", "backbone=preact_resnet18", "training.epochs=2", "training.warmup_epochs=1",
        "training.limit_batches=2", "callbacks=none", "report=false",
    ),
    "image_files": (
        "dataset=imagefolder", "dataset.root={data}/folders", "training.epochs=12", "training.warmup_epochs=2",
        "training.num_workers=0", "training.batch_size=8", "cleaner=cpc_agn", "callbacks=none",
    ),
}  # fmt: skip
"""The settings of each; {data} is the folder with files."""

MEASURES = ("seconds", "memory, MB", "checkpoint, MB", "run folder, MB")
MB = 2**20


def measure(revision: Revision, settings: Sequence[str], folder: Path) -> list[float]:
    """What a run takes, in the order of `MEASURES`; its folder is gone afterwards."""
    paths = os.pathsep.join(map(str, (revision.source, ROOT)))
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": paths}
    log = folder.with_suffix(".log")
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "cpc_lightning", *settings, f"hydra.run.dir={folder}"], cwd=folder.parent,
            env=environment, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(f"{revision.name} ({revision.commit}) failed:\n{log.read_text()[-2000:]}", file=sys.stderr)
        raise SystemExit(2)
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    checkpoint = (folder / "checkpoints" / "last.ckpt").stat().st_size
    shutil.rmtree(folder)
    return [used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, checkpoint / MB, whole / MB]


def compared(old: Sequence[float], new: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean of NEW / OLD, pair by pair, and the ends of its 95 % interval."""
    logs = [math.log(after / before) for before, after in zip(old, new, strict=True)]
    low, high = interval(logs) if len(logs) > 1 else (-math.inf, math.inf)
    return math.exp(fmean(logs)), math.exp(low), math.exp(high)


def is_worse(ratio: tuple[float, float, float]) -> bool:
    """Whether a mean ratio is beyond the limit, and not by chance."""
    mean, low, _ = ratio
    return mean > LIMIT and low > 1


def main() -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs=2, metavar=("OLD", "NEW"), help="commits, as git names them")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    worse = []
    with working_folder(None) as home:
        revisions = [take_out(name, text, home) for name, text in zip("AB", options.revisions, strict=True)]
        for name, revision in zip(("old", "new"), revisions, strict=True):
            print(f"{name}: {revision.commit}")
        write_data(home / "data")
        print("\n| workload | measure | old | new | new / old |\n|---|---|---|---|---|")
        for name in options.workloads:
            settings = [text.replace("{data}", str(home / "data")) for text in WORKLOADS[name]]
            found: list[list[list[float]]] = [[], []]
            for pair in range(options.pairs):
                for side in (0, 1) if pair % 2 == 0 else (1, 0):  # neither is always the first
                    found[side].append(measure(revisions[side], settings, home / f"{name}_{pair}_{side}"))
            for measured, old, new in zip(
                MEASURES, zip(*found[0], strict=True), zip(*found[1], strict=True), strict=True
            ):
                ratio = compared(old, new)
                shown = "{:.2f} ({:.2f} to {:.2f})".format(*ratio)
                print(f"| {name} | {measured} | {fmean(old):.1f} | {fmean(new):.1f} | {shown} |", flush=True)
                if is_worse(ratio):
                    worse.append(f"{name}, {measured}: {shown}")
    for line in worse:
        print(f"worse: {line}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
