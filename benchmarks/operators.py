"""Where the time of a float32 step goes on a CPU: by operator, and of its convolutions by shape, pass and memory order.

    OMP_NUM_THREADS=1 python benchmarks/operators.py [--workloads preact small] [--rounds N]

By operator: torch's profiler over the passes of one co-training step (six batches of guesses, forward and backward over
four; `utilisation.py`). By shape: each distinct convolution of the network on one batch, forward and its two backward
passes (to the input, to the weights), channels first and last, with the kernel that oneDNN takes. The bound: the step's
convolutions, each in the faster order, and the whole step's multiply-adds at the speed of a large matrix product.
Seconds are of the processor, the least of the rounds: other programs can only add to them.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from epoch import Ours
from measure import report
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from utilisation import passes
from workloads import USUAL, WORKLOADS, Workload

FORWARDS, BACKWARDS = 10, 4
"""Batches that a step forwards, and those of them that it also takes gradients of."""
ORDERS = {"first": torch.contiguous_format, "last": torch.channels_last}
KINDS = {
    "convolutions": ("convolution", "mkldnn_reorder"), "BatchNorm": ("batch_norm",), "ReLU": ("relu", "threshold"),
    "sums": ("aten::add", "aten::mul", "aten::sum", "aten::mean"), "copies": ("copy", "clone", "repeat", "contiguous"),
}  # fmt: skip
"""Operators by what their names contain; the rest is "all else"."""


def least(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds of the fastest round, after one that is not counted."""
    spent = []
    for _ in range(1 + rounds):
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)
    return min(spent[1:])


@contextmanager
def told_by_onednn() -> Iterator[list[str]]:
    """What oneDNN prints of its primitives within the block; the list is filled at its end."""
    lines: list[str] = []
    with tempfile.TemporaryFile("w+") as kept:
        out = os.dup(1)
        os.dup2(kept.fileno(), 1)
        try:
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                yield lines
        finally:
            os.dup2(out, 1)
            os.close(out)
            kept.seek(0)
            lines += kept.read().splitlines()


def kernel_of(work: Callable[[], object]) -> str:
    """The implementation of the convolution that `work` runs, as oneDNN calls it; "torch" where it runs none."""
    with told_by_onednn() as lines:
        work()
    for line in lines:
        fields = line.split(",")
        if "exec" in fields and "convolution" in fields:
            return fields[fields.index("convolution") + 1]
    return "torch"


# By operator ----------------------------------------------------------------------------------------------------------


def shares(network: nn.Module, batch: Tensor) -> dict[str, float]:
    """Share of the passes' processor time by kind of operator."""
    passes(network, batch, low=False)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        passes(network, batch, low=False)
    spent: Counter[str] = Counter()
    for event in found.key_averages():
        kind = next((kind for kind, words in KINDS.items() if any(word in event.key for word in words)), "all else")
        spent[kind] += event.self_cpu_time_total
    total = spent.total()
    return {kind: spent[kind] / total for kind in (*KINDS, "all else")}


# By shape -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """A convolution: input channels and side, output channels, kernel and stride."""

    inputs: int
    side: int
    outputs: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        return (
            f"{self.inputs} -> {self.outputs}, {self.kernel} x {self.kernel} / {self.stride}, {self.side} x {self.side}"
        )

    def flops(self, batch: int) -> int:
        """Multiply-adds, as two, of one of the three passes."""
        return 2 * batch * self.inputs * self.outputs * self.kernel**2 * (self.side // self.stride) ** 2


def shapes_of(network: nn.Module, batch: Tensor) -> Counter[Shape]:
    """How often each convolution occurs in a forward pass."""
    found: Counter[Shape] = Counter()

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        found[
            Shape(given[0].shape[1], given[0].shape[2], module.out_channels, module.kernel_size[0], module.stride[0])
        ] += 1

    hooks = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(batch)
    for hook in hooks:
        hook.remove()
    return found


def works_of(shape: Shape, batch: int, order: torch.memory_format) -> dict[str, Callable[[], object]]:
    """The three passes of a convolution, on tensors in that memory order."""
    module = nn.Conv2d(shape.inputs, shape.outputs, shape.kernel, shape.stride, shape.kernel // 2, bias=False)
    weight = module.weight.detach().to(memory_format=order)
    images = torch.randn(batch, shape.inputs, shape.side, shape.side).contiguous(memory_format=order)

    def forward() -> Tensor:
        return nn.functional.conv2d(images, weight, None, module.stride, module.padding)

    gradient = torch.randn_like(forward())

    def backward(*wanted: bool) -> Callable[[], object]:
        return lambda: torch.ops.aten.convolution_backward(
            gradient, images, weight, None, module.stride, module.padding, (1, 1), False, (0, 0), 1, [*wanted, False]
        )

    return {"forward": forward, "to input": backward(True, False), "to weights": backward(False, True)}


def by_shape(title: str, shapes: Counter[Shape], batch: int, peak: float, rounds: int) -> tuple[list[list[Any]], float]:
    """A row for each shape and pass, and the seconds of a step's convolutions, each in the faster order."""
    rows, bound = [], 0.0
    for shape, count in shapes.items():
        works = {name: works_of(shape, batch, order) for name, order in ORDERS.items()}
        for part, times in (("forward", FORWARDS), ("to input", BACKWARDS), ("to weights", BACKWARDS)):
            if part == "to input" and shape.inputs <= 3:
                continue  # nobody asks for the gradient of the images
            spent = {name: least(work[part], rounds) for name, work in works.items()}
            kernels = [re.sub(r"[^\w:]", "", kernel_of(work[part])) for work in works.values()]
            speeds = [shape.flops(batch) / seconds / 1e9 for seconds in spent.values()]
            bound += count * times * min(spent.values())
            rows.append([title, str(shape), count, part, *speeds, f"{max(speeds) / peak:.0%}", *kernels])
    return rows, bound


# All ------------------------------------------------------------------------------------------------------------------


def measure(workload: Workload, rounds: int) -> tuple[list[Any], list[list[Any]]]:
    """A row of the first table, and the rows of the second."""
    from torch.utils.flop_counter import FlopCounterMode

    ours = Ours(workload, 2 * workload.batch_size, "trainer.precision=32-true")
    images = ours.datamodule.dataset.train.images.fetch(torch.arange(workload.batch_size))
    batch = ours.method.views.normalise(images)
    networks = {name: copy.deepcopy(ours.module.network(0)).to(memory_format=order) for name, order in ORDERS.items()}
    batches = {name: batch.contiguous(memory_format=order) for name, order in ORDERS.items()}
    steps = {name: least(lambda name=name: passes(networks[name], batches[name], low=False), rounds) for name in ORDERS}
    with FlopCounterMode(display=False) as counter:
        passes(networks["last"], batch, low=False)
    square = torch.randn(2048, 2048)
    peak = 2 * 2048**3 / least(lambda: square @ square, 3 * rounds) / 1e9
    shapes = shapes_of(networks["last"], batch)
    rows, bound = by_shape(workload.title, shapes, workload.batch_size, peak, rounds)
    at_peak = counter.get_total_flops() / peak / 1e9
    found = shares(networks["last"], batches["last"])
    first = [
        workload.title,
        steps["first"],
        steps["last"],
        bound,
        at_peak,
        *(f"{share:.0%}" for share in found.values()),
    ]
    return first, rows


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=USUAL, default=USUAL)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    found = [measure(WORKLOADS[name], asked.rounds) for name in asked.workloads]
    write_tables(found, asked.rounds)


def write_tables(found: Sequence[tuple[list[Any], list[list[Any]]]], rounds: int) -> None:
    """Both tables, one file each."""
    columns = ["workload", "channels first, s", "channels last, s", "bound, s", "at the product's speed, s"]
    columns += [*KINDS, "all else"]
    notes = [
        "the passes of one co-training step of one network: six batches of guesses, forward and backward over four",
        "bound: its convolutions alone, each pass of each shape in the faster memory order",
        "at the product's speed: all its multiply-adds at the speed of a 2048 x 2048 matrix product",
        "shares of the step, channels last, by torch's profiler",
        f"processor time of one thread, the least of {rounds} rounds",
    ]
    report("operators", "A float32 step by operator", columns, [row for row, _ in found], notes)
    columns = ["workload", "convolution", "in the network", "pass", "GFLOP/s, channels first", "channels last"]
    columns += ["of the product", "kernel, first", "kernel, last"]
    notes = [
        "convolution: channels in -> out, kernel / stride, side of the input",
        "of the product: the faster order's speed, as a share of a 2048 x 2048 matrix product's",
        f"processor time of one thread, the least of {rounds} rounds; one batch of the workload",
    ]
    report(
        "convolutions",
        "Convolutions by shape, pass and memory order",
        columns,
        [row for _, rows in found for row in rows],
        notes,
    )


if __name__ == "__main__":
    main()
