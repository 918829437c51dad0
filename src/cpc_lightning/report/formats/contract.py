"""The contract of a format: what it gets, and what it returns.

Shapes: N samples, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpc_lightning.datasets.dataset import Images
from cpc_lightning.errors import one_line
from cpc_lightning.report.pictures import file_of
from cpc_lightning.report.verdicts import Verdicts

NOTES = "README.txt"
"""What is worth knowing of a format's folder; its presence tells that the folder was made here."""
NOT_OUT_OF_SAMPLE = (
    "The probabilities are those of the run's networks on images that they were trained on: more confident than on "
    "images never seen, and not out of sample, as cleanlab's documentation asks for."
)


@dataclass(frozen=True)
class Answers:
    """What the run's networks say of the samples.

    Attributes:
        probabilities: (N, K) float32, the mean softmax of both networks.
        features: (N, D) of both networks, joined.
    """

    probabilities: NDArray[np.float32]
    features: NDArray[Any]


@dataclass(frozen=True)
class Exported:
    """What there is to write of a run's training set.

    Attributes:
        verdicts: on its N labels.
        class_names: K names.
        images: N images.
        answers: None for a format that does without.
        copy: copy image files rather than link to them.
    """

    verdicts: Verdicts
    class_names: Sequence[str]
    images: Images
    answers: Answers | None = None
    copy: bool = False

    @cached_property
    def names(self) -> list[str]:
        """The classes' names as tables write them: control characters escaped."""
        return [one_line(name) for name in self.class_names]

    def name(self, label: int) -> str | None:
        """The class's name; None where there is none."""
        return self.names[label] if label >= 0 else None


class Format(NamedTuple):
    """A format.

    Attributes:
        write: fills an empty folder, and answers what is worth knowing of it, a paragraph each. Raises `OSError` where
            it cannot write.
        package: what it imports beyond the core; "" for nothing.
        extra: of this library, that brings the package.
        needs_answers: whether it needs `Exported.answers`.
        has_images: whether it links to image files or, by `Exported.copy`, copies them.
        shows_images: whether it names images where they lie, so that it is of no use without any.
    """

    write: Callable[[Exported, Path], list[str]]
    package: str = ""
    extra: str = ""
    needs_answers: bool = False
    has_images: bool = False
    shows_images: bool = False


def linked(exported: Exported) -> list[str]:
    """The paragraph on links, where there are any."""
    links = not exported.copy and file_of(exported.images, 0) is not None
    return ["The image files here are links to the originals; copy=true copies them."] if links else []


def number(value: float) -> float | None:
    """A finite number as it is; None for NaN, which JSON does not have."""
    return float(value) if np.isfinite(value) else None
