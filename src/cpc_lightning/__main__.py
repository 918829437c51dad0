"""Entry point of `python -m cpc_lightning`."""

import os
import signal
import sys
from typing import NoReturn


def leave(*_: object) -> NoReturn:
    """At once. An exception can be lost in what a library calls back during import, and nothing needs cleaning up."""
    os.write(sys.stderr.fileno(), b"stopped by SIGINT before the run began\n")
    os._exit(128 + signal.SIGINT)


def let_threads_sleep() -> None:
    """Have OpenMP's threads spin only briefly before they sleep, unless the user's environment says how they wait.

    By default libgomp's spin on, which beside other work takes the time of the very thread that they wait for
    (docs/reliability.md). It reads the environment once, when torch loads it, so this comes before; processes that are
    started later inherit it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def open_closed_streams() -> None:
    """Have a stream that the caller has closed (`>&-`, some services) lead nowhere.

    Else the next file that is opened, a checkpoint say, takes its number, and gets what a library or a process that
    is started prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: the one of the stream
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def main() -> int:
    """Run the command line. Ctrl-C is answered from the first moment, while torch is still being imported."""
    open_closed_streams()
    let_threads_sleep()
    # What torch lacks on an Apple GPU runs on the CPU. It reads this, too, when it is loaded.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    before = signal.signal(signal.SIGINT, leave)
    from cpc_lightning.app.command_line import main as run

    signal.signal(signal.SIGINT, before)
    try:
        return run()
    except KeyboardInterrupt:
        leave()
    except BrokenPipeError:  # what reads the output, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails to flush at the end
        return 128 + getattr(signal, "SIGPIPE", 13)  # Windows has no such signal


if __name__ == "__main__":
    sys.exit(main())
