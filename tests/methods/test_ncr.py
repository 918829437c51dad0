"""NCR: the loss against the formula pair by pair, the gradient, neighbours by hand, mixup, and ELR beside it."""

import pytest
import torch
from tests.methods.one_step import begun, logits_seen, step_of

from cpc_lightning.errors import InputError
from cpc_lightning.methods.ncr import Ncr, mixed, neighbour_consistency
from cpc_lightning.views.vector_views import VectorViews

LABELS, INDEX = [0, 3, 1, 2, 2, 0], [4, 19, 0, 7, 8, 11]


def reference(features, logits, k, temperature):
    """T^2 KL(neighbours | prediction), sample by sample and neighbour by neighbour, in float64."""
    features, total = features.double(), 0.0
    for i, v in enumerate(features):
        cosines = [((v @ w / (v.norm() * w.norm())).item(), j) for j, w in enumerate(features) if j != i]
        chosen = [j for _, j in sorted(cosines, reverse=True)[:k]]
        weights = [(v @ features[j] / (v.norm() * features[j].norm())).clamp(min=0) for j in chosen]
        if sum(weights) == 0:
            continue
        theirs = sum(
            w / sum(weights) * (logits[j].double() / temperature).softmax(dim=0)
            for w, j in zip(weights, chosen, strict=True)
        )
        own = (logits[i].double() / temperature).softmax(dim=0)
        total = total + temperature**2 * (theirs * (theirs / own).log()).sum()
    return total / len(features)


def some(rows=7, dtype=torch.float32, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, generator=generator, dtype=dtype), torch.randn(
        rows, 4, generator=generator, dtype=dtype
    )


@pytest.mark.parametrize("k", [1, 3, 6, 100])
def test_against_the_formula(k):
    features, logits = some()
    ours = neighbour_consistency(features, logits, k, 2.0)
    assert ours.item() == pytest.approx(reference(features, logits, k, 2.0).item(), abs=1e-5)


def test_the_gradients_are_those_of_the_formula():
    """With respect to logits, of neighbours too, and to features, by way of the cosines."""
    ours, theirs = some(dtype=torch.float64), some(dtype=torch.float64)
    for tensor in (*ours, *theirs):
        tensor.requires_grad_()
    neighbour_consistency(*ours, 3, 2.0).backward()
    reference(*theirs, 3, 2.0).backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert other.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-7, rtol=1e-5)


def test_neighbours_by_hand():
    """The third is like nobody and adds 0; the others have each other, whose predictions differ."""
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    logits = torch.tensor([[0.0, 0.0], [2.0, -2.0], [5.0, 0.0]], requires_grad=True)
    loss = neighbour_consistency(features, logits, 2, 1.0)
    sure = 1 / (1 + torch.tensor(-4.0).exp())
    p = torch.stack([sure, 1 - sure])
    expected = ((p * (p / 0.5).log()).sum() + (0.5 * (0.5 / p).log()).sum()) / 3
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert torch.equal(logits.grad[2], torch.zeros(2))
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("features", [torch.zeros(3, 2), torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])])
def test_without_neighbours_there_is_nothing_to_learn_from(features):
    logits = torch.randn(3, 4, requires_grad=True)
    loss = neighbour_consistency(features, logits, 2, 2.0)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(logits.grad, torch.zeros(3, 4))


def test_certain_predictions_are_finite():
    logits = torch.tensor([[500.0, 0.0], [0.0, 500.0]], requires_grad=True)
    loss = neighbour_consistency(torch.ones(2, 2), logits, 1, 1.0)
    assert loss.item() == pytest.approx(500)
    loss.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("epoch", "active"), [(3.9, False), (4.0, True)])
def test_a_step_before_and_after_the_start(epoch, active):
    method, (network, _), views = begun(Ncr(alpha=0.4, neighbours=2, start_epoch=4))
    step = step_of((network, network), views, LABELS, INDEX, epoch=epoch)
    features, logits = (x.detach() for x in network.train().features_and_logits(views.normalise(step.images[0])))
    entropy = -logits.double().log_softmax(dim=1)[range(6), LABELS].mean()
    expected = 0.6 * entropy + 0.4 * reference(features, logits, 2, 2.0) if active else entropy
    losses = method.losses(step)
    assert losses["loss"].item() == pytest.approx(float(expected), abs=1e-5)
    assert ("ncr" in losses) == active
    assert not hasattr(method, "targets")


def test_elr_is_added():
    method, networks, views = begun(Ncr(start_epoch=99, lambda_elr=2.0, beta=0.6))
    step = step_of(networks, views, LABELS, INDEX)
    p = logits_seen(step).detach().double().softmax(dim=1)
    regulariser = (1 - (p * 0.4 * p).sum(dim=1)).log().mean()
    expected = -p[range(6), LABELS].log().mean() + 2.0 * regulariser
    assert method.losses(step)["loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(method.targets.rows[INDEX], 0.4 * p.float(), atol=1e-5, rtol=1e-4)


def test_mixup_takes_the_counterpart_from_the_other_end():
    images, labels = torch.arange(24.0).view(3, 2, 2, 2), torch.eye(3)
    torch.manual_seed(1)
    share = torch.distributions.Beta(0.5, 0.5).sample((3,))
    share = torch.maximum(share, 1 - share)
    assert len(set(share.tolist())) == 3  # each image has its own
    torch.manual_seed(1)
    mixed_images, mixed_labels = mixed(images, labels, 0.5)
    for i, own in enumerate(share):
        torch.testing.assert_close(mixed_images[i], own * images[i] + (1 - own) * images[2 - i])
        torch.testing.assert_close(mixed_labels[i], own * labels[i] + (1 - own) * labels[2 - i])


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.5])
@pytest.mark.parametrize("vectors", [False, True])
def test_two_classes_and_a_batch_of_two(vectors, mixup_alpha):
    method, networks, views = begun(
        Ncr(start_epoch=0, mixup_alpha=mixup_alpha), classes=2, views=VectorViews() if vectors else None
    )
    losses = method.losses(step_of(networks, views, [1, 1], [3, 5]))
    losses["loss"].backward()
    assert torch.isfinite(losses["ncr"])
    assert torch.isfinite(networks[0].classifier.weight.grad).all()


def test_bf16_autocast_does_not_round_the_similarities():
    method, networks, views = begun(Ncr(start_epoch=0, neighbours=2))
    step = step_of(networks, views, LABELS, INDEX)
    with torch.autocast("cpu", torch.bfloat16):
        features, logits = networks[0].train().features_and_logits(views.normalise(step.images[0]))
        loss = method.losses(step)["ncr"]
    expected = reference(features.detach().float(), logits.detach().float(), 2, 2.0)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


OUT_OF_RANGE = [
    ("alpha", 1.1), ("alpha", -0.1), ("neighbours", 0), ("neighbours", 2.0), ("temperature", 0), ("start_epoch", -1),
    ("mixup_alpha", -1), ("lambda_elr", -1), ("beta", 1),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "value"), OUT_OF_RANGE)
def test_settings_out_of_range(setting, value):
    with pytest.raises(InputError) as error:
        Ncr(**{setting: value})
    assert error.value.setting == setting


def test_mixup_and_elr_exclude_each_other():
    with pytest.raises(InputError, match=r"lambda_elr=1\.0: must be 0 with mixup"):
        Ncr(mixup_alpha=0.5, lambda_elr=1.0)
