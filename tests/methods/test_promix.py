"""ProMix: the loss of a step in float64 with its gradient, each selection by hand, and the running mean prediction."""

import pytest
import torch
from tests.methods.vectors import begun, outputs, step_of

from cpc_lightning.errors import InputError
from cpc_lightning.methods import promix
from cpc_lightning.methods.contrast import mean_over, soft_cross_entropy
from cpc_lightning.methods.promix import ProMix, by_agreement

LABELS = [0, 2, 1, 0, 1, 2]
SELECTED = [1, 0, 1, 0, 0, 1]


@pytest.fixture(autouse=True)
def fixed_lambda(monkeypatch):
    monkeypatch.setattr(promix, "draw_mixup_lambda", lambda alpha: 0.7)


def by_hand(method, networks, step, chosen, targets, gamma, weight, seed):
    """L_h + L_ap + lambda_u L_u, sample after sample."""
    number = step.number
    network, head = networks[number], method.heads[number]
    pi = method.bias[number].double()

    def heads(vectors):
        features, logits = outputs(network, vectors)
        return logits, features @ head.weight.double().T + head.bias.double()

    def entropy(logits, target, bias):
        logits = logits + method.debias * bias.log()
        return -(target * (logits - logits.logsumexp(dim=0))).sum()

    weak, strong = step.images[0].double(), step.images[-1].double()
    members = [i for i in range(len(weak)) if chosen[i]]
    others = [i for i in range(len(weak)) if not chosen[i]]
    torch.manual_seed(seed)
    order = torch.rand(len(weak), dtype=torch.float64).argsort().tolist()
    partner = {}
    for group in (members, others):
        partner.update(zip(group, [i for i in order if i in group], strict=True))
    rows = torch.tensor([partner[i] for i in range(len(weak))])
    mixed, mixed_targets = 0.7 * weak + 0.3 * weak[rows], 0.7 * targets + 0.3 * targets[rows]
    of_weak, of_strong, of_mixed = heads(weak), heads(strong), heads(mixed)
    total = torch.zeros((), dtype=torch.float64)
    for h in (0, 1):
        for i in members:
            part = entropy(of_weak[h][i], targets[i], pi[0]) + gamma * entropy(of_strong[h][i], targets[i], pi[0])
            total = total + (part + gamma * entropy(of_mixed[h][i], mixed_targets[i], pi[0])) / len(members)
    for i in others:
        guess = (of_weak[0][i].detach() - method.debias_guesses * pi[1].log()).softmax(dim=0) ** 2
        guess = guess / guess.sum()
        part = entropy(of_weak[1][i], guess, pi[1]) + gamma * entropy(of_strong[1][i], guess, pi[1])
        total = total + weight * part / len(others)
    return total


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("epoch", "gamma", "weight"), [(2.7, 0.5, 0.025), (4.0, 1.0, 0.05), (9.0, 1.0, 0.1)])
def test_the_loss_and_its_gradient_are_those_of_the_paper(number, epoch, gamma, weight):
    """20 epochs with a ramp of 4: gamma 2/4 in epoch 2, and lambda_u 0.1 times 2/8."""
    method, networks = begun(ProMix(ramp_share=0.2, agreement_share=0), epochs=20)
    method.bias[:] = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]], [[0.2, 0.2, 0.6], [0.4, 0.4, 0.2]]])
    step = step_of(networks, LABELS, number, epoch=epoch, clean=SELECTED)
    expected = by_hand(method, networks, step, SELECTED, torch.eye(3).double()[LABELS], gamma, weight, 3)
    torch.manual_seed(3)
    losses = method.losses(step)
    assert float(losses["loss"].detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    assert float(losses["selected_share"]) == 0.5
    network = networks[number]
    weights = [*network.backbone.parameters(), *network.classifier.parameters(), *method.parameters_of(number)]
    pairs = zip(torch.autograd.grad(losses["loss"], weights), torch.autograd.grad(expected, weights), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=3e-6, rtol=1e-4)


def test_the_gradient_of_a_debiased_mean_is_the_published_one():
    """d l / d logits = (softmax(z + a log pi) - y) / n for members, 0 for others."""
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0], [2.0, 1.0, 0.0]], requires_grad=True)
    shift = 0.8 * torch.tensor([0.5, 0.3, 0.2]).log()
    members, targets = torch.tensor([True, False, True]), torch.eye(3)
    (found,) = torch.autograd.grad(mean_over(members, soft_cross_entropy(logits + shift, targets)), [logits])
    expected = ((logits.detach().double() + shift.double()).softmax(dim=1) - targets.double()) / 2
    expected[1] = 0
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)
    assert float(mean_over(torch.zeros(3, dtype=torch.bool), soft_cross_entropy(logits.detach(), targets))) == 0


def test_in_warm_up_the_primary_head_learns_alone():
    method, networks = begun(ProMix(), confidence_penalty=0.5)
    step = step_of(networks, LABELS, 1, warmup=True)
    log_p = outputs(networks[1], step.images[0])[1].log_softmax(dim=1)
    expected = -log_p[range(6), LABELS].mean() + 0.5 * (log_p.exp() * log_p).sum(dim=1).mean()
    losses = method.losses(step)
    assert float(losses["loss"].detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    losses["loss"].backward()
    assert all((p.grad == 0).all() for p in method.parameters_of(1))  # there, or fused SGD would fail later
    method.after_step(step)
    assert (method.bias == 1 / 3).all()


def test_labels_that_the_network_is_sure_of_are_selected():
    method, networks = begun(ProMix(matched_above=0.9, agreement_share=0))
    logits = torch.tensor([[5.0, 0, 0], [0, 0, 5.0], [5.0, 0, 0], [2.0, 0, 0]])
    step = step_of(networks, [0, 2, 1, 0], clean=[0, 0, 0, 0])  # softmax of 5: 0.987; of 2: 0.787
    chosen, targets = method.selection(step, step.images[0], logits)
    assert chosen.tolist() == [True, True, False, False]
    assert torch.equal(targets, torch.eye(3)[[0, 2, 1, 0]])
    step = step_of(networks, [1, 1, 1, 1], clean=[1, 0, 0, 1])
    assert method.selection(step, step.images[0], logits)[0].tolist() == [True, False, False, True]


def test_agreement_adds_the_surest_until_the_batch_is_full():
    """Of 6, 4 may be chosen (0.75 * 6 = 4.5); one is: 1, 2 and 5 join, and 3, the least sure, does not."""
    own = torch.tensor([[0.98, 0.02], [0.97, 0.03], [0.04, 0.96], [0.95, 0.05], [0.99, 0.01], [0.02, 0.98]])
    peer = torch.tensor([[0.98, 0.02], [0.97, 0.03], [0.05, 0.95], [0.93, 0.07], [0.01, 0.99], [0.03, 0.97]])
    chosen = torch.tensor([True, False, False, False, False, False])
    assert by_agreement(chosen, own, peer, 0.9, 0.75).tolist() == [False, True, True, False, False, True]
    assert by_agreement(chosen, own, peer, 0.9, 1.0).tolist() == [False, True, True, True, False, True]
    assert by_agreement(chosen, own, peer, 0.965, 1.0).tolist() == [False, True, False, False, False, True]
    assert not by_agreement(~chosen, own, peer, 0.9, 0.5).any()  # enough are chosen


def test_what_both_agree_on_is_learnt_in_the_place_of_the_label_in_the_last_epochs():
    method, networks = begun(ProMix(matched_above=0.3, agreement_share=0.5, agreement_fill=1.0), classes=2)
    for network in networks:
        torch.nn.init.zeros_(network.classifier.weight)
        network.classifier.bias.data = torch.tensor([0.0, 5.0])
    method.matched_above = 0.9
    logits = torch.tensor([[0.0, 5.0]]).repeat(4, 1)
    answers = {}
    for epoch in (4.9, 5.0):  # of 10: the last 5
        step = step_of(networks, [0, 1, 0, 0], epoch=epoch, clean=[1, 0, 0, 0])
        answers[epoch] = [t.tolist() for t in method.selection(step, step.images[0], logits)]
    assert answers[4.9] == [[True, True, False, False], [[1, 0], [0, 1], [1, 0], [1, 0]]]
    assert answers[5.0] == [[True, True, True, True], [[1, 0], [0, 1], [0, 1], [0, 1]]]
    assert networks[1].training  # the peer is put back


@pytest.mark.parametrize(
    ("share", "epochs", "count"),
    [(5 / 12, 600, 250), (0.4167, 600, 250), (0.5, 10, 5), (0.4, 10, 4), (0.3, 10, 3), (1, 10, 10), (0, 10, 0)],
)
def test_labels_are_guessed_by_agreement_in_the_last_epochs(share, epochs, count):
    """The published code: epoch > num_epochs - 250 in range(num_epochs + 1), which is in 250 epochs, up to the last."""
    method, _ = begun(ProMix(agreement_share=share), epochs=epochs)
    assert epochs - method.agreement_from == count


def test_the_mean_prediction_moves_by_its_momentum_on_each_side():
    method, networks = begun(ProMix(bias_momentum=0.9, agreement_share=0))
    step = step_of(networks, LABELS, 1, clean=SELECTED)
    method.losses(step)
    method.after_step(step)
    p = outputs(networks[1], step.images[0])[1].detach().softmax(dim=1)
    chosen = torch.tensor(SELECTED, dtype=torch.bool)
    for side, members in enumerate((chosen, ~chosen)):
        expected = 0.9 / 3 + 0.1 * p[members].mean(dim=0)
        torch.testing.assert_close(method.bias[1, side].double(), expected, atol=1e-6, rtol=0)
    assert (method.bias[0] == 1 / 3).all()


@pytest.mark.parametrize("clean", [[1, 1], [0, 0]])
@pytest.mark.parametrize("classes", [2, 3])
def test_all_or_nothing_selected_of_a_batch_of_two(clean, classes):
    method, networks = begun(ProMix(), classes)
    step = step_of(networks, [1, 1], clean=clean)
    losses = method.losses(step)
    losses["loss"].backward()
    method.after_step(step)
    assert all(torch.isfinite(p.grad).all() for p in [*networks[0].classifier.parameters(), *method.parameters_of(0)])
    assert torch.isfinite(method.bias).all()
    empty = clean[0]  # of the selected (0) and the rest (1)
    assert (method.bias[0, empty] == 1 / classes).all()
    assert (method.bias[0, 1 - empty] != 1 / classes).any()


@pytest.mark.parametrize(
    ("to_the_end", "weights"), [(True, [0, 0.0125, 0.05, 0.0875, 0.1, 0.1]), (False, [0, 0.0125, 0.05, 0.0875, 0, 0])]
)
def test_the_weight_of_guesses(to_the_end, weights):
    method, _ = begun(ProMix(ramp_share=0.2, guess_to_the_end=to_the_end), epochs=20)
    found = [method.guess_weight(epoch) for epoch in (0.9, 1, 4.5, 7, 8, 19)]
    assert found == pytest.approx(weights)
    assert [ProMix.ramp(method, epoch) for epoch in (0, 3, 4)] == [0, 0.75, 1]


@pytest.mark.parametrize(
    ("setting", "value"), [("matched_above", 1), ("agreement_share", 2), ("agreement_fill", -1), ("debias", -0.1),
                           ("debias_guesses", -1), ("bias_momentum", 1.1), ("lambda_u", -1), ("ramp_share", -1),
                           ("guess_to_the_end", 1), ("temperature", 0), ("mixup_alpha", 0)],
)  # fmt: skip
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(InputError) as caught:
        ProMix(**{setting: value})
    assert caught.value.setting == setting
