"""Peak memory of a short run against the plain loop's, each in a process of its own.

python benchmarks/memory.py [--steps N]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import torch
from epoch import STEPS, Ours
from measure import DEVICE, report
from plain_loop import PlainLoop
from workloads import WORKLOADS, compose, halves, load, make_parts


def peak() -> float:
    """Megabytes: of the GPU where there is one, else of this process (the plain loop's workers come on top)."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(name: str, side: str, steps: int) -> float:
    """The peak of one side after an epoch and a pass."""
    workload = WORKLOADS[name]
    samples = 2 * steps * workload.batch_size
    if side == "plain loop":
        config = compose(workload, "training.channels_last=false")
        module, datamodule, method = make_parts(config, load(workload, samples))
        loop = PlainLoop(list(module.networks), datamodule.dataset, method.views, workload.batch_size, DEVICE)
        for number in (0, 1):
            loop.train(number, halves(samples)[0].clean_probability.numpy())
            loop.loss_pass(number)
    else:
        ours = Ours(workload, samples)
        ours.epoch(halves(samples))
        ours.loss_pass()
    return peak()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="steps of each network; 1 for preact, 4 for small")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one[0], asked.one[1], int(asked.one[2]))))
        return
    rows = []
    for name, workload in WORKLOADS.items():
        base = None
        for side in ("plain loop", "this library"):
            command = [sys.executable, __file__, "--one", name, side, str(asked.steps or STEPS[name])]
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(answer.stdout.splitlines()[-1])
            base = base or found
            rows.append([workload.title, side, found, f"{found / base:.2f}"])
    what = (
        "the GPU's allocations"
        if DEVICE.type == "cuda"
        else "the training process; the plain loop's workers come on top"
    )
    notes = [f"peak of {what}; short epoch of both networks and the pass over all samples"]
    report("memory", "Peak memory", ["workload", "side", "MB", "of the plain loop"], rows, notes)


if __name__ == "__main__":
    main()
