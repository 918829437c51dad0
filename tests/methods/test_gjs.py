"""GJS: the divergence against its two definitions in float64, its limits, and the gradient."""

import math

import pytest
import torch
from tests.methods.one_step import PLAIN, begun, step_of

from cpc_lightning.errors import InputError
from cpc_lightning.methods.gjs import Gjs, generalised_jensen_shannon, scale
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views

LABELS, INDEX = [0, 3, 1, 2, 2, 0], [4, 19, 0, 7, 8, 11]


def entropy(p):
    return -sum(x * x.log() for x in p if x > 0)


def by_entropies(logits, labels, weight):
    """H(sum pi p) - sum pi H(p), sample by sample; the label's own entropy is 0."""
    total = 0.0
    for i, label in enumerate(labels):
        views = [row.double().softmax(dim=0) for row in logits[:, i]]
        share = (1 - weight) / len(views)
        mean = weight * torch.eye(logits.shape[2]).double()[label] + share * sum(views)
        total = total + entropy(mean) - share * sum(entropy(p) for p in views)
    return total / len(labels)


def some_logits(views=2, dtype=torch.float64):
    return torch.randn(views, 6, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("views", [1, 2])
def test_against_the_definition_by_entropies(weight, views):
    logits = some_logits(views)
    ours = generalised_jensen_shannon(logits.float(), torch.tensor(LABELS), weight)
    assert ours.item() == pytest.approx(by_entropies(logits, LABELS, weight).item(), abs=1e-6)


def test_the_gradient_is_that_of_the_definition():
    """d/dz of pi_v p (log p - log m), which is pi_v p (r - <p, r>) with r = log(p / m)."""
    logits = some_logits().requires_grad_()
    generalised_jensen_shannon(logits, torch.tensor(LABELS), 0.3).backward()
    p = logits.detach().softmax(dim=2)
    m = 0.3 * torch.eye(4).double()[LABELS] + 0.35 * p.sum(dim=0)
    r = (p / m).log()
    expected = 0.35 * p * (r - (p * r).sum(dim=2, keepdim=True)) / 6
    torch.testing.assert_close(logits.grad, expected, atol=1e-9, rtol=1e-6)


def test_scaled_it_is_cross_entropy_for_a_small_weight_and_half_the_absolute_error_for_a_large_one():
    """Of one view, where the paper has both limits of JS: -log p_y, and sum |e_y - p| / 2 = 1 - p_y."""
    logits, labels = some_logits(1), torch.tensor(LABELS)
    given = logits[0].softmax(dim=1).gather(1, labels[:, None])
    small = generalised_jensen_shannon(logits, labels, 1e-6) / scale(1e-6)
    large = generalised_jensen_shannon(logits, labels, 1 - 1e-9) / scale(1 - 1e-9)
    assert small.item() == pytest.approx(-given.log().mean().item(), abs=1e-4)
    assert large.item() == pytest.approx((1 - given).mean().item(), abs=0.1)


def test_certain_predictions_are_finite():
    logits = torch.tensor([[[300.0, 0.0, -300.0]], [[-300.0, 300.0, 0.0]]], requires_grad=True)
    loss = generalised_jensen_shannon(logits, torch.tensor([2]), 0.2)
    assert loss.item() == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.4))  # three that share nothing
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_scale_by_hand():
    assert scale(0.5) == pytest.approx(0.5 * math.log(2))


@pytest.mark.parametrize("scaled", [True, False])
def test_a_step_takes_two_strong_views_each_a_batch_of_its_own(scaled):
    views = Views(**(PLAIN | {"padding": 1, "size": [3, 4]}))  # crops differ
    method, (network, _), views = begun(Gjs(label_weight=0.1, scaled=scaled), views=views)
    step = step_of((network, network), views, LABELS, INDEX)
    torch.manual_seed(5)
    first, second = step.strong(2)
    assert not torch.equal(first, second)
    network.train()
    logits = torch.stack([network(first), network(second)]).detach()
    size = -0.9 * math.log(0.9) if scaled else 1
    torch.manual_seed(5)
    network.eval()  # which the step undoes
    loss = method.losses(step)["loss"]
    assert loss.item() == pytest.approx(by_entropies(logits, LABELS, 0.1).item() / size, abs=1e-5)
    assert method.many_views
    assert method.forwarded(EmpiricalVicinalRisk()) == 2


@pytest.mark.parametrize("views", [None, VectorViews()], ids=["images", "vectors"])
def test_two_classes_and_a_batch_of_two(views):
    method, networks, views = begun(Gjs(), classes=2, views=views)
    assert torch.isfinite(method.losses(step_of(networks, views, [1, 1], [3, 5]))["loss"])


@pytest.mark.parametrize(
    ("setting", "value"), [("label_weight", 0), ("label_weight", 1), ("label_weight", "0.5"), ("scaled", None)]
)
def test_settings_out_of_range(setting, value):
    with pytest.raises(InputError) as error:
        Gjs(**{setting: value})
    assert error.value.setting == setting
