"""Batch norms that go into the convolutions before them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.utils.prune
from torch import nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2, resnet18

from cpc_lightning.backbones.folding import fold_batch_norms


def seen_by(network, channels=3):
    images = torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return network(images)


def with_statistics(network):
    """In evaluation mode, after batch norms have seen something."""
    generator = torch.Generator().manual_seed(5)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value, low in ((part.running_mean, -0.5), (part.running_var, 0.5), (part.weight, 0.5), (part.bias, -1)):
                value.data.copy_(low + torch.rand(value.shape, generator=generator))
    return network.eval()


def batch_norms(network):
    return sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())


def test_by_hand():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)).eval()
    convolution, batch_norm = network
    for value, number in (
        (convolution.weight, 3.0), (convolution.bias, 1.0), (batch_norm.running_mean, 2.0),
        (batch_norm.running_var, 4.0), (batch_norm.weight, 5.0), (batch_norm.bias, 7.0),
    ):  # fmt: skip
        value.data.fill_(number)
    folded = fold_batch_norms(network, lambda network: seen_by(network, 1))
    # 5 (3 x + 1 - 2) / 2 + 7 = 7.5 x + 4.5
    assert (folded[0].weight.item(), folded[0].bias.item()) == (7.5, 4.5)
    assert isinstance(folded[1], nn.Identity)
    assert (network[0].weight.item(), type(network[1])) == (3.0, nn.BatchNorm2d)  # left as it is


@pytest.mark.parametrize(("make", "count"), [(resnet18, 20), (mobilenet_v2, 52)])
def test_networks_of_torchvision_answer_the_same(make, count):
    torch.manual_seed(1)
    network = with_statistics(make(weights=None))
    assert batch_norms(network) == count
    folded = fold_batch_norms(network, seen_by)
    assert batch_norms(folded) == 0
    torch.testing.assert_close(seen_by(folded), seen_by(network), rtol=1e-4, atol=1e-4)
    assert batch_norms(network) == count


class Odd(nn.Module):
    """Two layers, and what lies between them."""

    def __init__(self, way):
        super().__init__()
        self.convolution, self.batch_norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.way = way
        if way == "uncopied":
            self.generator = (number for number in range(3))
        if way == "weight norm":
            nn.utils.parametrizations.weight_norm(self.convolution)
        if way == "old weight norm":
            nn.utils.weight_norm(self.convolution)
        if way == "pruned":
            nn.utils.prune.random_unstructured(self.convolution, "weight", 0.5)

    def __deepcopy__(self, memo):
        if self.way == "itself":
            return self
        made = Odd.__new__(Odd)
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def __setattr__(self, name, value):
        if name == "batch_norm" and self.__dict__.get("way") == "locked":
            raise TypeError("locked")
        super().__setattr__(name, value)

    def forward(self, images):
        made = self.convolution(images)
        if self.way == "between":
            return self.batch_norm(made.abs())
        if self.way == "in place":
            return self.batch_norm(made.relu_())
        if self.way == "twice":
            return self.batch_norm(made) + self.batch_norm(images)
        if self.way == "also elsewhere":
            return self.batch_norm(made) + made
        if self.way == "beside a large number":
            return torch.cat([self.batch_norm(made) + made, torch.full_like(made, 1e4)], dim=3)
        if self.way == "by hand":
            return F.batch_norm(made, self.batch_norm.running_mean, self.batch_norm.running_var)
        if self.way == "asks":
            return self.batch_norm(made) + self.batch_norm.num_features
        return self.batch_norm(made)


ODD = (
    "between", "in place", "twice", "also elsewhere", "beside a large number", "by hand", "asks", "uncopied", "itself",
    "locked", "weight norm", "old weight norm", "pruned",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("way", ODD)
def test_a_network_that_would_answer_otherwise_stays_as_it_is(way):
    torch.manual_seed(2)
    network = with_statistics(Odd(way))
    expected = seen_by(network)  # which some note something in
    assert fold_batch_norms(network, seen_by) is network
    assert torch.equal(seen_by(network), expected)


class Activated(nn.BatchNorm2d):
    """A batch norm that does more, as timm's."""

    def forward(self, images):
        return super().forward(images).relu()


def test_batch_norms_that_do_more_stay():
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 3, 3), Activated(3), nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)))
    folded = fold_batch_norms(network, seen_by)
    assert [type(part) for part in folded] == [nn.Conv2d, Activated, nn.Conv2d, nn.Identity]
    torch.testing.assert_close(seen_by(folded), seen_by(network))
    alone = with_statistics(nn.Sequential(nn.BatchNorm2d(3)))
    assert fold_batch_norms(alone, seen_by) is alone
    without = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    assert fold_batch_norms(without, seen_by) is without
