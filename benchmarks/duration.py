"""How long runs take, against what is told before they start.

    python benchmarks/duration.py            # about twelve minutes of one core

Each run is told and timed in a process of its own, with one thread on one processor, in CPU time, because a wall clock
on a busy machine tells of its neighbours; `--wall` takes the wall clock and leaves threads and processors as they are.
EfficientNet-Lite0 needs the packages that `photos.py` names. Writes benchmarks/results/duration.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import report
from PIL import Image

BRIEF = ("training.epochs=10", "training.warmup_epochs=3", "optimizer.schedule.milestones=[6]")
NOISE = ("noise=symmetric", "noise.rate=0.4")
CASES: dict[str, tuple[str, ...]] = {
    "digits": ("dataset=digits", *BRIEF),
    "digits, 40 % wrong, cleaner=gmm_agn": ("dataset=digits", "cleaner=gmm_agn", *NOISE, *BRIEF),
    "digits, cleaner=none": ("dataset=digits", "cleaner=none", *BRIEF),
    "600 JPEGs of 160 x 120, 40 % wrong": (
        "dataset=imagefolder", "dataset.root=FOLDER/jpegs", "training.divide_when=scheduled", *NOISE, *BRIEF,
        "training.num_workers=0", "views.size=28",
        "backbone=small_resnet",
    ),
    "the same, features of EfficientNet-Lite0": (
        "experiment=photos", "dataset.root=FOLDER/jpegs", *NOISE, "features.size=64", "features.folder=FOLDER/features",
        "features=module", "features.network._target_=photos.Lite0", "features.mean=[0.498]", "features.std=[0.502]",
    ),
    "3,000 embeddings of 64 numbers": (
        "dataset=embeddings", "dataset.file=FOLDER/embeddings.npz", "cleaner=probe", *BRIEF,
    ),
}  # fmt: skip


def make_data(folder: Path) -> None:
    """JPEGs in folders of their classes, and embeddings: noise around a pattern of each class."""
    rng = np.random.default_rng(0)
    for label in range(6):
        place = folder / "jpegs" / f"class_{label}"
        place.mkdir(parents=True)
        pattern = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        for number in range(100):
            smooth = np.asarray(Image.fromarray(pattern).resize((160, 120), Image.Resampling.BICUBIC), dtype=np.float64)
            noisy = (smooth + rng.normal(0, 40, smooth.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(place / f"{number}.jpg")
    labels = rng.integers(0, 10, 3000)
    features = rng.normal(0, 1, (10, 64))[labels] + rng.normal(0, 1.5, (3000, 64))
    given = np.where(rng.random(3000) < 0.3, rng.integers(0, 10, 3000), labels)
    np.savez(folder / "embeddings.npz", features=features.astype(np.float32), labels=given)


def measure(texts: list[str], wall: bool) -> dict[str, object]:
    """Seconds that are told, and that the run takes, with the parts of the former."""
    from cpc_lightning.app.ahead import forecast_of
    from cpc_lightning.app.compose import compose
    from cpc_lightning.app.folders import with_folder
    from cpc_lightning.app.parts import Parts
    from cpc_lightning.app.rehearsal import Rehearsal
    from cpc_lightning.app.run import run_parts

    clock = time.perf_counter if wall else time.process_time
    if not wall:
        time.perf_counter = time.process_time  # of the features' own look ahead
    settings = with_folder(compose([*texts, "trainer.enable_progress_bar=false"]))
    rehearsal = Rehearsal(settings)
    rehearsal.ready()
    begin = clock()
    found = forecast_of(rehearsal, rehearsal.features_seconds, clock)
    telling = clock() - begin
    parts = Parts(settings)
    begin = clock()
    parts.ready()
    opening = clock() - begin if parts.features.active else 0.0
    begin = clock()
    run_parts(parts)
    true = clock() - begin + opening
    return {"told": found.total, "true": true, "telling": telling, "shares": found.shares}


def main() -> None:
    """Measure, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wall", action="store_true", help="by the wall clock; for a machine without other work")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose name holds it")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        if not options.wall:
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        print(json.dumps(measure(options.one, options.wall)), file=sys.stderr)
        return
    rows = []
    with tempfile.TemporaryDirectory() as home:
        make_data(Path(home))
        for number, (name, case) in enumerate(CASES.items()):
            if options.only not in name:
                continue
            texts = [text.replace("FOLDER", home) for text in (*case, f"run_dir={home}/{number}")]
            environment = os.environ | ({} if options.wall else {"OMP_NUM_THREADS": "1"})
            line = [sys.executable, __file__, *(["--wall"] if options.wall else []), "--one", *texts]
            done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
            found = json.loads(done.stderr.splitlines()[-1])
            rows.append([name, found["told"], found["true"], found["told"] / found["true"], found["telling"]])
            print(name, found, flush=True)
    columns = ["run", "told, s", "true, s", "told / true", "telling, s"]
    clock = "wall clock" if options.wall else "CPU time on one thread and one processor"
    notes = [f"{clock}; each run once", "goal: told / true between 0.75 and 1.25"]
    report("duration", "What is told before a run, against what it takes", columns, rows, notes)


if __name__ == "__main__":
    main()
