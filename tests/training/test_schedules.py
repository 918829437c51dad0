"""Learning rate schedules by hand."""

import math

import pytest
import torch

from cpc_lightning.errors import InputError
from cpc_lightning.training.schedules import cosine


def rates(count, lr=0.4, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = cosine(optimizer, **settings)
    found = []
    for _ in range(count):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_half_a_cosine_to_the_lowest_rate():
    expected = [0.1 + 0.3 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(5)]
    assert rates(7, epochs=4, lowest=0.1) == pytest.approx([*expected, 0.1, 0.1])
    assert expected[0] == 0.4


def test_it_is_torchs_cosine():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    theirs, found = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, 2e-4), []
    for _ in range(10):
        found.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert rates(10, lr=0.02, epochs=10, lowest=2e-4) == pytest.approx(found, rel=1e-9)


def test_milestones_count_as_well():
    plain = rates(4, epochs=4)
    assert rates(4, epochs=4, milestones=[2, 3], gamma=0.5) == pytest.approx(
        [plain[0], plain[1], plain[2] / 2, plain[3] / 4]
    )


def test_a_lowest_rate_above_the_first_is_refused():
    with pytest.raises(InputError, match=r"lowest=0\.5: must be a number"):
        rates(1, epochs=4, lowest=0.5)
