"""Compares settings with the method and with the paper's protocol for the data set.

Values that the paper gives for a data set, and rules that hold for any. Nothing here stops a run: whoever departs from
the protocol on purpose reads a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cpc_lightning.checkup.findings import Finding
from cpc_lightning.checkup.paper import BASELINES, LAMBDA_U, LENGTH, OTHERWISE, PAPER, REAL_NOISE


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        dataset: its name.
        noise: what is added to its labels on purpose.
        rate: the noise's nominal rate; None where it has none.
        active: whether a cleaner divides the data, so that there is a stage 2.
        settings: full name ("training.epochs") to value; a setting that the chosen parts do not have is left out.
            "backbone" is the name of the network.
    """

    dataset: str
    noise: Literal["none", "symmetric", "asymmetric", "other"]
    rate: float | None
    active: bool
    settings: Mapping[str, Any]

    def __getitem__(self, setting: str) -> Any:
        """The setting's value, None where there is none."""
        return self.settings.get(setting)


@dataclass(frozen=True)
class Rule:
    """Something that settings should not do.

    Attributes:
        setting: the setting that it is about.
        broken: whether a plan does it; asked only where the plan has that setting.
        why: what is wrong with it, after "SETTING=VALUE".
        advice: what to set instead.
    """

    setting: str
    broken: Callable[[Plan], bool]
    why: str
    advice: str


def typical_mistakes(plan: Plan) -> bool:
    """Whether a cleaner has to tell mistakes that are made the same way again and again."""
    return plan.active and (plan.noise == "asymmetric" or plan.dataset == "clothing1m")


def late_milestones(plan: Plan) -> bool:
    """Whether the learning rate is to fall after the last epoch."""
    return any(epoch >= plan["training.epochs"] for epoch in plan["optimizer.schedule.milestones"])


def prototypes_never_divide(plan: Plan) -> bool:
    """Whether the mixtures still divide the data at the last epoch."""
    stage_two = plan["training.epochs"] - plan["training.warmup_epochs"]
    return bool(math.ceil(plan["cleaner.warmup_share"] * plan["training.epochs"] - 1e-9) >= stage_two)


def ramp_never_ends(plan: Plan) -> bool:
    """Whether lambda_u is still growing at the last epoch."""
    stage_two = plan["training.epochs"] - plan["training.warmup_epochs"]
    return bool((plan["semisup.lambda_u"] or 0) > 0 and stage_two <= plan["semisup.rampup_epochs"])


def noisier_than(plan: Plan, rate: float) -> bool:
    """Whether there is more symmetric noise than that."""
    return plan.noise == "symmetric" and plan.rate is not None and round(plan.rate, 6) > rate


def learns_longer(plan: Plan) -> bool:
    """Whether the paper gives prototypes twice as many epochs to learn, e = 0.1."""
    return plan.dataset == "cifar100" and noisier_than(plan, 0.8)


RULES = (
    Rule(
        "training.confidence_penalty",
        lambda p: typical_mistakes(p) and p["training.confidence_penalty"] == 0,
        "with typical mistakes the losses of warm-up separate only with a confidence penalty",
        "training.confidence_penalty=1",
    ),
    Rule(
        "noise.rate",
        lambda p: p.noise == "asymmetric" and p.rate is not None and p.rate >= 0.5,
        "from one half on, mistaken images outnumber the others of their class, and count as the clean ones",
        "noise.rate below 0.5",
    ),
    Rule(
        "cleaner.class_aware",
        lambda p: p.noise == "asymmetric" and p["cleaner.class_aware"] is True,
        "for asymmetric noise the paper fits one mixture for all classes",
        "cleaner=cpc_agn (or gmm_agn)",
    ),
    Rule(
        "cleaner.history_length",
        lambda p: noisier_than(p, 0.85) and p["cleaner.history_length"] < 5 and p["training.balanced_batches"] is None,
        "at 90 % noise the losses of one epoch are too rough; DivideMix's and AugDesc's code averages 5",
        "cleaner.history_length=5",
    ),
    Rule(
        "cleaner.warmup_share",
        lambda p: p.active and prototypes_never_divide(p),
        "the prototypes only learn, and never divide the data, before the last epoch",
        "a smaller cleaner.warmup_share, or more training.epochs",
    ),
    Rule(
        "cleaner.warmup_share",
        lambda p: learns_longer(p) and p["cleaner.warmup_share"] < 0.1,
        "above 80 % noise on CIFAR-100 the paper takes 0.1",
        "cleaner.warmup_share=0.1",
    ),
    Rule(
        "cleaner.steps",
        lambda p: p["cleaner.steps"] < 2000,
        "prototypes may not have learnt enough to divide the data; the paper does not say how many steps they take",
        "cleaner.steps=2000",
    ),
    Rule(
        "semisup.rampup_epochs",
        lambda p: p.active and ramp_never_ends(p),
        "the weight of the unlabeled half, semisup.lambda_u, does not reach its full value before the last epoch",
        "more training.epochs, or fewer semisup.rampup_epochs",
    ),
    Rule(
        "optimizer.schedule.milestones",
        late_milestones,
        "the learning rate does not fall at an epoch that there is not",
        "optimizer.schedule.milestones below training.epochs",
    ),
)


def protocol_findings(plan: Plan) -> list[Finding]:
    """A warning for each contradiction; one that all is well where there is none."""
    broken = [rule for rule in RULES if plan[rule.setting] is not None and rule.broken(plan)]
    findings = [
        Finding("protocol", "warning", f"{rule.setting}={shown(plan[rule.setting])}: {rule.why}", rule.advice)
        for rule in broken
    ]
    if plan.dataset in REAL_NOISE and plan.noise != "none":
        found = f"noise adds wrong labels to {plan.dataset}, where many are wrong as they come: no rate tells how many"
        findings.append(Finding("protocol", "warning", found, "noise=none"))
    known = {rule.setting for rule in broken}
    differing = min((departures(plan, values, known) for values in protocols(plan)), key=len)
    if differing:
        found = ", ".join(f"{setting}={shown(plan[setting])}" for setting in differing)
        advice = " ".join(f"{setting}={shown(value)}" for setting, value in differing.items())
        findings.append(Finding("protocol", "warning", f"not the paper's for {plan.dataset}: {found}", advice))
    if not findings:
        of = f"the paper's protocol for {plan.dataset}" if plan.dataset in PAPER else "the method"
        length = LENGTH if plan.dataset.startswith("cifar") else {}
        other = [f"{s}={shown(value)}" for s, value in length.items() if s in plan.settings and plan[s] != value]
        note = f"; its own runs have {', '.join(other)}" if other else ""
        findings.append(Finding("protocol", "ok", f"no setting contradicts {of}{note}"))
    return findings


def departures(plan: Plan, values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The settings of `values` that the plan has, and has otherwise; without those that are `known`."""
    return {s: value for s, value in values.items() if s in plan.settings and plan[s] != value and s not in known}


def protocols(plan: Plan) -> list[dict[str, Any]]:
    """The settings that the paper gives for the plan's data set and noise, first, and other ones that are as good."""
    values = dict(PAPER.get(plan.dataset, {}))
    if plan.dataset == "clothing1m" and plan["backbone.weights"] is None:
        values["backbone.weights"] = "IMAGENET1K_V1"  # or a file that holds them: any weights will do
    if learns_longer(plan):
        values["cleaner.warmup_share"] = 0.1
    if plan.dataset.startswith("cifar") and plan.noise in ("symmetric", "asymmetric"):
        values["cleaner.class_aware"] = plan.noise == "symmetric"
    others = list(OTHERWISE.get(plan.dataset, ()))
    if plan.dataset == "cifar100" and noisier_than(plan, 0.79):  # A.2.2 took at 90 % what was tuned at 80 %
        others.append({"cleaner.warmup_share": 0.1})
    if "cleaner.alpha" not in plan.settings:  # the paper's are those of CPC; it tries both mixtures alone (Table 3)
        values.pop("cleaner.threshold", None)
        values.pop("cleaner.class_aware", None)
        others += BASELINES.get(plan.dataset, ())
    cell = (plan.dataset, plan.noise, 0.0 if plan.rate is None else round(plan.rate, 6))
    if cell in LAMBDA_U:
        values["semisup.lambda_u"] = LAMBDA_U[cell]
    return [values, *({**values, **other} for other in others)]


def shown(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
