"""Estimates how long a whole run takes, from the time of its parts and their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cpc_lightning.files import usable_cores
from cpc_lightning.report.duration import spoken
from cpc_lightning.report.gallery import EMBEDDED, PICTURES, SHEET
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.pace import EVALUATION, HELD_OUT, STAGE_ONE, STAGE_TWO, WARMUP, parts_after
from cpc_lightning.training.trial import Costs

FEATURES, PAGE = "features", "the page"
"""What comes before the first epoch, and after the last one."""


@dataclass(frozen=True)
class Forecast:
    """The expected duration of a run, or of what is left of it.

    Attributes:
        counts: how often each part comes.
        seconds: what each part takes once.
        supposing: what is not known before, and was supposed; "" for nothing.
        on: what computes, for people: "this CPU".
    """

    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    supposing: str = ""
    on: str = "this CPU"

    @property
    def total(self) -> float:
        """Of all parts, in seconds."""
        return sum(count * self.seconds.get(part, 0.0) for part, count in self.counts.items())

    @property
    def shares(self) -> str:
        """What the largest parts take, for people: "stage 2 48 min, warm-up 4 min"."""
        each = {part: count * self.seconds.get(part, 0.0) for part, count in self.counts.items()}
        large = sorted((part for part in each if each[part] >= self.total / 50), key=lambda part: -each[part])
        return ", ".join(f"{part} {spoken(each[part])}" for part in large)

    @property
    def words(self) -> str:
        """The total for people: "about 71 h on this CPU"."""
        return f"about {spoken(self.total)} on {self.on}"


def forecast(
    costs: Costs,
    datamodule: CoTrainingDataModule,
    epochs: int,
    done: int = 0,
    labeled: float | None = None,
    processes: int = 1,
    page: bool = False,
    look_back: bool = False,
    on: str = "this CPU",
    features: float = 0.0,
) -> Forecast:
    """What to expect of a run.

    Args:
        costs: of its pieces.
        datamodule: knows how many there are.
        epochs: all.
        done: of them, before.
        labeled: share of the samples that are expected to look clean in stage 2; None where nobody knows: then all are
            supposed to.
        processes: that train together.
        page: whether there will be one.
        look_back: whether the networks look at all images once more for it.
        on: as in `Forecast`.
        features: seconds before the first epoch.
    """
    data, divides = datamodule, costs.stage_two > 0
    warmup_epochs = (data.warmup_epochs or None) if divides else None
    counts = parts_after(done - 1, epochs, warmup_epochs) | {PAGE: 1, FEATURES: 1}
    samples = len(data.draws(data.warmup_epochs)[0])
    sizes = {name: len(split) for name, split in data.dataset.evaluation.items()}
    steps = data.most_steps(data.warmup_epochs, processes)
    supposing, share = "", 1.0
    if divides and costs.divides:
        share = 1.0 if labeled is None or data.is_full(epochs - 1) else labeled
        supposing = f"if {'all' if labeled is None else f'{100 * labeled:.0f} % of the'} labels look clean"
        if data.waits and done <= data.warmup_epochs:
            supposing += f", and are divided after epoch {data.warmup_epochs}"
    look, shown = costs.look / processes, min(len(data.noisy_labels), PICTURES)
    beside = max(0, shown - EMBEDDED)
    cores = min(usable_cores(), -(-beside // SHEET)) or 1
    drawing = min(shown, EMBEDDED) * costs.within + beside * costs.beside / cores
    answers = max(1, counts[STAGE_ONE])
    cleaning = costs.cleaning + (costs.first_cleaning - costs.cleaning) / answers * (done == 0)
    seconds = {
        WARMUP: data.turns * data.most_steps(0, processes) * costs.warmup + samples * look * costs.remembers,
        STAGE_TWO: data.turns * max(1.0, share * steps) * costs.stage_two,
        EVALUATION: sum(sizes[name] for name in data.dataset.watched) * look,
        STAGE_ONE: samples * look + cleaning,
        HELD_OUT: sum(sizes.values()) * look,
        PAGE: drawing + (len(data.noisy_labels) + sum(sizes.values())) * costs.look * look_back if page else 0.0,
        FEATURES: features,
    }
    return Forecast(counts, seconds, supposing, on)
