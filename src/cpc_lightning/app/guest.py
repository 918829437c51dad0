"""Trains inside a program of the user without side effects: restores what the program and the run share."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig

SET_BY_RUNS = (
    "PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG",
    "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME",
    "CPC_LIGHTNING_JOB", "CPC_LIGHTNING_JOBS",
)  # fmt: skip

LOGGERS = tuple(
    f"{package}.{name}"
    for package in ("pytorch_lightning", "lightning_fabric")
    for name in ("utilities.rank_zero", "utilities.seed", "utilities.distributed")
)
"""What Lightning says about itself; runs silence it."""

_guest = threading.RLock()
"""Random generators and Hydra's state belong to the process: one run at a time uses them."""


@contextmanager
def as_found() -> Iterator[None]:
    """Leave what the run shares with its process as it was: a notebook or a script goes on after it."""
    arguments, config = sys.argv[:], HydraConfig.instance().cfg
    environment = {name: os.environ.get(name) for name in SET_BY_RUNS}
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    strict, precision = False, "highest"
    if torch := sys.modules.get("torch"):
        strict, precision = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.argv[:], HydraConfig.instance().cfg = arguments, config
        for name, value in environment.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if torch := sys.modules.get("torch"):
            torch.use_deterministic_algorithms(strict)
            torch.set_float32_matmul_precision(precision)


@contextmanager
def as_guest() -> Iterator[None]:
    """`as_found`, for a run within a program of somebody else's: no random generator moves, Ctrl-C is the program's.

    Threads take turns.

    Raises:
        KeyboardInterrupt: where Lightning has answered Ctrl-C by ending the process (SystemExit).
    """
    import random  # here, and not above: the command line's --help needs no numpy, and no torch

    import numpy as np
    import torch

    main = threading.current_thread() is threading.main_thread()
    with _guest, as_found():
        generators = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002, the global one
        of_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            yield
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        finally:
            random.setstate(generators[0])
            np.random.set_state(generators[1])  # noqa: NPY002
            torch.set_rng_state(generators[2])
            if of_gpus:
                torch.cuda.set_rng_state_all(of_gpus)
            if main and on_interrupt is not None:
                signal.signal(signal.SIGINT, on_interrupt)
