"""Metrics of cleaners and of loss distributions. Tensors in, plain numbers out; None where a number has no meaning.

Shapes: n samples looked at, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstwo
from sklearn.metrics import roc_auc_score
from torch import Tensor

from cpc_lightning.datasets.dataset import UNKNOWN, UNLABELED


def cleaner_metrics(
    clean_probability: Tensor, clean: Tensor, noisy_labels: Tensor, true_labels: Tensor
) -> dict[str, float | None]:
    """How well a cleaner tells right labels from wrong ones (Figure 3). The **clean** class is the positive one.

    Samples whose true label is unknown count for `share_kept` only.

    Args:
        clean_probability: (n,) in [0, 1].
        clean: (n,) bool, kept as clean.
        noisy_labels: (n,) given labels.
        true_labels: (n,), -1 where unknown, -2 where the image shows none of the classes.

    Returns:
        auc: probability that a right label gets a higher clean probability than a wrong one. None if all are right, or
            all wrong.
        precision: share of right labels among those kept. None if nothing is kept.
        recall: share kept of the right labels. None if no label is right.
        share_kept: share kept of all samples. None if there are none.
    """
    known = true_labels != UNKNOWN
    right = (noisy_labels == true_labels)[known]
    kept = clean[known]
    kept_right, num_kept, num_right = int((kept & right).sum()), int(kept.sum()), int(right.sum())
    both = 0 < num_right < len(right)
    return {
        "auc": float(roc_auc_score(right.cpu().numpy(), clean_probability[known].cpu().numpy())) if both else None,
        "precision": kept_right / num_kept if num_kept else None,
        "recall": kept_right / num_right if num_right else None,
        "share_kept": int(clean.sum()) / len(clean) if len(clean) else None,
    }


def estimate_agreement(gmm: Tensor, cpc: Tensor, gmm_threshold: float, cpc_threshold: float) -> dict[str, float]:
    """How far CPC's clean probabilities q lie from the q' of the mixture in whose place they divide (Figure 4).

    Args:
        gmm: (n,) q', n >= 1.
        cpc: (n,) q.
        gmm_threshold: tau of q'; above it a sample is clean.
        cpc_threshold: tau of q.

    Returns:
        kl_divergence: KL(Bernoulli(q') || Bernoulli(q)) in nats, mean over samples; both clipped to [1e-7, 1 - 1e-7].
        agreement: share of samples that both put on the same side of their threshold.
    """
    # In float64, because 1 - 1e-7 has no near neighbour in float32.
    p = gmm.double().clamp(1e-7, 1 - 1e-7)
    q = cpc.double().clamp(1e-7, 1 - 1e-7)
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    same_side = (gmm > gmm_threshold) == (cpc > cpc_threshold)
    return {"kl_divergence": float(divergence.mean()), "agreement": float(same_side.double().mean())}


def noise_rate(noisy_labels: Tensor, true_labels: Tensor) -> float | None:
    """Share of wrong labels among those (n,) whose true label is known (not -1); None if none is. -1 is no label."""
    known = (true_labels != UNKNOWN) & (noisy_labels != UNLABELED)
    if not bool(known.any()):
        return None
    return float((noisy_labels != true_labels)[known].double().mean())


def ks_deviating_share(losses: Tensor, labels: Tensor, significance: float = 0.05) -> float | None:
    """Share of classes whose losses are not distributed as those of the whole set (Figure 1).

    A class deviates if the two-sided two-sample Kolmogorov-Smirnov test of its losses against the losses of all classes
    has p < `significance`; p is asymptotic, as `scipy.stats.ks_2samp(method="asymp")` has it. Classes without a sample
    are left out.

    Args:
        losses: (n,) of the samples to look at: the clean ones or the noisy ones.
        labels: (n,) int64 given labels.
        significance: of the test.

    Returns:
        A share of the classes that have a sample; None if there is no sample.
    """
    if len(losses) == 0:
        return None
    values: NDArray[np.float64] = losses.double().cpu().numpy()
    given: NDArray[np.int64] = labels.cpu().numpy()
    # By class, and by loss within it: one sort for all classes, where one test each would sort the whole set K times.
    order = np.lexsort((values, given))
    values, whole = values[order], np.sort(values)
    _, starts, counts = np.unique(given[order], return_index=True, return_counts=True)
    size, place = np.repeat(counts, counts), np.arange(len(values)) - np.repeat(starts, counts)
    # Where a class's distribution function steps, the distance to the whole set's is largest: after the step upwards,
    # before it downwards.
    above = (place + 1) / size - np.searchsorted(whole, values, side="right") / len(whole)
    below = np.searchsorted(whole, values, side="left") / len(whole) - place / size
    distances = np.maximum.reduceat(np.maximum(above, below), starts)
    effective = np.round(counts * len(whole) / (counts + len(whole))).clip(min=1)
    p_values = kstwo.sf(distances, effective)
    return float(np.mean(p_values < significance))
