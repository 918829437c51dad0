"""Peak memory of a run against the plain loop's, workers included, each in processes of its own.

    python benchmarks/memory.py [--workloads preact small] [--steps N] [--samples N]

Everything of a run, an epoch of warm-up and one of co-training, but for the number of steps, on which the peak does not
depend: this library's command line (evaluation, stage 1, checkpoints, label report), and the plain loop.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import DEVICE, report
from plain_loop import PlainLoop
from workloads import USUAL, WORKLOADS, compose, halves, load, make_parts

from cpc_lightning.datasets.cifar import CIFAR100_NAMES


def proportional(pid: int) -> float:
    """Megabytes of a process and its children; what several share counts once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
        children = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0.0
    return own + sum(proportional(int(child)) for some in children for child in some)


def peak(command: list[str]) -> tuple[float, float]:
    """Megabytes at most of a command's processes, looked at every half second, and seconds."""
    most, begin = 0.0, time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        while process.poll() is None:
            most = max(most, proportional(process.pid))
            time.sleep(0.5)  # a look takes milliseconds of the processor, too
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{said.read()}")
    return most, time.perf_counter() - begin


def plain_run(name: str, steps: int, samples: int) -> None:
    """Both networks of the plain loop: warm-up, co-training, pass."""
    workload = WORKLOADS[name]
    config = compose(workload, "training.channels_last=false")
    module, datamodule, method = make_parts(config, load(workload, samples))
    loop = PlainLoop(list(module.networks), datamodule.dataset, method.views, workload.batch_size, DEVICE)
    for number in (0, 1):
        loop.warm_up(number, steps)
    for number in (0, 1):
        loop.train(number, halves(samples)[0].clean_probability.numpy(), steps=steps)
        loop.loss_pass(number)


def write_cifar(folder: Path, samples: int) -> None:
    """Random images in CIFAR-100's files."""
    target = folder / "cifar-100-python"
    target.mkdir()
    draws = np.random.default_rng(0)
    for name, count in (("train", samples), ("test", samples // 5)):
        content = {
            "data": draws.integers(0, 256, (count, 3072), np.uint8), "fine_labels": [k % 100 for k in range(count)]
        }  # fmt: skip
        (target / name).write_bytes(pickle.dumps(content))
    (target / "meta").write_bytes(pickle.dumps({"fine_label_names": list(CIFAR100_NAMES)}))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=USUAL, default=USUAL)
    parser.add_argument("--steps", type=int, default=3, help="of each network in an epoch")
    parser.add_argument("--samples", type=int, default=10_000, help="of random images; Fashion-MNIST is taken whole")
    parser.add_argument("--plain", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plain:
        plain_run(asked.plain[0], asked.steps, int(asked.plain[1]))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_cifar(Path(folder), asked.samples)
        data = {
            "preact": ["dataset=cifar100", f"dataset.root={folder}", "dataset.verify=false"],
            "small": ["dataset=fashion_mnist"],
        }
        for name in asked.workloads:
            workload = WORKLOADS[name]
            ours = [
                sys.executable, "-m", "cpc_lightning", f"hydra.run.dir={folder}/run_{name}", *data[name],
                "noise=symmetric", "noise.rate=0.5", *workload.overrides, "callbacks=none",
                f"training.batch_size={workload.batch_size}", f"training.limit_batches={asked.steps}",
                "training.epochs=2", "training.warmup_epochs=1", "optimizer.schedule.milestones=[1]",
            ]  # fmt: skip
            samples = workload.full_samples if name == "small" else asked.samples
            plain = [sys.executable, __file__, "--steps", str(asked.steps), "--plain", name, str(samples)]
            base = None
            for side, command in {"plain loop": plain, "this library": ours}.items():
                found, spent = peak(command)
                base = base or found
                rows.append([workload.title, samples, side, found, f"{found / base:.2f}", spent])
    notes = [
        "MB: the most memory of all processes of a side together, workers included, looked at every half second",
        f"{asked.steps} steps of each network in an epoch of co-training, after one of warm-up (of the plain loop "
        "as many steps, of this library whole); the plain loop saves, evaluates and reports nothing",
        "a sample more takes this library its pixels and 4 bytes for each feature of each network (3 + 4 KB in PreAct "
        "ResNet-18)",
    ]
    report("memory", "Peak memory", ["workload", "samples", "side", "MB", "of the plain loop", "s"], rows, notes)


if __name__ == "__main__":
    main()
