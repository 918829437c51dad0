"""How much of a step is arithmetic that the device does at the speed it can: model FLOPs utilisation.

    python benchmarks/utilisation.py [--workloads preact small resnet50] [--rounds N]

Counted are the multiply-adds (as two) of the networks' convolutions and products, as torch's FLOP counter sees them, in
one co-training step. The yardsticks are measured in the same run: a large matrix product, and the same passes of a bare
stack of the network's convolutions (no BatchNorm, no ReLU, no loss, no views, no optimizer).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median

import torch
from epoch import Ours
from measure import DEVICE, alternate, report
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from workloads import USUAL, WORKLOADS, Workload, halves

from cpc_lightning.backbones.preact_resnet import PreActBlock, PreActResNet

STEPS = {"preact": 1, "small": 3, "resnet50": 1}
PRECISIONS = ("32-true", "bf16-mixed")


class BareStack(nn.Module):
    """The convolutions of a PreActResNet and nothing else."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.stem, self.stages = backbone.stem[0], backbone.stages

    def forward(self, images: Tensor) -> Tensor:
        """The shapes that the network itself goes through."""
        maps = self.stem(images)
        for block in self.stages:
            assert isinstance(block, PreActBlock)
            shortcut = maps if block.shortcut is None else block.shortcut(maps)
            maps = block.conv2(block.conv1(maps)) + shortcut
        return maps.mean(dim=(2, 3))


def passes(network: nn.Module, batch: Tensor, low: bool) -> None:
    """The passes of one step: six batches of guesses, then forward and backward over four."""
    with torch.autocast(DEVICE.type, torch.bfloat16) if low else nullcontext():
        with torch.no_grad():
            for _ in range(4):
                network(batch)
            network(batch.repeat(2, 1, 1, 1))
        out = network(batch.repeat(4, 1, 1, 1)).float().square().mean()
    out.backward()
    network.zero_grad()


def measure(workload: Workload, precision: str, steps: int, size: int, rounds: int) -> list[object]:
    """One row of the table."""
    low = precision != "32-true"
    samples = 2 * steps * workload.batch_size
    ours = Ours(workload, samples, f"trainer.precision={precision}")
    images = ours.datamodule.dataset.train.images.fetch(torch.arange(workload.batch_size)).to(DEVICE)
    batch = ours.method.views.normalise(images)
    network = copy.deepcopy(ours.module.network(0)).to(DEVICE)  # a fit leaves the module on the CPU
    bare = isinstance(network.backbone, PreActResNet)
    with FlopCounterMode(display=False) as counter:
        passes(network, batch, low=False)
    square = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16 if low else torch.float32)
    spent: list[float] = []
    peaks: list[int] = []

    def epoch() -> None:
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        spent.append(ours.epoch(halves(samples)))
        peaks.append(torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0)

    ways: dict[str, Callable[[], object]] = {"step": epoch, "product": lambda: square @ square}
    if bare:
        stack = BareStack(network.backbone)
        ways["stack"] = lambda: passes(stack, batch, low)
    times = alternate(ways, rounds)
    step, flops = median(spent[1:]), counter.get_total_flops()
    peak = 2 * size**3 / times["product"]
    of_product = f"{100 * flops / step / peak:.0f} %"
    of_stack = f"{100 * times['stack'] / step:.0f} %" if bare else "-"
    memory = max(peaks) / 2**20 if DEVICE.type == "cuda" else "-"
    return [workload.title, precision, flops / 1e9, step, flops / step / 1e9, peak / 1e9, of_product, of_stack, memory]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=USUAL)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="steps of each network in a round; 1 for preact, 3 for small")
    parser.add_argument(
        "--size", type=int, default=2048 if DEVICE.type == "cpu" else 8192, help="of the matrix product"
    )
    parser.add_argument("--batch-size", type=int, help="labeled images a step; by default the workload's own")
    asked = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    smaller = {} if asked.batch_size is None else {"batch_size": asked.batch_size}
    workloads = {name: dataclasses.replace(WORKLOADS[name], **smaller) for name in asked.workloads}
    rows = [
        measure(workload, precision, asked.steps or STEPS[name], asked.size, asked.rounds)
        for name, workload in workloads.items()
        for precision in asked.precisions
    ]
    columns = ["workload", "precision", "GFLOP a step", "s a step", "GFLOP/s", "product's GFLOP/s"]
    columns += ["of the product", "of the stack", "GPU memory, MB"]
    notes = [
        f"of the product: counted FLOPs over the step's time, as a share of a {asked.size} x {asked.size} matrix "
        "product's speed",
        "of the stack: the time that the same passes take through the bare convolutions, as a share of the step's",
        "GPU memory: the most that torch had allocated during the steps, both networks and their optimizers included",
        f"medians of {asked.rounds} rounds in which step, stack and product take turns",
    ]
    report("utilisation", "Model FLOPs utilisation of a co-training step", columns, rows, notes)


if __name__ == "__main__":
    main()
