"""The logger for Weights & Biases: fails before training if it cannot log; shows what stage 1 finds."""

from __future__ import annotations

import configparser
import hashlib
import netrc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from cpc_lightning.errors import InputError, first_line, one_line, require
from cpc_lightning.report.sweep import SEEDS
from cpc_lightning.training.dashboard import BINS, Histograms, Suspect
from cpc_lightning.training.same_run import is_free

MODES = {
    "online": "online", "offline": "offline", "disabled": "disabled", "shared": "shared",
    "run": "online", "dryrun": "offline",  # as older versions of wandb call them
}  # fmt: skip
FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}
WITHOUT_HOME = {"XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache"}  # what wandb asks for first, though it has its own
_GIVEN = {name for name in (*FOLDERS, *WITHOUT_HOME) if name in os.environ}  # by the user, before any run


LONGEST = 128
"""Characters that W&B takes for a name or a group."""
LARGEST_PAGE = 200 << 20
"""Bytes of a page's folder beyond which the page goes to W&B without the images that lie beside it."""


class EpochWandb(WandbLogger):
    """Lightning's logger, with the epoch as the axis of every metric and a description of the run.

    So the metrics of a sweep's runs share their panels, whatever their batch sizes are: what Lightning counts are the
    steps of four optimizers.
    """

    called = "W&B"

    def describe(self, settings: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Name the run, its group and its settings, which become columns, unless the user has named them.

        Args:
            settings: nested, in plain containers.
            overrides: what the user changed.
        """
        group, name = group_of(overrides), f"seed={settings['seed']}"
        if settings["noise_seed"] != settings["seed"]:
            name += f" noise_seed={settings['noise_seed']}"
        described = {"group": (group, "WANDB_RUN_GROUP"), "job_type": ("train", "WANDB_JOB_TYPE"),
                     "name": (shortened(f"{group} {name}"), "WANDB_NAME")}  # fmt: skip
        for argument, (value, variable) in described.items():
            if self._wandb_init.get(argument) is None and not os.environ.get(variable):
                self._wandb_init[argument] = value
        self._wandb_init.setdefault("config", dict(settings))

    @property
    def experiment(self) -> Any:
        """W&B's run; on processes other than the first, one that does nothing."""
        is_new = self._experiment is None
        run: Any = super().experiment
        if is_new and self._experiment is not None:
            run.define_metric("epoch")
            run.define_metric("*", step_metric="epoch", overwrite=True)
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics of an epoch, which is one of them."""
        self.experiment.log(dict(metrics))

    @property
    def troubles(self) -> tuple[type[Exception], ...]:
        """What is raised where it cannot draw."""
        import wandb

        return OSError, ValueError, wandb.Error

    def draw_histograms(self, histograms: Histograms) -> None:
        """Draw the losses with the components of their mixture, and the clean probabilities; sent with the metrics."""
        import wandb

        network = histograms.network
        title = f"Scaled losses, network {network}, epoch {histograms.epoch}"
        series, keys = list(histograms.densities.values()), list(histograms.densities)
        drawn: dict[str, Any] = {
            f"losses/network_{network}": wandb.plot.line_series(
                histograms.centres.tolist(), series, keys=keys, title=title, xname="scaled loss"
            )
        }
        if histograms.clean_probabilities is not None:
            counts = wandb.Histogram(histograms.clean_probabilities.tolist(), num_bins=BINS)
            drawn[f"clean_probability/network_{network}"] = counts
        self.experiment.log(drawn, commit=False)

    def show_suspects(self, suspects: Sequence[Suspect], epoch: int) -> None:
        """Show a table of them and their pictures."""
        import wandb

        table = wandb.Table(
            ["index", "image", "noisy_label", "clean_probability", "suggested_label", "confidence", "true_label"]
        )
        pictures = []
        for suspect in suspects:
            pixels = suspect.image.permute(1, 2, 0).squeeze(-1).numpy()
            table.add_data(
                suspect.index, wandb.Image(pixels), suspect.given, suspect.clean_probability, suspect.suggested,
                suspect.confidence, suspect.true,
            )  # fmt: skip
            pictures.append(wandb.Image(pixels, caption=suspect.caption))
        # Offline, a table's pictures wait in wandb's own folder; those logged by themselves lie with the run.
        self.experiment.log({"suspicious_labels": table, "suspicious_images": pictures, "epoch": epoch})

    def conclude(self, summary: Mapping[str, Any], page: Path) -> None:
        """Log how the run ended.

        Args:
            summary: its numbers, which become columns.
            page: index.html; an artifact with what lies beside it, if it is there.
        """
        import wandb

        try:
            self.experiment.summary.update({name: value for name, value in summary.items() if value is not None})
            if not page.is_file():
                return
            artifact = wandb.Artifact(f"page-{self.experiment.id}", type="page")
            if sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file()) <= LARGEST_PAGE:
                artifact.add_dir(str(page.parent))
            else:
                artifact.add_file(str(page), name=page.name)
            self.experiment.log_artifact(artifact)
        except self.troubles as error:
            rank_zero_warn(f"W&B does not keep the page: {one_line(first_line(error))}")


def group_of(overrides: Sequence[str]) -> str:
    """What runs have in common that differ in nothing but their seeds: the experiment, and what else the user changed.

    What changes no result, such as where files lie, is left out.
    """
    named: dict[str, str] = {}
    for text in overrides:
        name, _, value = text.lstrip("+~").partition("=")
        if name not in (*SEEDS, "trainer") and not is_free(name):
            named[name] = value
    experiment = named.pop("experiment", "null")
    words = [] if experiment == "null" else [experiment]
    return shortened(one_line(" ".join([*words, *(f"{name}={value}" for name, value in named.items())])) or "defaults")


def shortened(text: str) -> str:
    """`text`, or as much of it as W&B takes, with a mark that tells apart what was cut off."""
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 9]}~{mark}"


def wandb_logger(save_dir: str, offline: bool | None = None, **more: Any) -> EpochWandb:
    """A logger that neither asks a question nor fails for want of a home.

    Args:
        save_dir: the run's folder.
        offline: whether to keep everything there; None: as the environment variable WANDB_MODE says, or else True.
        more: further arguments of Lightning's `WandbLogger`, and of `wandb.init`.

    Raises:
        InputError: a mode that there is not, or one that needs a key where there is none; wandb is not installed.
    """
    require(find_spec("wandb") is not None, "_target_", "wandb_logger", "needs wandb: pip install wandb")
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
    return EpochWandb(save_dir=save_dir, mode=mode, **more)


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
    folders = {} if os.path.isabs(home) and os.access(home, os.W_OK) else dict(FOLDERS)
    if not os.path.isabs(home) or (os.name == "posix" and "HOME" not in os.environ):  # part of wandb looks there alone
        folders |= WITHOUT_HOME
    for name, folder in folders.items():
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
