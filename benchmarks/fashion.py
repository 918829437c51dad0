"""Does it learn? Fashion-MNIST with wrong labels, CPC against loss mixtures: runs side by side, within a given time.

    python benchmarks/fashion.py --seconds 300 [--epochs N]

Trains PreAct ResNet-18 on all images: asymmetric 40 % and symmetric 80 % noise, cleaner=cpc_* and gmm_*, and the first
of them in float32, too; all at once, for a machine that is lent for minutes. After so many seconds those that still
train are stopped, and the table tells how far each came. What each epoch has measured goes to results/fashion_NAME.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from measure import DEVICE, RESULTS, report

ASYMMETRIC, SYMMETRIC = ("noise=asymmetric", "noise.rate=0.4"), ("noise=symmetric", "noise.rate=0.8")
RUNS = {
    "asym40_cpc": (*ASYMMETRIC, "cleaner=cpc_agn"),
    "asym40_gmm": (*ASYMMETRIC, "cleaner=gmm_agn"),
    "sym80_cpc": (*SYMMETRIC, "cleaner=cpc_awr"),
    "sym80_gmm": (*SYMMETRIC, "cleaner=gmm_awr"),
    "asym40_cpc_float32": (*ASYMMETRIC, "cleaner=cpc_agn", "trainer.precision=32-true"),
}
FULL = ("dataset=fashion_mnist", "backbone=preact_resnet18")
TINY = ("dataset=digits", "backbone.width=8", "embedding_size=16", "training.limit_batches=2",
        "training.warmup_batch_size=512")  # fmt: skip


def start(name: str, folder: Path, epochs: int, tiny: bool) -> subprocess.Popen[str]:
    """The command line, in a process of its own; the learning rate falls after two thirds of the epochs."""
    warmup = max(1, epochs // 6)
    call = [
        sys.executable, "-m", "cpc_lightning", *(TINY if tiny else FULL), *RUNS[name],
        f"trainer={'gpu' if DEVICE.type == 'cuda' else 'cpu'}", f"training.epochs={epochs}",
        f"training.warmup_epochs={warmup}", f"optimizer.schedule.milestones=[{max(1, 2 * epochs // 3)}]",
        "callbacks=none", "report=false", "trainer.enable_progress_bar=false", f"hydra.run.dir={folder / name}",
    ]  # fmt: skip
    threads = str(max(1, (os.cpu_count() or 1) // len(RUNS)))
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            call, stdout=log, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": threads}
        )


def row(name: str, folder: Path, code: int) -> list[object]:
    """What a run has measured so far."""
    file = folder / name / "metrics.csv"
    if not file.exists():
        return [name, 0, "-", "-", "-", "-", code]
    shutil.copy(file, RESULTS / f"fashion_{name}.csv")
    with file.open(newline="") as lines:
        epochs = list(csv.DictReader(lines))
    accuracies = [float(epoch["test/accuracy"]) for epoch in epochs if epoch["test/accuracy"]]
    kind = "cpc" if "cpc" in name else "gmm"
    auc = next((float(epoch[f"{kind}/auc"]) for epoch in reversed(epochs) if epoch.get(f"{kind}/auc")), "-")
    seconds = median(float(epoch["seconds"]) for epoch in epochs)
    return [name, len(epochs), seconds, accuracies[-1], max(accuracies), auc, code]


def main() -> None:
    """Train, stop in time, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, required=True, help="after which what still trains is stopped")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--tiny", action="store_true", help="digits and a narrow network, to see that it runs")
    asked = parser.parse_args()
    end = time.monotonic() + asked.seconds
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        runs = {name: start(name, folder, asked.epochs, asked.tiny) for name in RUNS}
        while time.monotonic() < end and any(run.poll() is None for run in runs.values()):
            time.sleep(0.2)
        for run in runs.values():
            if run.poll() is None:
                run.send_signal(signal.SIGTERM)
        for run in runs.values():
            try:
                run.wait(10)
            except subprocess.TimeoutExpired:
                run.kill()
        rows = [row(name, folder, run.wait()) for name, run in runs.items()]
        for name, run in runs.items():
            if run.returncode:
                print(f"{name}:", *(folder / f"{name}.log").read_text().splitlines()[-8:], sep="\n  ")
    notes = [
        f"{asked.epochs} epochs were planned, the first {max(1, asked.epochs // 6)} in warm-up; a run that was stopped "
        "ends with exit code 143",
        "accuracy (%) on the test images, of both networks together; AUC of the last stage 1; one seed",
        "all runs at once on one device, so that the seconds of an epoch are not those of a run alone",
    ]
    columns = ["run", "epochs", "s an epoch", "last accuracy", "best", "AUC", "exit code"]
    title = "Digits, to see that it runs" if asked.tiny else "Fashion-MNIST with wrong labels"
    report("fashion", title, columns, rows, notes)


if __name__ == "__main__":
    main()
