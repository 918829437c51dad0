"""ELR: the targets by hand, the loss and its gradient against the paper's formulas, and the judge."""

import pytest
import torch
from tests.methods.one_step import begun, logits_seen, step_of

from cpc_lightning.cleaning.evidence import CleaningTask, Draw, Evidence
from cpc_lightning.errors import InputError
from cpc_lightning.methods.elr import Elr
from cpc_lightning.methods.memory import SampleMemory
from cpc_lightning.methods.targets import TargetJudge, clamped, early_learning_regulariser, ensembled, label_share
from cpc_lightning.views.vector_views import VectorViews

LABELS, INDEX = [0, 3, 1, 2, 2, 0], [4, 19, 0, 7, 8, 11]


def reference(logits, labels, old, weight, beta):
    """Cross-entropy + lambda mean log(1 - <p, t>), sample by sample, and the new targets, in float64."""
    total, targets = 0.0, []
    for row, label, before in zip(logits.double(), labels, old.double(), strict=True):
        p = row.exp() / row.exp().sum()
        target = beta * before + (1 - beta) * (p / p.sum()).detach()
        total = total - p[label].log() + weight * (1 - (p * target).sum()).log()
        targets.append(target)
    return total / len(logits), torch.stack(targets)


def test_two_steps_against_the_formula():
    """The second step finds the targets of the first, where samples are the same, and zeros for the others."""
    method, networks, views = begun(Elr(lambda_elr=2.5, beta=0.6))
    known = torch.zeros(20, 4)
    for index in (INDEX, [4, 1, 2, 3, 7, 5]):
        step = step_of(networks, views, LABELS, index)
        expected, targets = reference(logits_seen(step), LABELS, known[index], 2.5, 0.6)
        losses = method.losses(step)
        assert losses["loss"].double().item() == pytest.approx(expected.item(), abs=1e-5)
        known[index] = targets.float().detach()
        torch.testing.assert_close(method.targets.rows, known, atol=1e-6, rtol=1e-5)
    assert known[4].sum() == pytest.approx(1 - 0.6**2)  # seen twice
    assert known[19].sum() == pytest.approx(1 - 0.6)
    assert known[18].sum() == 0


def test_the_gradient_is_that_of_the_paper():
    """p - y + lambda p (<p, t> - t) / (1 - <p, t>), a row."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    t = torch.rand(6, 4, generator=generator).double()
    t = 0.9 * t / t.sum(dim=1, keepdim=True)
    p = logits.detach().softmax(dim=1)
    inner = (p * t).sum(dim=1, keepdim=True)
    loss = early_learning_regulariser(clamped(logits), t.float())
    loss.backward()
    torch.testing.assert_close(logits.grad, p * (inner - t) / (1 - inner) / 6, atol=1e-7, rtol=1e-5)


def test_the_gradient_of_a_step():
    """Of the classifier's bias it is the sum over samples of that of the logits; the targets get none."""
    method, networks, views = begun(Elr(lambda_elr=3.0, beta=0.7))
    step = step_of(networks, views, LABELS, INDEX)
    p = logits_seen(step).detach().double().softmax(dim=1)
    t = 0.3 * p
    inner = (p * t).sum(dim=1, keepdim=True)
    expected = p - torch.eye(4)[LABELS] + 3.0 * p * (inner - t) / (1 - inner)
    method.losses(step)["loss"].backward()
    torch.testing.assert_close(networks[0].classifier.bias.grad.double(), expected.mean(dim=0), atol=1e-6, rtol=1e-4)
    assert not method.targets.rows.requires_grad


def test_a_sure_prediction_of_a_sure_target_is_finite():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = early_learning_regulariser(clamped(logits), torch.tensor([[1.0, 0.0, 0.0]]))
    assert loss.item() == pytest.approx(-9.21, abs=0.01)  # log 1e-4
    loss.backward()
    assert torch.equal(logits.grad, torch.zeros(1, 3))


def test_ensembled_by_hand():
    new = ensembled(torch.tensor([[0.5, 0.0]]), torch.tensor([[0.2, 0.6]]), beta=0.5)
    torch.testing.assert_close(new, torch.tensor([[0.375, 0.375]]))


def test_label_share_by_hand():
    targets = torch.tensor([[0.6, 0.2, 0.1], [0.6, 0.2, 0.1], [0.0, 0.0, 0.0], [0.3, 0.3, 0.3]])
    share = label_share(targets, torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(share, torch.tensor([0.75, 0.25, 0.5, 0.5]))


def test_the_judge_asks_each_network_of_its_peers_draw():
    judge = TargetJudge()
    first, second = SampleMemory(torch.zeros(5, 2)), SampleMemory(torch.zeros(5, 2))
    first.rows[:2] = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    second.rows[2:4] = torch.tensor([[0.8, 0.0], [0.5, 0.5]])
    judge.memories = (first, second)
    mine, others = (Draw(torch.tensor(i), torch.zeros(2).long(), torch.zeros(2).long()) for i in ([0, 1], [2, 3]))
    nothing = torch.zeros(2)
    said = Evidence(
        nothing, nothing[None], torch.tensor([0.3, 0.1]), torch.tensor([0, 1]), torch.tensor([0.3, 0.7]), nothing
    )
    result = judge.clean(CleaningTask((mine, others), (said, said), None, None, None, 0.5, 0))
    of_others, of_mine = (estimate.clean_probability for estimate in result.estimates)
    torch.testing.assert_close(of_others, torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(of_mine, torch.tensor([0.9, 0.1]))
    assert result.partitions[0].index.tolist() == [0, 1]


def test_a_sample_that_was_never_trained_on_is_judged_by_its_prediction():
    """Label 0: predicted with 0.3, (1 + 0.3) / 2; not predicted, 0.1 against 0.7."""
    judge, nothing = TargetJudge(), torch.zeros(2)
    judge.memories = (SampleMemory(torch.zeros(2, 3)),) * 2
    draw = Draw(torch.arange(2), torch.zeros(2).long(), torch.zeros(2).long())
    said = Evidence(
        nothing, nothing[None], torch.tensor([0.3, 0.1]), torch.tensor([0, 1]), torch.tensor([0.3, 0.7]), nothing
    )
    result = judge.clean(CleaningTask((draw, draw), (said, said), None, None, None, 0.5, 0))
    for estimate in result.estimates:
        torch.testing.assert_close(estimate.clean_probability, torch.tensor([0.65, 0.125]))


@pytest.mark.parametrize("views", [None, VectorViews()], ids=["images", "vectors"])
def test_two_classes_and_a_batch_of_two(views):
    method, networks, views = begun(Elr(), classes=2, views=views)
    losses = method.losses(step_of(networks, views, [1, 1], [3, 5]))
    assert torch.isfinite(losses["loss"])
    assert method.targets.rows.sum(dim=1).nonzero().flatten().tolist() == [3, 5]


@pytest.mark.parametrize(
    ("setting", "value"), [("lambda_elr", -0.1), ("lambda_elr", "3"), ("beta", 1), ("beta", -0.1), ("beta", True)]
)
def test_settings_out_of_range(setting, value):
    with pytest.raises(InputError) as error:
        Elr(**{setting: value})
    assert error.value.setting == setting
