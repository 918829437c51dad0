"""What tests of methods share: tiny networks, a method that has begun with them, and a step for it."""

import torch
from torch import nn

from cpc_lightning.backbones.network import Network
from cpc_lightning.methods.method import Beginning, Step
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views

PLAIN = {"size": None, "padding": 0, "flip": False, "policy": None, "mean": [0.5], "std": [0.25]}
"""Views that change nothing, so that a test knows what a network sees."""


class Tiny(nn.Module):
    """One linear layer with BatchNorm, of images or vectors alike."""

    feature_size = 5

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 5), nn.BatchNorm1d(5), nn.ReLU())

    def forward(self, inputs):
        return self.layers(inputs)


def begun(method, classes=4, samples=20, inputs=12, views=None):
    """The method with its two networks (the same one twice where it trains one); views of 1 x 3 x 4 images."""
    torch.manual_seed(0)
    networks = [Network(Tiny(inputs), classes, 3) for _ in range(1 if method.trains_one else 2)]
    views = Views(**PLAIN) if views is None else views
    pair = (networks[0], networks[-1])
    method.begin(Beginning(pair, views, EmpiricalVicinalRisk(), samples, classes, 10, 2))
    return method, pair, views


def step_of(networks, views, labels, index, number=0, epoch=3.5, seed=0):
    """A step on random images (uint8), or vectors where the views are of those."""
    generator = torch.Generator().manual_seed(seed)
    count, labels = len(labels), torch.tensor(labels)
    if isinstance(views, VectorViews):
        images = torch.randn(1, count, 12, generator=generator)
        views.standardise_to(images[0])
    else:
        images = torch.randint(0, 256, (1, count, 1, 3, 4), dtype=torch.uint8, generator=generator)
    return Step(
        number=number, networks=networks, views=views, warmup=True, epoch=epoch, images=images, labels=labels,
        clean_probability=torch.ones(count), targets=None, index=torch.tensor(index),
        unlabeled_images=images[:, :0], unlabeled_index=torch.empty(0, dtype=torch.int64),
    )  # fmt: skip


def logits_seen(step, number=0):
    """Logits of one of the step's networks in train mode, (B, K), with gradients; it sees each image as it is."""
    network = step.networks[number].train()
    return network(step.views.normalise(step.images[0]))
