"""Kills a run at random moments, resumes it, and compares its end with that of a run that nobody killed.

    python -m benchmarks.reliability            # 30 kills; prints the table of docs/reliability.md

Run it in the repository's root with the extra `dev` installed. Processes, signals (SIGKILL) and files are real. The run
has six epochs on the digits with all of the method: network warm-up, CPC warm-up, and what comes after.
"""

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path

from tests.runs import PHASES, SIX_EPOCHS, digest, finish, start, wait_for

EPOCHS = 6
MOMENTS = {
    "in an epoch": "training",
    "in stage 1": "stage 1",
    "while a checkpoint is being written": "saving",
}


def kill(folder: Path, moment: str, epoch: int, delay: float) -> bool:
    """Start a run in `folder` and kill it; whether that left a half-written checkpoint."""
    phase = folder / "phase"
    process = start([*SIX_EPOCHS, PHASES % phase, f"hydra.run.dir={folder / 'run'}"], folder / "log")
    wait_for(lambda: phase.exists() and phase.read_text() == f"{epoch} {MOMENTS[moment]}", process)
    if MOMENTS[moment] == "saving":
        wait_for(lambda: any((folder / "run" / "checkpoints").glob(".*.tmp")), process)
    time.sleep(delay)
    process.kill()
    process.join()
    return any((folder / "run").rglob(".*.tmp"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    home = Path(tempfile.mkdtemp(prefix="reliability_"))
    assert finish([*SIX_EPOCHS, f"hydra.run.dir={home / 'straight' / 'run'}"], home / "log") == 0
    expected = digest(home / "straight" / "run")

    rows: dict[str, list[tuple[bool, bool, bool]]] = {moment: [] for moment in MOMENTS}
    for number in range(options.kills):
        moment = list(MOMENTS)[number % len(MOMENTS)]
        epoch = draw.randint(2 if moment == "in stage 1" else 1, EPOCHS)  # the first epoch ends without stage 1
        folder = home / str(number)
        folder.mkdir()
        half = kill(folder, moment, epoch, draw.uniform(0, 0.003 if MOMENTS[moment] == "saving" else 0.1))
        done = finish([f"resume={folder / 'run'}", "~callbacks.phases"], folder / "log") == 0
        same = done and digest(folder / "run") == expected
        clean = not any((folder / "run").rglob(".*.tmp"))
        rows[moment].append((half, same, clean))
        print(
            f"kill {number + 1}: {moment}, epoch {epoch}: half-written {half}, same end {same}, clean {clean}",
            flush=True,
        )

    print("\n| killed | n | left a half-written file | ended as if not killed | half-written files at the end |")
    print("|---|---|---|---|---|")
    for moment, row in rows.items():
        half, same, clean = (sum(column) for column in zip(*row, strict=True))
        print(f"| {moment} | {len(row)} | {half} | {same} | {len(row) - clean} |")
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
