"""NGC: its losses in float64, over chosen samples and over all."""

import numpy as np
import pytest
import torch
from tests.methods.embedding_steps import begun, float64, step_of, tiny
from tests.methods.test_protomix import CHOSEN, LABELS, layer, log_softmax, unit

from cpc_lightning.errors import InputError
from cpc_lightning.methods import contrast
from cpc_lightning.methods.ngc import Ngc, subgraph_loss
from cpc_lightning.semisup.mixmatch import draw_share
from cpc_lightning.views.vector_views import VectorViews


def ready(**settings):
    network = tiny()
    return begun(Ngc(**settings), network), network


def subgraph_by_hand(first, second, labels, chosen, t):
    """Anchor by anchor: its other view, and both views of chosen samples of its label if it is chosen."""
    total = 0.0
    for i in range(len(first)):
        others = [(j, view) for j in range(len(first)) for view in (first, second) if not (j == i and view is first)]
        every = sum(np.exp(first[i] @ view[j] / t) for j, view in others)
        positive = [
            np.log(np.exp(first[i] @ view[j] / t) / every)
            for j, view in others
            if j == i or (chosen[i] and chosen[j] and labels[i] == labels[j])
        ]
        total -= np.mean(positive)
    return total / len(first)


@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=CHOSEN)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_subgraph_loss_is_its_formula(chosen, temperature):
    first, second = (unit(np.random.RandomState(seed).randn(6, 3)) for seed in (0, 1))
    labels, chosen = [0, 1, 0, 0, 1, 2], [bool(c) for c in chosen]
    found = subgraph_loss(
        torch.tensor(first), torch.tensor(second), torch.tensor(labels), torch.tensor(chosen), temperature
    )
    assert found.item() == pytest.approx(subgraph_by_hand(first, second, labels, chosen, temperature), abs=1e-6)


def test_of_nothing_chosen_the_subgraph_loss_is_the_instance_loss():
    first, second = (torch.tensor(unit(np.random.RandomState(seed).randn(5, 3))) for seed in (0, 1))
    none = torch.zeros(5, dtype=torch.bool)
    found = subgraph_loss(first, second, torch.zeros(5, dtype=torch.int64), none, 0.3)
    assert found.item() == pytest.approx(contrast.instance_loss(first, second, 0.3).item(), abs=1e-6)


def reference(method, network, vectors, targets, chosen, partners, share):
    """L_ce, L_inst, L_sub; strong views are the weak ones; mixup by its draws."""
    rows = len(partners) // len(vectors)
    both, both_targets = np.concatenate([vectors] * rows), np.concatenate([targets] * rows)
    mixed = share * both + (1 - share) * both[partners]
    mixed_targets = share * both_targets + (1 - share) * both_targets[partners]
    logits = log_softmax(layer(network.classifier, np.tanh(layer(network.backbone.linear, mixed))))
    classes = [-(mixed_targets[i] * logits[i]).sum() for i in range(len(both)) if chosen[i % len(vectors)]]
    z = unit(layer(network.head.projector, np.tanh(layer(network.backbone.linear, vectors))))
    instance = subgraph_by_hand(z, z.copy(), targets.argmax(axis=1), [False] * len(z), method.temperature)
    subgraph = subgraph_by_hand(z, z.copy(), targets.argmax(axis=1), chosen, method.subgraph_temperature)
    return np.mean(classes) if classes else 0.0, instance, subgraph


def draws(chosen, seed, rows=2, alpha=8.0):
    """The partners and the share that a step with this seed mixes with."""
    torch.manual_seed(seed)
    share = draw_share(alpha)
    eye = torch.eye(rows * len(chosen), dtype=torch.float64)
    mixed, _ = contrast.mix_within(eye, eye, torch.tensor(chosen).repeat(rows), 0.25)
    return (mixed - 0.25 * eye).argmax(dim=1).numpy(), share


@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=CHOSEN)
@pytest.mark.parametrize("mix_strong", [True, False])
def test_the_losses_are_their_formulas_on_what_the_cleaner_chose(chosen, mix_strong):
    """With the cleaner's labels, which are not the given ones."""
    method, network = ready(instance_weight=0.5, subgraph_weight=3.0, mix_strong=mix_strong)
    targets = torch.nn.functional.one_hot(torch.tensor([1, 1, 2, 0, 0, 2]), 3).float()
    clean, chosen = [0.9 * c for c in chosen], [bool(c) for c in chosen]
    step = step_of(network, LABELS, warmup=False, clean=clean, targets=targets)
    partners, share = draws(chosen, 7, 2 if mix_strong else 1)
    expected = reference(method, network, float64(step.images[0]), float64(targets), chosen, partners, share)
    torch.manual_seed(7)
    found = method.losses(step)
    for name, value in zip(("class_loss", "instance_loss", "subgraph_loss"), expected, strict=True):
        assert found[name].item() == pytest.approx(value, rel=1e-5, abs=1e-7), name
    classes, instance, subgraph = expected
    assert found["loss"].item() == pytest.approx(classes + 0.5 * instance + 3 * subgraph, rel=1e-5)
    found["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in (*network.backbone.parameters(), *method.parameters_of(0)))


def test_the_gradient_is_that_of_the_formula():
    """Of biases of the projector and the classifier, by finite differences of the reference."""
    method, network = ready()
    chosen = [True, False, True, True, False, True]
    step = step_of(network, LABELS, warmup=False, clean=[float(c) for c in chosen])
    targets, (partners, share) = np.eye(3)[LABELS], draws(chosen, 3)
    torch.manual_seed(3)
    method.losses(step)["loss"].backward()
    for bias in (network.head.projector.bias, network.classifier.bias, network.backbone.linear.bias):
        values = []
        for moved in (1e-3, -2e-3):
            with torch.no_grad():
                bias[1] += moved
            values.append(sum(reference(method, network, float64(step.images[0]), targets, chosen, partners, share)))
        with torch.no_grad():
            bias[1] += 1e-3
        assert bias.grad[1].item() == pytest.approx((values[0] - values[1]) / 2e-3, abs=2e-3)


def test_warm_up_is_mixup_on_all_samples():
    """The projector's gradient is zero, but there: fused SGD wants all of them from the first step on."""
    method, network = ready()
    step = step_of(network, LABELS)
    partners, share = draws([True] * 6, 5)
    classes, *_ = reference(method, network, float64(step.images[0]), np.eye(3)[LABELS], [True] * 6, partners, share)
    torch.manual_seed(5)
    found = method.losses(step)
    assert set(found) == {"loss", "class_loss"}
    assert found["loss"].item() == pytest.approx(classes, rel=1e-5)
    found["loss"].backward()
    assert [float(p.grad.abs().sum()) for p in method.parameters_of(0)] == [0.0, 0.0]


def test_views_are_mixed_and_told_apart():
    method, network = ready()
    still, moved = step_of(network, LABELS, warmup=False), VectorViews(dropout=0.5)
    torch.manual_seed(0)
    first = method.losses(still)
    torch.manual_seed(0)
    second = method.losses(step_of(network, LABELS, warmup=False, views=moved))
    for name in first:
        assert first[name].item() != pytest.approx(second[name].item(), abs=1e-4)


def test_two_classes_and_a_batch_of_two():
    network = tiny(classes=2)
    method = begun(Ngc(), network, classes=2)
    assert torch.isfinite(method.losses(step_of(network, [0, 1], warmup=False, clean=[0.0, 1.0]))["loss"])
    assert not method.state_dict()


OUT_OF_RANGE = {
    "instance_weight": -1, "subgraph_weight": -1, "temperature": 0, "subgraph_temperature": 0, "mixup_alpha": 0,
    "mix_strong": 1,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE.items(), ids=OUT_OF_RANGE)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}={value}: must"):
        Ngc(**{name: value})
