"""The LightningModule: trains two networks, or one, with manual optimization.

The module knows neither noise nor cleaner, and a method says what a step does. A batch says which network it trains and
carries what that takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchmetrics.classification import MulticlassAccuracy

from cpc_lightning.backbones.layout import match_layout, may_be_channels_last
from cpc_lightning.backbones.network import Network
from cpc_lightning.errors import InputError, TrainingError, first_line, require_integer, require_switch
from cpc_lightning.methods.method import Method, Step
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
MakeSchedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


class CoTrainingModule(pl.LightningModule):
    """Takes the steps of a method: of network 1 for its part of each epoch, then of network 2; or of both at once.

    Attributes:
        began_anew: whether the method gave its networks other weights at the start of this epoch.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        method: Method,
        views: Views | VectorViews,
        network_optimizer: MakeOptimizer,
        head_optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        num_classes: int,
        warmup_epochs: int,
        evaluation_names: Sequence[str] = ("test",),
        seed: int = 0,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        """Take the parts.

        Args:
            networks: network 1 and network 2, initialised differently; of a method that trains one, that one twice.
            method: what a step does; it has begun, with these networks.
            views: makes weak, strong and evaluation views of uint8 images; or of vectors, (D) float32 in the place of
                (C, H, W) uint8 here and below.
            network_optimizer: makes the optimizer of a backbone and its classifier.
            head_optimizer: makes the optimizer of a projector and its prototypes; stage 1 steps it.
            schedule: makes the learning rate schedule of a network, in epochs.
            num_classes: K.
            warmup_epochs: W, epochs before the first stage 2.
            evaluation_names: names of the evaluation sets of every epoch, in the order of their loaders.
            seed: every epoch re-seeds from (seed, epoch, process), so that a resumed run draws what this one would.
            channels_last: store the weights of convolutions with the channels as neighbours in memory, which their fast
                kernels read without reordering; not of networks that would break there (`may_be_channels_last`).
                Checkpoints load with either.
            compile: have torch.compile write the backbones' code, in place: names in checkpoints stay.
        """
        super().__init__()
        require_integer("warmup_epochs", warmup_epochs, 1)
        require_switch("channels_last", channels_last)
        require_switch("compile", compile)
        self.automatic_optimization = False
        self.networks = nn.ModuleList(networks)
        self.method, self.views = method, views
        for network in self.modules():  # those that a method averages, too
            if channels_last and isinstance(network, Network) and may_be_channels_last(network):
                network.to(memory_format=torch.channels_last)
        if compile:
            require_compiler()
            for network in networks:
                network.backbone.compile(dynamic=False)
        self.compiled, self._full_batch = compile, 0
        self._make_optimizers = (network_optimizer, head_optimizer, schedule)
        self.warmup_epochs, self.seed = warmup_epochs, seed
        self.evaluation_names, self.began_anew = tuple(evaluation_names), False
        self.accuracies = nn.ModuleDict(
            {name: accuracies(num_classes) for name in dict.fromkeys((*self.evaluation_names, "test"))}
        )
        self._prototypes_fitted = False
        self._unchecked: list[tuple[int, int, Tensor, Tensor]] = []
        self._losses: dict[str, tuple[Tensor | float, int]] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Sum of both networks' logits (B, K) for uint8 images (B, C, H, W); its argmax is the prediction."""
        first, second = self.evaluate(images)
        return first + second

    def evaluate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of network 1 and of network 2, each (B, K), for uint8 images (B, C, H, W) without augmentation."""
        (_, first), (_, second) = self.features_and_logits(images)
        return first, second

    def features_and_logits(self, images: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Features (B, D) and logits (B, K) of network 1 and of network 2, for uint8 images without augmentation.

        Batches smaller than the largest so far, such as the last of a set, do not run compiled code: it would be
        compiled anew for each of their sizes.
        """
        self._full_batch = max(self._full_batch, len(images))
        partial = self.compiled and len(images) < self._full_batch
        inputs = self.views.normalise(self.views.evaluation(images))
        with torch.compiler.set_stance("force_eager") if partial else nullcontext():
            first = self.network(0).features_and_logits(inputs)
            return first, first if self.method.trains_one else self.network(1).features_and_logits(inputs)

    def network(self, number: int) -> Network:
        """Network 1 (`number` 0) or network 2 (1)."""
        return cast(Network, self.networks[number])

    # Training ---------------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Give what was loaded from a checkpoint the memory layout of the parameters it belongs to."""
        for optimizer in self.trainer.optimizers:
            match_layout(optimizer)

    def on_train_epoch_start(self) -> None:
        """Re-seed, so that an epoch's draws do not depend on how the run got there; log its learning rates."""
        seed_epoch(self.seed, self.current_epoch, self.global_rank)
        self._losses.clear()  # of an epoch that was cut short
        self.began_anew = self.method.begin_epoch(self.current_epoch)
        if self.began_anew:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()
        for number, schedule in self._of_each(self.lr_schedulers()):  # type: ignore[arg-type]
            self.log(f"train/learning_rate_{number}", schedule.get_last_lr()[0])

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Have DDP broadcast BatchNorm buffers, which Lightning does not under manual optimization."""
        if isinstance(self.trainer.model, DistributedDataParallel):
            self.trainer.model.require_forward_param_sync = True

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """One step of one network, or of both together."""
        number = int(batch["network"])
        optimizers = self.optimizers()[:2] if self.method.together else [self.optimizers()[number]]  # type: ignore[index]
        step = self.step_of(batch)
        losses = self.method.losses(step)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.manual_backward(losses["loss"])
        for optimizer in optimizers:
            optimizer.step()
        self.method.after_step(step)
        self._unchecked.append((number, batch_idx, batch["index"], losses["loss"].detach()))
        if losses["loss"].device.type == "cpu" or len(self._unchecked) == 50:  # a look costs a GPU a synchronisation
            self._check_losses()
        self._note_losses(losses, number, len(batch["labels"]))

    def _note_losses(self, losses: Mapping[str, Tensor], number: int, count: int) -> None:
        """Add a step's losses to the epoch's."""
        for name, loss in losses.items():
            if self.method.together and name == "loss":
                continue  # the sum of "loss_1" and "loss_2"
            shown = f"train/{name}" if self.method.together else f"train/{name}_{number + 1}"
            total, samples = self._losses.get(shown, (0.0, 0))
            self._losses[shown] = total + loss.detach() * count, samples + count

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After an epoch's last step, log its losses: means over samples and processes.

        Not after each step: Lightning then looks at all that was logged before, a tenth of a small network's step.
        """
        if self.trainer.is_last_batch:
            for shown, (total, samples) in self._losses.items():
                self.log(
                    shown, total / samples, on_step=False, on_epoch=True, batch_size=samples,
                    prog_bar=shown in ("train/loss_1", "train/loss_2"), sync_dist=True,
                )  # fmt: skip
            self._losses.clear()

    def step_of(self, batch: dict[str, Any]) -> Step:
        """The step that a batch asks for."""
        return Step(
            number=int(batch["network"]),
            networks=(self.network(0), self.network(1)),
            views=self.views,
            warmup=bool(batch["warmup"]),
            epoch=self.current_epoch + float(batch["epoch_share"]),
            images=batch["labeled_images"],
            labels=batch["labels"],
            clean_probability=batch["clean_probability"],
            targets=batch.get("targets"),
            index=batch["index"],
            unlabeled_images=batch["unlabeled_images"],
            unlabeled_index=batch["unlabeled_index"],
            certain=bool(batch.get("certain", False)),
        )

    def _of_each(self, parts: Iterable[Any]) -> Iterable[tuple[int, Any]]:
        """Parts of network 1 and network 2 with their numbers; of a method that trains one network, the first alone."""
        return [*enumerate(parts, start=1)][: 1 if self.method.trains_one else 2]

    def on_train_epoch_end(self) -> None:
        """Step the learning rate schedules (not done for you under manual optimization)."""
        self._check_losses()
        for _, schedule in self._of_each(self.lr_schedulers()):  # type: ignore[arg-type]
            schedule.step()

    def _check_losses(self) -> None:
        """Stop at the first loss that is not finite, naming where it came from."""
        if not self._unchecked:
            return
        finite = torch.isfinite(torch.stack([loss for *_, loss in self._unchecked])).tolist()
        for fine, (number, batch_idx, index, loss) in zip(finite, self._unchecked, strict=True):
            if not fine:
                raise TrainingError(
                    f"the loss became {loss.item()} in epoch {self.current_epoch}, network {number + 1}, "
                    f"batch {batch_idx} "
                    f"(samples {int(index.min())} to {int(index.max())}); the last checkpoint is unharmed. "
                    "A smaller learning rate (optimizer.network.lr) often helps"
                )
        self._unchecked.clear()

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[Any]]:
        """Optimizers of network 1, network 2, head 1, head 2, and the schedules of the first two.

        Of a method that trains one network all are there; only its own ever step.
        """
        network_optimizer, head_optimizer, schedule = self._make_optimizers
        networks = (self.network(0), self.network(1))
        of_networks = [
            network_optimizer([*n.backbone.parameters(), *n.classifier.parameters(), *self.method.parameters_of(r)])
            for r, n in enumerate(networks)
        ]
        of_heads = [head_optimizer(n.head.parameters()) for n in networks]
        return [*of_networks, *of_heads], [schedule(optimizer) for optimizer in of_networks]

    # Evaluation -------------------------------------------------------------------------------------------------------

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Count right predictions of each network and of both."""
        self._count(self.evaluation_names[dataloader_idx], batch)

    def on_validation_epoch_start(self) -> None:
        """Look whether there are prototypes to measure."""
        self._prototypes_fitted = all(bool(self.network(number).head.fitted) for number in (0, 1))

    def on_validation_epoch_end(self) -> None:
        """Log accuracies in percent: NAME/accuracy_1, NAME/accuracy_2; of both, NAME/accuracy, _top5.

        NAME/prototype_accuracy_1, _2 and, of both, NAME/prototype_accuracy are those of class prototypes as classifiers
        (Section 5.3, A.3), once a stage 1 has fitted them. They are the prototypes that divided this epoch's data:
        stage 1 follows the evaluation.
        """
        for name in self.evaluation_names:
            self._log_accuracies(name)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count right predictions on the set "test"."""
        self._count("test", batch)

    def on_test_epoch_start(self) -> None:
        """As before every other evaluation."""
        self.on_validation_epoch_start()

    def on_test_epoch_end(self) -> None:
        """Log the accuracies on the set "test", as after every epoch."""
        self._log_accuracies("test")

    def _count(self, name: str, batch: dict[str, Any]) -> None:
        (features_1, logits_1), (features_2, logits_2) = self.features_and_logits(batch["images"])
        both = logits_1 + logits_2
        answers = {"accuracy_1": logits_1, "accuracy_2": logits_2, "accuracy": both, "accuracy_top5": both}
        if self._prototypes_fitted:
            with torch.autocast(both.device.type, enabled=False):  # nor does stage 1 round scores
                first, second = self.network(0).head(features_1), self.network(1).head(features_2)
            answers |= {
                "prototype_accuracy_1": first, "prototype_accuracy_2": second, "prototype_accuracy": first + second
            }  # fmt: skip
        for key, accuracy in self._accuracies(name).items():
            if key in answers:
                answer = answers[key]
                accuracy.update(answer if key == "accuracy_top5" else answer.argmax(dim=1), batch["labels"])

    def _log_accuracies(self, name: str) -> None:
        for key, accuracy in self._accuracies(name).items():
            again = self.method.trains_one and key.endswith("_2")  # it is network 1
            if not again and (self._prototypes_fitted or not key.startswith("prototype")):
                self.log(f"{name}/{key}", 100 * accuracy.compute(), prog_bar=key == "accuracy")
            accuracy.reset()

    def _accuracies(self, name: str) -> dict[str, MulticlassAccuracy]:
        return cast(dict[str, MulticlassAccuracy], dict(cast(nn.ModuleDict, self.accuracies[name]).items()))


def accuracies(num_classes: int) -> nn.ModuleDict:
    """What is measured on an evaluation set: top-1 of each network and of both, and top-5 of both for K > 5.

    The same top-1 of prototypes as classifiers: argmax v' c_k, and of both networks that of the sum of scores, as the
    test prediction is that of the sum of logits. The paper has one number, and does not say how it joins two networks.
    """
    top = {f"{kind}accuracy{of}": 1 for kind in ("", "prototype_") for of in ("_1", "_2", "")}
    top |= {"accuracy_top5": 5} if num_classes > 5 else {}
    # Unchecked: the data set has checked its labels, and here a check would make the host wait for the device.
    return nn.ModuleDict(
        {key: MulticlassAccuracy(num_classes, top_k=k, average="micro", validate_args=False) for key, k in top.items()}
    )


def seed_epoch(seed: int, epoch: int, process: int) -> None:
    """Seed torch for an epoch, so that its draws do not depend on how the run got there."""
    sequence = np.random.SeedSequence([seed, epoch, process])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


def require_compiler() -> None:
    """Raise `InputError` unless torch.compile works on this machine: it needs a C++ compiler, on a GPU Triton."""
    try:
        torch.compile(torch.neg)(torch.zeros(2))
    except Exception as error:
        raise InputError("compile", True, f"needs what torch.compile needs: {first_line(error)}") from error
