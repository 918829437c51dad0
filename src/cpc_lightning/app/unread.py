"""Settings that a run takes no notice of: what asks for them is refused, or told. And what choices are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cpc_lightning.app.compose import parse
from cpc_lightning.cleaning.evidence import Cleaner
from cpc_lightning.errors import InputError, require
from cpc_lightning.methods.method import PENALTY, POLICY, Method
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.training.dividing import PAYING
from cpc_lightning.training.same_run import flatten, within
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views

OF_WARMUP = ("warmup_epochs", "warmup_batch_size", "divide_when")
"""Settings of `training` that mean something to all methods for which a cleaner divides the data."""

DIVIDE = "training.divide_when"
WAITS = "a division waits with method=codivide alone, on images, by a cleaner that does not know the true labels"

OF_STRONG_VIEWS = ("views.policy", "views.augdesc", "vector_views")


def unread(method: Method) -> Iterator[tuple[str, str]]:
    """Settings and groups that the method does not read, each with what the method does instead."""
    if not method.takes_risk:
        yield "semisup", "does not learn with the empirical vicinal risk"
    if not method.takes_cleaner:
        for name in OF_WARMUP:
            yield f"training.{name}", "learns in the same way from the first epoch to the last, without a warm-up"
    for name in (PENALTY, POLICY):
        if name not in method.warmup_settings:
            yield f"training.{name}", "has no warm-up that this changes"


def check_read(
    method: Method, settings: Mapping[str, Any], usual: Mapping[str, Any], overrides: Sequence[str] = ()
) -> None:
    """Raise `InputError` for a setting that was asked for and that the method does not read.

    That is what was typed, and what an experiment sets beside the files of the groups, unless the method was typed to
    take the place of the experiment's own.

    Args:
        method: need not have begun.
        settings: nested.
        usual: as the files of the groups have them, nested; empty where nobody knows.
        overrides: what was typed.
    """
    typed = typed_names(overrides)
    now, before = flatten(settings), flatten(usual)
    for name, does in unread(method):
        asked = {key: value for key, value in typed.items() if within(key, name)}
        if "method" not in typed:
            own = {key: value for key, value in now.items() if within(key, name) and key in before}
            asked |= {key: value for key, value in own.items() if value != before[key] and not is_link(before[key])}
        for key, value in asked.items():
            raise InputError(key, value, f"is not for this method, which {does}")


def check_views_unread(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Raise `InputError` for a setting of `views` other than the usual one, in a run whose networks see vectors."""
    before = flatten(usual.get("views") or {})
    for name, value in flatten(settings["views"] or {}).items():
        changed = usual and name != "size" and value != before.get(name, value)
        expected = "makes views of images, and networks see features of them: see vector_views"
        require(not changed, f"views.{name}", value, expected)


def set_aside(
    method: Method,
    cleaner: Cleaner,
    risk: EmpiricalVicinalRisk,
    views: Views | VectorViews,
    settings: Mapping[str, Any],
    overrides: Sequence[str],
) -> list[str]:
    """In a line each, what the run makes no use of.

    That is cleaners, kept guesses, a division that was typed to wait and does not, and what was typed of strong views.
    """
    lines = []
    if not cleaner.active and method.judge is not None:
        name, judge = called("method", method, overrides), type(method.judge).__name__
        does = f"no cleaner divides the data, and at the end {judge} ranks the labels"
        lines.append(f"method={name} trains on all labels: {does}")
    if risk.kept_guesses and not (method.takes_risk and cleaner.active):
        lines.append("semisup.kept_guesses=true changes nothing: here nothing is guessed")
    waits = method.may_wait and cleaner.active and not cleaner.needs_true_labels and isinstance(views, Views)
    asked = DIVIDE in typed_names(overrides) and settings["training"]["divide_when"] == PAYING
    if asked and not waits:
        lines.append(f"{DIVIDE}={PAYING} changes nothing: {WAITS}")
    return [*lines, *filter(None, [told(method, settings, overrides)])]


def told(method: Method, settings: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """In a line, what does not go together of a method and the strong views; "" where all does.

    That is what was typed of them, where the method takes none, and strong views that are weak ones, where it needs
    others. The empirical vicinal risk does not: DivideMix's views are weak.
    """
    typed = [text for text in overrides if any(within(split(text)[0], name) for name in OF_STRONG_VIEWS)]
    if method.weak_views_alone:
        return f"not used: {', '.join(typed)}, as this method learns from weak views alone" if typed else ""
    policy = (settings.get("views") or {"policy": ""}).get("policy")
    if method.takes_risk or policy not in ("weak", "none", None):
        return ""
    others = "views.policy=imagenet, cifar10 (for photos) or symbols (for signs) makes them"
    return f"views.policy={policy}: there are no strong views, which this method learns from; {others}"


def called(group: str, part: object, overrides: Sequence[str]) -> str:
    """What a group's choice is called where it is typed; where it was not, the module that the part comes from.

    Args:
        group: such as cleaner.
        part: what the choice has built.
        overrides: what was typed.
    """
    typed = dict(split(text) for text in overrides)
    return typed.get(group) or type(part).__module__.rpartition(".")[2]


def typed_names(overrides: Sequence[str]) -> dict[str, Any]:
    """What was typed, by full names of settings."""
    return flatten({name: value for text in overrides for name, value in [parsed(text)]})


def parsed(override: str) -> tuple[str, Any]:
    """Name of what was typed, and the value: a dict where it was one."""
    name, value = split(override)
    whole = parse(override).value() if value.startswith("{") else value
    return name, whole if isinstance(whole, Mapping) else value


def is_link(value: object) -> bool:
    """Whether a value of the files stands for that of another setting."""
    return str(value).startswith("${")


def split(override: str) -> tuple[str, str]:
    """Name and value of what was typed."""
    name, _, value = override.lstrip("+~").partition("=")
    return name, value
