"""Error messages and exit codes: what is printed when a run does not end well."""

from __future__ import annotations

import logging
import sys
import time
import warnings

from cpc_lightning.app.guest import LOGGERS
from cpc_lightning.app.launch import GRACE, Ending, RunError, process_number, starter
from cpc_lightning.app.options import continuing
from cpc_lightning.errors import InputError, Stopped, TrainingError, one_line, print_anything

MISTAKE = 2  # exit codes; a run that a signal stops ends with 128 + its number
FAILURE = 1


def ending_of(error: BaseException, run_dir: str) -> Ending | None:
    """What `error` is to people; None for a defect, whose traceback is worth seeing.

    Args:
        error: what ended the run.
        run_dir: the run's folder.
    """
    if isinstance(error, RunError):
        return error.ending
    if isinstance(error, InputError):
        return Ending(MISTAKE, f"error: {error}")
    if isinstance(error, TrainingError):
        return Ending(FAILURE, f"error: {one_line(str(error))}")
    if isinstance(error, OSError):
        return Ending(FAILURE, f"error: {one_line(f'{error.filename}: {error.strerror or error}')}")
    again = f"to continue: {continuing(run_dir)}"
    if isinstance(error, Stopped):
        return Ending(error.exit_code, f"stopped by {error.signal.name}; {again}", lost=process_number() > 0)
    from cpc_lightning.training.distributed import lost_process  # by now torch is there

    if lost_process(error):
        why = one_line(str(error).rsplit("] ", 1)[-1][:200])
        return Ending(FAILURE, f"error: another process of this run is gone or silent ({why}); {again}", lost=True)
    return None


def say(ending: Ending) -> None:
    """Print the line, unless another process says it or a better one: then torchrun or srun ends this one meanwhile."""
    if starter() is not None and (ending.lost or process_number() > 0):
        time.sleep(GRACE)
    print(ending.line, file=sys.stderr)


def quieten() -> None:
    """Silence what Lightning says about itself and not about the run."""
    print_anything()
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    if process_number() > 0:
        warnings.filterwarnings("ignore")  # the first process says them
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # What is logged, is logged once an epoch.
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # Stage 1 is broadcast: its metrics are the same on every process.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # Nothing is held out to test on: the end of the run says so.
    warnings.filterwarnings("ignore", message=".*Total length of `list` across ranks is zero.*")
    # mode=pretrain has nothing to evaluate.
    warnings.filterwarnings("ignore", message=".*but have no `validation_step`.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning calls what newer torch deprecates
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
