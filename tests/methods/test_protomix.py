"""ProtoMix: its four losses in float64, over chosen samples and over all; prototypes while no cleaner sets them."""

import numpy as np
import pytest
import torch
from tests.methods.embedding_steps import begun, float64, step_of, tiny

from cpc_lightning.errors import InputError
from cpc_lightning.methods import contrast
from cpc_lightning.methods.protomix import ProtoMix
from cpc_lightning.semisup.mixmatch import draw_share
from cpc_lightning.views.vector_views import VectorViews

LABELS = [0, 1, 2, 0, 1, 2]


def ready(**settings):
    network = tiny()
    method = begun(ProtoMix(**settings), network)
    drawn = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    network.head.prototypes.data = torch.nn.functional.normalize(drawn, dim=1)
    return method, network


def layer(linear, rows):
    return rows @ float64(linear.weight).T + float64(linear.bias)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def log_softmax(rows):
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def reference(method, network, vectors, targets, chosen, partners, share):
    """L_ce, L_recon, L_cc and L_pc by the paper's sums; strong views are the weak ones; mixup by its draws."""
    features = np.tanh(layer(network.backbone.linear, vectors))
    projector, prototypes, t = network.head.projector, float64(network.head.prototypes), method.temperature
    z = unit(layer(projector, features))
    rebuilt = np.maximum(layer(method.reconstruction, layer(projector, features)), 0)
    recon = ((rebuilt - features) ** 2).mean()
    logits = log_softmax(layer(network.classifier, features))
    classes = [-(targets[i] * logits[i]).sum() for i in range(len(z)) if chosen[i]]
    consistency = 0.0
    for i in range(len(z)):
        wrong = sum(2 * np.exp(z[i] @ z[j] / t) for j in range(len(z)) if j != i)
        consistency -= np.log(np.exp(1 / t) / (np.exp(1 / t) + wrong)) / len(z)
    both, both_targets = np.concatenate([vectors, vectors]), np.concatenate([targets, targets])
    mixed = share * both + (1 - share) * both[partners]
    mixed_targets = share * both_targets + (1 - share) * both_targets[partners]
    scores = log_softmax(unit(layer(projector, np.tanh(layer(network.backbone.linear, mixed)))) @ prototypes.T / t)
    prototype = [-(mixed_targets[i] * scores[i]).sum() for i in range(len(both)) if chosen[i % len(z)]]
    mean = [np.mean(values) if values else 0.0 for values in (classes, prototype)]
    return mean[0], 2 * recon, consistency, mean[1]


def draws(chosen, seed):
    """The partners and the share that a step with this seed mixes with."""
    torch.manual_seed(seed)
    share = draw_share(8.0)
    rows = torch.eye(2 * len(chosen), dtype=torch.float64)
    mixed, _ = contrast.mix_within(rows, rows, torch.tensor(chosen).repeat(2), 0.25)
    return (mixed - 0.25 * rows).argmax(dim=1).numpy(), share


def losses(method, step, seed):
    torch.manual_seed(seed)
    return method.losses(step)


CHOSEN = {"some": [1, 0, 1, 1, 0, 1], "all": [1] * 6, "one": [0, 0, 1, 0, 0, 0], "none": [0] * 6}


@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=CHOSEN)
def test_the_losses_are_their_formulas_on_what_the_cleaner_chose(chosen):
    """With the cleaner's labels, which are not the given ones."""
    method, network = ready(consistency_weight=0.5, prototype_weight=3.0, reconstruction_weight=2.0)
    targets = torch.nn.functional.one_hot(torch.tensor([1, 1, 2, 0, 0, 2]), 3).float()
    clean = [0.9 * c for c in chosen]
    step = step_of(network, LABELS, warmup=False, clean=clean, targets=targets)
    chosen = [bool(c) for c in chosen]
    partners, share = draws(chosen, 7)
    expected = reference(method, network, float64(step.images[0]), float64(targets), chosen, partners, share)
    found = losses(method, step, 7)
    names = ("class_loss", "reconstruction_loss", "consistency_loss", "prototype_loss")
    for name, value in zip(names, expected, strict=True):
        assert found[name].item() == pytest.approx(value, rel=1e-5, abs=1e-7), name
    classes, recon, consistency, prototype = expected
    assert found["loss"].item() == pytest.approx(classes + 2 * recon + 0.5 * consistency + 3 * prototype, rel=1e-5)
    found["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in (*network.backbone.parameters(), *method.parameters_of(0)))


def test_the_gradient_is_that_of_the_formula():
    """Of biases of the projector, the reconstruction and the classifier, by finite differences of the reference."""
    method, network = ready()
    chosen = [True, False, True, True, False, True]
    clean = [float(c) for c in chosen]
    step = step_of(network, LABELS, warmup=False, clean=clean)
    targets, (partners, share) = np.eye(3)[LABELS], draws(chosen, 3)
    losses(method, step, 3)["loss"].backward()
    assert network.head.prototypes.grad is None
    for bias in (network.head.projector.bias, method.reconstruction.bias, network.classifier.bias):
        values = []
        for moved in (1e-3, -2e-3):
            with torch.no_grad():
                bias[1] += moved
            parts = reference(method, network, float64(step.images[0]), targets, chosen, partners, share)
            values.append(parts[0] + parts[1] + parts[2] + 5 * parts[3])
        with torch.no_grad():
            bias[1] += 1e-3
        assert bias.grad[1].item() == pytest.approx((values[0] - values[1]) / 2e-3, abs=2e-3)


def test_the_first_epoch_has_no_prototypes():
    method, network = ready(reconstruction_weight=2.0)
    step = step_of(network, LABELS, epoch=0.5)
    classes, recon, *_ = reference(
        method, network, float64(step.images[0]), np.eye(3)[LABELS], [True] * 6, np.arange(12), 1.0
    )
    found = method.losses(step)
    assert set(found) == {"loss", "class_loss", "reconstruction_loss"}
    assert found["loss"].item() == pytest.approx(classes + 2 * recon / 2, rel=1e-5)  # of one view


def test_prototypes_are_class_means_of_the_last_epoch_until_a_cleaner_sets_them():
    method, network = ready()
    head = network.head
    before = float64(head.prototypes)
    method.begin_epoch(0)
    assert np.array_equal(float64(head.prototypes), before)
    sums = np.zeros((3, 4))
    for seed in (1, 2):
        step = step_of(network, LABELS, epoch=0.5, seed=seed)
        z = unit(layer(head.projector, np.tanh(layer(network.backbone.linear, float64(step.images[0])))))
        np.add.at(sums, LABELS, z)
        method.losses(step)
    method.begin_epoch(1)
    np.testing.assert_allclose(float64(head.prototypes), unit(sums), atol=1e-6)
    assert not method.sums.any()
    method.losses(step_of(network, LABELS, epoch=1.5))
    head.fitted.fill_(1)
    method.begin_epoch(2)
    np.testing.assert_allclose(float64(head.prototypes), unit(sums), atol=1e-6)


def test_the_weight_of_the_prototypes_rises():
    method = ProtoMix(rampup_epochs=40, prototype_weight=5.0)
    assert [method.prototype_weight_in(epoch) for epoch in (0, 10, 40, 100)] == [1, 2, 5, 5]
    assert ProtoMix(prototype_weight=5.0).prototype_weight_in(1) == 5


def test_the_prototype_loss_counts_as_much_as_the_epoch_says():
    method, network = ready(rampup_epochs=40)
    found = losses(method, step_of(network, LABELS, epoch=10.5), 0)
    rest = found["class_loss"] + found["reconstruction_loss"] + found["consistency_loss"]
    assert found["loss"].item() == pytest.approx((rest + 2 * found["prototype_loss"]).item(), rel=1e-6)


def test_a_strong_view_of_its_own_is_what_the_weak_one_is_told_by():
    method, network = ready()
    step = step_of(network, LABELS, views=VectorViews(dropout=0.5))
    assert losses(method, step, 0)["consistency_loss"].item() != pytest.approx(
        losses(method, step_of(network, LABELS), 0)["consistency_loss"].item(), abs=1e-3
    )


def test_two_classes_and_a_batch_of_two():
    network = tiny(classes=2)
    method = begun(ProtoMix(), network, classes=2)
    found = method.losses(step_of(network, [0, 1], warmup=False, clean=[0.0, 1.0]))
    assert torch.isfinite(found["loss"])
    assert len(list(method.parameters_of(0))) == 4
    assert not any("head" in name for name in method.state_dict())


OUT_OF_RANGE = {
    "consistency_weight": -1, "prototype_weight": -1, "reconstruction_weight": -1, "rampup_epochs": -1,
    "temperature": 0, "mixup_alpha": 0,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE.items(), ids=OUT_OF_RANGE)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}={value}: must"):
        ProtoMix(**{name: value})
