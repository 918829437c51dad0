"""How long steps take with two threads that wait in different ways, and with one; alone, and beside other work.

    python benchmarks/threads.py [--workloads preact small] [--rounds N] [--settings NAME ...]

Each setting of the environment has a process of its own, which takes its turn in every round, first alone and then
beside one process that computes without end; the table has the medians. The notes say how many cores other processes
used meanwhile. About 5 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

WAITS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SETTINGS = {
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "2 threads, passive": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    "2 threads, spin 1,000": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "1000"},
    "2 threads, spin 10,000": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "10000"},
    "2 threads, spin 100,000": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "100000"},
    "1 thread": {"OMP_NUM_THREADS": "1"},
}
BATCH = {"preact": 16, "small": 128}  # labeled images a step; in a turn each network takes one
NEIGHBOUR = "while True: pass"


def work(name: str) -> None:
    """Answer each line of standard input with the seconds of a step, until there are no more."""
    from epoch import Ours
    from workloads import WORKLOADS, halves

    workload = WORKLOADS[name]
    samples = 2 * BATCH[name]
    ours = Ours(workload, samples, f"training.batch_size={BATCH[name]}")
    partitions = halves(samples)
    for _ in sys.stdin:
        print(json.dumps(ours.epoch(partitions)), flush=True)


class Worker:
    """A process that trains under one setting, and does nothing between its turns."""

    def __init__(self, name: str, setting: dict[str, str]) -> None:
        kept = {key: value for key, value in os.environ.items() if key not in WAITS}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", name], env={**kept, **setting}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def turn(self) -> float:
        """Seconds of a step."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        lines = iter(self.process.stdout.readline, "")
        for line in lines:
            with suppress(ValueError):  # Lightning's own lines
                return float(json.loads(line))
        raise RuntimeError(f"a worker ended with exit code {self.process.wait()}")


def others(own: list[int]) -> float:
    """CPU seconds that processes other than `own` have used since the machine's start."""
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:4])
    ours = 0
    for process in own:
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ours += int(fields[11]) + int(fields[12])
    return (user + nice + system - ours) / tick


def measure(name: str, chosen: list[str], rounds: int) -> tuple[dict[tuple[str, bool], float], list[float]]:
    """Median seconds a step of each setting, alone and beside a neighbour; and the cores that others used."""
    workers = {setting: Worker(name, SETTINGS[setting]) for setting in chosen}
    times: dict[tuple[str, bool], list[float]] = {}
    loads: list[float] = []
    try:
        for worker in workers.values():  # one after the other: the first turn sets everything up
            worker.turn()
        for _ in range(rounds):
            for beside in (False, True):
                neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) if beside else None
                own = [os.getpid(), *(w.process.pid for w in workers.values()), *([neighbour.pid] if neighbour else [])]
                try:
                    for setting, worker in workers.items():
                        begin, before = time.perf_counter(), others(own)
                        times.setdefault((setting, beside), []).append(worker.turn())
                        loads.append((others(own) - before) / (time.perf_counter() - begin))
                finally:
                    if neighbour:
                        neighbour.kill()
                        neighbour.wait()
    finally:
        for worker in workers.values():
            worker.process.kill()
            worker.process.wait()
    return {key: median(spent) for key, spent in times.items()}, loads


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=BATCH, default=list(BATCH))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", choices=BATCH, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work)
        return
    from measure import report
    from workloads import WORKLOADS

    rows: list[list[Any]] = []
    notes = ["the worse of two ratios, to the best setting alone and to the best setting beside the neighbour, is last"]
    for name in asked.workloads:
        times, loads = measure(name, asked.settings, asked.rounds)
        best = {beside: min(times[setting, beside] for setting in asked.settings) for beside in (False, True)}
        for setting in asked.settings:
            alone, busy = (times[setting, beside] for beside in (False, True))
            worst = max(alone / best[False], busy / best[True])
            rows.append(
                [
                    f"{WORKLOADS[name].title}, batch {BATCH[name]}",
                    setting,
                    alone,
                    alone / best[False],
                    busy / best[False],
                    worst,
                ]
            )
        notes.append(f"{name}: other processes used {median(loads):.2f} cores meanwhile, at most {max(loads):.2f}")
    notes.append(f"medians of {asked.rounds} rounds; load averages at the end: {os.getloadavg()}")
    columns = ("workload", "setting", "s a step alone", "alone / best alone", "busy / best alone", "worst to best")
    report("threads", "Two threads beside other work", columns, rows, notes)


if __name__ == "__main__":
    main()
