"""Very many vectors: a run on 100,000, and the judgement of the labels of 1,000,000.

    python benchmarks/vectors.py FOLDER [--run 100000] [--judge 1000000] [--threads N]

Vectors of 512 numbers in 20 classes that overlap, around centres in a space of 32 dimensions, with noise in all 512;
30 % of the labels are drawn anew. `--judge` measures what a run does once and what grows fastest, `infer_true_classes`
(neighbours, regressions, votes), in a process of its own; 0 leaves either out, and its rows as they were.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import RESULTS, report
from shares import rows_of, run

NUMBERS, CLASSES, INSIDE = 512, 20, 32


def vectors(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (N, 512) float32, given labels (N,) and true ones (N,)."""
    generator = torch.Generator().manual_seed(seed)
    centres = 0.9 * torch.randn(CLASSES, INSIDE, generator=generator)
    spread = torch.randn(INSIDE, NUMBERS, generator=generator)
    true = torch.randint(CLASSES, (count,), generator=generator)
    drawn = torch.randint(CLASSES, (count,), generator=generator)
    given = torch.where(torch.rand(count, generator=generator) < 0.3, drawn, true)
    features = torch.empty(count, NUMBERS)
    for rows, classes in zip(features.split(10_000), true.split(10_000), strict=True):
        inside = centres[classes] + torch.randn(len(rows), INSIDE, generator=generator)
        rows.copy_(inside @ spread + 3 * torch.randn(len(rows), NUMBERS, generator=generator))
    return features, given, true


def judge(count: int) -> dict[str, Any]:
    """Seconds of each part of `infer_true_classes`, recall of the neighbours, AUC, and megabytes at most."""
    from shares import Clock
    from sklearn.metrics import roc_auc_score

    from cpc_lightning.cleaning import posterior

    clock = Clock()
    clock.spent = {name: [0.0, 0.0] for name in ("neighbours", "choice of the decays", "regressions", "votes")}
    clock.watch("neighbours", "cpc_lightning.cleaning.posterior:nearest")
    clock.watch("choice of the decays", "cpc_lightning.cleaning.posterior:choose_decay")
    clock.watch("votes", "cpc_lightning.cleaning.posterior:vote")

    features, given, true = vectors(count)
    begin = time.perf_counter(), time.process_time()
    judged = posterior.infer_true_classes(features, given, CLASSES)
    whole = time.perf_counter() - begin[0], time.process_time() - begin[1]
    clock.spent["regressions"] = [whole[kind] - sum(both[kind] for both in clock.spent.values()) for kind in (0, 1)]
    own = judged.posterior.gather(1, given[:, None]).squeeze(1)
    return {
        "parts": clock.spent, "seconds": whole[0], "cores": whole[1], "recall": judged.recall,
        "auc": float(roc_auc_score((given != true).numpy(), -own.numpy())), "noise_rate": judged.noise_rate,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def last_time(begin: str) -> tuple[list[list[Any]], list[str]]:
    """The rows and the notes of the committed results that begin so."""
    file = RESULTS / "vectors.json"
    found = json.loads(file.read_text()) if file.is_file() else {"rows": [], "notes": []}
    return (
        [row for row in found["rows"] if row[0].startswith(begin)],
        [note for note in found["notes"] if note.startswith(begin)],
    )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", type=int, default=100_000)
    parser.add_argument("--judge", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2, help="cores")
    parser.add_argument("--judging", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.judging:
        Path(asked.judging).write_text(json.dumps(judge(asked.judge)))
        return
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    asked.folder.mkdir(parents=True, exist_ok=True)
    folder = asked.folder.resolve()
    cores = "one core" if asked.threads == 1 else f"{asked.threads} cores"
    rows, notes = ([], []) if asked.run else last_time("a run on")
    if asked.run:
        file = folder / f"train_{asked.run}.npz"
        if not file.is_file():
            features, given, true = vectors(asked.run + 2000)
            kept = slice(asked.run), slice(asked.run, None)
            for name, part in zip((file, folder / "test.npz"), kept, strict=True):
                arrays = {"features": features[part], "labels": given[part], "true_labels": true[part]}
                np.savez(name, **{key: value.numpy() for key, value in arrays.items()})
        shutil.rmtree(folder / "run", ignore_errors=True)
        found = run(
            ["experiment=photos", "dataset=embeddings", "features=none", f"dataset.file={file}",
             f"dataset.test_file={folder}/test.npz", f"hydra.run.dir={folder}/run"], folder,
        )  # fmt: skip
        name = f"a run on {asked.run:,}, {cores}"
        rows += [[name, *row, ""] for row in rows_of(found)[:-1]]
        rows.append([name, *rows_of(found)[-1], f"{found['megabytes']:,.0f} MB"])
    before: tuple[list[list[Any]], list[str]] = ([], []) if asked.judge else last_time("labels of")
    rows, notes = rows + before[0], notes + before[1]
    if asked.judge:
        result = folder / "judged.json"
        command = [sys.executable, __file__, str(folder), "--judge", str(asked.judge), "--judging", str(result)]
        subprocess.run(command, check=True)
        found = json.loads(result.read_text())
        name = f"labels of {asked.judge:,} judged, {cores}"
        rows += [[name, *row, ""] for row in rows_of(found)[:-1]]
        rows.append([name, *rows_of(found)[-1], f"{found['megabytes']:,.0f} MB"])
        notes.append(
            f"labels of {asked.judge:,}: recall of the 30 nearest {found['recall']:.4f} (by 512 samples), "
            f"AUC of wrong labels {found['auc']:.4f}, noise estimated {found['noise_rate']:.3f}"
        )
    notes += [
        f"{NUMBERS} numbers a vector, {CLASSES} classes, 30 % of the labels drawn anew",
        "by the clock, and of all cores together, which other programs on the machine change less",
    ]
    columns = ["what", "part", "s", "s of all cores", "share", "memory"]
    report("vectors", "Very many vectors", columns, rows, notes)


if __name__ == "__main__":
    main()
