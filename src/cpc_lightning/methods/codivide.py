"""CPC, DivideMix, AugDesc: plain cross-entropy until a cleaner has divided the data, then the empirical vicinal risk.

Shapes: B batch, U unlabeled batch, V views, K classes.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpc_lightning.cleaning.evidence import Cleaner
from cpc_lightning.cleaning.high_confidence import HighConfidenceCleaner
from cpc_lightning.errors import require
from cpc_lightning.methods.memory import SampleMemory
from cpc_lightning.methods.method import PENALTY, POLICY, Beginning, Method, Step
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk, EvrLosses, SemisupBatch, confidence_penalty
from cpc_lightning.semisup.mixmatch import sharpen
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views


class CoDivide(Method):
    """Trains network 1 for its part of each epoch with network 2 fixed, then the reverse (Algorithm 1).

    Which cleaner divides the data makes it CPC (`cpc_*`) or DivideMix (`gmm_agn`), which views make it AugDesc; without
    a cleaner it is plain training of two networks.
    """

    takes_cleaner = True
    takes_risk = True
    may_wait = True
    warmup_settings = (PENALTY, POLICY)

    def begin(self, beginning: Beginning) -> None:
        """Take the risk, and how to warm up."""
        policy, views = beginning.warmup_policy, beginning.views
        self.risk, self.warmup_epochs = beginning.risk, beginning.warmup_epochs
        if self.keeps:
            shape, even = (beginning.num_samples, beginning.num_classes), 1 / beginning.num_classes
            self.guesses = nn.ModuleList(SampleMemory(torch.full(shape, even, dtype=torch.float16)) for _ in range(2))
        self.confidence_penalty = beginning.confidence_penalty
        self.warmup_views = None if policy is None else views.with_policy(policy, "warmup_policy")

    def check_cleaner(self, cleaner: Cleaner) -> None:
        """Refuse a cleaner that counts on networks that begin anew."""
        alone = "is for method=longremix alone, whose networks begin anew"
        require(not isinstance(cleaner, HighConfidenceCleaner), "cleaner", "high_confidence", alone)

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The losses of warm-up or of stage 2."""
        return self.warmup_losses(step) if step.warmup else self.vicinal_losses(step)

    def warmup_losses(self, step: Step) -> dict[str, Tensor]:
        """Cross-entropy on one view each, and the confidence penalty where it is asked for."""
        step.network.train()
        if self.warmup_views is None:
            (images,) = step.weak()
        else:
            (images,) = step.made(step.images[:1], self.warmup_views.strong, 1)
        logits = step.network(images).float()
        loss = F.cross_entropy(logits, step.labels)
        if self.confidence_penalty:
            loss = loss + self.confidence_penalty * confidence_penalty(logits)
        return {"loss": loss}

    def vicinal_losses(self, step: Step) -> dict[str, Tensor]:
        """The empirical vicinal risk (Eq. 1, 11-13) of the step's network, its peer fixed.

        Where targets are certain, as those of `cleaner=probe`, no network is asked for a guess that would not count.
        """
        risk = self.risk
        if step.certain and step.targets is not None:
            shown = self.shown(step, count=min(step.views.of_certain, risk.views))
            targets = sharpen(step.targets.float(), risk.temperature)
            nothing = shown[:, :0], targets[:0]
            return named(risk.risk(step.network, shown, targets, *nothing, step.epoch, self.warmup_epochs))
        if risk.kept_guesses:
            first, second = (cast(SampleMemory, memory) for memory in self.guesses)
            own = (first, second)[step.number].read(step.index)[None]
            both = torch.stack([memory.read(step.unlabeled_index) for memory in (first, second)])
            labeled, unlabeled = risk.targets_of(own, both, step.labels, step.clean_probability, step.targets)
            sides = self.shown(step), labeled, self.shown(step, unlabeled=True), unlabeled
            return named(risk.risk(step.network, *sides, step.epoch, self.warmup_epochs))
        weak_labeled, strong_labeled = self.weak_and_shown(step)
        weak_unlabeled, strong_unlabeled = self.weak_and_shown(step, unlabeled=True)
        batch = SemisupBatch(
            weak_labeled=weak_labeled,
            strong_labeled=strong_labeled,
            labels=step.labels,
            clean_probability=step.clean_probability,
            weak_unlabeled=weak_unlabeled,
            strong_unlabeled=strong_unlabeled,
            targets=step.targets,
        )
        return named(risk(step.network, step.peer, batch, step.epoch, self.warmup_epochs))

    def shown(self, step: Step, unlabeled: bool = False, count: int | None = None) -> Tensor:
        """The views that a side is trained on, (V, B, C, h, w), V = `count` or as many as the risk takes."""
        make = step.weak if step.views.strong_are_weak else step.strong
        return make(self.risk.views if count is None else count, unlabeled)

    def weak_and_shown(self, step: Step, unlabeled: bool = False) -> tuple[Tensor, Tensor]:
        """The views of a side to guess on and those to train on, each (V, B, C, h, w); one tensor if both are weak."""
        weak = step.weak(self.risk.views, unlabeled)
        return weak, weak if step.views.strong_are_weak else self.shown(step, unlabeled)

    def forwarded(self, risk: EmpiricalVicinalRisk) -> int:
        """The strong views, of both halves where the unlabeled one is forwarded."""
        return risk.views * (2 if risk.forwards_unlabeled else 1)

    def images_of(self, views: Views | VectorViews, risk: EmpiricalVicinalRisk) -> int:
        """Strong views, and weak ones to guess on where those are others."""
        return risk.views * (1 if risk.kept_guesses or views.strong_are_weak else 2)

    @property
    def keeps(self) -> bool:
        """Where guesses are kept from stage 1."""
        return self.risk.kept_guesses

    def keep(self, index: Tensor, probabilities: tuple[Tensor, Tensor]) -> None:
        """Keep the next guesses."""
        for memory, rows in zip(self.guesses, probabilities, strict=True):
            cast(SampleMemory, memory).put(index, rows)

    def divided(self, epochs: int) -> None:
        """Let the weight of the unlabeled loss rise from then on."""
        self.warmup_epochs = epochs

    def follow(self, lambda_u: float) -> float:
        """Take the weight of the unlabeled loss that a cleaner has chosen, unless one was set; the one that holds."""
        self.risk.follow(lambda_u)
        return lambda_u if self.risk.lambda_u is None else self.risk.lambda_u


def named(losses: EvrLosses) -> dict[str, Tensor]:
    """What is logged of a step."""
    return {
        "loss": losses.total,
        "labeled_loss": losses.labeled,
        "unlabeled_loss": losses.unlabeled,
        "prior_penalty": losses.penalty,
    }
