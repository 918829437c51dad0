"""ELR+: a step against the paper's formulas, averages and targets by hand, and whose are whose."""

import math

import pytest
import torch
from tests.methods.one_step import begun, logits_seen, step_of

from cpc_lightning.errors import InputError
from cpc_lightning.methods.elr_plus import ElrPlus, growth, refined
from cpc_lightning.semisup.mixmatch import draw_mixup_lambda
from cpc_lightning.views.vector_views import VectorViews

LABELS, INDEX = [0, 3, 1, 2, 2, 0], [4, 19, 0, 7, 8, 11]


def drawn(seed, step):
    """Lambda and partners as a step draws them, after its views."""
    torch.manual_seed(seed)
    step.weak()
    return draw_mixup_lambda(1.0), torch.randperm(len(step.labels))


def reference(method, step, old, share, partners, weight, refine):
    """The loss of mixed images and the new targets, in float64, sample by sample."""
    average, network = method.averages[1 - step.number].train(), step.network.train()
    images = step.views.normalise(step.images[0])
    guess = average(images).double().softmax(dim=1)
    targets = method.beta * old.double() + (1 - method.beta) * guess
    logits = network(share * images + (1 - share) * images[partners]).double()
    total = 0.0
    for i, j in enumerate(partners.tolist()):
        y = share * torch.eye(4)[LABELS[i]].double() + (1 - share) * torch.eye(4)[LABELS[j]].double()
        t = share * targets[i] + (1 - share) * targets[j]
        if refine:
            y = y * t / (y * t).sum()
        p = logits[i].exp() / logits[i].exp().sum()
        total = total - (y * p.log()).sum() + weight * (1 - (p * t).sum()).log()
    return total / len(partners), targets


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("refine", [False, True])
def test_a_step_against_the_formula(number, refine):
    method, networks, views = begun(ElrPlus(lambda_elr=2.0, beta=0.6, mixup_alpha=1.0, refine_labels=refine))
    step = step_of(networks, views, LABELS, INDEX, number)
    old = torch.rand(20, 4) / 8
    method.targets[number].rows.copy_(old)
    other = method.targets[1 - number].rows.clone()
    share, partners = drawn(7, step)
    expected, targets = reference(method, step, old[INDEX], share, partners, 2.0, refine)
    torch.manual_seed(7)
    losses = method.losses(step)
    assert losses["loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(method.targets[number].rows[INDEX], targets.float(), atol=1e-6, rtol=1e-5)
    assert torch.equal(method.targets[1 - number].rows, other)  # those of the peer stay


def test_the_gradient_of_a_step():
    """Of the classifier's bias: the mean of p - y + lambda p (<p, t> - t) / (1 - <p, t>), y and t mixed."""
    method, networks, views = begun(ElrPlus(lambda_elr=3.0, beta=0.7))
    step = step_of(networks, views, LABELS, INDEX)
    share, partners = drawn(3, step)
    images = views.normalise(step.images[0])
    p = networks[0].train()(share * images + (1 - share) * images[partners]).detach().double().softmax(dim=1)
    guess = method.averages[1].train()(images).detach().double().softmax(dim=1)
    y = torch.eye(4).double()[LABELS]
    y, t = (share * x + (1 - share) * x[partners] for x in (y, 0.3 * guess))
    inner = (p * t).sum(dim=1, keepdim=True)
    torch.manual_seed(3)
    method.losses(step)["loss"].backward()
    expected = (p - y + 3.0 * p * (inner - t) / (1 - inner)).mean(dim=0)
    torch.testing.assert_close(networks[0].classifier.bias.grad.double(), expected, atol=1e-6, rtol=1e-4)
    assert all(parameter.grad is None for parameter in [*networks[1].parameters(), *method.averages.parameters()])


def test_averages_follow_their_own_network_alone():
    """Momentum exp(-5 (1 - 2/4)^2) 0.9 after the first step of four, exp(-5 (1 - 3/4)^2) 0.9 after the second."""
    method, networks, views = begun(ElrPlus(average_momentum=0.9, average_rampup_steps=4))
    step = step_of(networks, views, LABELS, INDEX, number=1)
    start = networks[1].classifier.bias.detach().clone()
    untouched = method.averages[0].classifier.bias.clone()
    expected = start
    for momentum in (0.9 * math.exp(-1.25), 0.9 * math.exp(-0.3125), 0.9, 0.9):
        with torch.no_grad():
            networks[1].classifier.bias += 1.0
        method.after_step(step)
        expected = momentum * expected + (1 - momentum) * networks[1].classifier.bias.detach()
        torch.testing.assert_close(method.averages[1].classifier.bias, expected)
    assert torch.equal(method.averages[0].classifier.bias, untouched)
    assert method.steps.tolist() == [0, 4]


def test_without_a_rampup_the_average_is_a_true_one_at_first():
    method = ElrPlus(average_momentum=0.7, average_rampup_steps=None)
    momenta = [method.momentum(torch.tensor(steps)).item() for steps in (1, 2, 3, 100)]
    assert momenta == pytest.approx([1 / 2, 2 / 3, 0.7, 0.7])


def test_lambda_grows_by_the_steps_of_the_network():
    method, networks, views = begun(ElrPlus(lambda_elr=2.0, lambda_rampup_steps=10))
    method.steps[1] = 4  # this is the fifth of network 2
    step = step_of(networks, views, LABELS, INDEX, number=1)
    share, partners = drawn(7, step)
    expected, _ = reference(method, step, torch.zeros(6, 4), share, partners, 2.0 * math.exp(-1.25), False)
    torch.manual_seed(7)
    assert method.losses(step)["loss"].item() == pytest.approx(expected.item(), abs=1e-5)


GROWN = [(0, 100, math.exp(-5)), (50, 100, math.exp(-1.25)), (100, 100, 1), (999, 100, 1), (0, 0, 1)]


@pytest.mark.parametrize(("steps", "length", "grown"), GROWN)
def test_growth_by_hand(steps, length, grown):
    assert growth(torch.tensor(steps), length).item() == pytest.approx(grown)


def test_refined_by_hand():
    labels = torch.tensor([[0.75, 0.25, 0.0], [1.0, 0.0, 0.0]])
    targets = torch.tensor([[0.1, 0.3, 0.6], [0.0, 0.5, 0.5]])
    torch.testing.assert_close(refined(labels, targets), torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))


def test_all_that_a_resumed_run_needs_is_in_its_state():
    first, networks, views = begun(ElrPlus())
    for number in (0, 1):
        step = step_of(networks, views, LABELS, INDEX, number)
        first.losses(step)
        with torch.no_grad():
            networks[number].classifier.bias += 1.0
        first.after_step(step)
    second, _, _ = begun(ElrPlus())
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.targets[1].rows, first.targets[1].rows)
    assert second.steps.tolist() == [1, 1]
    torch.testing.assert_close(second.averages[1].classifier.bias, first.averages[1].classifier.bias)
    assert second.judge.memories == tuple(second.targets)


@pytest.mark.parametrize("views", [None, VectorViews()], ids=["images", "vectors"])
def test_two_classes_and_a_batch_of_two(views):
    method, networks, views = begun(ElrPlus(refine_labels=True), classes=2, views=views)
    for number in (0, 1):
        step = step_of(networks, views, [1, 1], [3, 5], number)
        assert torch.isfinite(method.losses(step)["loss"])
        method.after_step(step)
    assert torch.isfinite(logits_seen(step)).all()


OUT_OF_RANGE = [
    ("lambda_elr", -1), ("beta", 1.0), ("mixup_alpha", 0), ("average_momentum", 1), ("average_rampup_steps", -1),
    ("average_rampup_steps", 1.5), ("lambda_rampup_steps", None), ("refine_labels", 1),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "value"), OUT_OF_RANGE)
def test_settings_out_of_range(setting, value):
    with pytest.raises(InputError) as error:
        ElrPlus(**{setting: value})
    assert error.value.setting == setting
