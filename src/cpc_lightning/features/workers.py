"""Decodes and scales images and passes them through a network, in parallel: on all cores, or for a GPU.

Shapes: n images, W views, D features.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType

import torch
from torch import Tensor

from cpc_lightning.datasets.dataset import Images
from cpc_lightning.features.extractor import Extractor
from cpc_lightning.files import usable_cores


class OnCores:
    """A thread for each of torch's threads decodes images and has the network see them.

    Each computes with one core, which small images keep busier than all cores together would be, and nobody waits for
    whom another program holds up. Torch's number of threads is set for that while this lasts.

    Args:
        extractor: makes vectors.
        images: to make them of.
        batch_size: images a pass.
    """

    def __init__(self, extractor: Extractor, images: Images, batch_size: int) -> None:
        self._images, self._batch_size = images, batch_size
        self._cores = torch.get_num_threads()
        self._free: SimpleQueue[Extractor] = SimpleQueue()
        self._copies = extractor.copies(self._cores)
        for own in self._copies:
            self._free.put(own)

    def __enter__(self) -> OnCores:
        alone = len(self._copies) < self._cores
        self._threads = ThreadPoolExecutor(len(self._copies), initializer=None if alone else _one_core)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.shutdown(cancel_futures=True)
        torch.set_num_threads(self._cores)

    def vectors(self, positions: Tensor, ahead: Tensor | None = None) -> Tensor:
        """(n, W, D) float32 of the images at `positions` (n,); nothing is done `ahead`."""
        return torch.cat([*self._threads.map(self._vectors, torch.split(positions, self._batch_size))])

    def _vectors(self, positions: Tensor) -> Tensor:
        images = self._images.fetch(positions)
        own = self._free.get()
        try:
            return own(images)
        finally:
            self._free.put(own)


def _one_core() -> None:
    torch.set_num_threads(1)


class OnDevice:
    """Threads decode images, also those of the next block, while the device sees these.

    Args:
        extractor: makes vectors; its network goes to the device.
        images: to make them of.
        batch_size: images a pass.
        device: where the network computes.
    """

    def __init__(self, extractor: Extractor, images: Images, batch_size: int, device: str) -> None:
        extractor.network.to(device)
        self._extractor, self._images, self._batch_size, self._device = extractor, images, batch_size, device
        self._threads = ThreadPoolExecutor(usable_cores() + 1)
        self._begun: dict[int, list[Future[Tensor]]] = {}

    def __enter__(self) -> OnDevice:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.shutdown(cancel_futures=True)

    def vectors(self, positions: Tensor, ahead: Tensor | None = None) -> Tensor:
        """(n, W, D) float32 of the images at `positions` (n,); begin to decode those `ahead`."""
        for block in (positions, ahead):
            if block is not None and int(block[0]) not in self._begun:
                chunks = torch.split(block, self._batch_size)
                self._begun[int(block[0])] = [self._threads.submit(self._images.fetch, chunk) for chunk in chunks]
        decoded = self._begun.pop(int(positions[0]))
        return torch.cat([self._extractor(images.result(), self._device) for images in decoded])
