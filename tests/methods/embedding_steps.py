"""Steps on vectors with a tiny network, for methods that learn embeddings."""

import torch
from torch import nn

from cpc_lightning.backbones.network import Network
from cpc_lightning.methods.method import Beginning, Step
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.views.vector_views import VectorViews

STILL = VectorViews(dropout=0.0, noise=0.0, mixing=0.0)
"""Strong views are the vectors themselves."""


class Tanh(nn.Module):
    """Vectors of `size` numbers -> 6 features; without BatchNorm, so that rows do not depend on each other."""

    feature_size = 6

    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(size, 6)

    def forward(self, vectors):
        return torch.tanh(self.linear(vectors))


def tiny(classes=3, size=5, embedding=4):
    torch.manual_seed(0)
    return Network(Tanh(size), classes, embedding)


def begun(method, network, samples=40, classes=3, epochs=10):
    method.begin(Beginning((network, network), STILL, EmpiricalVicinalRisk(), samples, classes, epochs, 1))
    return method


def step_of(network, labels, *, epoch=3.0, warmup=True, clean=None, targets=None, size=5, views=STILL, seed=1):
    labels = torch.tensor(labels)
    vectors = torch.randn(1, len(labels), size, generator=torch.Generator().manual_seed(seed))
    clean = torch.ones(len(labels)) if clean is None else torch.tensor(clean)
    index = torch.arange(len(labels))
    return Step(
        0, (network, network), views, warmup, epoch, vectors, labels, clean, targets, index, vectors[:, :0], index[:0]
    )


def float64(tensor):
    return tensor.detach().double().numpy()
