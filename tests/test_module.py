"""The co-training step: who moves, who does not, and what stops it."""

import copy

import pytest
import torch
from torch import nn

from cpc_lightning.building import make_method, make_network
from cpc_lightning.data.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.errors import TrainingError
from cpc_lightning.module import CoTrainingModule


@pytest.fixture
def module(compose, small, monkeypatch):
    """A module of two small networks with its optimizers, outside of a trainer."""
    config = compose(*small)
    images = ArrayImages(
        torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    )
    split = Split(images, torch.arange(20) % 10)
    dataset = ImageDataset("set", tuple("0123456789"), split, {"test": split})
    torch.manual_seed(0)
    method = make_method(config)
    networks = [make_network(config, dataset) for _ in range(2)]
    module = CoTrainingModule(networks, method.risk, method.views, *method.optimizers, 10, warmup_epochs=1)
    optimizers, _ = module.configure_optimizers()
    monkeypatch.setattr(module, "optimizers", lambda: optimizers)
    monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "lr_schedulers", list)
    monkeypatch.setattr(CoTrainingModule, "current_epoch", 3)
    return module


def batch(network: int, warmup: bool, unlabeled: int = 6) -> dict:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (6 + unlabeled, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return {
        "network": network, "warmup": warmup, "epoch_share": 0.5, "labeled_images": images[None, :6],
        "labels": torch.arange(6), "clean_probability": torch.full((6,), 0.9),
        "unlabeled_images": images[None, 6:], "index": torch.arange(10, 16), "unlabeled_index": torch.arange(unlabeled),
    }  # fmt: skip


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    pairs = zip(before.state_dict().items(), after.state_dict().values(), strict=True)
    return {name for (name, old), new in pairs if not torch.equal(old, new)}


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("number", [0, 1])
def test_a_step_moves_one_network_and_nothing_of_its_head(module, number, warmup):
    before = copy.deepcopy(module.networks)
    module.training_step(batch(number, warmup), 0)
    moved, peer = (
        changed(before[number], module.networks[number]),
        changed(before[1 - number], module.networks[1 - number]),
    )
    assert peer == set()  # weights and BatchNorm statistics of the peer stay
    assert not [name for name in moved if name.startswith("head.")]
    weights = {name for name, _ in module.network(number).named_parameters() if not name.startswith("head.")}
    assert weights <= moved
    assert any("running_mean" in name for name in moved)


def test_an_empty_unlabeled_side_is_a_step_like_any_other(module):
    before = copy.deepcopy(module.networks)
    module.training_step(batch(0, False, unlabeled=0), 0)
    assert changed(before[0], module.networks[0])


def test_a_loss_that_is_not_finite_names_where_it_came_from(module):
    with torch.no_grad():
        module.network(1).classifier.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 3, network 2, batch 7 \(samples 10 to 15\)"):
        module.training_step(batch(1, True), 7)


def test_the_confidence_penalty_enters_the_warmup_loss(module):
    """With weight w the loss grows by w times the mean of sum p log p: for uniform predictions -w log 10."""
    for parameter in module.network(0).classifier.parameters():
        nn.init.zeros_(parameter)
    plain = module._warmup_losses(batch(0, True))["loss"]
    module.confidence_penalty = 2.0
    penalised = module._warmup_losses(batch(0, True))["loss"]
    assert plain.item() == pytest.approx(2.302585, abs=1e-5)
    assert penalised.item() == pytest.approx(2.302585 - 2 * 2.302585, abs=1e-5)


def test_the_prediction_sums_both_networks_logits(module):
    module.eval()
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    first, second = module.evaluate(images)
    assert not torch.equal(first, second)  # the networks start apart
    assert torch.equal(module(images), first + second)


def test_views_come_as_view_by_image(module):
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 8, 8) * 50
    views = module._views_of(images[None], lambda batch: batch)
    assert views.shape == (2, 3, 1, 8, 8)
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[1, 2], module.views.normalise(images[2:])[0])


def test_images_that_come_as_views_keep_each_view_in_its_place(module, monkeypatch):
    """Four crops of each image: two for the weak views, two for the strong ones, as image files come."""
    seen = []

    class Step:
        def __call__(self, network, peer, step, *_):
            seen.append(step)
            raise InterruptedError

    module.risk = Step()
    monkeypatch.setattr(module.views, "weak", lambda images: images)
    monkeypatch.setattr(module.views, "strong", lambda images: images + 100)
    asked = batch(0, False)
    asked["labeled_images"] = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1, 1).expand(4, 6, 1, 8, 8)
    asked["unlabeled_images"] = asked["labeled_images"] + 10
    with pytest.raises(InterruptedError):
        module.training_step(asked, 0)
    levels = {
        name: [round(float(level)) for level in 255 * (0.305 + 0.376 * getattr(seen[0], name)[:, 0, 0, 0, 0])]
        for name in ("weak_labeled", "strong_labeled", "weak_unlabeled", "strong_unlabeled")
    }
    assert levels == {
        "weak_labeled": [0, 1], "strong_labeled": [102, 103],
        "weak_unlabeled": [10, 11], "strong_unlabeled": [112, 113],
    }  # fmt: skip


def test_an_epochs_draws_depend_on_seed_and_epoch_only(module, monkeypatch):
    monkeypatch.setattr(CoTrainingModule, "global_rank", 0)

    def draw(epoch: int, seed: int) -> float:
        monkeypatch.setattr(CoTrainingModule, "current_epoch", epoch)
        module.seed = seed
        module.on_train_epoch_start()
        return torch.rand(1).item()

    assert draw(1, 0) == draw(1, 0)
    assert len({draw(0, 0), draw(1, 0), draw(0, 1)}) == 3  # epoch 1 of seed 0 is not epoch 0 of seed 1
