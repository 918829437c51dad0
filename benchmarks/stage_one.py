"""Stage 1's fits at WebVision's size: seconds and peak memory, on generated evidence of one network.

    python benchmarks/stage_one.py --samples 1000000 2400000 --json stage_one.json

Features (2,048 a sample, half precision) lie around the centre of the true class; 30 % of the labels are wrong and have
larger losses. `fit` takes `--steps` mini-batches of 128; an epoch is estimated from it as samples / 128 such steps.
Memory is the process's peak resident size within the phase, generated evidence included.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cpc_lightning.cleaning.gmm import class_agnostic_probability, class_aware_probability
from cpc_lightning.cleaning.prototypes import PrototypeHead, fit_prototypes

FEATURES, EMBEDDING, BATCH = 2048, 128, 128
CHUNK = 1 << 14


class Phases:
    """Seconds and peak memory of each phase, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.gigabytes: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure the block."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 2)
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        self.gigabytes[name] = round(int(peak.split()[1]) * 1024 / 1e9, 2)


def measure(samples: int, classes: int, steps: int) -> dict[str, object]:
    """All phases on `samples` samples of `classes` classes."""
    phases = Phases()
    generator = torch.Generator().manual_seed(0)
    with phases.measure("generate"):
        true = torch.randint(0, classes, (samples,), generator=generator)
        wrong = torch.rand(samples, generator=generator) < 0.3
        labels = torch.where(wrong, torch.randint(0, classes, (samples,), generator=generator), true)
        noise = torch.randn(samples, generator=generator)
        losses = torch.where(wrong, 0.6 + 0.15 * noise, 0.2 + 0.1 * noise).clamp(0, 1)
        centres = torch.randn(classes, FEATURES, generator=generator)
        features = torch.empty(samples, FEATURES, dtype=torch.float16)
        for rows, classes_of in zip(features.split(CHUNK), true.split(CHUNK), strict=True):
            rows.copy_(centres[classes_of] + torch.randn(rows.shape, generator=generator))
    scaled = losses.double().numpy()
    with phases.measure("gmm_agn"):
        class_agnostic_probability(scaled, seed=0)
    with phases.measure("gmm_awr"):
        probability, _ = class_aware_probability(scaled, labels.numpy(), seed=0)
    labeled = torch.from_numpy(probability) > 0.5
    torch.manual_seed(0)
    head = PrototypeHead(FEATURES, EMBEDDING, classes)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.02, momentum=0.9)
    with phases.measure("standardise"):
        head.standardise_to(features)
    with phases.measure("fit"):
        fit_prototypes(
            head, optimizer, features, labels, labeled, torch.zeros_like(labeled), true,
            alpha=0.0, steps=steps, batch_size=BATCH, seed=0,
        )  # fmt: skip
    with phases.measure("clean_probability"):
        head.clean_probability(features, labels)
    return {
        "samples": samples,
        "classes": classes,
        "steps": steps,
        "threads": torch.get_num_threads(),
        "features_gigabytes": round(features.numel() * 2 / 1e9, 2),
        "seconds": phases.seconds,
        "peak_gigabytes": phases.gigabytes,
        "prototype_epoch_seconds": round(phases.seconds["fit"] / steps * samples / BATCH, 1),
    }


def main() -> None:
    """Measure each size, print a table, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    results = [measure(samples, options.classes, options.steps) for samples in options.samples]
    names = list(results[0]["seconds"])  # type: ignore[call-overload]
    print("| samples | features | " + " | ".join(names) + " | one prototype epoch |")
    print("|---" * (len(names) + 3) + "|")
    for r in results:
        cells = [f"{r['seconds'][name]:.1f} s, {r['peak_gigabytes'][name]:.1f} GB" for name in names]  # type: ignore[index]
        size = f"{r['samples']:,} | {r['features_gigabytes']} GB"
        print(f"| {size} | {' | '.join(cells)} | {r['prototype_epoch_seconds']} s |")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
