"""Co-division where targets are certain; its other steps are tested with the module and the risk."""

import pytest
import torch
from tests.methods.steps_of import Plain, Says, step_of
from torch.nn import functional as F

from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.methods.method import Beginning
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.views.vector_views import VectorViews

LOGITS = [[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
TARGETS = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]


@pytest.fixture
def method():
    """With no mixup to speak of, sharpening by T = 0.5 and no penalty."""
    risk = EmpiricalVicinalRisk(lambda_u=0.0, temperature=0.5, mixup_alpha=0.01, prior_weight=0.0)
    made, network = CoDivide(), Says(LOGITS)
    made.begin(Beginning((network, network), None, risk, 3, 2, 10, 1))
    return made


def test_certain_targets_are_learnt_without_asking_anybody(method, monkeypatch):
    """Cross-entropy of the logits against p^2 normalised (T = 0.5), both views alike, nothing mixed (lambda = 1)."""
    monkeypatch.setattr("cpc_lightning.semisup.evr.draw_mixup_lambda", lambda *_: 1.0)
    monkeypatch.setattr(method.risk, "guess", lambda *_: pytest.fail("nobody needs a guess"))
    network = Says(LOGITS)
    step = step_of([network, network], [0, 1, 0], warmup=False, targets=torch.tensor(TARGETS), certain=True, epoch=5.0)
    squares = torch.tensor(TARGETS).square()
    targets = squares / squares.sum(dim=1, keepdim=True)
    expected = -(targets * F.log_softmax(torch.tensor(LOGITS), dim=1)).sum(dim=1).mean()
    assert method.losses(step)["loss"].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(("views", "rows"), [(VectorViews(), 3), (Plain(), 6)])
def test_certain_targets_of_a_vector_are_learnt_from_one_view_of_it(method, views, rows):
    """Three samples, of images two views each."""
    network, seen = Says(LOGITS), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    views.strong = lambda images: images
    step = step_of(
        [network, network], [0, 1, 0], warmup=False, targets=torch.tensor(TARGETS), certain=True, views=views
    )
    method.losses(step)
    assert seen == [rows]


def test_targets_that_are_not_certain_are_refined(method, monkeypatch):
    asked = []
    guess = method.risk.guess
    monkeypatch.setattr(method.risk, "guess", lambda *given: asked.append(1) or guess(*given))
    network = Says(LOGITS)
    step = step_of([network, network], [0, 1, 0], warmup=False, targets=torch.tensor(TARGETS), epoch=5.0)
    method.losses(step)
    assert asked == [1]
