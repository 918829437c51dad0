"""Builds what makes the optimizers and the schedule of a run, and tries each out once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cpc_lightning.app.build import blame, build
from cpc_lightning.app.settings import check_kinds
from cpc_lightning.errors import InputError, require


def make_optimizers(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """What makes the optimizer of a network, the optimizer of a head, and the schedule.

    Args:
        settings: nested.
        usual: as the yaml files have them, which tell kinds; empty where nobody knows.

    Raises:
        InputError: for a setting that torch refuses, or that gives an epoch no learning rate.
    """
    check_kinds({"optimizer": settings["optimizer"]}, usual)  # torch knows no ranges
    names = ("network", "head", "schedule")
    network, head, schedule = (build(settings, f"optimizer.{name}") for name in names)
    parameters = [nn.Parameter(torch.zeros(1))]
    for name, make in zip(names, (network, head, schedule), strict=True):
        try:
            made = make(network(parameters) if name == "schedule" else parameters)
            if name == "schedule":
                check_schedule(made, settings["training"]["epochs"])
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise blame(f"optimizer.{name}", settings["optimizer"][name], error) from error
    return network, head, schedule


def check_schedule(schedule: Any, epochs: int) -> None:
    """Raise `InputError` where the schedule gives an epoch a learning rate that is no number, or negative."""
    for epoch in range(epochs):
        rate = schedule.get_last_lr()[0]
        shown = f"a learning rate of {rate} in epoch {epoch}"
        require(0 <= rate < float("inf"), "optimizer.schedule", shown, "must not be negative or infinite")
        schedule.optimizer.step()  # or torch warns that the schedule is ahead of it
        schedule.step()
