"""Turns the signals SIGINT (Ctrl-C), SIGTERM and SIGUSR1 (SLURM) into an exception that stops the run.

Windows knows fewer signals: those that are not there are left out.

The last checkpoint of an epoch's end stands. Nothing is saved in the middle of an epoch, because a run cannot be
continued from there bit for bit.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cpc_lightning.errors import Stopped

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


@contextmanager
def stop_on_signals(end_workers: bool = True) -> Iterator[None]:
    """Within the block, in the main thread, those signals raise `Stopped`; afterwards they do what they did before.

    Once a signal has come, the block cannot end but by `Stopped`: what fails while everything ends is of no interest.

    Args:
        end_workers: kill this process's children first; False where whoever started them has to do so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker
            if number != signal.SIGINT:  # Ctrl-C reaches the whole group, and the owner ends its workers itself
                os._exit(128 + number)
            return
        received.append(number)
        # From here on, what fails does so because everything ends: threads and destructors need not say so. The workers
        # that fetch batches go first, for they complain when nobody listens, and torch does about their death.
        sys.excepthook = lambda *_: None
        sys.unraisablehook = ring_again
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        workers = multiprocessing.active_children() if end_workers else []
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join(1)
        raise Stopped(number)

    def ring_again(ignored: sys.UnraisableHookArgs) -> None:
        """Python ignores what is raised in a destructor or the like."""
        if not isinstance(ignored.exc_value, Stopped):
            return
        if hasattr(signal, "SIGALRM"):  # which comes to the main thread, also while it waits in a system call
            signal.signal(signal.SIGALRM, lambda _, frame: stop(received[0], frame))
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            threading.Timer(0.01, signal.raise_signal, [received[0]]).start()

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            raise Stopped(received[0]) from None
