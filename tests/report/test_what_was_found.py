"""What a verdict amounts to. Every expected value is worked out by hand."""

import numpy as np
import pytest

from cpc_lightning.report.findings import (
    ClassCount,
    Pair,
    all_known,
    by_class,
    confused_pairs,
    confusion,
    counted_wrong,
    estimated_matrix,
    estimated_noise_rate,
    expected_wrong,
    histogram,
    how_many_to_look_at,
    most_suspicious_first,
    true_matrix,
)

# Six samples of three classes; the last has no label, the fourth was not judged.
NOISY = np.array([0, 0, 1, 1, 2, -1])
SUGGESTED = np.array([0, 1, 1, 2, 1, 0])
CLEAN = np.array([0.75, 0.25, 1.0, np.nan, 0.5, np.nan])
SUSPECTED = np.array([False, True, False, False, True, False])


def test_the_most_suspicious_come_first():
    order = most_suspicious_first(
        noisy=np.array([0, 1, 1, 0, 2, -1, 1, 1]),
        suggested=np.array([1, 1, 0, 1, 2, 0, 0, 0]),
        confidence=np.array([0.6, 0.9, 0.8, 0.7, 0.5, 0.9, 0.9, 0.4]),
        clean=np.array([0.2, 0.2, 0.2, np.nan, np.nan, np.nan, 0.0, 0.1]),
        suspected=np.array([True, True, True, False, False, False, False, False]),
        trusted=np.array([False, False, False, False, False, False, True, False]),
    )
    # 0.2 and suspected: contradicted with 0.8, with 0.6, agreed; then 7, which is not suspected (the set looks clean);
    # not judged: contradicted, agreed; trusted; without a label
    assert order.tolist() == [2, 0, 1, 7, 3, 4, 6, 5]


def test_noise_rate_is_the_mean_doubt_of_the_judged():
    assert estimated_noise_rate(CLEAN) == pytest.approx((0.25 + 0.75 + 0.0 + 0.5) / 4)
    assert estimated_noise_rate(np.array([np.nan])) is None


def test_pairs_are_of_suspected_labels_that_are_contradicted():
    noisy, suggested = np.array([0, 0, 2, 2, 2, 1, -1]), np.array([1, 1, 1, 1, 1, 1, 0])
    suspected = np.array([True, True, True, True, False, True, True])
    assert confused_pairs(noisy, suggested, suspected) == [Pair(0, 1, 2), Pair(2, 1, 2)]
    assert confused_pairs(noisy, suggested, np.zeros(7, bool)) == []


def test_by_class():
    assert by_class(NOISY, SUGGESTED, SUSPECTED, CLEAN, 4) == [
        ClassCount(0, labels=2, suspected=1, away=1, towards=0, noise=0.5),
        ClassCount(1, labels=2, suspected=0, away=0, towards=2, noise=0.0),  # one of the two was not judged
        ClassCount(2, labels=1, suspected=1, away=1, towards=0, noise=0.5),
        ClassCount(3, labels=0, suspected=0, away=0, towards=0, noise=None),
    ]


def test_a_suspected_label_that_the_networks_agree_with_moves_nowhere():
    found = by_class(np.array([0, 1]), np.array([0, 1]), np.array([True, False]), np.array([0.1, 0.9]), 2)
    assert (found[0].suspected, found[0].away, found[0].towards) == (1, 0, 0)


def test_estimated_matrix():
    # truly 0: 0.75 (first) + 0.25 (second), all given 0. Truly 1: 0.75 given 0, 1 given 1, 0.5 given 2. Truly 2: one
    # given 1 (not judged: it counts as suggested), 0.5 given 2. First: suggested as given, so 0.25 more for 0.
    expected = [[1, 0, 0], [0.75 / 2.25, 1 / 2.25, 0.5 / 2.25], [0, 1 / 1.5, 0.5 / 1.5]]
    assert estimated_matrix(NOISY, SUGGESTED, CLEAN, 3) == pytest.approx(np.array(expected))


def test_true_matrix_leaves_out_what_is_unknown():
    true = np.array([0, 1, 1, -1, -2, 0])
    assert true_matrix(NOISY, true, 3) == pytest.approx(np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0, 0]]))
    assert true_matrix(NOISY, np.full(6, -1), 3) is None


def test_confusion_counts_labels_by_prediction():
    assert confusion(NOISY, SUGGESTED, 3).tolist() == [[1, 1, 0], [0, 1, 1], [0, 1, 0]]


def test_histogram_keeps_both_ends_and_drops_what_is_not_judged():
    assert histogram(np.array([0.0, 0.1, 0.5, 1.0, np.nan]), 4).tolist() == [2, 0, 1, 1]
    assert histogram(np.array([-1.0, 2.0, 3.0]), 2, low=2, high=4).tolist() == [1, 1]


def test_expected_wrong_is_poisson_binomial():
    found = expected_wrong(np.array([0.0, 0.2, 0.5]), np.array([1, 2, 3]))
    assert found.wrong == pytest.approx([1.0, 1.8, 2.3])
    # variances 0, 0.16, 0.41; standard deviations 0, 0.4, 0.6403
    assert found.low == pytest.approx([1.0, 1.8 - 1.959964 * 0.4, 2.3 - 1.959964 * 0.640312], abs=1e-6)
    assert found.high == pytest.approx([1.0, 2.0, 3.0])  # cut off at n: 2.58 and 3.55


def test_expected_wrong_does_not_fall_below_zero():
    assert expected_wrong(np.array([0.9]), np.array([1])).low.tolist() == [0.0]


def test_interval_holds_what_is_drawn_from_the_probabilities():
    rng = np.random.default_rng(0)
    clean = np.sort(rng.uniform(0, 0.4, 100))
    found = expected_wrong(clean, np.array([100]))
    drawn = (rng.random((4000, 100)) > clean).sum(axis=1)
    inside = ((found.low[0] <= drawn) & (drawn <= found.high[0])).mean()
    assert 0.93 < inside < 0.97


def test_counted_wrong_counts():
    found = counted_wrong(np.array([0, 1, 2, 2]), np.array([1, 1, -2, 2]), np.array([1, 2, 3, 4]))
    assert found.wrong.tolist() == found.low.tolist() == found.high.tolist() == [1, 1, 2, 2]


def test_truth_is_known_only_if_all_of_it_is():
    assert all_known(np.array([0, -2, 3]))
    assert not all_known(np.array([0, -1]))
    assert not all_known(np.array([], dtype=int))


@pytest.mark.parametrize(("count", "suspected", "last"), [(50, 3, 50), (1000, 30, 100), (1000, 200, 400), (10, 9, 10)])
def test_curve_reaches_twice_the_suspects(count, suspected, last):
    n = how_many_to_look_at(count, suspected)
    assert n[0] == 1
    assert n[-1] == last
    assert suspected in n
    assert (np.diff(n) > 0).all()
    assert len(n) < 70


def test_curve_of_nothing():
    assert how_many_to_look_at(0, 0).tolist() == []
