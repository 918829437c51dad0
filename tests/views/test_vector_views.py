"""Views of vectors: what strong ones change, and by how much."""

import pytest
import torch

from cpc_lightning.errors import InputError
from cpc_lightning.views.vector_views import VectorViews

# Means 2, 10 and 5; standard deviations (of the population) 1, 4 and none.
VECTORS = torch.tensor([[1.0, 6.0, 5.0], [3.0, 14.0, 5.0]])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fitted(**settings):
    views = VectorViews(**{"dropout": 0.0, "noise": 0.0, "mixing": 0.0, **settings})
    views.standardise_to(VECTORS)
    return views


def test_a_network_reads_standardised_vectors():
    views = fitted()
    assert views.normalise(VECTORS).tolist() == [[-1, -1, 0], [1, 1, 0]]
    assert views.normalise(VECTORS.half()).dtype == torch.float32
    assert sorted(views.state_dict()) == ["mean", "std"]


def test_weak_views_and_those_of_evaluation_are_the_vectors():
    views = fitted(dropout=0.5, noise=1.0, mixing=0.5)
    assert torch.equal(views.weak(VECTORS), VECTORS)
    assert torch.equal(views.evaluation(VECTORS), VECTORS)


def test_strong_views_without_any_change():
    assert torch.equal(fitted().strong(VECTORS), VECTORS)


def test_hidden_numbers_show_their_mean():
    many = VECTORS[:1].expand(20000, 3)
    strong = fitted(dropout=0.3).strong(many, generator())
    for column, (own, mean) in enumerate(((1, 2), (6, 10))):
        values = strong[:, column]
        assert set(values.tolist()) == {own, mean}
        assert (values == mean).float().mean().item() == pytest.approx(0.3, abs=0.015)  # 4.6 standard errors
    both = ((strong[:, 0] == 2) & (strong[:, 1] == 10)).float().mean().item()
    assert both == pytest.approx(0.09, abs=0.01)  # each by itself


def test_noise_is_in_units_of_each_number():
    many = VECTORS[:1].expand(20000, 3)
    strong = fitted(noise=0.5).strong(many, generator())
    assert strong.mean(dim=0).tolist() == pytest.approx([1, 6, 5], abs=0.06)
    assert strong.std(dim=0).tolist() == pytest.approx([0.5, 2.0, 0.5], rel=0.03)


def test_mixing_goes_up_to_its_share_and_keeps_to_other_vectors():
    many = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(10000, 1)
    views = VectorViews(dropout=0.0, noise=0.0, mixing=0.4)
    shares = views.strong(many, generator()) - many  # towards the other kind for half of them
    moved = shares[::2, 0]
    assert torch.equal(shares[:, 0], shares[:, 1])
    assert moved.min() == 0
    assert 0.39 < moved.max() <= 0.4
    assert moved.mean().item() == pytest.approx(0.1, abs=0.006)  # half with a partner of the other kind, 0.2 on average


def test_the_same_draws_by_the_same_seed():
    views = fitted(dropout=0.5, noise=1.0, mixing=0.5)
    once, again, other = (views.strong(VECTORS, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert views.strong(VECTORS[:0]).shape == (0, 3)


def test_what_does_not_fit():
    for settings, says in (
        ({"dropout": 1.0}, "dropout"), ({"dropout": -0.1}, "dropout"), ({"noise": -1}, "noise"),
        ({"noise": float("nan")}, "noise"), ({"mixing": 0.6}, "mixing"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            VectorViews(**settings)
    with pytest.raises(InputError, match="are views of vectors, and these are images"):
        VectorViews().weak(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="dataset=4: numbers a vector; those trained on have 3"):
        fitted().evaluation(torch.zeros(2, 4))
    with pytest.raises(InputError, match="warmup_policy=cifar10: is for images"):
        fitted().with_policy("cifar10", "warmup_policy")
