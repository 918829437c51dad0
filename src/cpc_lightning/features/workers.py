"""Decodes and scales images and passes them through a network, in parallel: on all cores, or for a GPU.

Shapes: n images, W views, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType

import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import Images
from cpc_lightning.features.extractor import Extractor
from cpc_lightning.files import usable_cores


class _Ahead(ABC):
    """Threads work on a block of images, and on the next one when there is nothing left to begin of it.

    Attributes:
        images: to make vectors of.
        batch_size: images a pass.
    """

    def __init__(self, images: Images, batch_size: int, threads: ThreadPoolExecutor) -> None:
        self.images, self.batch_size = images, batch_size
        self._threads = threads
        self._begun: dict[int, list[Future[Tensor]]] = {}

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.shutdown(cancel_futures=True)

    @abstractmethod
    def work(self, positions: Tensor) -> Tensor:
        """What a thread makes of the images at `positions`, at most a pass of them."""

    def finished(self, worked: Tensor) -> Tensor:
        """The vectors (n, W, D) of what a thread has made."""
        return worked

    def vectors(self, positions: Tensor, ahead: Tensor | None = None) -> Tensor:
        """(n, W, D) float32 of the images at `positions` (n,); begin with those `ahead`."""
        for block in (positions, ahead):
            if block is not None and int(block[0]) not in self._begun:
                passes = torch.split(block, self.batch_size)
                self._begun[int(block[0])] = [self._threads.submit(self.work, some) for some in passes]
        return torch.cat([self.finished(future.result()) for future in self._begun.pop(int(positions[0]))])


class OnCores(_Ahead):
    """A thread for each of torch's threads decodes images and has the network see them.

    Each computes with one core, which small images keep busier than all cores together would be, and nobody waits for
    whom another program holds up. Torch's number of threads is set for that while this lasts.

    Args:
        extractor: makes vectors.
        images: to make them of.
        batch_size: images a pass.
    """

    def __init__(self, extractor: Extractor, images: Images, batch_size: int) -> None:
        self._cores = torch.get_num_threads()
        self._free: SimpleQueue[Extractor] = SimpleQueue()
        copies = extractor.folded(images).copies(self._cores)
        for own in copies:
            self._free.put(own)
        alone = len(copies) < self._cores
        threads = ThreadPoolExecutor(len(copies), initializer=None if alone else _one_core)
        super().__init__(images, batch_size, threads)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        torch.set_num_threads(self._cores)

    def work(self, positions: Tensor) -> Tensor:
        """Vectors; see `_Ahead`."""
        images = self.images.fetch(positions)
        own = self._free.get()
        try:
            return own(images)
        finally:
            self._free.put(own)


def _one_core() -> None:
    torch.set_num_threads(1)


class OnDevice(_Ahead):
    """Threads decode images, also those of the next block, while the device sees these.

    Args:
        extractor: makes vectors; its network goes to the device.
        images: to make them of.
        batch_size: images a pass.
        device: where the network computes.
    """

    def __init__(self, extractor: Extractor, images: Images, batch_size: int, device: str) -> None:
        extractor.network.to(device)
        self._extractor, self._device = extractor, device
        super().__init__(images, batch_size, ThreadPoolExecutor(usable_cores() + 1))

    def work(self, positions: Tensor) -> Tensor:
        """Decoded images; see `_Ahead`."""
        return self.images.fetch(positions)

    def finished(self, worked: Tensor) -> Tensor:
        """Their vectors; see `_Ahead`."""
        return self._extractor(worked, self._device)
