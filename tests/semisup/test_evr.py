import math

import pytest
import torch
from torch import nn

from cpc_lightning.errors import InputError
from cpc_lightning.semisup.evr import (
    EmpiricalVicinalRisk,
    SemisupBatch,
    confidence_penalty,
    eval_mode,
    linear_rampup,
    prior_penalty,
    probabilities_of,
    soft_cross_entropy,
    squared_error,
)
from cpc_lightning.semisup.mixmatch import draw_mixup_lambda

LOG3 = math.log(3)


# ---- the losses


def test_soft_cross_entropy_literal():
    # softmax of (log 3, 0) is (.75, .25); of (0, 0) is (.5, .5)
    logits, targets = torch.tensor([[LOG3, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.3, 0.7]])
    expected = (-math.log(0.75) + math.log(2)) / 2
    assert float(soft_cross_entropy(logits, targets)) == pytest.approx(expected, rel=1e-6)


def test_squared_error_is_a_mean_over_rows_and_classes():
    logits, targets = torch.tensor([[LOG3, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    # (.25^2 + .25^2 + 0 + 0) / 4
    assert float(squared_error(logits, targets)) == pytest.approx(0.03125, rel=1e-6)


def test_prior_penalty_literal_and_direction():
    # mean prediction ((.75 + .5) / 2, ...) = (.625, .375); KL(uniform || mean), not the reverse
    logits = torch.tensor([[LOG3, 0.0], [0.0, 0.0]])
    expected = 0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375)
    assert float(prior_penalty(logits)) == pytest.approx(expected, rel=1e-5)


def test_prior_penalty_is_zero_for_a_uniform_mean_of_confident_rows():
    assert float(prior_penalty(torch.tensor([[50.0, 0.0], [0.0, 50.0]]))) == pytest.approx(0, abs=1e-6)


def test_prior_penalty_is_finite_with_a_finite_gradient_for_a_dead_class():
    logits = torch.tensor([[0.0, -200.0]] * 3, requires_grad=True)
    penalty = prior_penalty(logits)
    penalty.backward()
    # mean of class 1 is e^-200, which is 0 in float32: .5 log .5 + .5 (log .5 + 200)
    assert float(penalty.detach()) == pytest.approx(100 - math.log(2), rel=1e-6)
    # d/d logit_1 of -.5 log mean_1 is -.5 / 3 for each row
    torch.testing.assert_close(logits.grad[:, 1], torch.full((3,), -0.5 / 3))


def test_confidence_penalty_literal():
    logits = torch.tensor([[LOG3, 0.0], [0.0, 0.0]])
    expected = (0.75 * math.log(0.75) + 0.25 * math.log(0.25) - math.log(2)) / 2
    assert float(confidence_penalty(logits)) == pytest.approx(expected, rel=1e-6)


def test_confidence_penalty_of_extreme_logits_is_zero_and_has_a_finite_gradient():
    logits = torch.tensor([[1000.0, -1000.0, 0.0]], requires_grad=True)
    penalty = confidence_penalty(logits)
    penalty.backward()
    assert float(penalty.detach()) == 0
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("loss", [soft_cross_entropy, squared_error])
def test_losses_are_float32_for_half_precision_logits(loss):
    targets = torch.tensor([[0.9, 0.1]])
    logits = torch.tensor([[LOG3, 0.0]]).bfloat16()
    assert loss(logits, targets).dtype == torch.float32
    assert float(loss(logits, targets)) == pytest.approx(float(loss(logits.float(), targets)), rel=1e-6)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.0), (10, 0.0), (10.8, 1.25), (14, 6.25), (18, 12.5), (26, 25.0), (400, 25.0)],
)
def test_rampup_literal(epoch, expected):
    # warm-up 10, 16 epochs, up to 25: (10.8 - 10) / 16 * 25 = 1.25
    assert linear_rampup(epoch, 10, 16, 25.0) == pytest.approx(expected)


def test_rampup_of_no_length_is_a_step():
    assert [linear_rampup(epoch, 10, 0, 25.0) for epoch in (9.9, 10.0)] == [0.0, 25.0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lambda_u", -1),
        ("lambda_u", float("nan")),
        ("temperature", 0),
        ("mixup_alpha", 0),
        ("rampup_epochs", 1.5),
        ("rampup_epochs", -1),
        ("forward_unlabeled", 1),
        ("prior_weight", -1),
        ("views", 0),
        ("kept_guesses", 1),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(InputError) as caught:
        EmpiricalVicinalRisk(**{setting: value})
    assert caught.value.setting == setting


# ---- the guess and the risk


class SpyNetwork(nn.Module):
    """A small network with BatchNorm that records its forwards as (rows, training, gradient)."""

    def __init__(self, num_classes=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, num_classes)
        self.calls = []
        self.seen = []

    def forward(self, images):
        self.calls.append((len(images), self.training, torch.is_grad_enabled()))
        self.seen.append(images.detach().clone())
        return self.fc(torch.relu(self.bn(self.conv(images))).mean((2, 3)))


def make_batch(labeled=3, unlabeled=2, num_classes=3, views=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def images(count):
        return torch.randn(views, count, 1, 4, 4, generator=generator)

    return SemisupBatch(
        weak_labeled=images(labeled),
        strong_labeled=images(labeled),
        labels=torch.arange(labeled) % num_classes,
        clean_probability=torch.rand(labeled, generator=generator),
        weak_unlabeled=images(unlabeled),
        strong_unlabeled=images(unlabeled),
    )


def guess(network, peer, batch, **settings):
    return EmpiricalVicinalRisk(**settings).guess(
        network, peer, batch.weak_labeled, batch.weak_unlabeled, batch.labels, batch.clean_probability
    )


def test_guess_forwards_each_view_in_train_mode_and_the_peers_views_at_once_in_eval_mode():
    network, peer, batch = SpyNetwork(seed=1), SpyNetwork(seed=2), make_batch(labeled=3, unlabeled=2)
    network.eval()  # left so by a loss pass: the guess must not inherit it
    peer.train()
    guess(network, peer, batch)
    assert sorted(network.calls) == [(2, True, False)] * 2 + [(3, True, False)] * 2
    assert peer.calls == [(4, False, False)]  # no labeled sample among them
    torch.testing.assert_close(peer.seen[0], batch.weak_unlabeled.flatten(0, 1))


def test_guess_moves_the_trained_networks_statistics_and_leaves_the_peer_as_it_was():
    network, peer = SpyNetwork(seed=1), SpyNetwork(seed=2)
    peer.train()
    peer.fc.eval()
    before = {key: value.clone() for key, value in peer.state_dict().items()}
    guess(network, peer, make_batch())
    assert int(network.bn.num_batches_tracked) == 4
    assert all(torch.equal(value, before[key]) for key, value in peer.state_dict().items())
    assert (peer.training, peer.bn.training, peer.fc.training) == (True, True, False)


def test_the_peers_mode_is_restored_after_an_error():
    peer = SpyNetwork()
    peer.train()

    def fail():
        with eval_mode(peer):
            assert not peer.bn.training
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert peer.bn.training


class Constant(nn.Module):
    """Logits that do not depend on the image."""

    def __init__(self, probabilities):
        super().__init__()
        self.logits = torch.tensor(probabilities).log()

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_a_networks_answer_in_half_precision_is_a_softmax_in_single():
    """Between 0.5 and 1, bfloat16 has steps of 1/256."""
    logits = torch.tensor([[1.0, 0.0]]).bfloat16()
    answer = probabilities_of(lambda _: logits, torch.zeros(1))
    assert answer.dtype == torch.float32
    assert float(answer[0, 0]) == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-6)


def test_guess_literal():
    network, peer = Constant([0.2, 0.8]), Constant([0.6, 0.4])
    batch = make_batch(labeled=1, unlabeled=1, num_classes=2)
    labeled, unlabeled = EmpiricalVicinalRisk().guess(
        network, peer, batch.weak_labeled, batch.weak_unlabeled, torch.tensor([0]), torch.tensor([0.25])
    )
    # labeled: .25 + .75*.2 = .4 and .6, squares .16 and .36. unlabeled: (.2 + .6) / 2 = .4 and .6, the same
    torch.testing.assert_close(labeled, torch.tensor([[0.16 / 0.52, 0.36 / 0.52]]))
    torch.testing.assert_close(unlabeled, torch.tensor([[0.16 / 0.52, 0.36 / 0.52]]))


def test_targets_take_the_place_of_the_labels():
    network, batch = Constant([0.2, 0.8]), make_batch(labeled=1, unlabeled=0, num_classes=2)
    labeled, _ = EmpiricalVicinalRisk(temperature=1.0).guess(
        network, network, batch.weak_labeled, batch.weak_unlabeled, torch.tensor([0]), torch.tensor([0.5]),
        torch.tensor([[0.6, 0.4]]),
    )  # fmt: skip
    torch.testing.assert_close(labeled, torch.tensor([[0.4, 0.6]]))  # half of each


def test_the_penalty_has_a_weight():
    images = torch.zeros(2, 3, 1, 2, 2)
    nothing, targets = images[:, :0], torch.tensor([[1.0, 0]] * 3)
    arguments = images, targets, nothing, targets[:0], 0.0, 1
    one, none = (
        EmpiricalVicinalRisk(prior_weight=weight).risk(Constant([0.25, 0.75]), *arguments) for weight in (1.0, 0.0)
    )
    assert float(one.penalty) == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75), rel=1e-5)
    assert float(one.total - none.total) == pytest.approx(float(one.penalty), rel=1e-5)


def test_no_gradient_flows_through_the_guesses():
    network, peer = SpyNetwork(seed=1), SpyNetwork(seed=2)
    targets = guess(network, peer, make_batch())
    assert not any(target.requires_grad for target in targets)
    losses = EmpiricalVicinalRisk()(network, peer, make_batch(), 30.0, 10, torch.Generator().manual_seed(0))
    losses.total.backward()
    assert all(parameter.grad is None for parameter in peer.parameters())
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in network.fc.parameters())


def test_under_autocast_the_guess_leaves_no_weights_without_gradient_behind(monkeypatch):
    # Older torch reuses weights cast under no_grad, so the network would silently not train.
    cleared = []
    clear = torch.clear_autocast_cache
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: cleared.append(clear()))
    network, peer = SpyNetwork(seed=1), SpyNetwork(seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = EmpiricalVicinalRisk()(network, peer, make_batch(), 30.0, 10, torch.Generator().manual_seed(0))
        assert cleared  # before the context's end, which clears as well
    losses.total.backward()
    assert losses.total.dtype == torch.float32
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("lambda_u", "forward", "rows"),
    [(25.0, True, 10), (25.0, False, 10), (0.0, True, 10), (0.0, False, 6), (0, True, 10), (0, False, 6)],
)
def test_the_unlabeled_half_is_forwarded_where_it_is_asked_for_or_its_loss_counts(lambda_u, forward, rows):
    """Two views of 3 labeled and 2 unlabeled images: 10 rows on CIFAR, the labeled 6 on Clothing1M (METHOD.md)."""
    network, peer, batch = SpyNetwork(seed=1), SpyNetwork(seed=2), make_batch(labeled=3, unlabeled=2)
    risk = EmpiricalVicinalRisk(lambda_u=lambda_u, forward_unlabeled=forward)
    losses = risk(network, peer, batch, 30.0, 10, torch.Generator().manual_seed(0))
    assert network.calls[-1] == (rows, True, True)
    assert risk.forwards_unlabeled == (rows == 10)
    assert (float(losses.unlabeled) > 0) == (rows == 10)  # measured wherever it is forwarded, weighted or not
    assert losses.lambda_u == lambda_u
    weighted = float(losses.labeled + lambda_u * losses.unlabeled + losses.penalty)
    assert float(losses.total.detach()) == pytest.approx(weighted, rel=1e-6)


def test_at_lambda_u_0_the_forwarded_half_moves_penalty_and_statistics():
    """The same labeled rows and their partners; only what else is in the batch differs."""
    found = {}
    for forward in (True, False):
        network, peer, batch = SpyNetwork(seed=1), SpyNetwork(seed=2), make_batch(labeled=3, unlabeled=2)
        risk = EmpiricalVicinalRisk(0.0, forward_unlabeled=forward)
        losses = risk(network, peer, batch, 30.0, 10, torch.Generator().manual_seed(0))
        found[forward] = network.seen[-1], network.bn.running_mean, float(losses.penalty)
    assert torch.equal(found[True][0][:6], found[False][0])
    assert not torch.allclose(found[True][1], found[False][1])
    assert found[True][2] != pytest.approx(found[False][2], rel=1e-4)


def test_the_risk_trains_whatever_mode_the_network_was_left_in():
    network, batch = SpyNetwork(), make_batch(labeled=3, unlabeled=2)
    network.eval()
    EmpiricalVicinalRisk().risk(
        network, batch.strong_labeled, torch.eye(3), batch.strong_unlabeled, torch.full((2, 3), 1 / 3), 30.0, 10
    )
    assert network.calls == [(10, True, True)]


def test_without_unlabeled_loss_partners_still_come_from_the_unlabeled_side():
    network, batch = SpyNetwork(), make_batch(labeled=3, unlabeled=20)
    nothing = torch.zeros_like(batch.strong_labeled)
    targets_unlabeled = torch.full((20, 3), 1 / 3)
    EmpiricalVicinalRisk(lambda_u=0.0, mixup_alpha=100.0).risk(
        network, nothing, torch.eye(3), batch.strong_unlabeled, targets_unlabeled, 30.0, 10
    )
    assert float(network.seen[-1].abs().sum()) > 0


@pytest.mark.parametrize("lambda_u", [25.0, 0.0])
def test_an_empty_unlabeled_side(lambda_u):
    network, peer, batch = SpyNetwork(seed=1), SpyNetwork(seed=2), make_batch(labeled=3, unlabeled=0)
    losses = EmpiricalVicinalRisk(lambda_u)(network, peer, batch, 30.0, 10, torch.Generator().manual_seed(0))
    losses.total.backward()
    assert peer.calls == []
    assert [rows for rows, _, _ in network.calls] == [3, 3, 6]
    assert float(losses.unlabeled) == 0
    assert float(losses.total.detach()) == pytest.approx(float(losses.labeled + losses.penalty), rel=1e-6)
    assert all(bool(parameter.grad.isfinite().all()) for parameter in network.parameters())


def test_nothing_of_the_unlabeled_loss_counts_at_the_warmups_end():
    network, peer, batch = SpyNetwork(seed=1), SpyNetwork(seed=2), make_batch()
    losses = EmpiricalVicinalRisk(25.0)(network, peer, batch, 10, 10, torch.Generator().manual_seed(0))
    assert losses.lambda_u == 0
    assert float(losses.unlabeled) > 0
    assert float(losses.total.detach()) == pytest.approx(float(losses.labeled + losses.penalty), rel=1e-6)


# ---- the whole, against plain loops in float64


def softmax(row):
    exponentials = [math.exp(x) for x in row]
    return [x / sum(exponentials) for x in exponentials]


def sharpened(row, temperature):
    powers = [p ** (1 / temperature) for p in row]
    return [x / sum(powers) for x in powers]


def reference_evr(network, peer, batch, lambda_u, forward, temperature, alpha, rampup, epoch, warmup, seed):
    """The description in METHOD.md, sample by sample; only the networks' logits come from torch."""

    def probabilities(model, images):
        with torch.no_grad():
            return [softmax(row) for row in model(images.double()).tolist()]

    network.train()
    peer.eval()
    views, labeled, unlabeled = len(batch.weak_labeled), batch.weak_labeled.shape[1], batch.weak_unlabeled.shape[1]
    guesses = [probabilities(network, view) for view in batch.weak_unlabeled] if unlabeled else []
    guesses += [probabilities(peer, view) for view in batch.weak_unlabeled] if unlabeled else []
    refining = [probabilities(network, view) for view in batch.weak_labeled]
    num_classes = len(refining[0][0])

    targets_u = []
    for i in range(unlabeled):
        mean = [sum(p[i][k] for p in guesses) / len(guesses) for k in range(num_classes)]
        targets_u.append(sharpened(mean, temperature))
    targets_x = []
    for i in range(labeled):
        w, y = float(batch.clean_probability[i]), int(batch.labels[i])
        mean = [sum(p[i][k] for p in refining) / views for k in range(num_classes)]
        targets_x.append(sharpened([w * (k == y) + (1 - w) * mean[k] for k in range(num_classes)], temperature))

    images = [batch.strong_labeled[v, i].double() for v in range(views) for i in range(labeled)]
    images += [batch.strong_unlabeled[v, i].double() for v in range(views) for i in range(unlabeled)]
    targets = targets_x * views + targets_u * views
    generator = torch.Generator().manual_seed(seed)
    lam = draw_mixup_lambda(alpha, generator)
    partner = torch.randperm(len(images), generator=generator).tolist()
    forwarded = len(images) if forward else views * labeled
    mixed = torch.stack([lam * images[i] + (1 - lam) * images[partner[i]] for i in range(forwarded)])
    mixed_targets = [
        [lam * targets[i][k] + (1 - lam) * targets[partner[i]][k] for k in range(num_classes)] for i in range(forwarded)
    ]
    predictions = probabilities(network, mixed)

    boundary = views * labeled
    loss_x = 0.0
    for i in range(boundary):
        loss_x -= sum(mixed_targets[i][k] * math.log(predictions[i][k]) for k in range(num_classes)) / boundary
    loss_u = 0.0
    for i in range(boundary, forwarded):
        squares = sum((predictions[i][k] - mixed_targets[i][k]) ** 2 for k in range(num_classes))
        loss_u += squares / num_classes / (forwarded - boundary)
    penalty = 0.0
    for k in range(num_classes):
        mean_k = sum(p[k] for p in predictions) / forwarded
        penalty += 1 / num_classes * math.log(1 / num_classes / mean_k)
    weight = lambda_u * min(max((epoch - warmup) / rampup, 0), 1)
    return {"total": loss_x + weight * loss_u + penalty, "labeled": loss_x, "unlabeled": loss_u, "penalty": penalty}


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "num_classes", "views", "lambda_u", "forward", "temperature", "epoch"),
    [
        (3, 4, 3, 2, 25.0, True, 0.5, 15.5),
        (4, 4, 2, 2, 150.0, True, 0.5, 40.0),  # two classes, the ramp done
        (1, 5, 4, 2, 25.0, True, 0.7, 13.0),  # one labeled sample
        (5, 1, 3, 2, 0.0, False, 0.5, 30.0),  # the labeled half alone: Clothing1M, WebVision
        (5, 3, 3, 2, 0.0, True, 0.5, 30.0),  # both halves, the unlabeled one without a weight: C10 sym20 and asym40
        (4, 0, 3, 2, 25.0, True, 0.5, 30.0),  # nobody unlabeled
        (3, 2, 3, 1, 25.0, True, 0.5, 30.0),  # one view
        (3, 2, 3, 3, 25.0, True, 1.0, 30.0),  # three views
    ],
)
def test_evr_equals_the_plain_description(
    labeled, unlabeled, num_classes, views, lambda_u, forward, temperature, epoch
):
    batch = make_batch(labeled, unlabeled, num_classes, views, seed=4)
    network, peer = SpyNetwork(num_classes, seed=1), SpyNetwork(num_classes, seed=2)
    for model in (network, peer):  # well away from uniform predictions
        nn.init.normal_(model.fc.weight, std=3.0)
        nn.init.uniform_(model.bn.running_mean)
    twin, peer_twin = SpyNetwork(num_classes), SpyNetwork(num_classes)
    twin.load_state_dict(network.state_dict())
    peer_twin.load_state_dict(peer.state_dict())
    expected = reference_evr(
        twin.double(), peer_twin.double(), batch, lambda_u, forward, temperature, 0.75, 16, epoch, 10, seed=9
    )
    evr = EmpiricalVicinalRisk(lambda_u, temperature, 0.75, 16, forward_unlabeled=forward)
    losses = evr(network, peer, batch, epoch, 10, torch.Generator().manual_seed(9))
    for name, value in expected.items():
        assert float(getattr(losses, name).detach()) == pytest.approx(value, rel=2e-5, abs=1e-6), name
    torch.testing.assert_close(network.bn.running_mean.double(), twin.bn.running_mean, rtol=1e-5, atol=1e-6)
