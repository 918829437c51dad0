"""What tests of single steps share: two small networks outside of a trainer, and a batch for them."""

import torch

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.methods.method import Beginning
from cpc_lightning.training.module import CoTrainingModule

GRAY = (1, 8, 8)


def build_module(config, monkeypatch, image=GRAY, device="cpu", **options) -> CoTrainingModule:
    """The module with its optimizers, in the middle of epoch 3; of one config all have the same weights."""
    images = ArrayImages(
        torch.randint(0, 256, (20, *image), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    )
    split = Split(images, torch.arange(20) % 10)
    dataset = ImageDataset("set", tuple("0123456789"), split, {"test": split})
    torch.manual_seed(0)
    parts = Parts(plain(config))
    module = module_of(parts, [parts.make_network(dataset) for _ in range(2)], 10, 20, **options)
    module.to(device)
    optimizers, _ = module.configure_optimizers()
    monkeypatch.setattr(module, "optimizers", lambda: optimizers)
    monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "lr_schedulers", list)
    monkeypatch.setattr(CoTrainingModule, "current_epoch", 3)
    return module


def module_of(
    parts, networks, num_classes, num_samples, confidence_penalty=0.0, warmup_policy=None, **options
) -> CoTrainingModule:
    """The module of networks that have learnt nothing, with the method and all else that the parts make."""
    views, method = parts.views, parts.method
    beginning = Beginning(
        tuple(networks), views, parts.risk, num_samples, num_classes, 3, 1, confidence_penalty, warmup_policy
    )
    method.begin(beginning)
    return CoTrainingModule(networks, method, views, *parts.optimizers, num_classes, warmup_epochs=1, **options)


def batch(network: int, warmup: bool, unlabeled: int = 6, image=GRAY) -> dict:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (6 + unlabeled, *image), dtype=torch.uint8, generator=generator)
    return {
        "network": network, "warmup": warmup, "epoch_share": 0.5, "labeled_images": images[None, :6],
        "labels": torch.arange(6), "clean_probability": torch.full((6,), 0.9),
        "unlabeled_images": images[None, 6:], "index": torch.arange(10, 16), "unlabeled_index": torch.arange(unlabeled),
    }  # fmt: skip
