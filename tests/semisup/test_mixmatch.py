import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpc_lightning.semisup.mixmatch import co_guess, co_refine, draw_mixup_lambda, mixup, sharpen


def rows(values):
    return torch.tensor(values, dtype=torch.float64)


def test_sharpen_squares_and_renormalises_at_temperature_one_half():
    # .8^2 = .64, .2^2 = .04, sum .68
    torch.testing.assert_close(sharpen(rows([[0.8, 0.2]]), 0.5), rows([[0.64 / 0.68, 0.04 / 0.68]]))


def test_sharpen_leaves_a_distribution_alone_at_temperature_one():
    torch.testing.assert_close(sharpen(rows([[0.7, 0.3, 0.0]]), 1.0), rows([[0.7, 0.3, 0.0]]))


def test_sharpen_survives_exponents_that_underflow():
    # .001^(1/.01) = 1e-300 is 0 in float32: the plain formula gives 0/0
    uniform = torch.full((1, 1000), 0.001)
    torch.testing.assert_close(sharpen(uniform, 0.01), uniform)


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=6),
    st.sampled_from([0.1, 0.5, 0.9]),
)
def test_sharpen_sums_to_one_keeps_the_order_and_raises_the_maximum(weights, temperature):
    p = rows([weights]) / sum(weights)
    sharp = sharpen(p, temperature)
    assert float(sharp.sum()) == pytest.approx(1)
    assert float(sharp[0, p.argmax()]) == pytest.approx(float(sharp.max()))
    assert float(sharp.max()) >= float(p.max()) - 1e-12


def test_co_guess_averages_networks_and_views_before_it_sharpens():
    # means (.9 + .5 + .7 + .3) / 4 = .6 and .4; squares .36 and .16, sum .52
    four = rows([[[0.9, 0.1]], [[0.5, 0.5]], [[0.7, 0.3]], [[0.3, 0.7]]])
    torch.testing.assert_close(co_guess(four, 0.5), rows([[0.36 / 0.52, 0.16 / 0.52]]))


def test_co_refine_weighs_the_label_by_the_clean_probability():
    targets = rows([[1, 0], [1, 0], [1, 0]])
    two = rows([[[0.3, 0.7]] * 3, [[0.1, 0.9]] * 3])  # mean (.2, .8)
    refined = co_refine(targets, rows([1, 0, 0.25]), two, 0.5)
    # w=1: the label. w=0: .04 and .64 of .68. w=.25: .25 + .75*.2 = .4 and .75*.8 = .6; squares .16 and .36 of .52
    torch.testing.assert_close(refined, rows([[1, 0], [0.04 / 0.68, 0.64 / 0.68], [0.16 / 0.52, 0.36 / 0.52]]))


def test_mixup_literal():
    images, targets = rows([[10, 0], [20, 4], [30, 8]]), rows([[1, 0], [0, 1], [1, 0]])
    mixed, mixed_targets = mixup(images, targets, 0.75, torch.tensor([1, 2, 0]))
    # .75*10 + .25*20 = 12.5, .25*4 = 1; .75*20 + .25*30 = 22.5, 3 + 2 = 5; 22.5 + 2.5 = 25, 6 + 0 = 6
    assert mixed.tolist() == [[12.5, 1], [22.5, 5], [25, 6]]
    assert mixed_targets.tolist() == [[0.75, 0.25], [0.25, 0.75], [1, 0]]


def test_mixup_of_the_first_rows_takes_partners_from_all():
    images, targets = rows([[10], [20], [30]]), rows([[1, 0], [0, 1], [0.5, 0.5]])
    mixed, mixed_targets = mixup(images, targets, 0.5, torch.tensor([2]))
    assert mixed.tolist() == [[20]]
    assert mixed_targets.tolist() == [[0.75, 0.25]]


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(0, 1000))
def test_mixup_is_symmetric_and_keeps_distributions(mixup_lambda, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(5, 2, 3, 3, generator=generator, dtype=torch.float64)
    targets = torch.rand(5, 4, generator=generator, dtype=torch.float64).softmax(1)
    partners = torch.randperm(5, generator=generator)
    mixed, mixed_targets = mixup(images, targets, mixup_lambda, partners)
    # i with partner j at lambda is j with partner i at 1 - lambda
    swapped, swapped_targets = mixup(images[partners], targets[partners], 1 - mixup_lambda, partners.argsort())
    torch.testing.assert_close(mixed, swapped)
    torch.testing.assert_close(mixed_targets, swapped_targets)
    torch.testing.assert_close(mixed_targets.sum(1), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize(
    # E max(l, 1-l) = 1/2 + E|l - 1/2|. Beta(1,1) is uniform: 1/2 + 1/4. Beta(.5,.5) = sin^2(t), t uniform on
    # (0, pi/2): |l - 1/2| = |cos 2t| / 2, mean 1/pi. Beta(4,4): 140 * integral of x^3 (1-x)^3 |x - 1/2|; with
    # u = x - 1/2 that is 280 * int_0^.5 (1/4 - u^2)^3 u du = 280 * (1/4)^4 / 8 = 35/256.
    ("alpha", "mean"),
    [(1.0, 0.75), (0.5, 0.5 + 1 / torch.pi), (4.0, 0.5 + 35 / 256)],
)
def test_mixup_lambda_follows_the_folded_beta_distribution(alpha, mean):
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_mixup_lambda(alpha, generator) for _ in range(4000)]
    assert all(isinstance(one, float) and 0.5 <= one <= 1 for one in drawn)
    assert sum(drawn) / 4000 == pytest.approx(mean, abs=0.01)


def test_mixup_lambda_is_the_generators():
    first, again = (draw_mixup_lambda(4.0, torch.Generator().manual_seed(3)) for _ in range(2))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    draw_mixup_lambda(4.0, torch.Generator().manual_seed(3))
    assert first == again
    assert torch.equal(state, torch.get_rng_state())
