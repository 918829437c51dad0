"""The output folder of a run or a sweep: its name, and whether it can be written."""

from __future__ import annotations

import copy
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cpc_lightning.app.launch import starter
from cpc_lightning.app.settings import plain
from cpc_lightning.errors import InputError, first_line, require

OF_THE_JOB = "${hydra:runtime.output_dir}"
"""What `run_dir` is in conf/config.yaml: known in a job that Hydra has started."""

STARTED = "CPC_LIGHTNING_STARTED"
"""The variable that holds what names the run folder, where processes are started one by one."""


def agree_on_folder() -> None:
    """Have all processes of torchrun or srun name the run's folder alike, though they look at their clocks apart."""
    if starter() == "srun":
        os.environ[STARTED] = "job_{SLURM_JOB_ID}.{SLURM_STEP_ID}".format_map(
            {name: os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")}
        )
    elif starter() == "torchrun" and {"MASTER_ADDR", "MASTER_PORT"} <= {*os.environ}:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        now = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        os.environ[STARTED] = store.compare_set("cpc_lightning/started", "", now).decode()  # the first one's


def with_folder(config: DictConfig) -> dict[str, Any]:
    """The settings of a config in plain containers, with a `run_dir` also outside of Hydra's jobs.

    Args:
        config: composed; it stays as it is.

    Raises:
        InputError: for an interpolation that refers to nothing.
    """
    before = HydraConfig.instance().cfg
    config = copy.deepcopy(config)
    try:
        if "hydra" in config and not HydraConfig.initialized():
            HydraConfig.instance().set_config(config)  # settings may refer to ${hydra:...}
        in_job = HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir")
        if plain(config, resolve=False).get("run_dir", "???") in ("???", OF_THE_JOB) and not in_job:
            now = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
            folder = folder_name("hydra.run.dir", config) if "hydra" in config else str(Path("runs", now))
            OmegaConf.set_readonly(config, False)
            config.run_dir = folder
        return plain(config)
    finally:
        HydraConfig.instance().cfg = before


def check_writable(setting: str, config: DictConfig) -> Path:
    """The folder that the setting names, not yet made; raises `InputError` where it cannot be made or written to."""
    folder = Path(folder_name(setting, config)).absolute()  # a run may change the working directory
    present = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
    try:
        if not present.is_dir():
            raise NotADirectoryError(f"{present} is not a folder")
        with tempfile.TemporaryFile(dir=present) as file:
            file.write(bytes(1 << 16))  # a full disk still takes an empty file, a nearly full one what Hydra writes
            file.flush()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(setting, str(folder), f"cannot be written ({reason})") from None
    return folder


def check_subfolders(config: DictConfig, jobs: int) -> None:
    """Raise `InputError` where the jobs of a sweep have no folder each."""
    trial = copy.deepcopy(config)
    OmegaConf.set_readonly(trial.hydra, False)
    trial.hydra.job.num, trial.hydra.job.id = 0, "0"
    written = OmegaConf.to_container(trial.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
    folder_name("hydra.sweep.subdir", trial)
    several = jobs > 1 or OmegaConf.select(trial, "hydra.sweeper.n_trials", default=1) > 1
    expected = "must name a folder for each job, as ${hydra.job.num} does"
    require(not several or "${" in written, "hydra.sweep.subdir", written, expected)


def folder_name(setting: str, config: DictConfig) -> str:
    """The value of a setting that names a folder; raises `InputError` where it names none."""
    try:
        HydraConfig.instance().set_config(config)  # the folder's name may hold ${hydra:...}
        name = OmegaConf.select(config, setting)
    except OmegaConfBaseException as error:
        raise InputError(setting, "(an interpolation)", first_line(error)) from None
    require(isinstance(name, str) and name.strip() != "", setting, name, "must be a folder's name")
    return str(name)
