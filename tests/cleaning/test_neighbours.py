"""Neighbours against all pairs, and votes worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cpc_lightning.cleaning import neighbours
from cpc_lightning.cleaning.neighbours import groups_of_copies, nearest, standardise, vote


def rows(values):
    return torch.tensor(values, dtype=torch.float32)


def test_standardised_features_have_mean_0_and_deviation_1_and_constant_ones_are_0():
    inputs = standardise(rows([[1, 5, 10], [3, 5, 30]]))
    assert inputs.tolist() == [[-1, 0, -1], [1, 0, 1]]
    assert standardise(torch.tensor([[1, 7], [3, 7]], dtype=torch.float64)).dtype == torch.float32


def test_nearest_by_cosine_without_oneself(monkeypatch):
    monkeypatch.setattr("cpc_lightning.cleaning.neighbours.BLOCK", 4)  # one row at a time
    near, cosines = nearest(rows([[1, 0], [10, 0], [0, 1], [1, 1]]), 2)
    assert near[0].tolist() == [1, 3]
    torch.testing.assert_close(cosines[0], rows([1, 0.5**0.5]))
    assert near[2].tolist()[0] == 3
    assert nearest(rows([[1, 0], [0, 1]]), 30)[0].tolist() == [[1], [0]]


def clustered(count, classes=12, size=24):
    """Samples around centres that overlap, in a subspace of 6 dimensions and a little beside it."""
    generator = torch.Generator().manual_seed(0)
    centres = 1.5 * torch.randn(classes, 6, generator=generator)
    inside = centres[torch.arange(count) % classes] + torch.randn(count, 6, generator=generator)
    outside = torch.randn(count, size, generator=generator)
    return standardise(inside @ torch.randn(6, size, generator=generator) + 0.5 * outside)


def even(count):
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(1))


def by_all_pairs(inputs, count):
    unit = inputs.double().numpy() / np.linalg.norm(inputs.double().numpy(), axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    order = np.argsort(-cosines, axis=1)[:, :count]
    return order, np.take_along_axis(cosines, order, axis=1)


def recall(near, true):
    return float(np.mean([len({*one} & {*other}) / len(one) for one, other in zip(near.tolist(), true, strict=True)]))


@pytest.mark.parametrize(("inputs", "least"), [(clustered(3000), 0.96), (even(3000), 0.96)])
def test_cells_find_nearly_all_of_the_nearest_in_any_data(monkeypatch, inputs, least):
    monkeypatch.setattr(neighbours, "EXACT", 1000)
    monkeypatch.setattr(neighbours, "CELL", 64)
    true, expected = by_all_pairs(inputs, 10)
    near, cosines = nearest(inputs, 10)
    assert recall(near, true) >= least
    # What is found is really that alike, is sorted, and is nobody twice or oneself.
    unit = F.normalize(inputs, dim=1)
    torch.testing.assert_close(cosines, (unit[:, None] * unit[near]).sum(2), atol=1e-5, rtol=0)
    assert bool((cosines.diff(dim=1) <= 0).all())
    assert all(len({*row, own}) == 11 for own, row in enumerate(near.tolist()))
    assert float(cosines.mean()) == pytest.approx(expected.mean(), abs=0.005)


def test_cells_are_fewer_pairs_where_there_are_clusters(monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT", 1000)
    monkeypatch.setattr(neighbours, "CELL", 64)
    compared = []

    def counted(rows, own, unit, count, among=None, kept=neighbours._nearest_of):
        compared.append(len(rows) * len(unit if among is None else among))
        return kept(rows, own, unit, count, among)

    monkeypatch.setattr(neighbours, "_nearest_of", counted)
    nearest(clustered(3000), 10)
    assert sum(compared[1:]) < 3000**2 / 3  # the first are the samples by which the number of cells is chosen


def test_cells_are_the_same_in_every_call_whatever_else_is_drawn(monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT", 1000)
    first = nearest(clustered(2000), 10)
    torch.manual_seed(5)
    assert all(map(torch.equal, first, nearest(clustered(2000), 10)))


def test_cells_of_copies_and_of_nothing(monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT", 1000)
    monkeypatch.setattr(neighbours, "CELL", 64)
    monkeypatch.setattr(neighbours, "BLOCK", 10_000)  # a cell is larger
    inputs = torch.cat([clustered(600), torch.ones(500, 24), torch.zeros(400, 24), clustered(1)])
    near, cosines = nearest(inputs, 30)
    assert near.shape == (1501, 30)
    assert bool((near[600:1100] >= 600).all() & (near[600:1100] < 1100).all())
    assert cosines[600].tolist() == pytest.approx([1] * 30)
    assert cosines[1200].tolist() == [0] * 30  # without a direction, nothing is alike
    assert len(groups_of_copies(near, cosines)[600:1100].unique()) <= 25  # each knows 30 of the others


def test_copies_of_copies_share_a_group():
    near = torch.tensor([[1, 3], [0, 2], [1, 0], [0, 1]])
    cosines = rows([[0.999, 0.1], [0.999, 0.996], [0.996, 0.2], [0.994, 0.1]])
    groups = groups_of_copies(near, cosines)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_votes_are_weighted_by_likeness_and_copies_vote_once(monkeypatch):
    posterior = rows([[1, 0], [0, 1], [1, 0], [1, 0], [0, 1]])
    near, groups = torch.tensor([[1, 2, 3]]).expand(5, 3), torch.tensor([9, 1, 2, 2, 9])
    # The two copies at places 2 and 3 count half each, as one sample as alike as sample 1 is.
    votes = vote(posterior, near, rows([[0.5, 0.5, 0.5]]).expand(5, 3), groups)
    torch.testing.assert_close(votes[0], rows([0.5, 0.5]))
    # A neighbour that is less alike by 0.05 weighs 1/e.
    votes = vote(posterior, near[:, :2], rows([[0.5, 0.45]]).expand(5, 2), torch.arange(5))
    torch.testing.assert_close(votes[0, 0], torch.tensor(np.exp(-1) / (1 + np.exp(-1)), dtype=torch.float32))
    # Row by row it is the same.
    whole = vote(posterior, near, rows([[0.5, 0.4, 0.3]]).expand(5, 3), groups)
    monkeypatch.setattr(neighbours, "BLOCK", 1)
    assert torch.equal(whole, vote(posterior, near, rows([[0.5, 0.4, 0.3]]).expand(5, 3), groups))
    # Who has only copies of itself as neighbours knows nothing.
    votes = vote(posterior, near, rows([[1, 1, 1]]).expand(5, 3), torch.zeros(5, dtype=torch.int64))
    assert votes.tolist() == [[0.5, 0.5]] * 5


def test_leading_components_keep_what_lies_between_samples():
    """Samples of 40 numbers that lie in a plane of 3, turned: 3 components have all, 2 the nearest that 2 can."""
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(50, 3, generator=generator) * rows([5, 2, 1])
    turned = plane @ torch.linalg.qr(torch.randn(40, 40, generator=generator))[0][:3]
    turned -= turned.mean(dim=0)
    three, two = neighbours.leading(turned, 3), neighbours.leading(turned, 2)
    exact = "donot_use_mm_for_euclid_dist"
    apart, before = (torch.cdist(x, x, compute_mode=exact) for x in (three, turned))
    torch.testing.assert_close(apart, before, atol=1e-4, rtol=1e-4)
    lost = turned.square().sum() - two.square().sum()
    torch.testing.assert_close(lost, torch.linalg.svdvals(turned)[2] ** 2, atol=1e-3, rtol=1e-4)
    assert neighbours.leading(turned, 40) is turned
