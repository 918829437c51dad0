"""Step and epoch time against a plain loop in the way of the literature's code: same network, batch and data.

    python benchmarks/epoch.py [--workloads preact small] [--sides SIDE ...] [--steps N] [--rounds N] [--name NAME]

Every round times each side once, in turn, after one round that is not counted; the table has the medians. What is timed
is a short epoch: its samples are just enough for the steps; of the plain loop, by how much longer more steps take. A
full epoch is put together from the parts: half of the samples labeled.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import median

import pytorch_lightning as pl
import torch
from measure import DEVICE, alternate, report, seconds, wait
from plain_loop import PlainLoop
from workloads import USUAL, WORKLOADS, Workload, compose, halves, load, make_parts, make_task, quiet_trainer

from cpc_lightning.app.trainer import choose_precision
from cpc_lightning.cleaning.cpc import CpcCleaner
from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.training.observation import observe_batch

STEPS = {"preact": 1, "small": 8}
LONGER = 3  # times as many steps in the plain loop's second timing
SIDES = {
    "this library": (),
    "float32": ("trainer.precision=32-true",),
    "channels first": ("training.channels_last=false",),
    "compiled": ("training.compile=true",),
}


class EpochClock(pl.Callback):
    """Seconds of the training part of an epoch, the wait for its first batch included."""

    def __init__(self) -> None:
        self.seconds, self._begin = 0.0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        wait()
        self._begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        wait()
        self.seconds = time.perf_counter() - self._begin


class Ours:
    """This library on the workload, with some settings."""

    def __init__(self, workload: Workload, samples: int, *overrides: str) -> None:
        self.config = compose(workload, *overrides)
        self.module, self.datamodule, self.method = make_parts(self.config, load(workload, samples))
        self.trainer: pl.Trainer | None = None

    def epoch(self, partitions: tuple[Partition, Partition] | None) -> float:
        """Seconds a step, of an epoch of both networks."""
        self.datamodule.partitions = partitions
        clock = EpochClock()
        self.trainer = quiet_trainer(self.config, [clock])
        self.trainer.fit(self.module, self.datamodule)
        return clock.seconds / len(self.datamodule.train_dataloader())

    @torch.no_grad()
    def loss_pass(self) -> float:
        """Seconds an image and network, of stage 1's pass."""
        module = self.module.to(DEVICE).eval()

        def look() -> None:
            for batch in self.datamodule.evidence_dataloader(torch.arange(len(self.datamodule.noisy_labels))):
                with self.trainer.precision_plugin.forward_context():
                    answers = module.features_and_logits(batch["images"].to(DEVICE))
                _ = {name: value.cpu() for name, value in observe_batch(answers, batch["labels"].to(DEVICE)).items()}

        return seconds(look) / len(self.datamodule.noisy_labels) / 2


def measure(name: str, chosen: list[str], steps: int, rounds: int) -> list[list[object]]:
    """One row for each side."""
    workload = WORKLOADS[name]
    samples = 2 * steps * workload.batch_size
    sides = {side: Ours(workload, samples, *SIDES[side]) for side in chosen}
    first = sides[chosen[0]]
    networks = [copy.deepcopy(network) for network in first.module.networks]
    networks = [network.to(memory_format=torch.contiguous_format) for network in networks]
    more = load(workload, 2 * (LONGER * steps + 6) * workload.batch_size)  # so many that no loader runs dry
    plain = PlainLoop(networks, more, first.method.views, workload.batch_size, DEVICE)
    partitions = halves(samples)
    chances = halves(len(more.train))[0].clean_probability.numpy()

    times: dict[str, dict[str, list[float]]] = {side: defaultdict(list) for side in ("plain loop", *sides)}
    for turn in range(1 + rounds):
        found = {
            "plain loop": {
                "warm-up": a_step(lambda count: plain.warm_up(0, count), 2 * steps),
                "step": a_step(lambda count: plain.train(0, chances, steps=count), steps),
                "pass": seconds(lambda: plain.loss_pass(0)) / len(more.train),
            }
        }
        for side, ours in sides.items():
            found[side] = {"warm-up": ours.epoch(None), "step": ours.epoch(partitions), "pass": ours.loss_pass()}
        if turn > 0:  # the first round is for caches, kernels' choices and the compiler
            for side, parts in found.items():
                for part, spent in parts.items():
                    times[side][part].append(spent)
    fits = fit_seconds(workload)
    rows = []
    base = None
    for side, parts in times.items():
        step, warm_up, look = (median(parts[part]) for part in ("step", "warm-up", "pass"))
        each_network = workload.full_samples / 2 / workload.batch_size * step + workload.full_samples * look
        epoch = 2 * each_network + fits["plain" if side == "plain loop" else "ours"]
        base = base or (step, epoch)
        rows.append(
            [
                workload.title,
                side,
                step,
                base[0] / step,
                workload.batch_size / warm_up,
                1 / look,
                epoch,
                base[1] / epoch,
            ]
        )
    return rows


def a_step(work: Callable[[int], object], steps: int) -> float:
    """Seconds of one of the plain loop's steps: by how much longer it takes for more of them.

    A loader's start is a second of an epoch of minutes, and while it starts its workers make batches ahead: neither may
    count in a step.
    """
    short, long = (seconds(partial(work, count)) for count in (steps, LONGER * steps))
    return (long - short) / ((LONGER - 1) * steps)


def fit_seconds(workload: Workload) -> dict[str, float]:
    """Seconds of stage 1 beyond its pass, for the whole set and both networks: the plain loop has mixtures only."""
    task = make_task(workload.full_samples, workload.classes, workload.features)
    losses = task.judging[0].losses.numpy()
    ways = {
        "plain": lambda: [PlainLoop.clean_probability(losses) for _ in range(2)],
        "ours": lambda: CpcCleaner(class_aware=True).clean(task),
    }
    return alternate(ways, 1, warm=0)


def first_precision() -> str:
    """What trainer.precision=auto means here."""
    trainer = compose(WORKLOADS["small"]).trainer
    return choose_precision(trainer.precision, trainer.accelerator)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=USUAL, default=USUAL)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["this library", "float32"])
    parser.add_argument("--name", default="epoch", help="of the files of results")
    parser.add_argument("--steps", type=int, help="steps of each network in a round; 1 for preact, 8 for small")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.backends.cudnn.benchmark = True  # as this library's GPU runs have it; for both sides, and from the start
    rows = [
        row for name in asked.workloads for row in measure(name, asked.sides, asked.steps or STEPS[name], asked.rounds)
    ]
    columns = [
        "workload",
        "side",
        "s a step",
        "faster",
        "warm-up images/s",
        "pass images/s",
        "s an epoch",
        "faster (epoch)",
    ]
    notes = [
        "a step: one co-training step of one network, B labeled + B unlabeled images (64 for PreAct ResNet-18, 128 for "
        "small_resnet), loading included; of the plain loop not the start of its workers, but in the pass",
        "an epoch: both networks, half of the samples labeled, the pass over all samples, the fits of stage 1 (plain "
        "loop: mixtures alone); put together from the parts",
        f"this library computes in {first_precision()} by default on this device",
        f"medians of {asked.rounds} rounds in which the sides take turns",
    ]
    report(asked.name, "Step and epoch time against a plain loop", columns, rows, notes)


if __name__ == "__main__":
    main()
