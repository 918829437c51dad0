"""Metrics of stage 1 for the log: quality of the division, loss distributions of classes."""

from __future__ import annotations

import torch
from torch import Tensor

from cpc_lightning.analysis.metrics import cleaner_metrics, estimate_agreement, ks_deviating_share
from cpc_lightning.cleaning.evidence import CleaningResult, Draw, Estimate, Evidence
from cpc_lightning.datasets.dataset import UNKNOWN


def measure_result(result: CleaningResult, draws: tuple[Draw, Draw]) -> dict[str, float]:
    """What is worth logging of a division, by metric name.

    "gmm/..." and "cpc/..." hold AUC, precision, recall and share kept of the mixture's and the prototypes' clean
    probability: by network 1 ("_1"), by network 2 ("_2") and joined, that is of the mean of both, or, where they judge
    different draws, of both draws together. "verdict/..." holds the same of a clean probability that rests on
    neither. What does not apply is left out.
    """
    values: dict[str, float] = dict(result.scalars)
    for number, partition in enumerate(result.partitions, start=1):
        values[f"partition/labeled_{number}"] = len(partition.labeled)
        values[f"partition/unlabeled_{number}"] = len(partition.unlabeled)
    thresholds = {**result.thresholds, "verdict": result.threshold}
    for source in ("gmm", "cpc", "verdict"):
        of_both = (clean_probability_of(estimate, source) for estimate in result.estimates)
        pair = [probability for probability in of_both if probability is not None]
        if len(pair) < 2:
            continue
        judged = draws[1], draws[0]
        noisy, true = ([getattr(draw, kind) for draw in judged] for kind in ("noisy_labels", "true_labels"))
        if torch.equal(draws[0].index, draws[1].index):
            joined = (pair[0] + pair[1]) / 2, noisy[0], true[0]
        else:
            joined = torch.cat(pair), torch.cat(noisy), torch.cat(true)
        rows = {"_1": (pair[0], noisy[0], true[0]), "_2": (pair[1], noisy[1], true[1]), "": joined}
        for suffix, (probability, noisy_labels, true_labels) in rows.items():
            kept = probability > thresholds[source]
            measured = cleaner_metrics(probability, kept, noisy_labels, true_labels)
            values |= {f"{source}/{name}{suffix}": value for name, value in measured.items() if value is not None}
    for number, estimate in enumerate(result.estimates, start=1):
        if estimate.gmm is not None and estimate.cpc is not None:
            agreement = estimate_agreement(
                estimate.gmm, estimate.cpc, result.thresholds["gmm"], result.thresholds["cpc"]
            )
            values |= {f"gmm_cpc/{name}_{number}": value for name, value in agreement.items()}
    return values


def clean_probability_of(estimate: Estimate, source: str) -> Tensor | None:
    """(n,) what the mixture ("gmm") or the prototypes ("cpc") say; "verdict": the whole estimate, if it has neither."""
    if source == "verdict":
        return estimate.clean_probability if estimate.gmm is None and estimate.cpc is None else None
    of_source: Tensor | None = getattr(estimate, source)
    return of_source


def measure_losses(judging: tuple[Evidence, Evidence], draws: tuple[Draw, Draw]) -> dict[str, float]:
    """How far classes differ in their losses at the end of the warm-up (Figure 1), by metric name.

    "losses/ks_deviating_clean_1" is the share of classes whose rightly labeled samples have other losses than all
    rightly labeled samples have, by network 1; "..._noisy_1" that among the wrongly labeled ones; "..._2" by network 2.
    What has no sample of known truth is left out.
    """
    values: dict[str, float] = {}
    for number, (evidence, draw) in enumerate(zip(judging, reversed(draws), strict=True), start=1):
        right, known = draw.noisy_labels == draw.true_labels, draw.true_labels != UNKNOWN
        for kind, rows in (("clean", right), ("noisy", known & ~right)):
            share = ks_deviating_share(evidence.losses[rows], draw.noisy_labels[rows])
            if share is not None:
                values[f"losses/ks_deviating_{kind}_{number}"] = share
    return values
