"""The contract of methods: what a run begins with, what a step is given, and what a method answers.

Shapes: N samples, B batch, U unlabeled batch (B, or 0), V views, K classes, C x H x W images (D numbers for vectors).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from cpc_lightning.backbones.network import Network
from cpc_lightning.cleaning.evidence import Cleaner
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views

PENALTY, POLICY = "confidence_penalty", "warmup_policy"
"""Settings of `training` that only some methods have a use for."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a method is given before the first step.

    Attributes:
        networks: network 1 and network 2; of a method that trains one network, that one twice.
        views: makes weak, strong and evaluation views.
        risk: the empirical vicinal risk of the settings `semisup`, for methods that learn with it.
        num_samples: N, of the training set; a sample's index is below it.
        num_classes: K.
        epochs: of the whole run.
        warmup_epochs: W, of them before the first division of the data; without an active cleaner there is none, and
            this is what the settings say all the same.
        confidence_penalty: weight of the negative entropy in warm-up.
        warmup_policy: what views add in warm-up (a policy of `Views`); None: they are weak.
    """

    networks: tuple[Network, Network]
    views: Views | VectorViews
    risk: EmpiricalVicinalRisk
    num_samples: int
    num_classes: int
    epochs: int
    warmup_epochs: int
    confidence_penalty: float = 0.0
    warmup_policy: str | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One step: who trains, on what, and when. All tensors are on the networks' device.

    Attributes:
        number: 0 or 1, the network to train; 0 where a method trains both together.
        networks: network 1 and network 2.
        views: makes views of the images.
        warmup: whether no cleaner has divided the data: in warm-up, and in every step where there is none.
        epoch: epochs done so far, fractional within an epoch (3.5 is the middle of the fourth).
        images: (V, B, C, H, W) uint8 of the labeled side, V = 1, or `Method.images_of`: weak ones first.
        labels: (B,) int64 given labels.
        clean_probability: (B,) float32; with `mixes_sides`, 0 of a sample that is not labeled.
        targets: (B, K) what to learn in place of the labels; None: the labels.
        index: (B,) int64 positions in the training set.
        unlabeled_images: (V, U, C, H, W) uint8.
        unlabeled_index: (U,) int64.
        certain: whether the targets are all that there is to learn: nothing is unlabeled, and no probability below 1.
    """

    number: int
    networks: tuple[Network, Network]
    views: Views | VectorViews
    warmup: bool
    epoch: float
    images: Tensor
    labels: Tensor
    clean_probability: Tensor
    targets: Tensor | None
    index: Tensor
    unlabeled_images: Tensor
    unlabeled_index: Tensor
    certain: bool = False

    @property
    def network(self) -> Network:
        """The network to train."""
        return self.networks[self.number]

    @property
    def peer(self) -> Network:
        """The other one."""
        return self.networks[1 - self.number]

    def weak(self, count: int = 1, unlabeled: bool = False) -> Tensor:
        """`count` normalised weak views of each image of a side, (count, B, C, h, w)."""
        images = self.unlabeled_images if unlabeled else self.images
        return self.made(images[:count], self.views.weak, count)

    def strong(self, count: int = 1, unlabeled: bool = False) -> Tensor:
        """`count` normalised strong views of each image of a side, (count, B, C, h, w)."""
        images = self.unlabeled_images if unlabeled else self.images
        return self.made(images[-count:], self.views.strong, count)

    def made(self, images: Tensor, make: Callable[[Tensor], Tensor], count: int) -> Tensor:
        """`count` normalised views of each image: (V, B, C, H, W) uint8, V = `count` or 1 -> (count, B, C, h, w)."""
        images = images.expand(count, *images.shape[1:])
        views = self.views.normalise(make(images.flatten(0, 1)))
        return views.view(count, images.shape[1], *views.shape[1:])


class Method(nn.Module):
    """How networks learn. What is said here holds for one that says nothing else: a step is one loss of one network.

    A module, so that what it trains, averages or remembers is in the checkpoint and on the networks' device. What must
    not be broadcast in every step by processes that train together, such as something of each sample, belongs into a
    `SampleMemory`.

    Attributes:
        trains_one: it trains one network, which then is network 1 and network 2.
        together: a step trains both networks, on the same batch.
        takes_cleaner: a cleaner may divide the data for it; else all steps are on all samples, with their labels.
        needs_cleaner: it cannot do without one.
        takes_risk: it learns with the empirical vicinal risk, the settings `semisup`.
        warmup_settings: which of `PENALTY` and `POLICY` it reads; who asks for the others is refused.
        weak_views_alone: it never looks at a strong view.
        mixes_sides: a batch of divided data is drawn from all samples with a label, and its unlabeled side is empty.
        many_views: a step without a division takes several views of an image, not one weak view.
        all_unlabeled: after the division the unlabeled side of a step is drawn from all samples, those that look clean
            included.
        may_wait: its warm-up may go on until it pays to divide the data (`training.divide_when`).
        judge: ranks the labels at the end of a run in which no cleaner divides the data; None: nobody does.
    """

    trains_one: ClassVar[bool] = False
    together: ClassVar[bool] = False
    takes_cleaner: ClassVar[bool] = False
    needs_cleaner: ClassVar[bool] = False
    takes_risk: ClassVar[bool] = False
    warmup_settings: ClassVar[tuple[str, ...]] = ()
    weak_views_alone: ClassVar[bool] = False
    mixes_sides: ClassVar[bool] = False
    many_views: ClassVar[bool] = False
    all_unlabeled: ClassVar[bool] = False
    may_wait: ClassVar[bool] = False
    judge: Cleaner | None = None

    def begin(self, beginning: Beginning) -> None:
        """Build what depends on networks and data: heads, averaged networks, memories. Called once, before training."""

    def check_cleaner(self, cleaner: Cleaner) -> None:
        """Raise `InputError` where the cleaner that divides the data does not fit. Known before `begin`."""

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The scalar losses of a step by name; "loss" is the one to descend on.

        Where `together`, names end in "_1" or "_2", but for "loss", the sum over both networks.
        """
        raise NotImplementedError

    def after_step(self, step: Step) -> None:
        """Follow the optimizer's step, such as with averaged weights."""

    def begin_epoch(self, epoch: int) -> bool:
        """Prepare an epoch, counted from 0; whether networks begin anew: their optimizers then forget."""
        return False

    def whole_epoch(self, epoch: int) -> bool:
        """Whether `epoch`, from 0, has as many steps as if all labels looked clean (`training.full_epochs`)."""
        return False

    def parameters_of(self, number: int) -> Iterable[nn.Parameter]:
        """What the optimizer of network `number` trains beside its backbone and classifier."""
        return ()

    def forwarded(self, risk: EmpiricalVicinalRisk) -> int:
        """How many images a step forwards with gradients, for each sample of the batch. Known before `begin`."""
        return 1

    def images_of(self, views: Views | VectorViews, risk: EmpiricalVicinalRisk) -> int:
        """How many views stage 2 takes of an image. Known before `begin`."""
        return views.per_image

    def divided(self, epochs: int) -> None:
        """Know that the data were first divided after so many epochs, where that may be later than `warmup_epochs`."""

    def keep(self, index: Tensor, probabilities: tuple[Tensor, Tensor]) -> None:
        """Take what stage 1's pass over the training set has found, where the method asks for it (`keeps`).

        Args:
            index: (n,) int64 positions of the samples that it looked at; the same in all processes.
            probabilities: (n, K) float16 softmax of network 1 and of network 2, of the images as they are.
        """

    @property
    def keeps(self) -> bool:
        """Whether `keep` wants to know. Known once it has begun."""
        return False

    def follow(self, lambda_u: float) -> float:
        """Take the weight of the unlabeled loss that a cleaner has chosen; the weight that it takes in the end."""
        return lambda_u
