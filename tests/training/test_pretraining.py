"""Lightning's module and the data of a pretraining: what a step is, when the rate is what, and that no label counts."""

import math

import pytest
import torch
from tests.datasets.labeled import labeled
from torch import nn

from cpc_lightning.datasets.dataset import UNLABELED, ArrayImages, ImageDataset, Split
from cpc_lightning.errors import InputError, TrainingError
from cpc_lightning.pretraining.simclr import SimCLR
from cpc_lightning.training.pretraining import PretrainingModule, pretraining_data, without_labels
from cpc_lightning.views.views import Views

pytest.importorskip("lightly")


class Flat(nn.Module):
    """A backbone whose features are the pixels, times a weight each."""

    feature_size = 4

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0]))

    def forward(self, images):
        return images.flatten(1) * self.weight


def module_of(steps=10, **more):
    settings = {
        "epochs": 2, "batch_size": 3, "learning_rate": 0.1, "weight_decay": 0.0, "temperature": 0.5,
        "projection_size": 2,
    }  # fmt: skip
    objective = SimCLR(**settings | more)
    objective.begin(4)
    objective.projection_head = nn.Identity()
    views = Views(size=2, padding=0, flip=False, policy="none", mean=[0.0], std=[1.0])
    return PretrainingModule(Flat(), objective, views, steps)


def test_a_step_descends_on_the_loss_of_two_views(monkeypatch):
    """Without crops and flips both views are the image itself: z = weight * pixels / 255, and by hand from there."""
    module = module_of()
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    images = torch.tensor([[10, 0, 50, 20], [200, 100, 0, 5], [0, 0, 0, 255]], dtype=torch.uint8).view(1, 3, 1, 2, 2)
    loss = module.training_step({"labeled_images": images, "index": torch.arange(3)}, 0)
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    z = images.double().flatten(2)[0] / 255 * weight
    z = z / z.norm(dim=1, keepdim=True)
    s = (z @ z.t() * 2).exp()
    # Of a view: its partner, like itself; of each of the two other images both views.
    expected = -torch.log(math.exp(2) / (math.exp(2) + 2 * (s.sum(dim=1) - s.diagonal()))).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert logged["train/loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(module.backbone.weight.grad.double(), weight.grad, rtol=1e-5, atol=1e-7)


def test_views_that_were_cropped_before_are_taken_as_they_come(monkeypatch):
    module = module_of()
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    seen = []
    monkeypatch.setattr(module.views, "strong", lambda images: seen.append(images) or images)
    images = torch.arange(24, dtype=torch.uint8).view(2, 3, 1, 2, 2)
    module.training_step({"labeled_images": images, "index": torch.arange(3)}, 0)
    assert torch.equal(seen[0], images.flatten(0, 1))


def test_the_rate_rises_over_a_tenth_of_the_steps_and_falls_to_nothing():
    """20 steps: 1/2 and 1 in the first two, then (1 + cos(pi t / 18)) / 2 from t = 0."""
    rates = [module_of(20).rate(step) for step in range(21)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[11] == pytest.approx(0.5)  # t = 9
    assert rates[20] == pytest.approx(0.0)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert module_of(1).rate(0) == 1.0


def test_a_loss_that_is_no_number_ends_the_training_before_it_is_saved():
    module = module_of()
    module._losses += [torch.tensor(1.0), torch.tensor(torch.nan)]
    with pytest.raises(TrainingError, match="infinite or NaN in epoch 0; the last checkpoint is unharmed"):
        module.on_train_epoch_end()


def test_no_image_is_twice_in_a_batch_and_labels_are_gone():
    dataset = labeled(torch.arange(11) % 3, 3)
    data = pretraining_data(without_labels(dataset), 4, 1, 7)
    batches = list(data.train_dataloader())
    assert len(batches) == 2  # 11 // 4
    for batch in batches:
        assert len(set(batch["index"].tolist())) == 4
        assert batch["labels"].tolist() == [0, 0, 0, 0]
        assert batch["labeled_images"].shape[:2] == (1, 4)
    assert data.val_dataloader() == []


def test_images_without_a_label_are_learnt_from_too():
    images = ArrayImages(torch.zeros(6, 1, 2, 2, dtype=torch.uint8))
    split = Split(images, torch.tensor([0, UNLABELED, 1, UNLABELED, 0, 1]))
    dataset = ImageDataset("set", ("a", "b"), split, {}, some_unlabeled=True)
    (batch,) = pretraining_data(without_labels(dataset), 6, 1, 0).train_dataloader()
    assert sorted(batch["index"].tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("size", "processes", "of"), [(12, 1, ""), (6, 2, " in each of 2 processes")])
def test_more_images_a_step_than_there_are(size, processes, of):
    dataset = without_labels(labeled(torch.arange(11) % 3, 3))
    with pytest.raises(InputError, match=f"batch_size={size}: are more images a step{of} than the 11 there are"):
        pretraining_data(dataset, size, processes, 0)
