"""Communication between the processes of a run. Without a process group every function is the identity."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

ROWS = 1 << 13
"""Rows that a process sends to another at once."""


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def lost_process(error: BaseException) -> bool:
    """Whether `error` says that another process of the group is gone, or has not answered in time."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


def gather_by_index(
    values: Tensor, index: Tensor, count: int, device: torch.device, *, everywhere: bool = True
) -> Tensor:
    """Give every process, or only the first, the values of all samples.

    Each process knows the values of some samples; together they must know each of them exactly once.

    Args:
        values: (m, ...) values of this process's samples, on the CPU.
        index: (m,) int64 their positions in 0..count-1.
        count: the number of samples of all processes together.
        device: where the process group communicates.
        everywhere: False for what is too large to be in the memory of every process.

    Returns:
        (count, ...) on the CPU; (count, 0) where it is not wanted. A lone process, all in order, gets `values` itself.

    Raises:
        RuntimeError: if a sample came twice or not at all.
    """
    times = torch.bincount(index, minlength=count)
    if is_distributed():
        times = _sum(times, device)
    if not bool((times == 1).all()):
        wrong = int(torch.nonzero(times != 1)[0])
        raise RuntimeError(f"sample {wrong} was evaluated {int(times[wrong])} times; each must be exactly once")
    if not is_distributed() and bool((index[1:] > index[:-1]).all()):
        return values
    if is_distributed() and not everywhere:
        return _on_first(values, index, count, device)
    gathered = torch.zeros((count, *values.shape[1:]), dtype=values.dtype)
    gathered[index] = values
    return _sum(gathered, device) if is_distributed() else gathered


def _sum(values: Tensor, device: torch.device) -> Tensor:
    """The sum over processes, on the CPU of each."""
    total = values.to(device)
    dist.all_reduce(total)
    return total.cpu()


def _on_first(values: Tensor, index: Tensor, count: int, device: torch.device) -> Tensor:
    """`gather_by_index` in the first process's memory alone: the others send it theirs, a few rows at a time."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    sizes = torch.zeros(world_size, dtype=torch.int64)
    sizes[rank] = len(index)
    sizes = _sum(sizes, device)
    if rank > 0:
        for rows, chunk in zip(torch.split(index, ROWS), torch.split(values, ROWS), strict=True):
            dist.send(rows.to(device), dst=0)
            dist.send(_bytes(chunk).to(device), dst=0)
        return values.new_empty((count, 0))
    gathered = values.new_empty((count, *values.shape[1:]))
    gathered[index] = values
    for source in range(1, world_size):
        for start in range(0, int(sizes[source]), ROWS):
            rows = torch.empty(min(ROWS, int(sizes[source]) - start), dtype=torch.int64, device=device)
            dist.recv(rows, src=source)
            chunk = values.new_empty((len(rows), *values.shape[1:]))
            received = _bytes(chunk).to(device)
            dist.recv(received, src=source)
            gathered[rows.cpu()] = received.cpu().view(values.dtype).view(chunk.shape)
    return gathered


def _bytes(values: Tensor) -> Tensor:
    """The same memory as bytes: not every backend sends every width of number."""
    return values.contiguous().flatten().view(torch.uint8)


def broadcast_tensors(tensors: list[Tensor]) -> None:
    """Overwrite `tensors`, in place, with those of the first process."""
    if is_distributed():
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def broadcast_object(value: T) -> T:
    """Give every process the first one's `value` (picklable)."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
