"""How long the command line takes to answer and to start, in CPU time: medians of 5, in turns with another revision.

    python benchmarks/start.py --against b2570b4        # about five minutes of one core

What a person waits for before anything is trained: --help, --version, an import, a mistyped group, choice, setting and
value, mode=check, and a run of one short epoch. CPU time (user and system) of the whole process on one thread, because
a wall clock on a busy machine tells of its neighbours. Writes benchmarks/results/start.md.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path
from statistics import median

from measure import report
from same_result import Revision, take_out

RUN = (
    "cleaner=none", "training.epochs=1", "training.warmup_epochs=1", "training.limit_batches=1", "backbone.width=8",
    "embedding_size=16", "callbacks=none", "trainer.precision=32-true",
)  # fmt: skip
LINE = ["-m", "cpc_lightning"]
CALLS: dict[str, list[str]] = {
    "import cpc_lightning": ["-c", "import cpc_lightning"],
    "--version": [*LINE, "--version"],
    "--help": [*LINE, "--help"],
    "a mistyped group (noize=none)": [*LINE, "noize=none"],
    "a mistyped choice (noise=symetric)": [*LINE, "noise=symetric"],
    "a mistyped setting (training.epoch=3)": [*LINE, "training.epoch=3"],
    "a wrong value (seed=x)": [*LINE, "seed=x"],
    "mode=check": [*LINE, "mode=check", *RUN],
    "a run of one batch": [*LINE, *RUN],
}


def cpu_seconds(revision: Revision, arguments: list[str], folder: Path) -> float:
    """User and system time of the process and of those that it waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    revision.call(arguments, folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REV", help="another revision, measured in turns with HEAD")
    parser.add_argument("--rounds", type=int, default=5, help="after one that does not count (default: 5)")
    options = parser.parse_args()
    names = ["HEAD", *([options.against] if options.against else [])]
    with tempfile.TemporaryDirectory() as home:
        revisions = [take_out(str(place), name, Path(home)) for place, name in enumerate(names)]
        rows = []
        for what, arguments in CALLS.items():
            times: list[list[float]] = [[] for _ in revisions]
            for turn in range(options.rounds + 1):
                for place, revision in enumerate(revisions):
                    with tempfile.TemporaryDirectory() as folder:
                        spent = cpu_seconds(revision, arguments, Path(folder))
                    if turn:
                        times[place].append(spent)
            here, *others = map(median, times)
            rows.append([what, here, *(value for other in others for value in (other, other / here))])
    columns = ["call", "CPU seconds", *([f"at {options.against}", "times faster"] if options.against else [])]
    notes = [f"medians of {options.rounds} after one that does not count; revisions in turns"]
    notes += [f"{name}: {revision.commit}" for name, revision in zip(names, revisions, strict=True)]
    report("start", "CPU time until an answer", columns, rows, notes)


if __name__ == "__main__":
    main()
