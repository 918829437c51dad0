"""The tables of `cleaners.py`, made from its rows: accuracy and time, verdicts, claims, what people use, ablations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from statistics import fmean

from cleaners_choices import ABLATED, ABLATIONS, PEOPLE, REFERENCE
from cleaners_claims import ACCURACY, CLAIMS, LONG, PLAIN
from measure import difference, interval

from cpc_lightning.report.sweep import mean_and_deviation

Rows = Sequence[Mapping[str, str]]
Cell = tuple[str, str]

BESIDE_PEOPLE = (LONG, "cpc_awr", REFERENCE, "cpc_awr, own data", "oracle")
FLAT = 5
"""The learning curve's last epochs that are compared with as many before."""


class Study:
    """The rows, by set, kind of noise, choice and seed."""

    def __init__(self, rows: Rows) -> None:
        """Take the rows in the order in which cells and choices are to appear."""
        self._rows = {(row["set"], row["noise"], row["choice"], row["seed"]): row for row in rows}
        self.cells: list[Cell] = [*dict.fromkeys((row["set"], row["noise"]) for row in rows)]
        self.choices: list[str] = [*dict.fromkeys(row["choice"] for row in rows)]

    def values(self, cell: Cell, choice: str, measure: str = ACCURACY) -> dict[str, float]:
        """The measure by seed, of the seeds that have it."""
        return {
            seed: float(row[measure])
            for (*place, name, seed), row in self._rows.items()
            if tuple(place) == cell and name == choice and row.get(measure)
        }

    def auc(self, cell: Cell, choice: str) -> dict[str, float]:
        """By seed the AUC of the choice's last word on the labels: prototypes before a mixture that teaches them."""
        found = (self.values(cell, choice, f"cleaner_auc_{source}") for source in ("cpc", "verdict", "gmm"))
        return next(filter(None, found), {})

    def differences(
        self, cell: Cell, first: tuple[str, str], second: tuple[str, str], scale: float = 1.0
    ) -> list[float]:
        """First less second, seed by seed; each is a choice and a measure."""
        one, other = self.values(cell, *first), self.values(cell, *second)
        return [scale * (one[seed] - other[seed]) for seed in one if seed in other]


def tables(rows: Rows, curves: Rows) -> str:
    """Markdown."""
    everything, study = Study(rows), Study([row for row in rows if row["choice"] not in ABLATIONS])
    hosts = ", ".join(sorted({row["host"] for row in rows}))
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    parts = [
        "## Cleaners on sets that two cores can pay",
        "",
        "`python benchmarks/cleaners.py`; `--help` tells what the sets are. Test accuracy in % after the last epoch:",
        "mean ± standard deviation over n seeds, which draw other labels too. In bold the best of a column that had",
        "not the true labels.",
        "",
        *accuracy_table(study),
        "",
        "Seconds of one processor core for a run, as a multiple of plain training's:",
        "",
        *time_table(study),
        "",
        "Own images as dataset=arrays trains on them, divided once that pays, beside plain training on the same seeds;",
        "the paired difference with its 95 % interval, the AUC of the verdict (of prototypes, for `cpc_awr`), and the",
        "time, as a multiple of plain training's.",
        "",
        *own_table(study),
        "",
        "AUC of clean against wrong labels in the final verdict, by the loss mixture and by prototypes:",
        "",
        *auc_table(study),
        "",
        "What the paper claims, and what is seen here: paired differences over seeds, with the 95 % interval of their",
        "mean (Student's t). A claim holds where the interval lies above 0, does not hold where it lies below, and is",
        "within noise otherwise.",
        "",
        *claims_table(study),
        "",
        f"Whether runs had come to their end: mean accuracy of the last {FLAT} epochs less that of the {FLAT} before.",
        "",
        *flat_table(study, curves),
        "",
        'What people use, on the same data, network and epochs (label smoothing and "one network" train one, the',
        "others two); AUC, and precision among as many labels as are wrong, of the final verdict. Co-teaching is told",
        "the noise rate, as the kind of noise names it. cleanlab: `--help` has its budget. Seconds of one processor",
        "core, for all trainings. Differences are to cpc_awr on the same seeds (to its default that was run beside the",
        "ablations, where there is one), in points, with the 95 % interval.",
        "",
        *people_table(everything),
        "",
        "Ablations of cpc_awr, decisions that the paper leaves open and its Tables 4 and 5: test accuracy less that of",
        "the default on the same seed, in points, with the 95 % interval.",
        "",
        *ablation_table(everything, ACCURACY, 1.0),
        "",
        "The same for the AUC of prototypes, times 100:",
        "",
        *ablation_table(everything, "cleaner_auc_cpc", 100.0),
        "",
        f"* host {hosts}, one thread a run, float32; code of {commits}",
        "",
    ]
    return "\n".join(parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def heads(cells: Sequence[Cell]) -> list[str]:
    """A column's name for each cell."""
    return [" ".join(cell) for cell in cells]


def accuracy_table(study: Study) -> Iterator[str]:
    """A row a choice, a column a cell."""

    def shown(cell: Cell, choice: str) -> str:
        values = [*study.values(cell, choice).values()]
        text = mean_and_deviation(values)
        return f"**{text}**" if values and fmean(values) == best.get(cell) else text

    best: dict[Cell, float] = {}
    for cell, choice in product(study.cells, study.choices):
        values = study.values(cell, choice).values()
        if values and not choice.startswith("oracle"):
            best[cell] = max(best.get(cell, 0.0), fmean(values))
    counts = {cell: sorted({len(study.values(cell, choice)) for choice in study.choices} - {0}) for cell in study.cells}
    ns = [" to ".join(map(str, dict.fromkeys((found[0], found[-1])))) for found in counts.values()]
    rows = ([choice, *(shown(cell, choice) for cell in study.cells)] for choice in study.choices)
    return table(["cleaner", *heads(study.cells)], chain([["n", *ns]], rows))


def readme_table(study: Study) -> Iterator[str]:
    """A row a cleaner of the paper: best and last accuracy and AUC on the digits, for both kinds of noise."""
    choices, cells = (
        (PLAIN, "gmm_agn", "gmm_awr", "cpc_agn", "cpc_awr", "oracle"),
        (("digits", "symmetric 80 %"), ("digits", "asymmetric 40 %")),
    )

    def shown(choice: str) -> Iterator[str]:
        for cell in cells:
            for measure in ("test_accuracy_best", ACCURACY):
                yield mean_and_deviation([*study.values(cell, choice, measure).values()])
            yield "-" if choice == "oracle" else mean_and_deviation([*study.auc(cell, choice).values()])

    header = ["cleaner", *(f"{noise}: {what}" for _, noise in cells for what in ("best", "last", "AUC"))]
    return table(header, ([f"`{choice}`", *shown(choice)] for choice in choices))


OWN_DATA = {"letters": "53 letters", "fashion": "clothes (Fashion-MNIST, 6,000)", "clipart": "clip art in 17 classes"}
"""What sets are called in the table of `own_table`, where that is not their name."""


def own_table(study: Study) -> Iterator[str]:
    """A row a set, noise and cleaner that there are runs of beside plain training, as own data are trained on."""

    def rows() -> Iterator[list[str]]:
        for cell in study.cells:
            for cleaner, kind in (("probe", "cleaner_auc_verdict"), ("cpc_awr", "cleaner_auc_cpc")):
                choice = f"{cleaner}, own data, paying"
                gains = study.differences(cell, (choice, ACCURACY), (PLAIN, ACCURACY))
                if gains:
                    seconds = [study.values(cell, one, "seconds") for one in (choice, PLAIN)]
                    times = [own / seconds[1][seed] for seed, own in seconds[0].items() if seed in seconds[1]]
                    ends = (mean_and_deviation([*study.values(cell, one).values()]) for one in (PLAIN, choice))
                    named = OWN_DATA.get(cell[0], cell[0]), cell[1], f"`{cleaner}`", str(len(gains))
                    auc = mean_and_deviation([*study.values(cell, choice, kind).values()])
                    yield [*named, *ends, difference(gains), auc, f"{fmean(times):.2f}"]

    header = ["data", "wrong labels", "cleaner", "n", "plain training", "cleaned", "difference", "AUC", "time"]
    return table(header, rows())


def time_table(study: Study) -> Iterator[str]:
    """A row a choice: the mean over a set's cells of the ratio to plain training on the same seed."""
    sets = [*dict.fromkeys(name for name, _ in study.cells)]

    def shown(name: str, choice: str) -> str:
        ratios = [
            one / plain[seed]
            for cell in study.cells
            if cell[0] == name
            for plain in [study.values(cell, PLAIN, "seconds")]
            for seed, one in study.values(cell, choice, "seconds").items()
            if seed in plain
        ]
        return f"{fmean(ratios):.2f}" if ratios else "-"

    rows = ([choice, *(shown(name, choice) for name in sets)] for choice in study.choices)
    return table(["cleaner", *sets], rows)


def auc_table(study: Study) -> Iterator[str]:
    """A row for each mixture, for prototypes, and for what other cleaners say."""
    names = {"gmm": "the mixture", "cpc": "prototypes", "verdict": "the verdict"}
    rows = (
        [f"{choice}: {what}", *(mean_and_deviation([*values.values()]) for values in found)]
        for choice in study.choices
        if not choice.startswith("oracle")
        for source, what in names.items()
        for found in [[study.values(cell, choice, f"cleaner_auc_{source}") for cell in study.cells]]
        if any(found)
    )
    return table(["cleaner", *heads(study.cells)], rows)


def verdict(differences: Sequence[float]) -> str:
    """In words, by the 95 % interval; of one seed nothing can be said."""
    if len(differences) < 2:
        return "one seed"
    low, high = interval(differences)
    return "holds" if low > 0 else "does not hold" if high < 0 else "within noise"


def claims_table(study: Study) -> Iterator[str]:
    """A row a claim and cell."""

    def rows() -> Iterator[Sequence[str]]:
        for claim in CLAIMS:
            for cell in study.cells:
                found = study.differences(cell, claim.first, claim.second, claim.scale)
                if found:
                    shown = difference(found).removesuffix(", one seed")  # which the verdict says
                    yield [claim.text, *cell, str(len(found)), shown, verdict(found)]

    header = ["claim", "set", "wrong labels", "n", "difference, points", "it"]
    return table(header, rows())


def judged(found: Sequence[float]) -> str:
    """Their mean, with its interval and what that says."""
    words = {"holds": ": above", "does not hold": ": below", "within noise": ": within noise"}
    return difference(found) + words.get(verdict(found), "")


def counted(found: Sequence[float]) -> str:
    """The same, and of how many seeds."""
    return judged(found) + (f", n = {len(found)}" if len(found) > 1 else "")


def people_table(study: Study) -> Iterator[str]:
    """A row a cell and choice, of cells where something that people use was tried beside plain training."""
    tried = [name for name in PEOPLE if name != PLAIN]

    def mean(values: Mapping[str, float], digits: int = 0) -> str:
        return f"{fmean(values.values()):.{digits}f}" if values else "-"

    def rows() -> Iterator[Sequence[str]]:
        for cell in study.cells:
            if not any(study.values(cell, name) for name in tried):
                continue
            beside = REFERENCE if study.values(cell, REFERENCE) else "cpc_awr"
            for choice in (*PEOPLE, *BESIDE_PEOPLE):
                values = study.values(cell, choice)
                if values:
                    less = study.differences(cell, (choice, ACCURACY), (beside, ACCURACY))
                    yield [
                        *cell, choice, str(len(values)), mean_and_deviation([*values.values()]),
                        mean_and_deviation([*study.auc(cell, choice).values()]),
                        mean(study.values(cell, choice, "precision_at_errors"), 3),
                        mean(study.values(cell, choice, "seconds")),
                        "-" if choice in ("cpc_awr", REFERENCE) else counted(less),
                    ]  # fmt: skip

    header = ["set", "wrong labels", "choice", "n", "accuracy, %", "AUC", "precision", "seconds", "less cpc_awr"]
    return table(header, rows())


def ablation_table(study: Study, measure: str, scale: float) -> Iterator[str]:
    """A row a choice, a column a cell."""

    def shown(cell: Cell, choice: str) -> str:
        found = study.differences(cell, (choice, measure), (REFERENCE, measure), scale)
        return counted(found)

    changed = [name for name in ABLATIONS if name != REFERENCE]
    rows = ([name, *(shown(cell, name) for cell in ABLATED)] for name in changed if name in study.choices)
    return table(["choice", *heads(ABLATED)], rows)


def flat_table(study: Study, curves: Rows) -> Iterator[str]:
    """A row a choice, a column a cell: the mean over seeds."""
    found: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for row in curves:
        place = row["set"], row["noise"], row["choice"], row["seed"]
        found.setdefault(place, {})[int(row["epoch"])] = float(row["accuracy"])

    def rise(accuracies: Mapping[int, float]) -> float:
        ordered = [accuracies[epoch] for epoch in sorted(accuracies)]
        return fmean(ordered[-FLAT:]) - fmean(ordered[-2 * FLAT : -FLAT])

    def shown(cell: Cell, choice: str) -> str:
        rises = [rise(one) for (*place, name, _), one in found.items() if (*place, name) == (*cell, choice)]
        return f"{fmean(rises):+.2f}" if rises else "-"

    rows = ([choice, *(shown(cell, choice) for cell in study.cells)] for choice in study.choices)
    return table(["cleaner", *heads(study.cells)], rows)
