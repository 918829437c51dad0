"""Learning curves of one process with batch B and of two with batch B/2: the same within noise?

    python benchmarks/ddp.py --seeds 1 2 3 --folder runs/ddp

Both take the same steps on the same global batches. They differ in the views drawn, in mixup (one lambda and one
permutation a process), in BatchNorm (statistics of B/2 images) and in the mean prediction of the prior penalty. Prints
the test accuracy along the epochs, mean ± standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
from pathlib import Path

SETTINGS = ("noise=symmetric", "noise.rate=0.5", "callbacks=none")


def train(folder: Path, processes: int, batch_size: int, seed: int, more: list[str]) -> list[float]:
    """Test accuracy of each epoch; reads it from the run's folder if the run is there already."""
    table = folder / f"processes_{processes}_seed_{seed}" / "metrics.csv"
    if not (table.parent / "summary.json").exists():
        call = [
            sys.executable, "-m", "cpc_lightning", *SETTINGS, *more, f"seed={seed}",
            "trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={processes}",
            f"training.batch_size={batch_size // processes}", f"hydra.run.dir={table.parent}",
        ]  # fmt: skip
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
    with table.open(newline="") as file:
        return [float(row["test/accuracy"]) for row in csv.DictReader(file)]


def summary(values: list[float]) -> str:
    """`mean ± standard deviation`."""
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


def main() -> None:
    """Train what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path("runs/ddp"))
    parser.add_argument("settings", nargs="*", help="more settings of the runs, such as training.epochs=20")
    options = parser.parse_args()
    curves = {
        n: [train(options.folder, n, options.batch_size, seed, options.settings) for seed in options.seeds]
        for n in (1, 2)
    }
    epochs = len(curves[1][0])
    places = sorted({round(epochs * share) for share in (0.25, 0.5, 0.75, 1)})
    print("| processes x batch | " + " | ".join(f"epoch {p}" for p in places) + " | best | mean of the last 10 |")
    print("|---" * (len(places) + 3) + "|")
    for n, runs in curves.items():
        cells = [summary([run[place - 1] for run in runs]) for place in places]
        cells += [summary([max(run) for run in runs]), summary([statistics.fmean(run[-10:]) for run in runs])]
        print(f"| {n} x {options.batch_size // n} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
