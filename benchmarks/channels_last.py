"""Which convolutions this torch computes wrongly on this CPU, or breaks memory with, channels last and channels first.

    python benchmarks/channels_last.py [--threads 1 2] [--quick]

Every shape has a process of its own, so that a crash is an exit code, and glibc's guarded memory, which notices a write
behind a block when the block is freed. Results are compared with those of float64, which takes another path. Where a
shape fails that `cpc_lightning.backbones.layout.may_be_channels_last` lets through, it is named and the exit code is 1.
`ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2` imitates an older CPU. Minutes; `--quick` half a minute.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from measure import report
from torch.nn.functional import conv2d

from cpc_lightning.backbones.layout import may_be_channels_last

GUARD = "libc_malloc_debug.so.0"
PARTS = ("output", "gradient of images", "gradient of weights")
PATIENCE = 10.0  # seconds until a shape that does not end has failed
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2}  # of the largest value
ORDERS = {"last": torch.channels_last, "first": torch.contiguous_format}
KERNELS = ((1, 1, 0), (1, 2, 0), (1, 3, 0), (2, 2, 0), (3, 1, 1), (3, 2, 1), (5, 2, 2))
"""Kernel size, stride, padding."""


class Shape(NamedTuple):
    """A convolution, and what it is given."""

    order: str
    dtype: torch.dtype
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    padding: int
    groups: int
    side: int
    threads: int

    def module(self) -> torch.nn.Conv2d:
        """The convolution, without memory for its weights."""
        return torch.nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel, self.stride, self.padding, groups=self.groups,
            bias=False, device="meta",
        )  # fmt: skip


def shapes(threads: list[int], quick: bool) -> Iterator[Shape]:
    """What is tried: few channels, where a vector of the CPU is not full, plain and depthwise."""
    channels = (4, 8, 16) if quick else (2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 64)
    types = [torch.float32] if quick else list(TOLERANCE)
    for order, dtype, count in product(ORDERS, types, threads):
        for (kernel, stride, padding), side in product(KERNELS, (12,) if quick else (12, 15, 48)):
            for inside in channels:
                for out in (8,) if quick else (8, 17):
                    yield Shape(order, dtype, inside, out, kernel, stride, padding, 1, side, count)
                yield Shape(order, dtype, inside, inside, kernel, stride, padding, inside, side, count)


def compute(shape: Shape, pipe: int) -> None:
    """Each part three times; writes to the pipe its number before, and "!" where it is wrong."""
    torch.set_num_threads(shape.threads)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, shape.in_channels, shape.side, shape.side, dtype=torch.float64, generator=generator)
    weights = torch.randn(shape.module().weight.shape, dtype=torch.float64, generator=generator)
    how = (shape.stride, shape.padding, 1, shape.groups)
    expected = conv2d(images, weights, None, *how)
    above = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    right = (expected, *gradients(above, images, weights, shape, (True, True)))
    images, weights, above = (value.to(shape.dtype) for value in (images, weights, above))
    images, weights, above = (value.contiguous(memory_format=ORDERS[shape.order]) for value in (images, weights, above))
    for number, truth in enumerate(right):
        os.write(pipe, b"%d" % number)
        for _ in range(3):
            if number == 0:
                found = conv2d(images, weights, None, *how)
            else:
                found = gradients(above, images, weights, shape, (number == 1, number == 2))[number - 1]
            if not (found.double() - truth).abs().max() <= TOLERANCE[shape.dtype] * truth.abs().max():
                os.write(pipe, b"!")
            del found  # a guarded block is looked at when it is freed


def gradients(
    above: torch.Tensor, images: torch.Tensor, weights: torch.Tensor, shape: Shape, asked: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of the images and of the weights, as far as they are asked for."""
    both = ([shape.stride] * 2, [shape.padding] * 2, [1, 1])
    answer = torch.ops.aten.convolution_backward(
        above, images, weights, None, *both, False, [0, 0], shape.groups, [*asked, False]
    )
    return answer[0], answer[1]


def attempt(shape: Shape) -> tuple[str, str] | None:
    """The part that failed and how, found by a process that does nothing else; None where all is well."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # glibc's last words
        compute(shape, writer)
        os._exit(0)
    os.close(writer)
    seen, hangs = b"", False
    while not hangs:
        hangs = not select.select([reader], [], [], PATIENCE)[0]
        chunk = b"" if hangs else os.read(reader, 64)
        if not chunk:
            break
        seen += chunk
    os.close(reader)
    if hangs:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0 and b"!" not in seen:
        return None
    part = PARTS[int(seen.split(b"!")[0][-1:] or b"0")]
    if hangs:
        return part, "never ends"
    return part, signal.Signals(-code).name if code < 0 else "wrong" if code == 0 else f"exit code {code}"


def main() -> int:
    """Try all shapes, and report those that fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="a few shapes in float32")
    asked = parser.parse_args()
    if GUARD not in os.environ.get("LD_PRELOAD", "") and Path("/lib/x86_64-linux-gnu", GUARD).exists():
        guarded = {"LD_PRELOAD": GUARD, "GLIBC_TUNABLES": "glibc.malloc.check=3", "GOMP_SPINCOUNT": "0"}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **guarded})
    tried = list(shapes(asked.threads, asked.quick))
    failed = {shape: failure for shape in tried if (failure := attempt(shape)) is not None}
    groups: dict[tuple[object, ...], set[int]] = defaultdict(set)
    for shape, failure in failed.items():
        kind = f"{shape.kernel}x{shape.kernel}, stride {shape.stride}" + (", depthwise" if shape.groups > 1 else "")
        key = (f"channels {shape.order}", str(shape.dtype)[6:], shape.threads, kind, *failure)
        groups[key].add(shape.in_channels)
    rows = [[*key, ", ".join(map(str, sorted(found)))] for key, found in groups.items()]
    missed = [shape for shape in failed if shape.order == "first" or may_be_channels_last(shape.module())]
    guard = "guarded memory" if GUARD in os.environ.get("LD_PRELOAD", "") else f"no guarded memory (no {GUARD})"
    notes = [
        f"{len(tried)} shapes, {len(failed)} fail; {guard}; vectors of {torch.backends.cpu.get_cpu_capability()}, "
        f"ONEDNN_MAX_CPU_ISA={os.environ.get('ONEDNN_MAX_CPU_ISA', '')}",
        f"{len(missed)} of them are let through by the rule of this library" + "".join(f"; {s}" for s in missed[:5]),
    ]
    columns = ("order of memory", "type", "threads", "convolution", "fails in", "how", "with so many input channels")
    report("channels_last", "Convolutions that fail in training", columns, rows, notes)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
