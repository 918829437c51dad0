"""The verdict on the labels of held-out images: one evaluation pass after the last epoch.

Nothing is fitted: the losses are scaled as those of the training set were, and judged by its mixtures and prototypes.
Shapes: n held-out samples, B batch.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from cpc_lightning.cleaning.evidence import Draw, Evidence, JudgesOthers
from cpc_lightning.cleaning.gmm import scale_like
from cpc_lightning.datasets.dataset import UNKNOWN, Split
from cpc_lightning.errors import one_line
from cpc_lightning.report.labels import LabelReport
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.training.observation import FIELDS, Columns, observe_batch
from cpc_lightning.training.progress import shown
from cpc_lightning.training.stage_one import StageOne
from cpc_lightning.training.verdict import of_each_network


def held_out_reports(
    trainer: pl.Trainer, module: CoTrainingModule, datamodule: CoTrainingDataModule, stage_one: StageOne
) -> dict[str, LabelReport]:
    """The verdict on the labels of every evaluation set, by its name, with the networks as they are.

    After `trainer.fit`, by every process. Without a cleaner, or by one that is not `JudgesOthers`, a report has only
    suggestions.

    Raises:
        RuntimeError: if the last epoch is not over.
    """
    of_training = stage_one.label_report(datamodule)
    module.to(trainer.strategy.root_device).eval()  # fit has left it on the CPU
    reports = {}
    for name, split in datamodule.dataset.evaluation.items():
        seen = _look(trainer, module, datamodule, stage_one, name)
        judged = [seen[f"clean_{number}"] for number in (1, 2) if f"clean_{number}" in seen]
        if all(bool(clean.isnan().all()) for clean in judged):  # a cleaner that cannot tell
            judged = []
        reports[name] = LabelReport(
            noisy_labels=split.labels,
            true_labels=_true_labels(split),
            clean_probabilities=of_each_network(torch.stack(judged), module) if judged else None,
            threshold=of_training.threshold,
            suggested=seen["suggested"],
            confidence=seen["confidence"],
            class_names=datamodule.dataset.class_names,
            paths=split.paths,
            rows=split.rows,
            trusted=split.trusted,
        )
    module.train()
    datamodule.teardown("fit")  # the workers that fetched them
    return reports


def _true_labels(split: Split) -> Tensor:
    return torch.full_like(split.labels, UNKNOWN) if split.true_labels is None else split.true_labels


@torch.no_grad()
def _look(
    trainer: pl.Trainer, module: CoTrainingModule, datamodule: CoTrainingDataModule, stage_one: StageOne, name: str
) -> dict[str, Tensor]:
    """Suggestions (n,) and, where the cleaner judges, clean probabilities (n,) by network 1 and by network 2.

    A batch is judged at once, so that its features need not be kept.
    """
    split = datamodule.dataset.evaluation[name]
    true_labels = _true_labels(split)
    columns = Columns(len(range(trainer.global_rank, len(split), trainer.world_size)), len(split))
    for batch in shown(trainer, datamodule.evaluation_dataloader(name), f"labels of {one_line(name)}"):
        images, labels = (batch[key].to(module.device, non_blocking=True) for key in ("images", "labels"))
        with trainer.precision_plugin.forward_context():
            answers = module.features_and_logits(images)
        seen = observe_batch(answers, labels, stage_one.cleaner.needs_features)
        trusted = None if split.trusted is None else split.trusted[batch["index"]].to(module.device)
        draw = Draw(batch["index"], labels, true_labels[batch["index"]].to(module.device), trusted)
        columns.add(
            {"row": batch["index"], **{key: seen[key] for key in ("suggested", "confidence")}}
            | _judge(module, stage_one, seen, draw)
        )
    return columns.gather(module.device)


def _judge(module: CoTrainingModule, stage_one: StageOne, seen: dict[str, Any], draw: Draw) -> dict[str, Tensor]:
    """Clean probabilities (B,) of a batch by network 1 ("clean_1") and by network 2; nothing where none judges."""
    if stage_one.bases is None or not isinstance(stage_one.cleaner, JudgesOthers):
        return {}
    judged = {}
    for number, basis in enumerate(stage_one.bases, start=1):
        losses = seen[f"losses_{number}"]
        fields = {name: seen.get(f"{name}_{number}", losses[:, None][:, :0]) for name in FIELDS}  # perhaps no features
        evidence = Evidence(loss_history=scale_like(losses, basis.loss_range)[None], **fields)
        clean = stage_one.cleaner.judge(evidence, draw, basis, module.network(number - 1).head)
        judged[f"clean_{number}"] = clean if draw.trusted is None else clean.masked_fill(draw.trusted, 1.0)
    return judged
