"""The device of the tests that are marked gpu, and what it makes the host wait for.

On a machine without a GPU, CPC_REHEARSE=cpu tries that they run at all: CPC_REHEARSE=cpu python -m pytest -m gpu FILE.
"""

import json
import os
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch

DEVICE = os.environ.get("CPC_REHEARSE", "cuda")


def to_device(value: torch.Tensor) -> torch.Tensor:
    """The tensor on the device, sent as a loader with pinned memory sends it: the host goes on meanwhile."""
    return value.pin_memory().to(DEVICE, non_blocking=True) if DEVICE == "cuda" else value.to(DEVICE)


@contextmanager
def waits_are(mode: str):
    """Where the host waits for a GPU, torch raises ("error") or warns ("warn"). A CPU is never waited for."""
    if DEVICE != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Waits(pl.Callback):
    """Writes to a file how many steps a run took, and where the host waited for the device within them.

    The first step of an epoch is not looked at: constants move to the device in it.
    """

    def __init__(self, file):
        self.file, self.steps, self.places, self._open = Path(file), 0, [], None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx:
            self._open = self._listening()
            self._open.__enter__()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open, self.steps = None, self.steps + 1

    def on_train_end(self, trainer, pl_module):
        self.file.write_text(json.dumps({"steps": self.steps, "places": self.places}))

    @contextmanager
    def _listening(self):
        def place(message, *_, **__):
            if "synchronizing" in str(message):  # not of what is deprecated, say
                frames = [frame for frame in traceback.extract_stack()[:-1] if frame.filename != warnings.__file__]
                self.places.append([f"{frame.filename}:{frame.lineno}" for frame in frames[-4:]])

        with warnings.catch_warnings(), waits_are("warn"):
            warnings.simplefilter("always")
            warnings.showwarning = place
            yield
