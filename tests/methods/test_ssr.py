"""SSR+: both losses against a float64 reference, their gradients, and who takes part."""

import pytest
import torch
from tests.methods.vectors import begun, outputs, step_of

from cpc_lightning.errors import InputError
from cpc_lightning.methods import ssr
from cpc_lightning.methods.ssr import Ssr

LABELS = [0, 2, 1, 0]
TARGETS = torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5], [0, 1, 0], [0, 0, 1]])


@pytest.fixture(autouse=True)
def fixed_lambda(monkeypatch):
    monkeypatch.setattr(ssr, "draw_mixup_lambda", lambda alpha: 0.7)


def by_hand_supervised(network, images, targets, seed):
    """-1/2B sum_i sum_k (l y_i + (1 - l) y_j)_k log p_k(l x_i + (1 - l) x_j), of two strong views each."""
    torch.manual_seed(seed)
    x, y = images[-2:].flatten(0, 1).double(), torch.cat([targets, targets]).double()
    partner = torch.randperm(len(x))
    mixed, target = 0.7 * x + 0.3 * x[partner], 0.7 * y + 0.3 * y[partner]
    logits = outputs(network, mixed)[1]
    log_p = logits - logits.exp().sum(dim=1, keepdim=True).log()
    return -(target * log_p).sum() / len(x), logits, target


def layers(module, x):
    """Linear, BatchNorm of this batch, ReLU, linear, in float64."""
    first, norm, _, last = module
    x = x @ first.weight.double().T + first.bias.double()
    x = (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + norm.eps).sqrt()
    x = (x * norm.weight.double() + norm.bias.double()).clamp(min=0)
    return x @ last.weight.double().T + last.bias.double()


def by_hand_consistency(method, network, images):
    weak, strong = (layers(method.projector, outputs(network, view)[0]) for view in (images[0], images[-1]))
    guess, towards = layers(method.predictor, strong), weak.detach()
    cosines = (guess * towards).sum(dim=1) / (guess.norm(dim=1) * towards.norm(dim=1))
    return -cosines.mean()


@pytest.mark.parametrize("targets", [None, TARGETS])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_loss_and_its_gradients_are_those_of_the_paper(targets, weight):
    method, networks = begun(Ssr(weight, hidden_size=6, projection_size=3))
    step = step_of(networks, LABELS, targets=targets, unlabeled=5)
    torch.manual_seed(3)
    losses = method.losses(step)
    wanted = torch.eye(3)[LABELS] if targets is None else targets
    labeled, logits, mixed_targets = by_hand_supervised(networks[0], step.images, wanted, 3)
    consistency = by_hand_consistency(method, networks[0], step.unlabeled_images)
    assert float(losses["labeled_loss"]) == pytest.approx(float(labeled), abs=1e-6)
    assert float(losses["consistency_loss"]) == pytest.approx(float(consistency), abs=1e-6)
    assert float(losses["loss"]) == pytest.approx(float(labeled + weight * consistency), abs=1e-6)

    parameters = [*networks[0].backbone.parameters(), *networks[0].classifier.parameters(), *method.parameters()]
    found = torch.autograd.grad(losses["loss"], parameters)
    expected = torch.autograd.grad(labeled + weight * consistency, parameters)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)
    bias = (logits.softmax(dim=1) - mixed_targets).sum(dim=0) / len(logits)  # dL_CE / d logits = (p - y) / 2B
    torch.testing.assert_close(found[3].double(), bias, atol=1e-6, rtol=1e-4)


def test_in_warm_up_the_labeled_side_is_all_there_is():
    method, networks = begun(Ssr(hidden_size=6, projection_size=3))
    step = step_of(networks, LABELS, warmup=True)
    torch.manual_seed(3)
    losses = method.losses(step)
    labeled = by_hand_supervised(networks[0], step.images, torch.eye(3)[LABELS], 3)[0]
    assert float(losses["labeled_loss"]) == pytest.approx(float(labeled), abs=1e-6)
    expected = by_hand_consistency(method, networks[0], step.images)
    assert float(losses["consistency_loss"]) == pytest.approx(float(expected), abs=1e-6)


def test_one_stored_view_serves_as_each(monkeypatch):
    """Images in memory come once, (1, B, ...), and all views are made of them."""
    method, networks = begun(Ssr(hidden_size=6, projection_size=3))
    step = step_of(networks, LABELS, views=1, unlabeled=5)
    torch.manual_seed(3)
    expected = by_hand_supervised(networks[0], step.images.repeat(2, 1, 1), torch.eye(3)[LABELS], 3)[0]
    torch.manual_seed(3)
    assert float(method.losses(step)["labeled_loss"]) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_two_samples_of_one_class_are_enough(classes):
    method, networks = begun(Ssr(), classes)
    losses = method.losses(step_of(networks, [1, 1], unlabeled=2))
    losses["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_without_its_weight_nothing_of_the_consistency_is_computed():
    method, networks = begun(Ssr(consistency_weight=0))
    losses = method.losses(step_of(networks, LABELS, unlabeled=4))
    assert set(losses) == {"loss", "labeled_loss"}
    assert method.forwarded(None) == 2
    assert Ssr().forwarded(None) == 3


def test_projector_and_predictor_belong_to_the_one_optimizer_that_steps():
    method, _ = begun(Ssr(hidden_size=6, projection_size=3))
    assert set(map(id, method.parameters_of(0))) == set(map(id, method.parameters()))
    assert list(method.parameters_of(1)) == []
    assert [tuple(layer.weight.shape) for layer in (method.projector[0], method.projector[3])] == [(6, 5), (3, 6)]
    assert [tuple(layer.weight.shape) for layer in (method.predictor[0], method.predictor[3])] == [(6, 3), (3, 6)]
    assert (Ssr.trains_one, Ssr.all_unlabeled, Ssr.needs_cleaner, method.whole_epoch(0)) == (True,) * 4


@pytest.mark.parametrize(
    ("setting", "value"), [("consistency_weight", -1), ("consistency_weight", float("nan")), ("mixup_alpha", 0),
                           ("hidden_size", 0), ("projection_size", 1.5)],
)  # fmt: skip
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(InputError) as caught:
        Ssr(**{setting: value})
    assert caught.value.setting == setting
