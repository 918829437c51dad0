"""What tests of methods share: linear networks on vectors, whose views are the very vectors, and a step for them."""

import torch
from torch import nn

from cpc_lightning.backbones.network import Network
from cpc_lightning.methods.method import Beginning, Step
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.views.vector_views import VectorViews

VIEWS = VectorViews(dropout=0, noise=0, mixing=0)


class Squashed(nn.Module):
    """Vectors (B, D) -> features tanh(W x + b) (B, F)."""

    def __init__(self, inputs, feature_size):
        super().__init__()
        self.linear, self.feature_size = nn.Linear(inputs, feature_size), feature_size

    def forward(self, vectors):
        return torch.tanh(self.linear(vectors))


def networks_of(classes, inputs=4, features=5):
    """Two networks with different weights."""
    torch.manual_seed(0)
    return tuple(Network(Squashed(inputs, features), classes, 2) for _ in range(2))


def begun(method, classes=3, epochs=10, warmup_epochs=2, samples=20, **more):
    """The method, begun with two networks, and these."""
    networks = networks_of(classes)
    networks = (networks[0], networks[0]) if method.trains_one else networks
    risk = EmpiricalVicinalRisk(lambda_u=0)
    method.begin(Beginning(networks, VIEWS, risk, samples, classes, epochs, warmup_epochs, **more))
    return method, networks


def step_of(
    networks, labels, number=0, warmup=False, epoch=5.0, clean=None, targets=None, views=4, unlabeled=0, seed=1
):
    """A step on random vectors (`views`, B, 4), and as many of the unlabeled side as asked."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.as_tensor(labels)
    batch = len(labels)
    clean = torch.ones(batch) if clean is None else torch.as_tensor(clean, dtype=torch.float32)
    labeled = torch.randn(views, batch, 4, generator=generator)
    others = torch.randn(views, unlabeled, 4, generator=generator)
    return Step(
        number, networks, VIEWS, warmup, epoch, labeled, labels, clean, targets, torch.arange(batch), others,
        torch.arange(unlabeled),
    )  # fmt: skip


def outputs(network, vectors):
    """Features and logits in float64, by hand."""
    linear, classifier = network.backbone.linear, network.classifier
    features = torch.tanh(vectors.double() @ linear.weight.double().T + linear.bias.double())
    return features, features @ classifier.weight.double().T + classifier.bias.double()
