"""Estimates before a run how long it will take, from a few timed steps, and suggests faster settings."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable

import torch

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.report import MOST_LOOKED_AT
from cpc_lightning.app.trainer import uses_gpu
from cpc_lightning.errors import first_line, one_line
from cpc_lightning.training.forecast import PAGE, Forecast, forecast
from cpc_lightning.training.pace import HELD_OUT
from cpc_lightning.training.progress import progress_of
from cpc_lightning.training.trial import try_out

LONG = 3600.0
"""Seconds on a CPU from which on faster ways are told."""


def forecast_of(parts: Parts, features: float = 0.0, clock: Callable[[], float] = time.perf_counter) -> Forecast:
    """What to expect of a run whose parts are ready; they stay as they are.

    Args:
        parts: of the run.
        features: seconds that computing features takes before.
        clock: in seconds.
    """
    trainer, training, data = parts.trainer, parts.settings["training"], parts.datamodule
    device, begun = trainer.strategy.root_device, parts.begun
    page = bool(parts.settings.get("report"))
    costs = try_out(
        parts.module, data, parts.cleaner, device, trainer.precision_plugin.forward_context, trainer.num_devices,
        clock, page,
    )  # fmt: skip
    if device.type == "cuda":
        torch.cuda.empty_cache()
    rate = parts.noise.nominal_rate
    labeled = None if rate is None or rate == 0 else 1 - rate
    on = "this CPU" if device.type == "cpu" else "this GPU"
    return forecast(
        costs, data, training["epochs"], 0 if begun is None else begun.epochs,
        labeled if begun is None or begun.labeled is None else begun.labeled, trainer.world_size,
        page, len(data.noisy_labels) <= MOST_LOOKED_AT, on, features,
    )  # fmt: skip


def announce(parts: Parts, faster: Callable[[Parts, Forecast], list[tuple[Forecast, list[str]]]]) -> Forecast | None:
    """Say on standard error how long the run will take, and tell its progress bar; nothing where it has none.

    Args:
        parts: of the run, ready.
        faster: looks for settings that make it shorter.
    """
    bar = progress_of(parts.trainer)
    if bar is None:
        return None
    try:
        found = forecast_of(parts)
        ways = faster(parts, found) if parts.trainer.is_global_zero and is_long(parts, found) else []
    except Exception as error:  # of any network or cleaner, memory: the run says itself what is wrong with it
        if parts.trainer.is_global_zero:
            print(one_line(f"how long this takes cannot be told: {first_line(error)}"), file=sys.stderr)
        return None
    seconds = {**found.seconds, HELD_OUT: found.seconds[HELD_OUT] + found.seconds[PAGE]}
    bar.expect(seconds)
    if parts.trainer.is_global_zero:
        begun = "this run takes " if parts.begun is None else "the rest takes "
        print(begun + sentence(found), file=sys.stderr)
        for way, texts in ways:
            print(f"{way.words}: {command(texts)}", file=sys.stderr)
    return found


def is_long(parts: Parts, found: Forecast) -> bool:
    """Whether faster ways are worth a word."""
    return found.total > LONG and not uses_gpu(parts.settings["trainer"])


def sentence(found: Forecast) -> str:
    """The forecast for people."""
    supposing = f", {found.supposing}" if found.supposing else ""
    return f"{found.words}{supposing}: {found.shares}"


def command(texts: list[str]) -> str:
    """What to type for a run with these settings."""
    return " ".join(["python -m cpc_lightning", *map(shlex.quote, texts)])
