"""Near-duplicates and images that look like none of the classes, on features drawn by hand."""

import numpy as np
import pytest

from cpc_lightning.report import likeness
from cpc_lightning.report.likeness import class_means, near_duplicates, none_of_the_classes, standardised


def unit(*degrees):
    return np.array([[np.cos(np.radians(d)), np.sin(np.radians(d))] for d in degrees], np.float32)


def test_pairs_within():
    alike = near_duplicates(unit(0, 90, 2, 93), near=0.99)  # cos 2 = 0.99939, cos 3 = 0.99863
    assert list(zip(alike.first, alike.second, strict=True)) == [(0, 2), (1, 3)]
    assert alike.cosine == pytest.approx([0.99939083, 0.99862953], abs=1e-6)


def test_pairs_with_others():
    alike = near_duplicates(unit(0, 90), unit(91, 45, 0.5), near=0.99)
    assert list(zip(alike.first, alike.second, strict=True)) == [(0, 2), (1, 0)]


def test_none_where_nothing_is_alike():
    assert len(near_duplicates(unit(0, 60, 120))) == 0
    assert len(near_duplicates(np.zeros((0, 2), np.float32))) == 0


def test_blocks_and_projections_find_what_one_product_finds(monkeypatch):
    monkeypatch.setattr(likeness, "BLOCK", 7)
    rng = np.random.default_rng(1)
    features = rng.standard_normal((100, 300)).astype(np.float32)
    for copy, original in ((90, 3), (40, 41), (99, 0)):
        features[copy] = features[original] + 0.05 * rng.standard_normal(300)
    rows = standardised(features)
    expected = {(i, j) for i in range(100) for j in range(i + 1, 100) if rows[i] @ rows[j] >= 0.99}
    assert expected == {(3, 90), (40, 41), (0, 99)}
    alike = near_duplicates(rows)
    assert set(zip(alike.first.tolist(), alike.second.tolist(), strict=True)) == expected


def test_a_thousand_equal_images_do_not_give_all_pairs():
    alike = near_duplicates(np.tile(unit(30), (1000, 1)), most=10**9)
    assert 1000 <= len(alike) <= likeness.PARTNERS * 1000
    assert (alike.first < alike.second).all()


def test_only_the_most_alike_are_kept():
    alike = near_duplicates(unit(0, 4, 6), near=0.9, most=1)  # 2 degrees apart beats 4 and 6
    assert list(zip(alike.first, alike.second, strict=True)) == [(1, 2)]


def test_standardised_takes_away_what_all_share():
    rows = standardised(np.array([[5.0, 1.0, 7.0], [5.0, 3.0, 9.0]]))  # the first column says nothing
    half = 0.5**0.5
    assert rows == pytest.approx(np.array([[0, -half, -half], [0, half, half]]))
    other = standardised(np.array([[9.0, 2.0, 9.0]]), like=np.array([[5.0, 1.0, 7.0], [5.0, 3.0, 9.0]]))
    assert other == pytest.approx(np.array([[0, 0, 1]]))


def test_none_of_the_classes_is_far_from_every_mean():
    rows = unit(0, 20, 90, 225, 0)
    labels, believed = np.array([0, 0, 1, 1, 2]), np.array([True, True, True, False, False])
    means = class_means(rows, labels, believed, 3)
    assert means == pytest.approx(np.vstack([unit(10, 90), [[0, 0]]]), abs=1e-6)
    # 10 degrees from class 0, 10, 0 from class 1, 135 from the nearer, 10
    expected = 1 - np.cos(np.radians([10, 10, 0, 135, 10]))
    assert none_of_the_classes(rows, means) == pytest.approx(expected, abs=1e-6)


def test_without_any_mean_all_are_equally_far():
    assert none_of_the_classes(unit(0, 5), np.zeros((3, 2), np.float32)).tolist() == [1, 1]
