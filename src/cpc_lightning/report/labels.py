"""labels.csv, labels_test.csv: the verdict on every label."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cpc_lightning.cleaning.noise_rate import NoiseEstimate
from cpc_lightning.datasets.dataset import NONE_OF_THE_CLASSES, UNKNOWN
from cpc_lightning.errors import one_line
from cpc_lightning.files import atomic_write
from cpc_lightning.report.findings import BEYOND, Z95, most_suspicious_first

COLUMNS = (
    "index", "path", "noisy_label", "clean_probability_1", "clean_probability_2", "clean_probability", "suspected",
    "suggested_label", "confidence", "true_label", "noisy_class", "suggested_class", "true_class", "row", "trusted",
)  # fmt: skip

ROWS = 1 << 14
"""How many rows are put together at once: a text of millions of them would take more memory than their tensors."""

FEW = 0.05
"""A set looks clean only where threshold and predictions together speak against a smaller share of its labels."""

AGREED = 0.25
"""And where the networks predict at least this share of what neither takes for clean as it is labeled.

On digits (benchmarks/clean_set.py) that is 30 % and more where no label is wrong, and 2 % where 5 % are.
"""

SHOWN: dict[int, object] = {UNKNOWN: "", NONE_OF_THE_CLASSES: "none"}


@dataclass(frozen=True)
class LabelReport:
    """The verdict on N labels.

    A mixture always finds a second component, so some labels are always below the threshold, up to a tenth of a clean
    set: the images that are harder than others. But then the networks predict many of them as labeled, although they
    have not learnt them so. Where they do (`AGREED`), and few are predicted otherwise (`FEW`), the set `looks_clean`,
    and only those few are suspected. Wrong labels that both networks have learnt by heart stay unseen either way.
    A cleaner's own estimate of the noise says more: where its upper end is below `FEW`, and nothing speaks against it
    (`findings.BEYOND`), the set looks clean too, and no more labels are suspected than that end allows.

    Attributes:
        noisy_labels: (N,) int64 given labels, -1 where there is none (blank).
        true_labels: (N,) int64, -1 where unknown (blank), -2 where the image shows none of the classes ("none").
        clean_probabilities: (2, N) by network 1 and network 2, NaN where there is no label, or no verdict (blank);
            None where there is no cleaner.
        threshold: a label may be wrong where the mean of both clean probabilities is not above; None where there is no
            cleaner.
        suggested: (N,) int64 the class with the largest mean softmax of both networks.
        confidence: (N,) that largest mean softmax.
        class_names: of each class.
        paths: N file names, or None.
        rows: (N,) int64 lines of the user's table, or None.
        trusted: (N,) bool, labels that a person has confirmed, which are never suspected; None where none is.
        noise: what the cleaner estimates of the wrong labels, beyond its verdict on each; None where it does not.
    """

    noisy_labels: Tensor
    true_labels: Tensor
    clean_probabilities: Tensor | None
    threshold: float | None
    suggested: Tensor
    confidence: Tensor
    class_names: Sequence[str]
    paths: Sequence[str] | None = None
    rows: Tensor | None = None
    trusted: Tensor | None = None
    noise: NoiseEstimate | None = None

    @property
    def clean_probability(self) -> Tensor | None:
        """(N,) the mean of both networks' clean probabilities, or that of the one that judges."""
        return None if self.clean_probabilities is None else self.clean_probabilities.nanmean(dim=0)

    @property
    def noise_rate(self) -> tuple[float, float, float] | None:
        """The estimated share of wrong labels, and its 95 % interval; None where nobody judged.

        That of the cleaner, or else the mean of 1 - clean probability with the interval of a mean. Those are a
        mixture's or the prototypes' own, which are too high where no label is wrong; the interval does not know that.
        """
        if self.noise is not None:
            return self.noise.rate, self.noise.low, self.noise.high
        clean = self.clean_probability
        wrong = None if clean is None else 1 - clean[~torch.isnan(clean)].double()
        if wrong is None or not len(wrong):
            return None
        rate, half = float(wrong.mean()), Z95 * float(wrong.std(correction=0)) / len(wrong) ** 0.5
        return rate, max(0.0, rate - half), min(1.0, rate + half)

    @property
    def below_threshold(self) -> Tensor | None:
        """(N,) bool, the labels whose clean probability is not above the threshold, but for trusted ones."""
        joined = self.clean_probability
        if joined is None or self.threshold is None:
            return None
        below = joined <= self.threshold
        return below if self.trusted is None else below & ~self.trusted

    @property
    def looks_clean(self) -> bool | None:
        """Whether what is below the threshold looks like hard images rather than wrong labels; None without a cleaner.

        Predictions of a label count where neither network takes it for clean: one that did was trained to predict it.
        """
        each, threshold, below = self.clean_probabilities, self.threshold, self.below_threshold
        if each is None or threshold is None or below is None:
            return None
        otherwise, judged = int((below & ~self._agreed).sum()), int((~each[0].isnan()).sum())
        by_both = below & ~(each > threshold).any(dim=0)
        agreed = int((by_both & self._agreed).sum())
        nothing_below = judged > 0 and not bool(below.any())
        return (
            self._few_by_estimate
            or nothing_below
            or (otherwise < FEW * judged and 0 < agreed >= AGREED * int(by_both.sum()))
        )

    @property
    def suspected(self) -> Tensor | None:
        """(N,) bool, the labels below the threshold; in a set that looks clean, those of them predicted otherwise."""
        below, clean = self.below_threshold, self.clean_probability
        if below is None or clean is None or not self.looks_clean:
            return below
        found = below & ~self._agreed
        if self.noise is not None and self._few_by_estimate:
            most = math.ceil(self.noise.high * int((~clean.isnan()).sum()))
            rows = torch.nonzero(found).flatten()
            found = torch.zeros_like(found)
            found[rows[torch.argsort(clean[rows], stable=True)][:most]] = True
        return found

    @property
    def _few_by_estimate(self) -> bool:
        """Whether the cleaner's estimate leaves room for few wrong labels, and nothing speaks against it."""
        noise = self.noise
        return noise is not None and noise.high < FEW and noise.out_of_fold_error - noise.rate <= BEYOND

    @property
    def _agreed(self) -> Tensor:
        """(N,) bool, whether both networks together suggest the given label."""
        return self.suggested == self.noisy_labels

    def most_suspicious(self, count: int) -> Tensor:
        """Positions of the `count` labels that look most wrong, int64, the worst first; fewer where there are fewer.

        Labels that a person has confirmed, and those that nobody judged, are none of them. As labels.csv has it, whose
        six digits decide between equals, for a person sees the same first label everywhere.
        """
        clean = self.clean_probability
        if clean is None:
            return torch.empty(0, dtype=torch.int64)
        nobody = torch.zeros(len(clean), dtype=torch.bool)
        trusted, suspected = (nobody if found is None else found for found in (self.trusted, self.suspected))
        chances = np.round(clean.double().numpy(), 6)
        order = most_suspicious_first(
            self.noisy_labels.numpy(), self.suggested.numpy(), np.round(self.confidence.double().numpy(), 6), chances,
            suspected.numpy(), trusted.numpy(),
        )  # fmt: skip
        judged = (self.noisy_labels >= 0) & ~trusted & ~torch.isnan(clean)
        return torch.from_numpy(order)[: int(judged.sum())][:count]

    def write(self, path: str | Path) -> None:
        """Write the report as csv, atomically. What is unknown or does not apply is left blank.

        Paths are `inert`; names of classes are those of classes.json, their control characters escaped.
        """
        suspected = self.suspected
        with atomic_write(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(COLUMNS)
            for start in range(0, len(self.noisy_labels), ROWS):
                writer.writerows(self._rows(slice(start, start + ROWS), suspected))
            text.flush()
            text.detach()  # or it would close the file, which is not its own

    def _rows(self, part: slice, suspected: Tensor | None) -> Iterator[tuple[object, ...]]:
        """The rows of the samples in `part`; `suspected` is of all."""
        names = [one_line(name) for name in self.class_names]
        index = range(len(self.noisy_labels))[part]
        blank: list[object] = [""] * len(index)
        labels, true_labels = self.noisy_labels[part].tolist(), self.true_labels[part].tolist()
        judged = [blank] * 4
        if self.clean_probabilities is not None and suspected is not None:
            chances = self.clean_probabilities[:, part]
            shown = (*chances, chances.nanmean(dim=0))
            judged = [["" if value != value else f"{value:.6f}" for value in column.tolist()] for column in shown]
            verdicts = zip(suspected[part].tolist(), judged[2], strict=True)
            judged.append(["" if chance == "" else "true" if value else "false" for value, chance in verdicts])
        suggested = self.suggested[part].tolist()
        return zip(
            index, blank if self.paths is None else map(inert, self.paths[part]),
            ["" if label < 0 else label for label in labels], *judged,
            suggested, [f"{value:.6f}" for value in self.confidence[part].tolist()],
            [SHOWN.get(label, label) for label in true_labels],
            ["" if label < 0 else names[label] for label in labels], [names[label] for label in suggested],
            [names[label] if label >= 0 else SHOWN[label] for label in true_labels],
            blank if self.rows is None else self.rows[part].tolist(),
            blank if self.trusted is None else ["true" if value else "false" for value in self.trusted[part].tolist()],
            strict=True,
        )  # fmt: skip


def inert(path: str) -> str:
    """`path` for a table that people open in a terminal or a spreadsheet.

    Control characters are escaped as in Python's literals. A name that a spreadsheet would take for a formula (it
    begins with =, +, - or @) gets ./ in front, and names the same file.
    """
    plain = one_line(path)
    return f"./{plain}" if plain.startswith(("=", "+", "-", "@")) else plain
