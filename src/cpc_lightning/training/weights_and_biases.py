"""The logger for Weights & Biases: where it cannot log, it says so before training."""

from __future__ import annotations

import configparser
import netrc
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_warn

from cpc_lightning.errors import InputError, first_line, require

MODES = {
    "online": "online", "offline": "offline", "disabled": "disabled", "shared": "shared",
    "run": "online", "dryrun": "offline",  # as older versions of wandb call them
}  # fmt: skip
FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}
WITHOUT_HOME = {"XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache"}  # what wandb asks for first, though it has its own
_GIVEN = {name for name in (*FOLDERS, *WITHOUT_HOME) if name in os.environ}  # by the user, before any run


def wandb_logger(save_dir: str, offline: bool | None = None, **more: Any) -> WandbLogger:
    """A logger that neither asks a question nor fails for want of a home.

    Args:
        save_dir: the run's folder.
        offline: whether to keep everything there; None: as the environment variable WANDB_MODE says, or else True.
        more: further arguments of Lightning's `WandbLogger`, and of `wandb.init`.

    Raises:
        InputError: a mode that there is not, or one that needs a key where there is none.
    """
    require(offline is None or isinstance(offline, bool), "offline", offline, "must be true, false or null")
    asked = os.environ.get("WANDB_MODE") or "offline"
    mode = "offline" if offline else "online" if offline is False else MODES.get(asked)
    if mode is None:
        raise InputError("offline", f"null (WANDB_MODE={asked})", f"WANDB_MODE must be one of {', '.join(MODES)}")
    if mode in ("online", "shared") and not may_have_key():
        shown = "false" if offline is False else f"null (WANDB_MODE={asked})"
        expected = "needs a key: `wandb login`, or WANDB_API_KEY; logger.wandb.offline=true needs none, and no network"
        raise InputError("offline", shown, expected)
    stay_out_of_home(Path(save_dir))
    return WandbLogger(save_dir=save_dir, mode=mode, **more)


def may_have_key() -> bool:
    """Whether wandb may find a key without asking for it: in the environment, or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    address = os.environ.get("WANDB_BASE_URL") or configured_address() or "https://api.wandb.ai"
    home = os.path.expanduser("~")
    files = [os.environ["NETRC"]] if os.environ.get("NETRC") else [os.path.join(home, f"{c}netrc") for c in "._"]
    return any(has_entry(file, urlsplit(address).hostname or "") for file in files)


def configured_address() -> str | None:
    """The server of one's own that `wandb login --host` has noted."""
    folder = os.environ.get("WANDB_CONFIG_DIR") or os.path.join("~", ".config", "wandb")
    noted = configparser.ConfigParser(interpolation=None)
    try:
        noted.read(os.path.join(os.path.expanduser(folder), "settings"))
    except (configparser.Error, UnicodeDecodeError):
        return None
    return noted.get("default", "base_url", fallback=None)


def has_entry(file: str, host: str) -> bool:
    """Whether a netrc file has a password for `host`."""
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def stay_out_of_home(save_dir: Path) -> None:
    """Have wandb keep in the run's folder what it keeps in the user's, where there is none or it cannot be written."""
    home = os.path.expanduser("~")  # "~" itself where nobody knows it
    if os.path.isabs(home) and os.access(home, os.W_OK):
        return
    for name, folder in (FOLDERS if os.path.isabs(home) else FOLDERS | WITHOUT_HOME).items():
        if name not in _GIVEN:
            os.environ[name] = str(save_dir.absolute() / "wandb" / folder)


def finish_wandb() -> None:
    """Close what wandb has open, or the next job of a sweep logs into this one's run. What fails then costs nothing."""
    wandb = sys.modules.get("wandb")
    if wandb is None:
        return
    try:
        wandb.finish()
    except (OSError, wandb.Error) as error:
        rank_zero_warn(f"W&B could not finish its run: {first_line(error)}")
