"""What several processes of one run must agree on. Without a process group every function is the identity."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_by_index(values: Tensor, index: Tensor, count: int, device: torch.device) -> Tensor:
    """Give every process the values of all samples.

    Each process knows the values of some samples; together they must know each of them exactly once.

    Args:
        values: (m, ...) values of this process's samples.
        index: (m,) int64 their positions in 0..count-1.
        count: the number of samples of all processes together.
        device: where the process group communicates.

    Returns:
        (count, ...) on the CPU.

    Raises:
        RuntimeError: if a sample came twice or not at all.
    """
    gathered = torch.zeros((count, *values.shape[1:]), dtype=values.dtype)
    gathered[index] = values
    times = torch.bincount(index, minlength=count)
    if is_distributed():
        gathered, times = gathered.to(device), times.to(device)
        dist.all_reduce(gathered)
        dist.all_reduce(times)
        gathered, times = gathered.cpu(), times.cpu()
    if not bool((times == 1).all()):
        wrong = int(torch.nonzero(times != 1)[0])
        raise RuntimeError(f"sample {wrong} was evaluated {int(times[wrong])} times; each must be exactly once")
    return gathered


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
