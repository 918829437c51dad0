"""Something of each sample that a method remembers from step to step, the same in every process of a run.

Shapes: N samples, B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SampleMemory(nn.Module):
    """Rows of numbers, one for each training sample: in checkpoints, and on the device of the networks.

    They are no buffer, because those of the first process are sent to the others in every step: of a million samples
    and a hundred classes that would be 400 MB. Instead `write` exchanges what the processes write.

    Attributes:
        rows: (N, ...) any kind of number.
    """

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    def read(self, index: Tensor) -> Tensor:
        """(B, ...) the rows at `index` (B,) int64."""
        return self.rows[index]

    def write(self, index: Tensor, values: Tensor) -> None:
        """Set the rows at `index` (B,) int64 to `values` (B, ...), in all processes those of all processes.

        Of a sample that comes twice the later row counts, and that of the process with the higher rank.
        """
        index, values = of_all(index), of_all(values.detach().to(self.rows.dtype))
        kept, inverse = torch.unique(index, return_inverse=True)
        places = torch.arange(len(index), device=index.device)
        last = torch.zeros_like(kept).scatter_reduce(0, inverse, places, "amax", include_self=False)
        self.rows[kept] = values[last]

    def put(self, index: Tensor, values: Tensor) -> None:
        """Set the rows at `index` (B,) int64 to `values` (B, ...), on any device; every process has the same ones."""
        self.rows[index.to(self.rows.device)] = values.to(self.rows.device, self.rows.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SampleMemory:
        """Follow the module to another device."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.rows = self.rows.to(fn(self.rows[:0]).device)
        return self

    def get_extra_state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows.cpu()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = state["rows"].to(self.rows.device)


def of_all(values: Tensor) -> Tensor:
    """The values (B, ...) of all processes, one after the other; each has as many. Without gradients."""
    values = values.detach()
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return values
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)
