"""The evaluation pass of stage 1: losses, predictions and features of both networks.

Shapes: n samples looked at, B batch, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from cpc_lightning.cleaning.evidence import Draw, Evidence
from cpc_lightning.errors import TrainingError
from cpc_lightning.training.datamodule import datamodule_of
from cpc_lightning.training.distributed import broadcast_tensors, gather_by_index
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.training.progress import shown

FIELDS = ("losses", "given_probability", "predicted", "confidence", "features")
"""What a pass tells of `Evidence`."""

HALF_BEYOND = 1 << 28
"""Where there are more features of one network than these 2^28 (1 GiB), they are kept in half precision."""

HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Observation:
    """One evaluation pass of both networks over n training samples.

    Attributes:
        index: (n,) int64 positions in the training set, ascending.
        evidence: of network 1 and network 2, with an empty loss history. Only the first process, which fits, has the
            features; on the others they are (n, 0).
        suggested: (n,) int64 the class with the largest mean softmax of both networks.
        confidence: (n,) that largest mean softmax.
    """

    index: Tensor
    evidence: tuple[Evidence, Evidence]
    suggested: Tensor
    confidence: Tensor

    def of(self, network: int, draw: Draw) -> Evidence:
        """What `network` (0 or 1) says of the samples in `draw`, all of which were looked at."""
        seen = self.evidence[network]
        if len(draw.index) == len(self.index):
            return seen
        rows = torch.searchsorted(self.index, draw.index)
        return replace(seen, **{name: getattr(seen, name)[rows] for name in FIELDS})


class Columns:
    """What one process finds out about its samples, batch by batch, each quantity in one tensor from the start.

    A list of batches would be copied to become one tensor, and features are the largest thing of a run.
    """

    def __init__(self, mine: int, count: int) -> None:
        """Make room for `mine` samples of this process, out of `count` of all processes."""
        self.mine, self.count = mine, count
        self._done = 0
        self._columns: dict[str, Tensor] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Take a batch's values, each (B, ...), by name; the same names in every batch."""
        rows = len(next(iter(values.values())))
        for name, column in values.items():
            if name not in self._columns:
                self._columns[name] = torch.empty((self.mine, *column.shape[1:]), dtype=self._dtype(column))
            if self._columns[name].dtype == torch.float16:
                column = column.clamp(-HALF_MAX, HALF_MAX)
            self._columns[name][self._done : self._done + rows] = column
        self._done += rows

    def gather(self, device: torch.device) -> dict[str, Tensor]:
        """The values of all samples in their order, each (n, ...); features on the first process only."""
        rows = self._columns.pop("row")
        return {
            name: gather_by_index(
                self._columns.pop(name), rows, self.count, device, everywhere=not name.startswith("features")
            )
            for name in list(self._columns)
        }

    def _dtype(self, column: Tensor) -> torch.dtype:
        """Half precision for what is large: a rule of sizes alone, so that every machine computes the same."""
        large = column.is_floating_point() and self.count * math.prod(column.shape[1:]) > HALF_BEYOND
        return torch.float16 if large else column.dtype


@torch.no_grad()
def observe(
    trainer: pl.Trainer, module: CoTrainingModule, index: Tensor, features: bool = True, keeps: bool = False
) -> Observation:
    """One pass over the training samples at `index` in eval mode: what both networks say of them.

    Args:
        trainer: whose data it looks at.
        module: the networks.
        index: (n,) int64 positions in the training set, ascending.
        features: whether they are wanted; else they are (n, 0).
        keeps: whether the method is given the softmax of both networks, to keep.

    Raises:
        TrainingError: a network's answer is not finite.
    """
    broadcast_tensors(list(module.networks.buffers()))  # DDP leaves BatchNorm statistics of ranks apart
    module.eval()
    columns = Columns(len(range(trainer.global_rank, len(index), trainer.world_size)), len(index))
    for batch in shown(trainer, datamodule_of(trainer).evidence_dataloader(index), "stage 1, looking"):
        images, labels = (batch[name].to(module.device, non_blocking=True) for name in ("images", "labels"))
        with trainer.precision_plugin.forward_context():
            answers = module.features_and_logits(images)
        seen = observe_batch(answers, labels.clamp(min=0), features, keeps)
        columns.add({"row": torch.searchsorted(index, batch["index"]), **seen})
    module.train()
    seen = columns.gather(module.device)
    for number in (1, 2):
        wrong = index[~seen[f"finite_{number}"].bool()]
        if len(wrong):
            raise TrainingError(
                f"network {number} gives no finite answer for {len(wrong)} samples (the first is {int(wrong[0])}) "
                f"at the end of epoch {trainer.current_epoch}; the last checkpoint is unharmed"
            )
    none = torch.empty(0, len(index))
    if not features:
        seen |= {"features_1": none.t(), "features_2": none.t()}
    first, second = (
        Evidence(loss_history=none, **{name: seen[f"{name}_{number}"] for name in FIELDS}) for number in (1, 2)
    )
    if keeps:
        module.method.keep(index, (seen["probabilities_1"], seen["probabilities_2"]))
    return Observation(index, (first, second), seen["suggested"], seen["confidence"])


def observe_batch(
    answers: Sequence[tuple[Tensor, Tensor]],
    labels: Tensor,
    keep_features: bool = True,
    keep_probabilities: bool = False,
) -> dict[str, Tensor]:
    """What stage 1 keeps of a batch.

    That is the fields of `Evidence` for each network ("losses_1"), whether they are finite ("finite_1", 0 or 1), and
    what both suggest.

    Args:
        answers: features (B, D) and logits (B, K) of network 1 and network 2.
        labels: (B,) int64 given labels.
        keep_features: whether "features_1" and "features_2" are among it.
        keep_probabilities: whether "probabilities_1" and "probabilities_2" are, (B, K) float16.
    """
    seen: dict[str, Tensor] = {}
    mean = torch.zeros((), device=labels.device)
    for number, (features, logits) in enumerate(answers, start=1):
        probabilities = logits.float().softmax(dim=1)
        mean = mean + probabilities / len(answers)
        seen[f"losses_{number}"] = F.cross_entropy(logits.float(), labels, reduction="none")
        seen[f"given_probability_{number}"] = probabilities.gather(1, labels[:, None]).squeeze(1)
        seen[f"confidence_{number}"], seen[f"predicted_{number}"] = probabilities.max(dim=1)
        if keep_features:
            seen[f"features_{number}"] = features.float()
        if keep_probabilities:
            seen[f"probabilities_{number}"] = probabilities.half()
        finite = torch.isfinite(seen[f"losses_{number}"]) & torch.isfinite(features).all(dim=1)
        seen[f"finite_{number}"] = finite.long()  # what every backend sends
    seen["confidence"], seen["suggested"] = mean.max(dim=1)
    return seen
