"""The objective of SimCLR against its definition in float64, and the ranges of its settings."""

import importlib
import socket
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from tests.runs import spawn

from cpc_lightning.errors import InputError
from cpc_lightning.pretraining.simclr import SimCLR

pytest.importorskip("lightly")

SETTINGS = {
    "epochs": 1, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "temperature": 0.5, "projection_size": 3,
}  # fmt: skip


def nt_xent(projections, temperature):
    """Eq. 1 of the paper, one view at a time: views i and i + B are of the same image."""
    unit = projections.double() / projections.double().norm(dim=1, keepdim=True)
    count, losses = len(unit), []
    for i in range(count):
        likeness = {k: unit[i] @ unit[k] / temperature for k in range(count) if k != i}
        partner = (i + count // 2) % count
        losses.append(-torch.log(likeness[partner].exp() / sum(value.exp() for value in likeness.values())))
    return torch.stack(losses).mean()


def begun(seed=0, **more):
    torch.manual_seed(seed)
    objective = SimCLR(**SETTINGS | more)
    objective.begin(5)
    return objective


@pytest.mark.parametrize("temperature", [0.5, 0.1])
@pytest.mark.parametrize("batch", [2, 4, 7])
def test_the_loss_and_its_gradient_are_those_of_the_definition(batch, temperature):
    objective = begun(temperature=temperature)
    features = torch.randn(2 * batch, 5, generator=torch.Generator().manual_seed(1))
    features[batch:] += features[:batch]  # partners are somewhat alike
    ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    loss, expected = objective(ours), nt_xent(objective.projection_head(theirs), temperature)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_a_loss_by_hand():
    """Two images whose views are alike, and unlike each other's: -log(e^2 / (e^2 + 2 e^-2)), at temperature 1/2."""
    objective = begun()
    objective.projection_head = torch.nn.Identity()
    features = torch.tensor([[3.0], [-2.0], [1.0], [-1.0]])
    assert objective(features).item() == pytest.approx(0.0359763, abs=1e-6)


def test_autocast_does_not_round_similarities():
    objective, features = begun(temperature=0.1), torch.randn(8, 5, generator=torch.Generator().manual_seed(2))
    objective.projection_head = torch.nn.Identity()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(features)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(nt_xent(features, 0.1).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"epochs": 0}, "epochs=0: must be a whole number of at least 1"),
        ({"batch_size": 1}, "batch_size=1: must be a whole number of at least 2"),
        ({"learning_rate": 0}, "learning_rate=0: must be a number above 0"),
        ({"weight_decay": -1e-4}, "weight_decay=-0.0001: must be a number of at least 0"),
        ({"temperature": 0}, "temperature=0: must be a number above 0"),
        ({"projection_size": 2.5}, "projection_size=2.5: must be a whole number of at least 1"),
        ({"policy": 3}, "policy=3: must be the name of a policy, or null"),
    ],
)
def test_settings_out_of_range_are_named(changed, says):
    with pytest.raises(InputError) as found:
        SimCLR(**SETTINGS | changed)
    assert str(found.value) == says


def test_without_lightly_it_says_what_to_install(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(InputError, match=r"needs lightly: pip install 'cpc-lightning\[pretrain\]'"):
        SimCLR(**SETTINGS)


def work(rank, port, folder):
    where = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", where, timedelta(seconds=60), rank=rank, world_size=2)
    objective = begun()
    objective.projection_head = torch.nn.Linear(5, 3)  # no BatchNorm, whose statistics are each process's own
    torch.manual_seed(3)
    views = torch.randn(2, 6, 5)  # of all six images; each process has three of them
    weight = torch.randn(3, 5)
    objective.projection_head.weight.data.copy_(weight)
    loss = objective(views[:, 3 * rank : 3 * rank + 3].flatten(0, 1))
    loss.backward()
    gradient = objective.projection_head.weight.grad
    for value in (loss.detach(), gradient):
        dist.all_reduce(value)
        value /= 2  # as DDP takes the mean
    if rank == 0:
        torch.save((loss.detach(), gradient), f"{folder}/two.pt")
    dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.ddp
def test_two_processes_have_the_loss_and_the_gradient_of_one(tmp_path):
    """Of all six images: every process's views are negatives of the other's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, (port, str(tmp_path)), 2)
    loss, gradient = torch.load(tmp_path / "two.pt")
    objective = begun()
    head = objective.projection_head = torch.nn.Linear(5, 3)
    torch.manual_seed(3)
    views = torch.randn(2, 6, 5)
    head.weight.data.copy_(torch.randn(3, 5))
    alone = objective(views.flatten(0, 1))
    alone.backward()
    torch.testing.assert_close(loss, alone.detach())
    torch.testing.assert_close(gradient, head.weight.grad)
