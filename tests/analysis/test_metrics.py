import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from cpc_lightning.analysis.metrics import (
    cleaner_metrics,
    estimate_agreement,
    ks_deviating_share,
    noise_rate,
)


def test_cleaner_metrics_literal():
    probability = torch.tensor([0.9, 0.8, 0.7, 0.4, 0.3])
    kept = probability > 0.5
    noisy, true = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([0, 0, 0, 1, 1])
    # right: samples 0, 2, 3. Kept: 0, 1, 2. Pairs (right, wrong) in order: .9 beats .8 and .3, .7 beats .3,
    # .4 beats .3: 4 of 6.
    assert cleaner_metrics(probability, kept, noisy, true) == {
        "auc": pytest.approx(4 / 6),
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "share_kept": pytest.approx(3 / 5),
    }


def test_precision_and_recall_are_of_the_clean_class_and_differ():
    # four right, one wrong; two kept, one of them right
    kept = torch.tensor([True, True, False, False, False])
    result = cleaner_metrics(torch.rand(5), kept, torch.zeros(5), torch.tensor([0, 1, 0, 0, 0]))
    assert (result["precision"], result["recall"]) == (1 / 2, 1 / 4)


def test_samples_of_unknown_truth_count_for_the_share_kept_only():
    known = (torch.tensor([0.9, 0.2]), torch.tensor([True, False]), torch.tensor([0, 0]), torch.tensor([0, 1]))
    unknown = (torch.tensor([0.1, 0.9]), torch.tensor([False, False]), torch.tensor([0, 1]), torch.tensor([-1, -1]))
    both = cleaner_metrics(*(torch.cat(pair) for pair in zip(known, unknown, strict=True)))
    assert both == {"auc": 1.0, "precision": 1.0, "recall": 1.0, "share_kept": 0.25}


@pytest.mark.parametrize(
    ("kept", "true", "expected"),
    [
        ([True, False], [-1, -1], {"auc": None, "precision": None, "recall": None, "share_kept": 0.5}),
        ([True, False], [0, 0], {"auc": None, "precision": 1.0, "recall": 0.5, "share_kept": 0.5}),
        ([True, False], [1, 1], {"auc": None, "precision": 0.0, "recall": None, "share_kept": 0.5}),
        ([False, False], [0, 1], {"auc": 1.0, "precision": None, "recall": 0.0, "share_kept": 0.0}),
    ],
)
def test_a_metric_without_meaning_is_none(kept, true, expected):
    result = cleaner_metrics(torch.tensor([0.9, 0.1]), torch.tensor(kept), torch.zeros(2), torch.tensor(true))
    assert result == expected


def test_no_samples_at_all():
    nothing = torch.zeros(0)
    assert set(cleaner_metrics(nothing, nothing.bool(), nothing, nothing).values()) == {None}


@pytest.mark.long
@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_auc_is_the_share_of_pairs_in_the_right_order(seed):
    generator = torch.Generator().manual_seed(seed)
    probability = torch.randint(0, 5, (12,), generator=generator) / 4  # with ties
    true = torch.randint(0, 2, (12,), generator=generator)
    pairs = [
        1.0 if probability[i] > probability[j] else 0.5 if probability[i] == probability[j] else 0.0
        for i in range(12)
        for j in range(12)
        if true[i] == 0 and true[j] == 1
    ]
    auc = cleaner_metrics(probability, probability > 0.5, torch.zeros(12), true)["auc"]
    assert auc is None if not pairs else auc == pytest.approx(sum(pairs) / len(pairs))


def test_estimate_agreement_literal_and_direction():
    # KL(.5 || .25) = .5 log 2 + .5 log(.5/.75); the reverse is .25 log .5 + .75 log 1.5
    result = estimate_agreement(torch.tensor([0.5, 0.3]), torch.tensor([0.25, 0.3]), 0.4, 0.4)
    assert result["kl_divergence"] == pytest.approx((0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)) / 2, rel=1e-6)
    assert result["agreement"] == 0.5


def test_certain_estimates_that_contradict_each_other_are_clipped():
    # q' = 1, q = 0 becomes 1 - 1e-7 and 1e-7: (1 - 2e-7) log((1 - 1e-7) / 1e-7)
    result = estimate_agreement(torch.tensor([1.0]), torch.tensor([0.0]), 0.5, 0.5)
    assert result["kl_divergence"] == pytest.approx((1 - 2e-7) * math.log((1 - 1e-7) / 1e-7), rel=1e-9)
    assert result["agreement"] == 0


def test_the_threshold_itself_is_not_clean():
    assert estimate_agreement(torch.tensor([0.5]), torch.tensor([0.4]), 0.5, 0.5)["agreement"] == 1
    # Each on the side of its own threshold: clean by the mixture, clean by the prototypes.
    assert estimate_agreement(torch.tensor([0.5]), torch.tensor([0.4]), 0.45, 0.3)["agreement"] == 1
    assert estimate_agreement(torch.tensor([0.5]), torch.tensor([0.4]), 0.45, 0.45)["agreement"] == 0


def test_an_image_of_none_of_the_classes_is_labeled_wrong_whatever_its_label():
    noisy, true = torch.tensor([0, 1, 1, 0]), torch.tensor([0, -2, 1, -1])
    assert noise_rate(noisy, true) == pytest.approx(1 / 3)
    measured = cleaner_metrics(torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([True, True, True, False]), noisy, true)
    assert measured == {"auc": 0.5, "precision": pytest.approx(2 / 3), "recall": 1.0, "share_kept": 0.75}


def test_noise_rate():
    assert noise_rate(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 1, -1])) == pytest.approx(1 / 3)
    assert noise_rate(torch.tensor([0, 1]), torch.tensor([-1, -1])) is None


def losses_of_three_classes():
    """Classes 0 and 1 share a distribution, class 3 lies apart; class 2 has no sample."""
    spread = torch.linspace(0, 1, 50)
    return torch.cat([spread, spread, spread[:20] + 5]), torch.tensor([0] * 50 + [1] * 50 + [3] * 20)


def test_ks_share_counts_the_class_that_lies_apart():
    # Against all 120, class 3's distance is 100/120, classes 0 and 1's 20/120 (p about .25 with 50 and 120 samples).
    losses, labels = losses_of_three_classes()
    assert ks_deviating_share(losses, labels) == pytest.approx(1 / 3)
    assert ks_deviating_share(losses, labels, significance=0.9) == 1
    assert ks_deviating_share(losses[:100], labels[:100]) == 0
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    assert ks_deviating_share(losses[order], labels[order]) == pytest.approx(1 / 3)


def test_ks_share_of_a_sample_and_of_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ks_deviating_share(torch.tensor([0.5]), torch.tensor([7])) == 0
        assert ks_deviating_share(torch.zeros(0), torch.zeros(0).long()) is None


@pytest.mark.long
@settings(deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_ks_share_is_that_of_one_test_for_each_class(seed, ties):
    """Against scipy's test, at several significances, with classes of all sizes; with ties losses are whole numbers."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, random.integers(1, 9), random.integers(2, 150))
    losses = random.gamma(2, 2, len(labels)) + labels * random.choice([0, 0.3, 1.5])
    losses = losses.round() if ties else losses
    p_values = [ks_2samp(losses[labels == k], losses, method="asymp").pvalue for k in np.unique(labels)]
    for significance in (0.01, 0.05, 0.3, 0.7, 0.95):
        expected = np.mean([p < significance for p in p_values])
        assert ks_deviating_share(torch.tensor(losses), torch.tensor(labels), significance) == expected
