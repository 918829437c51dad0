"""DivideMix on AugDesc's views the way the literature's code goes about it: the other side of the comparisons.

PIL transforms of single images in a DataLoader's workers, a forward for each view and network (six batches of guesses a
step), float32, channels first, scikit-learn's mixture, data sets made anew for each network and epoch. Written for the
benchmarks, from the method's description; it shares no code with the library but the network's definition.
"""

from __future__ import annotations

import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cpc_lightning.datasets.dataset import ImageDataset
from cpc_lightning.views.views import Views


class Pictures(Dataset):
    """Some images as PIL pictures, each seen through every one of the transforms."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, chances: np.ndarray, each: list) -> None:
        self.pixels, self.labels, self.chances, self.each = pixels, labels, chances, each

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, place: int) -> tuple:
        """The views, the label and the clean probability of one sample."""
        picture = Image.fromarray(self.pixels[place])
        views = [transform(picture) for transform in self.each]
        return (*views, int(self.labels[place]), np.float32(self.chances[place]), place)


class PlainLoop:
    """Both networks, their optimizers and data.

    Args:
        networks: two, of the library's definition.
        dataset: images in memory.
        views: for the size, padding and statistics.
        batch_size: labeled images a step.
        device: to train on.
        workers: processes of each DataLoader.
        learning_rate: of SGD.
        policy: what strong views add: "cifar10"; "none" or "weak" for nothing.

    Raises:
        ValueError: for other policies.
    """

    def __init__(
        self, networks: list[nn.Module], dataset: ImageDataset, views: Views, batch_size: int, device: torch.device,
        workers: int | None = None, learning_rate: float = 0.02, policy: str = "cifar10",
    ) -> None:  # fmt: skip
        self.networks = [network.to(device) for network in networks]
        self.optimizers = [
            torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4)
            for network in networks
        ]
        pixels = dataset.train.images.fetch(torch.arange(len(dataset.train))).permute(0, 2, 3, 1).squeeze(-1)
        self.pixels, self.labels = pixels.numpy(), dataset.train.labels.numpy()
        self.batch_size, self.device, self.classes = batch_size, device, len(dataset.class_names)
        self.workers = min(5, os.cpu_count() or 1) if workers is None else workers  # 5 in the published code
        to_tensor = [transforms.ToTensor(), transforms.Normalize(views.mean, views.std)]
        size = views.height or pixels.shape[1]
        shift = [transforms.RandomCrop(size, padding=views.padding)]
        shift += [transforms.RandomHorizontalFlip()] if views.flip else []
        self.seen = transforms.Compose(to_tensor)
        self.weak = transforms.Compose([*shift, *to_tensor])
        if policy not in ("cifar10", "none", "weak"):
            raise ValueError(f"views.policy={policy}: the plain loop has cifar10, none and weak")
        added = [transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)] if policy == "cifar10" else []
        self.strong = transforms.Compose([*shift, *added, *to_tensor])

    def loader(
        self, places: np.ndarray, each: list, chances: np.ndarray, shuffle: bool = True, batch: int = 0
    ) -> DataLoader:
        """A new DataLoader over some samples; full batches only where they are shuffled."""
        pictures = Pictures(self.pixels[places], self.labels[places], chances[places], each)
        return DataLoader(
            pictures, batch or self.batch_size, shuffle=shuffle, num_workers=self.workers, drop_last=shuffle,
            pin_memory=self.device.type == "cuda",
        )  # fmt: skip

    def slow_down(self, gamma: float) -> None:
        """Multiply both learning rates."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= gamma

    def warm_up(self, number: int, steps: int) -> None:
        """Some steps of cross-entropy on weak views."""
        network, optimizer = self.networks[number], self.optimizers[number]
        network.train()
        everything = np.arange(len(self.pixels))
        loader = self.loader(everything, [self.weak], np.ones(len(everything), np.float32))
        for step, (images, labels, *_) in enumerate(loader):
            if step == steps:
                break
            loss = F.cross_entropy(network(images.to(self.device)), labels.to(self.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def loss_pass(self, number: int) -> np.ndarray:
        """Every sample's loss, by one network."""
        network = self.networks[number]
        network.eval()
        everything = np.arange(len(self.pixels))
        loader = self.loader(everything, [self.seen], np.ones(len(everything), np.float32), shuffle=False, batch=128)
        losses = torch.zeros(len(everything))
        for images, labels, _, places in loader:
            each = F.cross_entropy(network(images.to(self.device)), labels.to(self.device), reduction="none")
            for loss, place in zip(each, places, strict=True):
                losses[place] = loss
        return losses.numpy()

    @staticmethod
    def clean_probability(losses: np.ndarray) -> np.ndarray:
        """By a mixture over the losses of one network."""
        scaled = ((losses - losses.min()) / (losses.max() - losses.min())).reshape(-1, 1)
        mixture = GaussianMixture(n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4).fit(scaled)
        return mixture.predict_proba(scaled)[:, mixture.means_.argmin()]

    def train(
        self,
        number: int,
        clean_probability: np.ndarray,
        lambda_u: float = 25.0,
        steps: int | None = None,
        forward_unlabeled: bool = True,
    ) -> None:
        """One network's epoch on its partition, or some steps of it, the other network fixed."""
        network, peer, optimizer = self.networks[number], self.networks[1 - number], self.optimizers[number]
        network.train()
        peer.eval()
        each = [self.weak, self.weak, self.strong, self.strong]
        clean = clean_probability > 0.5
        labeled = self.loader(np.flatnonzero(clean), each, clean_probability)
        unlabeled = self.loader(np.flatnonzero(~clean), each, clean_probability)
        others = iter(unlabeled)
        for step, (weak_1, weak_2, strong_1, strong_2, labels, chance, _) in enumerate(labeled):
            if step == steps:
                break
            try:
                batch = next(others)
            except StopIteration:
                others = iter(unlabeled)
                batch = next(others)
            self.step(
                network,
                peer,
                optimizer,
                (weak_1, weak_2, strong_1, strong_2),
                labels,
                chance,
                batch[:4],
                lambda_u,
                forward_unlabeled,
            )

    def step(
        self, network: nn.Module, peer: nn.Module, optimizer: torch.optim.Optimizer, labeled: tuple[Tensor, ...],
        labels: Tensor, chance: Tensor, unlabeled: tuple[Tensor, ...], lambda_u: float,
        forward_unlabeled: bool = True,
    ) -> None:  # fmt: skip
        """Guess, refine, sharpen, mix, descend; on the labeled half alone where the other is not to be forwarded."""
        targets = torch.zeros(len(labels), self.classes).scatter_(1, labels.view(-1, 1), 1).to(self.device)
        weak_x1, weak_x2, strong_x1, strong_x2 = (view.to(self.device) for view in labeled)
        weak_u1, weak_u2, strong_u1, strong_u2 = (view.to(self.device) for view in unlabeled)
        chance = chance.view(-1, 1).to(self.device)
        with torch.no_grad():
            guesses = [model(view) for model in (network, peer) for view in (weak_u1, weak_u2)]
            guessed = sum(torch.softmax(logits, dim=1) for logits in guesses) / 4
            guessed = guessed**2
            guessed = guessed / guessed.sum(dim=1, keepdim=True)
            refined = sum(torch.softmax(network(view), dim=1) for view in (weak_x1, weak_x2)) / 2
            refined = (chance * targets + (1 - chance) * refined) ** 2
            refined = refined / refined.sum(dim=1, keepdim=True)
        share = np.random.beta(4, 4)  # noqa: NPY002 - as the published code draws it
        share = max(share, 1 - share)
        images = torch.cat([strong_x1, strong_x2, strong_u1, strong_u2])
        wanted = torch.cat([refined, refined, guessed, guessed])
        order = torch.randperm(len(images), device=self.device)
        mixed, mixed_targets = (
            share * images + (1 - share) * images[order],
            share * wanted + (1 - share) * wanted[order],
        )
        boundary = 2 * len(labels)
        logits = network(mixed if forward_unlabeled else mixed[:boundary])
        labeled_loss = -(F.log_softmax(logits[:boundary], dim=1) * mixed_targets[:boundary]).sum(dim=1).mean()
        unlabeled_loss = torch.zeros(())
        if forward_unlabeled:
            unlabeled_loss = ((torch.softmax(logits[boundary:], dim=1) - mixed_targets[boundary:]) ** 2).mean()
        mean = torch.softmax(logits, dim=1).mean(dim=0)
        penalty = ((1 / self.classes) * torch.log((1 / self.classes) / mean)).sum()
        loss = labeled_loss + lambda_u * unlabeled_loss + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
