"""What tests of methods' losses share: networks whose logits are written down, and a step for them."""

import torch
from torch import nn

from cpc_lightning.methods.method import Step


class Says(nn.Module):
    """A network whose logits of each sample are parameters; images hold the samples' numbers."""

    def __init__(self, logits, features=None):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))
        self.features = None if features is None else nn.Parameter(torch.tensor(features, dtype=torch.float32))

    def forward(self, images):
        return self.logits[images[:, 0].long()]

    def features_and_logits(self, images):
        return self.features[images[:, 0].long()], self(images)


class Plain:
    """Views that are the images themselves."""

    strong_are_weak = False
    per_image = 4
    of_certain = 2

    def weak(self, images):
        return images

    strong = evaluation = normalise = weak


def step_of(networks, labels, *, number=0, epoch=0.0, index=None, **more):
    """A step on samples 0, 1, ... with these labels."""
    count = len(labels)
    places = torch.arange(count)
    values = {
        "number": number, "networks": tuple(networks), "views": Plain(), "warmup": True, "epoch": epoch,
        "images": places.float()[None, :, None], "labels": torch.tensor(labels),
        "clean_probability": torch.ones(count), "targets": None,
        "index": places if index is None else torch.tensor(index),
        "unlabeled_images": torch.empty(1, 0, 1), "unlabeled_index": places[:0],
    }  # fmt: skip
    return Step(**values | more)
