"""Neighbours against all pairs, and votes worked out by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from cpc_lightning.cleaning import neighbours
from cpc_lightning.cleaning.auto import AutoCleaner
from cpc_lightning.cleaning.evidence import ComparesSamples
from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.cleaning.knn import KnnCleaner
from cpc_lightning.cleaning.neighbours import groups_of_copies, nearest, standardise, vote
from cpc_lightning.cleaning.probe import ProbeCleaner
from cpc_lightning.errors import InputError


def rows(values):
    return torch.tensor(values, dtype=torch.float32)


def test_standardised_features_have_mean_0_and_deviation_1_and_constant_ones_are_0():
    inputs = standardise(rows([[1, 5, 10], [3, 5, 30]]))
    assert inputs.tolist() == [[-1, 0, -1], [1, 0, 1]]
    assert standardise(torch.tensor([[1, 7], [3, 7]], dtype=torch.float64)).dtype == torch.float32


def test_nearest_by_cosine_without_oneself(monkeypatch):
    monkeypatch.setattr("cpc_lightning.cleaning.neighbours.BLOCK", 4)  # one row at a time
    near, cosines, found = nearest(rows([[1, 0], [10, 0], [0, 1], [1, 1]]), 2)
    assert near[0].tolist() == [1, 3]
    assert found == 1
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


@pytest.fixture
def many(monkeypatch):
    """More than 1,000 samples are very many."""
    monkeypatch.setattr(neighbours, "EXACT", 1000)


@pytest.fixture
def without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # import raises ImportError


@pytest.mark.long
def test_up_to_a_number_of_samples_all_pairs_are_compared(monkeypatch, without_faiss):
    monkeypatch.setattr(neighbours, "BLOCK", 100_000)  # 33 at once
    inputs = clustered(3000)
    true, expected = by_all_pairs(inputs, 10)
    near, cosines, found = nearest(inputs, 10)
    assert (recall(near, true), found) == (1.0, 1.0)
    np.testing.assert_allclose(cosines.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("inputs", [clustered(3000), even(3000)], ids=["clustered", "even"])
def test_lists_find_nearly_all_of_the_nearest_in_any_data(many, inputs):
    true, expected = by_all_pairs(inputs, 10)
    near, cosines, found = nearest(inputs, 10)
    assert 0.94 <= recall(near, true) < 1
    assert found == pytest.approx(recall(near, true), abs=0.01)  # by 512 of them
    # What is found is really that alike, is sorted, and is nobody twice or oneself.
    unit = F.normalize(inputs, dim=1)
    torch.testing.assert_close(cosines, (unit[:, None] * unit[near]).sum(2), atol=1e-5, rtol=0)
    assert bool((cosines.diff(dim=1) <= 0).all())
    assert all(len({*row, own}) == 11 for own, row in enumerate(near.tolist()))
    assert float(cosines.mean()) == pytest.approx(expected.mean(), abs=0.005)


def test_where_there_are_clusters_few_lists_are_looked_at(many, monkeypatch):
    looked_at = []

    def wanted(around, list_of, kept=neighbours._lists_wanted):
        looked_at.append((kept(around, list_of), around.shape[1]))
        return looked_at[-1][0]

    monkeypatch.setattr(neighbours, "_lists_wanted", wanted)
    nearest(clustered(3000), 10)
    ((some, lists),) = looked_at
    assert lists == 108  # 2 * 54, and 54 * 54 = 2,916
    assert some < lists / 3


def test_so_many_lists_are_looked_at_as_hold_the_share_of_the_neighbours(monkeypatch):
    around = torch.tensor([[2, 0, 1, 3], [1, 3, 2, 0]])  # the nearest list of each of two samples first
    list_of = torch.tensor([[2, 2, 0, 3], [1, 1, 1, 2]])  # of ranks 0 0 1 3 and 0 0 0 2: five, one, one and one
    for share, wanted in ((0.6, 1), (0.7, 2), (0.8, 3), (0.95, 4), (1.0, 4)):
        monkeypatch.setattr(neighbours, "RECALL", share)
        assert neighbours._lists_wanted(around, list_of) == wanted


def test_the_same_seed_finds_the_same_whatever_else_is_drawn(many):
    first = nearest(clustered(2000), 10)
    torch.manual_seed(5)
    again = nearest(clustered(2000), 10)
    assert torch.equal(first.near, again.near)
    assert torch.equal(first.cosines, again.cosines)
    assert first.recall == again.recall
    assert not torch.equal(first.near, nearest(clustered(2000), 10, seed=1).near)


def test_lists_of_copies_and_of_nothing(many, monkeypatch):
    monkeypatch.setattr(neighbours, "RECALL", 0.0)  # the sample's own list alone
    inputs = torch.cat([clustered(600), torch.ones(500, 24), torch.zeros(400, 24), clustered(1)])
    near, cosines, found = nearest(inputs, 30)
    assert near.shape == (1501, 30)
    assert bool((near >= 0).all())  # who has less than 30 others in its list is compared with all
    assert all(own not in row for own, row in enumerate(near.tolist()))
    assert bool((near[600:1100] >= 600).all() & (near[600:1100] < 1100).all())
    assert cosines[600].tolist() == pytest.approx([1] * 30)
    assert cosines[1200].tolist() == [0] * 30  # without a direction, nothing is alike
    assert found > 0.5  # any copies are right
    assert len(groups_of_copies(near, cosines)[600:1100].unique()) <= 25  # each knows 30 of the others


def test_without_the_package_all_pairs_are_compared_up_to_a_number(many, monkeypatch, without_faiss):
    inputs = clustered(1500)
    near, _, found = nearest(inputs, 10)
    assert (recall(near, by_all_pairs(inputs, 10)[0]), found) == (1.0, 1.0)
    monkeypatch.setattr(neighbours, "MOST", 1500)
    neighbours.require_comparable(1500, "neighbours", 10)
    with pytest.raises(InputError) as caught:
        neighbours.require_comparable(1501, "neighbours", 10)
    line = "neighbours=10: for 1,501 samples this needs faiss: pip install 'cpc-lightning[neighbours]'"
    assert str(caught.value) == line


def test_cleaners_that_compare_samples_say_what_very_many_need(monkeypatch, without_faiss):
    monkeypatch.setattr(neighbours, "MOST", 1500)
    for cleaner, of_vectors in ((ProbeCleaner(), True), (KnnCleaner(30), False), (AutoCleaner(), True)):
        assert isinstance(cleaner, ComparesSamples)
        with pytest.raises(InputError, match="neighbours=30: for 1,501 samples"):
            cleaner.require_comparable(1501, of_vectors)
    AutoCleaner().require_comparable(1501, of_vectors=False)  # it looks at some of the images
    assert not isinstance(GmmCleaner(False), ComparesSamples)


def test_with_the_package_there_is_no_number_too_large():
    neighbours.require_comparable(10**9, "neighbours", 10)


@pytest.mark.long
def test_processes_that_are_forked_afterwards_and_torch_beside_it_go_on(many):
    """faiss brings an OpenMP of its own: loaders fork workers from a process that has used both."""
    inputs = clustered(2000)
    nearest(inputs, 10)
    loader = DataLoader(Products(inputs), batch_size=None, num_workers=2, timeout=60)
    torch.testing.assert_close(torch.stack([*loader]), torch.stack([*map(Products(inputs).__getitem__, range(4))]))


class Products(Dataset):
    """Large enough for threads, where there is more than one."""

    def __init__(self, inputs):
        self.inputs = inputs

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return (self.inputs * (index + 1)) @ self.inputs.T


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
