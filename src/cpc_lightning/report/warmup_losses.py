"""Writes and reads warmup_losses.npz: what each network says of the training labels when the warm-up ends."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.errors import InputError, require
from cpc_lightning.files import atomic_write

WARMUP_LOSSES = "warmup_losses.npz"  # within a run's folder
PARTS = ("losses", "noisy_labels", "true_labels")
# What numpy trips over in a file that is none of its own.
BROKEN = (ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class WarmupLosses:
    """The losses of one network on the n samples that it judges, as `cleaning.evidence.Draw` describes the labels.

    Attributes:
        losses: (n,) float32 cross-entropy of the given label, in nats, not scaled; without augmentation.
        noisy_labels: (n,) integer given labels.
        true_labels: (n,) integer, -1 where unknown, -2 where the image shows none of the classes.
    """

    losses: NDArray[np.float32]
    noisy_labels: NDArray[Any]
    true_labels: NDArray[Any]


def write_warmup_losses(path: str | Path, by_network: tuple[WarmupLosses, WarmupLosses], epoch: int) -> None:
    """Write them, atomically and compressed: about 8 bytes a sample, and as many digits as the run computed with.

    The arrays are named `losses_1`, `noisy_labels_1`, `true_labels_1` (by network 1), `losses_2`, ... and `epoch`, the
    number of epochs trained.

    Raises:
        OSError: as `atomic_write`.
    """
    arrays: dict[str, NDArray[Any]] = {"epoch": np.array(epoch)}
    for number, seen in enumerate(by_network, start=1):
        arrays[f"losses_{number}"] = seen.losses.astype(np.float32)
        for part in PARTS[1:]:
            labels: NDArray[Any] = getattr(seen, part)
            small = labels.size == 0 or labels.max() <= np.iinfo(np.int16).max
            arrays[f"{part}_{number}"] = labels.astype(np.int16 if small else np.int32)
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_warmup_losses(path: str | Path) -> tuple[tuple[WarmupLosses, WarmupLosses], int]:
    """What `write_warmup_losses` wrote: by network 1 and 2, and the number of epochs trained.

    Raises:
        InputError: named "run", if the file cannot be read or is no such file.
        FileNotFoundError: if there is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        first, second = (WarmupLosses(*(arrays[f"{part}_{number}"] for part in PARTS)) for number in (1, 2))
        epoch = int(arrays["epoch"])
    except FileNotFoundError:
        raise
    except (*BROKEN, OSError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "garbled, or another file"
        raise InputError("run", str(path), f"cannot be read ({why})") from error
    for seen in (first, second):
        alike = {getattr(seen, part).shape for part in PARTS} == {(len(seen.losses),)}
        whole = alike and seen.losses.dtype == np.float32 and bool(np.isfinite(seen.losses).all())
        require(whole, "run", str(path), "cannot be read (garbled, or another file)")
    return (first, second), epoch
