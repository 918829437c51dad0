"""LongReMix: the clock of each stage, networks that begin anew, and the losses in float64."""

import copy

import pytest
import torch
from tests.methods.vectors import begun, outputs, step_of

from cpc_lightning.errors import InputError
from cpc_lightning.methods.longremix import LongReMix
from cpc_lightning.semisup import evr

LABELS = [0, 2, 1, 0]


def test_in_both_warm_ups_the_loss_is_plain_cross_entropy():
    method, networks = begun(LongReMix(), epochs=10, warmup_epochs=2)
    steps = [step_of(networks, LABELS, warmup=True, epoch=1.5), step_of(networks, LABELS, epoch=5.0),
             step_of(networks, LABELS, epoch=6.99)]  # fmt: skip
    for step in steps:
        logits = outputs(networks[0], step.images[0])[1]
        expected = -(logits - logits.logsumexp(dim=1, keepdim=True))[range(4), LABELS].mean()
        losses = method.losses(step)
        assert set(losses) == {"loss"}
        assert float(losses["loss"].detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
        (found,) = torch.autograd.grad(losses["loss"], [networks[0].classifier.bias])
        by_formula = (logits.softmax(dim=1) - torch.eye(3)[LABELS]).mean(dim=0)  # d / d logits = (p - y) / B
        torch.testing.assert_close(found.double(), by_formula, atol=1e-6, rtol=1e-5)


def test_the_penalty_on_confidence_is_in_both_warm_ups():
    method, networks = begun(LongReMix(), epochs=10, warmup_epochs=2, confidence_penalty=0.5)
    for step in (step_of(networks, LABELS, warmup=True, epoch=0.0), step_of(networks, LABELS, epoch=5.5)):
        logits = outputs(networks[0], step.images[0])[1].detach()
        log_p = logits.log_softmax(dim=1)
        expected = -log_p[range(4), LABELS].mean() + 0.5 * (log_p.exp() * log_p).sum(dim=1).mean()
        assert float(method.losses(step)["loss"].detach()) == pytest.approx(float(expected), abs=1e-6)


def vicinal_by_hand(network, peer, step, lambda_u, lam=0.8, seed=5):
    """The empirical vicinal risk of vectors whose views differ: refine, guess, mix, and three terms."""
    softmax = lambda net, vectors: outputs(net, vectors)[1].softmax(dim=1).detach()  # noqa: E731
    weak_x, strong_x, weak_u, strong_u = (
        images[part].double() for images in (step.images, step.unlabeled_images) for part in (slice(0, 2), slice(2, 4))
    )
    w, labels = step.clean_probability.double()[:, None], torch.eye(3).double()[step.labels]
    refined = w * labels + (1 - w) * (softmax(network, weak_x[0]) + softmax(network, weak_x[1])) / 2
    guessed = sum(softmax(net, view) for net in (network, peer) for view in weak_u) / 4
    targets_x, targets_u = (p**2 / (p**2).sum(dim=1, keepdim=True) for p in (refined, guessed))
    images = torch.cat([*strong_x, *strong_u])
    targets = torch.cat([targets_x, targets_x, targets_u, targets_u])
    torch.manual_seed(seed)
    partner = torch.randperm(len(images))
    logits = outputs(network, lam * images + (1 - lam) * images[partner])[1]
    mixed = lam * targets + (1 - lam) * targets[partner]
    rows = 2 * len(labels)
    log_p = logits.log_softmax(dim=1)
    labeled = -(mixed[:rows] * log_p[:rows]).sum(dim=1).mean()
    unlabeled = (log_p[rows:].exp() - mixed[rows:]).square().mean()
    penalty = (1 / 3 * (1 / 3 / log_p.exp().mean(dim=0)).log()).sum()
    return labeled + lambda_u * unlabeled + penalty


@pytest.mark.parametrize(
    ("epoch", "weight"), [(2.0, 0), (4.0, 25 * 2 / 16), (26.0, 25), (30.0 + 2.0, 0), (30.0 + 6.0, 25 * 4 / 16)]
)
def test_the_risk_and_its_gradient_grow_anew_in_the_second_stage(monkeypatch, epoch, weight):
    """60 epochs, 2 of warm-up in each stage; the weight of the unlabeled side is 25 after 16 more."""
    monkeypatch.setattr(evr, "draw_mixup_lambda", lambda alpha, generator: 0.8)
    method, networks = begun(LongReMix(), epochs=60, warmup_epochs=2)
    method.risk.lambda_u = 25.0
    step = step_of(networks, LABELS, 1, epoch=epoch, clean=[0.9, 0.6, 1.0, 0.7], unlabeled=3)
    expected = vicinal_by_hand(networks[1], networks[0], step, weight)
    torch.manual_seed(5)
    losses = method.losses(step)
    assert float(losses["loss"].detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    weights = [*networks[1].backbone.parameters(), *networks[1].classifier.parameters()]
    pairs = zip(torch.autograd.grad(losses["loss"], weights), torch.autograd.grad(expected, weights), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)


def test_networks_begin_anew_with_the_second_stage_alone():
    method, networks = begun(LongReMix(first_share=0.3), epochs=10, warmup_epochs=2)
    first = copy.deepcopy([network.state_dict() for network in networks])
    assert not torch.equal(first[0]["classifier.weight"], first[1]["classifier.weight"])
    with torch.no_grad():
        for network in networks:
            network.classifier.weight.add_(1)
    changed = copy.deepcopy([network.state_dict() for network in networks])
    for epoch, told, held in ((0, False, changed), (2, False, changed), (3, True, first), (4, False, first)):
        assert method.begin_epoch(epoch) is told
        for network, weights in zip(networks, held, strict=True):
            assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert [method.whole_epoch(epoch) for epoch in (0, 2, 3, 9)] == [False, False, True, True]
    assert not LongReMix().whole_epoch(0)  # before it has begun
    assert list(method.parameters()) == []  # networks are not its own, or a checkpoint would hold them twice


@pytest.mark.parametrize("share", [0, 1, 1.5, "0.5"])
def test_a_share_out_of_range_is_named(share):
    with pytest.raises(InputError) as caught:
        LongReMix(share)
    assert caught.value.setting == "first_share"


@pytest.mark.parametrize(("epochs", "share"), [(6, 0.5), (10, 0.3), (10, 0.8)])
def test_each_stage_needs_an_epoch_after_its_warm_up(epochs, share):
    with pytest.raises(InputError, match=r"epochs=\d+: must be more: each of two stages warms up for 3"):
        begun(LongReMix(share), epochs=epochs, warmup_epochs=3)
