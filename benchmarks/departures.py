"""What it changes to do as the paper does where this library departs from it: runs on the digits, in pairs.

    OMP_NUM_THREADS=1 python benchmarks/departures.py           # the runs that are missing, then the table
    python benchmarks/departures.py --table                     # the table of docs/paper.md, from the rows that exist

Each run is the README's main job (digits, 80 % symmetric noise, cpc_awr) cut from 48 epochs to 24, its learning rate a
tenth from epoch 14 on instead of 32, in float32, with one setting otherwise: about a minute on one thread. Runs of a
seed share wrong labels, first weights and batches, and are compared with that seed's run by default. Rows are appended
to RESULTS/departures_runs.csv when a run ends; started again, the script takes up what is missing.

The loss pass of each default run's end is taken twice, in float32 and in bfloat16 (on a CPU without such arithmetic
torch rounds as if it had it, only slower): what mixtures and prototypes then say of the labels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from measure import RESULTS, append_rows, read_rows
from omegaconf import OmegaConf
from torch import Tensor

from cpc_lightning.analysis.metrics import cleaner_metrics
from cpc_lightning.app.parts import Parts
from cpc_lightning.cleaning.gmm import class_aware_probability, scale_losses
from cpc_lightning.training.observation import observe_batch

RUN = (
    "dataset=digits", "noise=symmetric", "noise.rate=0.8", "cleaner=cpc_awr", "training.epochs=24",
    "optimizer.schedule.milestones=[14]", "trainer.precision=32-true", "callbacks=none",
)  # fmt: skip
DEFAULT = "(defaults)"
# Settings beyond RUN. One pass over the digits is 12 steps of 128; 0.05 and 64 are the networks' rate and batch.
SETTINGS = (
    DEFAULT,
    "cleaner.standardise_features=false",
    "cleaner.steps=12",
    "cleaner.tolerance=0",
    "optimizer.head.lr=0.05 cleaner.batch_size=64",
)
SEEDS = (1, 2, 3)
MEASURES = ("test_accuracy_last10", "cleaner_auc_cpc")  # of summary.json
NUMBERS = (*MEASURES, "cleaner_auc_gmm", "test_accuracy_last", "seconds")
PASS = ("gmm_auc_bf16", "cpc_auc_bf16", "gmm_sides_changed", "cpc_sides_changed")  # of the default runs alone
COLUMNS = ("setting", "seed", *NUMBERS, *PASS)
HEADER = ("setting", "n", "accuracy, mean of last 10", "change", "AUC of CPC", "change")


def run(setting: str, seed: int) -> dict[str, str]:
    """Train, and answer the row."""
    more = [] if setting == DEFAULT else setting.split()
    with tempfile.TemporaryDirectory(prefix="departures_") as folder:
        command = ["-m", "cpc_lightning", f"hydra.run.dir={folder}/run", *RUN, *more, f"seed={seed}"]
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        return row_of(setting, seed, Path(folder) / "run")


def row_of(setting: str, seed: int, folder: Path) -> dict[str, str]:
    """The row of the finished run in `folder`."""
    summary = json.loads((folder / "summary.json").read_text())
    found = {name: summary[name] for name in NUMBERS}
    if setting == DEFAULT:
        found |= rounded_pass(folder, (summary["cleaner_auc_gmm"], summary["cleaner_auc_cpc"]))
    return {"setting": setting, "seed": str(seed), **{name: f"{value:.6g}" for name, value in found.items()}}


@torch.no_grad()
def rounded_pass(folder: Path, logged: tuple[float, float]) -> dict[str, float]:
    """AUC of mixtures and prototypes after a loss pass in bfloat16, and the share of labels whose side it changes.

    Networks and prototypes are the finished run's, mixtures are fitted anew, from stage 1's seed. The pass in float32
    must give the AUC that the run `logged` of mixtures and prototypes.
    """
    parts = Parts(OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))  # type: ignore[arg-type]
    module, data = parts.module.eval(), parts.datamodule
    saved = torch.load(folder / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(saved["state_dict"])
    labels, exact, rounded = data.noisy_labels, *(clean_probabilities(parts, bf16) for bf16 in (False, True))
    found = {}
    for name, single, half, auc in zip(("gmm", "cpc"), exact, rounded, logged, strict=True):
        seen = [cleaner_metrics(q, q > 0.5, labels, data.true_labels)["auc"] for q in (single.mean(0), half.mean(0))]
        assert abs(seen[0] - auc) < 1e-4, (name, seen, auc)
        found[f"{name}_auc_bf16"] = seen[1]
        found[f"{name}_sides_changed"] = float(((single > 0.5) != (half > 0.5)).double().mean())
    return found


def clean_probabilities(parts: Parts, bf16: bool) -> tuple[Tensor, Tensor]:
    """Clean probabilities: q' of the class mixtures and q of the prototypes, each (2, N), by network 1 and 2."""
    module, data = parts.module, parts.datamodule
    batches = []
    for batch in data.evidence_dataloader(data.labeled):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            answers = module.features_and_logits(batch["images"])
        batches.append(observe_batch(answers, batch["labels"]))
    seen = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    labels, mixtures, prototypes = data.noisy_labels, [], []
    last = [parts.settings["seed"], parts.settings["training"]["epochs"]]
    seed = int(np.random.SeedSequence(last).generate_state(1)[0])
    for number in (1, 2):
        scaled = scale_losses(seen[f"losses_{number}"]).double().numpy()
        mixtures.append(torch.from_numpy(class_aware_probability(scaled, labels.numpy(), seed)[0]))
        head = module.network(number - 1).head
        prototypes.append(head.clean_probability(seen[f"features_{number}"], labels))
    return torch.stack(mixtures), torch.stack(prototypes)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: mean ± standard deviation (n - 1) of each measure, and of its differences from the same seed's default.

    A setting counts the seeds that it shares with the default: means are over these. The last row is the loss pass of
    the default runs in bfloat16.
    """
    found = {(row["setting"], int(row["seed"])): row for row in rows}
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for setting in SETTINGS:
        pairs = [
            (found[setting, seed], found[DEFAULT, seed])
            for seed in SEEDS
            if (setting, seed) in found and (DEFAULT, seed) in found
        ]
        if not pairs:
            continue
        cells = [setting if setting == DEFAULT else f"`{setting}`", str(len(pairs))]
        for measure, digits in zip(MEASURES, (2, 3), strict=True):
            values, before = ([float(row[measure]) for row in side] for side in zip(*pairs, strict=True))
            changes = [value - old for value, old in zip(values, before, strict=True)]
            cells += [spread(values, digits), "-" if setting == DEFAULT else spread(changes, digits, sign="+")]
        lines.append("| " + " | ".join(cells) + " |")
    rounded = [row for row in rows if row["setting"] == DEFAULT and row["cpc_auc_bf16"]]
    if rounded:
        values = [float(row["cpc_auc_bf16"]) for row in rounded]
        changes = [float(row["cpc_auc_bf16"]) - float(row["cleaner_auc_cpc"]) for row in rounded]
        cells = [str(len(rounded)), "-", "-", spread(values, 3), spread(changes, 5, sign="+")]
        lines.append("| (defaults), the last loss pass in bfloat16 | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int, sign: str = "") -> str:
    """`mean ± standard deviation`, with a sign where it is a difference; the mean alone of one value."""
    mean = f"{statistics.fmean(values):{sign}.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def main() -> None:
    """Run what is missing, seed by seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    file = RESULTS / "departures_runs.csv"
    done = {(row["setting"], int(row["seed"])) for row in read_rows(file)}
    missing = [(setting, seed) for seed in SEEDS for setting in SETTINGS if (setting, seed) not in done]
    for setting, seed in [] if asked.table else missing:
        print(f"{setting}, seed {seed}", file=sys.stderr, flush=True)
        append_rows(file, COLUMNS, [run(setting, seed)])
    print(table(read_rows(file)))


if __name__ == "__main__":
    main()
