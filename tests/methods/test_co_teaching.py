"""Co-teaching by hand: who is left out, who learns what from whom."""

import pytest
import torch
from tests.methods.steps_of import Says, step_of
from torch.nn import functional as F

from cpc_lightning.errors import InputError
from cpc_lightning.methods.co_teaching import CoTeaching

FIRST = [[3.0, 0.0], [0.0, 3.0], [1.0, 0.0], [2.0, 0.0]]
SECOND = [[0.0, 1.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]]
LABELS = [0, 0, 0, 0]
"""Losses of label 0 grow as its logit's lead falls: network 1 finds 0, 3 easiest; network 2 finds 3, 2 easiest."""


def test_each_network_learns_what_its_peer_finds_easiest():
    """Half of four is left out: network 1 learns samples 3, 2, network 2 learns 0, 3."""
    first, second = Says(FIRST), Says(SECOND)
    losses = CoTeaching(forget_rate=0.5, gradual_epochs=1).losses(step_of([first, second], LABELS, epoch=5.5))
    label = torch.tensor([0, 0])
    assert losses["loss_1"].item() == pytest.approx(F.cross_entropy(torch.tensor(FIRST)[[3, 2]], label).item())
    assert losses["loss_2"].item() == pytest.approx(F.cross_entropy(torch.tensor(SECOND)[[0, 3]], label).item())
    losses["loss"].backward()
    assert first.logits.grad.abs().sum(dim=1).bool().tolist() == [False, False, True, True]
    assert second.logits.grad.abs().sum(dim=1).bool().tolist() == [True, False, False, True]
    assert first.logits.grad[3].tolist() == pytest.approx([-0.0596015, 0.0596015], abs=1e-6)  # softmax(0 - 2) / 2


def test_the_share_that_is_left_out_grows_as_in_the_authors_code():
    """Their numpy.linspace(0, tau**c, T_k) in the first T_k epochs, then tau; c = 1."""
    method = CoTeaching(forget_rate=0.4, gradual_epochs=5)
    assert [method.forgotten(epoch) for epoch in (0, 1, 2, 4, 9)] == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.4])


def test_somebody_is_always_kept():
    first, second = Says(FIRST[:2]), Says(SECOND[:2])
    losses = CoTeaching(0.9, 1).losses(step_of([first, second], LABELS[:2], epoch=3.0))
    assert torch.isfinite(losses["loss"])


@pytest.mark.parametrize("setting", [{"forget_rate": 1.0}, {"gradual_epochs": 0}, {"exponent": -1}])
def test_settings_out_of_their_ranges_are_refused(setting):
    with pytest.raises(InputError, match=f"{next(iter(setting))}="):
        CoTeaching(**setting)
