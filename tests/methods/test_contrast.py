"""Losses between embeddings against their formulas in float64; mixup within a part of a batch."""

import numpy as np
import pytest
import torch
from tests.methods.embedding_steps import float64

from cpc_lightning.methods.contrast import instance_loss, mean_over, mix_within, similarities
from cpc_lightning.semisup.mixmatch import draw_share


def unit(count, size, seed):
    rows = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def instance_loss_by_hand(first, second, temperature):
    total = 0.0
    for i in range(len(first)):
        right = np.exp(first[i] @ second[i] / temperature)
        wrong = sum(
            np.exp(first[i] @ second[j] / temperature) + np.exp(first[i] @ first[j] / temperature)
            for j in range(len(first))
            if j != i
        )
        total -= np.log(right / (right + wrong))
    return total / len(first)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.1, 0.3])
def test_the_instance_loss_is_its_formula(count, temperature):
    first, second = unit(count, 4, 0), unit(count, 4, 1)
    expected = instance_loss_by_hand(float64(first), float64(second), temperature)
    assert float(instance_loss(first, second, temperature)) == pytest.approx(expected, abs=1e-6)


def test_its_gradient_is_finite_differences():
    first, second = unit(4, 3, 0).requires_grad_(), unit(4, 3, 1)
    instance_loss(first, second, 0.3).backward()
    for row, column in ((0, 0), (2, 1), (3, 2)):
        moved = [float64(first) for _ in range(2)]
        moved[0][row, column] += 1e-5
        moved[1][row, column] -= 1e-5
        up, down = (instance_loss_by_hand(rows, float64(second), 0.3) for rows in moved)
        assert float(first.grad[row, column]) == pytest.approx((up - down) / 2e-5, abs=1e-5)


def test_similarities_are_not_rounded_in_autocast():
    first, second = unit(3, 50, 0), unit(2, 50, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = similarities(first, second)
    np.testing.assert_allclose(float64(found), float64(first) @ float64(second).T, atol=1e-6)


def test_a_mean_over_none_is_zero():
    values = torch.tensor([1.0, 2.0, float("nan")])
    assert float(mean_over(torch.tensor([True, True, False]), values)) == 1.5
    assert float(mean_over(torch.tensor([False, False, False]), values)) == 0.0


@pytest.mark.parametrize("chosen", [[1, 0, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]])
def test_mixup_is_a_permutation_within_either_part(chosen):
    chosen = torch.tensor(chosen, dtype=torch.bool)
    rows = torch.eye(6)
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, targets = mix_within(rows, 10 * rows, chosen, 0.75)
        torch.testing.assert_close(targets, 10 * mixed)
        partners = (mixed - 0.75 * rows) * 4  # one 1 in each row and column
        assert sorted(partners.argmax(dim=1).tolist()) == list(range(6))
        assert torch.equal(chosen[partners.argmax(dim=1)], chosen)
        seen.add(tuple(partners.argmax(dim=1).tolist()))
    assert len(seen) > 5


def test_the_share_is_of_a_beta_distribution():
    torch.manual_seed(0)
    drawn = np.array([draw_share(8.0) for _ in range(4000)])
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.var() == pytest.approx(1 / (4 * 17), rel=0.1)  # 1 / (4 (2 alpha + 1))
