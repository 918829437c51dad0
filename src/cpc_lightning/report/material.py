"""Collects what the page is made of: a run's files, verdicts, images, and new predictions of its networks.

Shapes: N training samples, M held-out ones, D features of both networks together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.datasets.dataset import Images
from cpc_lightning.report.run_folder import RunFolder
from cpc_lightning.report.verdicts import Verdicts
from cpc_lightning.report.warmup_losses import WarmupLosses


@dataclass(frozen=True)
class Look:
    """What the networks of the last checkpoint say of the images.

    Attributes:
        features: (N, D) float16 of the training images.
        test_features: (M, D) of those of the set "test"; None where it cannot be looked at.
        losses: (2, N) of the given labels, by network.
        far: (N,) how far each image is from every prototype; None where the networks have none that learnt.
    """

    features: NDArray[np.float16]
    test_features: NDArray[np.float16] | None
    losses: NDArray[np.float32]
    far: NDArray[np.float32] | None


@dataclass(frozen=True)
class Material:
    """All that a page is made of; what is not there is left out of the page, which says so.

    Attributes:
        run: what the run has left.
        verdicts: on the training labels; None where there is nothing to be said of them yet.
        held_out: the same of the evaluation sets, by name.
        images: of the training set, as evaluated; None where they cannot be opened any more.
        test_images: of the set "test".
        look: with the networks; None where that was not possible.
        warmup: the losses at the end of the warm-up, and the epochs trained then.
        missing: what is not there, and why, a sentence each.
        changes: what changed against another run: "about", "header", "rows"; None without one.
    """

    run: RunFolder
    verdicts: Verdicts | None
    held_out: Mapping[str, Verdicts] = field(default_factory=dict)
    images: Images | None = None
    test_images: Images | None = None
    look: Look | None = None
    warmup: tuple[tuple[WarmupLosses, WarmupLosses], int] | None = None
    missing: Sequence[str] = ()
    changes: Mapping[str, Any] | None = None

    @property
    def names(self) -> list[str]:
        """The classes' names; their numbers where the run does not name them."""
        if self.run.class_names:
            return list(self.run.class_names)
        verdicts = [self.verdicts, *self.held_out.values()]
        most = max((int(max(v.noisy_label.max(), v.suggested_label.max())) for v in verdicts if v), default=-1)
        return [str(label) for label in range(most + 1)]

    @property
    def identity(self) -> str:
        """What decisions are kept under: a digest of the run's folder and of what its samples are."""
        settings = self.run.settings
        own = {name: settings.get(name) for name in ("run_dir", "dataset", "noise", "noise_seed", "seed")}
        folder = None if settings.get("run_dir") else str(self.run.path.absolute())
        return hashlib.sha256(json.dumps([own, folder], sort_keys=True, default=str).encode()).hexdigest()[:24]
