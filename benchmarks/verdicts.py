"""Who finds wrong labels best on fixed features, and what is learnt from the answer: three sets, five kinds of noise.

    OMP_NUM_THREADS=1 python benchmarks/verdicts.py --sets FOLDER --seeds 1 2 3     # what is missing; some hours
    python benchmarks/verdicts.py --table                                           # from the rows that there are

FOLDER is what `feature_sets.py` writes. Of more than 256 numbers the first 256 principal components are taken, turned
at random so that they are of one scale: regressions and cosines stay nearly the same, at a fifth of the time.

regression: scikit-learn's, out of 5 folds, C by the held-out likelihood of the given labels. cleanlab:
`find_label_issues` on the same probabilities, then its ranking; accuracy after what it finds is dropped. probe: the
method of `cleaner=probe`. prototype: its first form, (R + 0.001) (V + 0.02). Parts of the probe: R corrected
regression, V neighbours, G class means; even_0 and even_1: `pooling.weigh` with that share; round_1: one round;
factor_1: as sure as the parts are.
network: a run of `experiment=photos` on these vectors (--network).

auc: of the score that a label is right. precision: of as many labels as are wrong, the least trusted, the share that
is. corrected: share of the training set whose most probable class is the true one. accuracy: on clean test samples.
Each run appends its rows to RESULTS/verdicts.csv and is not repeated; --table writes RESULTS/verdicts.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from measure import RESULTS, append_rows, interval, read_rows
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from cpc_lightning.cleaning.discriminant import score
from cpc_lightning.cleaning.jury import judge_together
from cpc_lightning.cleaning.neighbours import nearest, standardise, vote
from cpc_lightning.cleaning.pooling import join
from cpc_lightning.cleaning.posterior import (
    Posterior,
    infer_true_classes,
    predict_out_of_fold,
    split_in_folds,
)
from cpc_lightning.cleaning.transition import given_the_label, shrunk_matrix
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.noise.instance import InstanceNoise
from cpc_lightning.noise.noise import AsymmetricNoise, Noise, SymmetricNoise

SETS = ("digits", "letters", "fashion")
NOISES: Mapping[str, Callable[[int], Noise]] = {
    "symmetric 20 %": lambda classes: SymmetricNoise(0.2),
    "symmetric 40 %": lambda classes: SymmetricNoise(0.4),
    "symmetric 60 %": lambda classes: SymmetricNoise(0.6),
    "next class 40 %": lambda classes: AsymmetricNoise(0.4, {k: (k + 1) % classes for k in range(classes)}),
    "by the image 40 %": lambda classes: InstanceNoise(0.4),
}
FIELDS = ("set", "noise", "seed", "method", "auc", "precision", "corrected", "accuracy", "estimated_rate", "true_rate",
          "seconds", "settings")  # fmt: skip
MEASURES = ("auc", "precision", "accuracy")
PEOPLE_USE = ("regression", "cleanlab")
COMPONENTS = 256
CS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
FOLDS, NEIGHBOURS = 5, 30
Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A set with wrong labels.

    Attributes:
        features: (N, V, D).
        given: (N,) labels, some wrong.
        true: (N,).
        test_features: (M, V, D).
        test_true: (M,).
    """

    features: Tensor
    given: Tensor
    true: Tensor
    test_features: Tensor
    test_true: Tensor

    @property
    def classes(self) -> int:
        """K."""
        return int(self.true.max()) + 1

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """What regressions see, (N, D) and (M, D): means over the views, standardised as the training set needs it."""
        learnt, tested = self.features.mean(dim=1), self.test_features.mean(dim=1)
        both = standardise(learnt)
        deviation = (learnt - learnt.mean(dim=0)).square().mean(dim=0).sqrt().clamp(min=1e-6)
        return both, torch.where(both.square().sum(dim=0) > 0, (tested - learnt.mean(dim=0)) / deviation, 0.0)


# Data -----------------------------------------------------------------------------------------------------------------


def load(file: Path, noise: str, seed: int) -> Cell:
    """The set in `file` with labels made wrong by `seed`."""
    with np.load(file) as arrays:
        made = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    features, tested = reduce_features(made["features"].float(), made["test_features"].float())
    labels, classes = made["labels"], int(made["labels"].max()) + 1
    split = Split(ArrayImages(made["images"][:, None]), labels, labels)
    names = tuple(map(str, range(classes)))
    given = NOISES[noise](classes).corrupt(ImageDataset("verdicts", names, split, {"test": split}), seed).labels
    return Cell(features, given, labels, tested, made["test_labels"])


def reduce_features(features: Tensor, tested: Tensor, most: int = COMPONENTS) -> tuple[Tensor, Tensor]:
    """The first `most` principal components of the standardised features, in turned coordinates of like scale."""
    if features.shape[2] <= most:
        return features, tested
    mean = features.mean(dim=(0, 1))
    deviation = features.mean(dim=1).std(dim=0).clamp(min=1e-6)
    centred = ((features - mean) / deviation).mean(dim=1)
    axes = torch.linalg.eigh(centred.T @ centred)[1].flip(1)[:, :most]
    turn = torch.linalg.qr(torch.randn(most, most, generator=torch.Generator().manual_seed(0)))[0]
    return (features - mean) / deviation @ axes @ turn, (tested - mean) / deviation @ axes @ turn


# What is measured -----------------------------------------------------------------------------------------------------


def judge_scores(cell: Cell, right: Tensor) -> dict[str, float]:
    """Area under the curve and precision of scores (N,) that labels are right."""
    wrong = cell.given != cell.true
    worst = torch.argsort(right, stable=True)[: int(wrong.sum())]
    return {"auc": float(roc_auc_score(wrong, -right)), "precision": float(wrong[worst].float().mean())}


def own(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(N,) the probability of each one's label."""
    return probabilities.gather(1, labels[:, None]).squeeze(1)


def share_of(answers: Tensor, true: Tensor) -> float:
    """The share of rows (N, K) whose largest is the true class."""
    return float((answers.argmax(dim=1) == true).float().mean())


# What people use ------------------------------------------------------------------------------------------------------


def common(cell: Cell, seed: int) -> list[Row]:
    """Out-of-fold regression of scikit-learn, and cleanlab on its probabilities."""
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    warnings.filterwarnings("ignore", module="sklearn")
    begin = time.perf_counter()
    inputs, tested = (part.numpy() for part in cell.inputs)
    given = cell.given.numpy()
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(inputs, given))

    def fit(c: float, chosen: Any) -> LogisticRegression:
        return LogisticRegression(C=c, max_iter=200).fit(inputs[chosen], given[chosen])

    losses: dict[float, float] = {}
    for c in CS:  # from strong to weak, until two were worse
        held_out = np.zeros((len(given), cell.classes))
        for learnt, judged in folds:
            model = fit(c, learnt)
            held_out[np.ix_(judged, model.classes_)] = model.predict_proba(inputs[judged])
        losses[c] = -float(np.log(held_out[np.arange(len(given)), given].clip(1e-12)).mean())
        if losses[c] == min(losses.values()):
            best, probabilities = c, held_out
        if min([*losses.values()][-2:]) > min(losses.values()):
            break
    everybody = np.ones(len(given), dtype=bool)
    accuracy = fit(best, everybody).score(tested, cell.test_true.numpy())
    trusted = own(torch.from_numpy(probabilities), cell.given)
    regression = {
        "method": "regression", **judge_scores(cell, trusted), "accuracy": accuracy, "settings": f"C={best}",
        "corrected": share_of(torch.from_numpy(probabilities), cell.true), "seconds": time.perf_counter() - begin,
    }  # fmt: skip
    begin = time.perf_counter()
    issues = torch.from_numpy(find_label_issues(given, probabilities, n_jobs=1))
    kept = fit(best, ~issues.numpy()).score(tested, cell.test_true.numpy())
    filtered = {
        "method": "cleanlab", **judge_scores(cell, trusted - issues.double()), "accuracy": kept,
        "estimated_rate": float(issues.float().mean()), "settings": "prune_by_noise_rate, self_confidence",
        "seconds": regression["seconds"] + time.perf_counter() - begin,
    }  # fmt: skip
    return [regression, filtered]


# Ours -----------------------------------------------------------------------------------------------------------------


def answer_new(found: Posterior, inputs: Tensor, tested: Tensor) -> Tensor:
    """(M, K) the true classes of new samples, by what the judges learnt of the training set."""
    regression = torch.stack([score(tested, model) for model in found.regressions]).mean(dim=0).softmax(dim=1)
    clouds = score(tested, found.verdict.clouds).softmax(dim=1)
    similarity, near = (F.normalize(tested, dim=1) @ F.normalize(inputs, dim=1).T).topk(NEIGHBOURS, dim=1)
    weights = ((similarity - similarity[:, :1]) / 0.05).exp()
    votes = torch.einsum("mn,mnk->mk", weights / weights.sum(dim=1, keepdim=True), found.posterior[near])
    return join([regression, votes, clouds], found.verdict.exponents)


def ours(cell: Cell, seed: int, parts: bool) -> list[Row]:
    """The probe; with `parts`, what each of its parts and settings is worth."""
    begin = time.perf_counter()
    inputs, tested = cell.inputs
    found = infer_true_classes(inputs, cell.given, cell.classes, seed, FOLDS, NEIGHBOURS)
    spent = time.perf_counter() - begin
    rows: list[Row] = []

    def add(method: str, true_class: Tensor, matrix: Tensor, **more: Any) -> None:
        posterior = given_the_label(true_class, cell.given, matrix)
        measured = {**judge_scores(cell, own(posterior, cell.given)), "corrected": share_of(posterior, cell.true)}
        rows.append({"method": method, **measured, **more})

    say = "/".join(f"{power:.2f}" for power in found.verdict.exponents.tolist())
    add("probe", found.true_class, found.transition_matrix, seconds=spent, estimated_rate=found.noise_rate,
        accuracy=share_of(answer_new(found, inputs, tested), cell.test_true),
        settings=f"decays={found.decays} say={say}")  # fmt: skip
    if not parts:
        return rows
    near, similarity, _ = nearest(inputs, NEIGHBOURS)
    weights = 1 / torch.bincount(found.groups)[found.groups].float()
    fold = split_in_folds(cell.given, found.groups, FOLDS, seed)
    by_regression = predict_out_of_fold(inputs, fold, found.regressions)
    first = given_the_label(by_regression, cell.given, found.transition_matrix)
    matrix = shrunk_matrix(first, cell.given, by_regression, weights, fold).matrix
    posterior = given_the_label(by_regression, cell.given, matrix)
    by_neighbours = vote(posterior, near, similarity, found.groups)
    joined = (by_regression + 0.001) * (by_neighbours + 0.02)

    def votes(known: Tensor, silent: Tensor) -> Tensor:
        return vote(known, near, similarity.masked_fill(silent[near], -10.0), found.groups)

    def together(**settings: Any) -> tuple[Tensor, Tensor]:
        verdict = judge_together(inputs, by_regression, votes, cell.given, weights, fold, matrix, **settings)
        return verdict.true_class, verdict.transition_matrix

    add("R", by_regression, matrix)
    add("V", by_neighbours, matrix)
    add("prototype", joined / joined.sum(dim=1, keepdim=True), matrix)
    for method, settings in (("even_0", {"even": 0.0}), ("even_1", {"even": 1.0}), ("round_1", {"rounds": 1}),
                             ("factor_1", {"factors": (1.0,)})):  # fmt: skip
        add(method, *together(**settings))
    return rows


def network(cell: Cell, seed: int, settings: Sequence[str]) -> list[Row]:
    """A run of the command line on the vectors."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        np.savez(f"{home}/train.npz", features=cell.features, labels=cell.given, true_labels=cell.true)
        np.savez(f"{home}/test.npz", features=cell.test_features, labels=cell.test_true)
        call = [sys.executable, "-m", "cpc_lightning", "experiment=photos", "dataset=embeddings", "features=none",
                f"dataset.file={home}/train.npz", f"dataset.test_file={home}/test.npz", f"seed={seed}", "report=false",
                "callbacks=none", *settings, f"hydra.run.dir={home}/run"]  # fmt: skip
        done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        summary = json.loads(Path(home, "run", "summary.json").read_text())
    return [{"method": "network", "accuracy": summary["test_accuracy_last"] / 100, "settings": " ".join(settings),
             "seconds": time.perf_counter() - begin}]  # fmt: skip


# Rows and tables ------------------------------------------------------------------------------------------------------


def shown(row: Row) -> Row:
    """The row with four digits of each number."""
    return {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()}


def mean_and_half(values: Sequence[float]) -> str:
    """Mean, and half of its 95 % interval where there are at least two."""
    if not values:
        return "-"
    mean = fmean(values)
    return f"{mean:.3f}" if len(values) < 2 else f"{mean:.3f} ± {interval(values)[1] - mean:.3f}"


def values_of(rows: Sequence[Mapping[str, str]], method: str, measure: str) -> dict[tuple[str, str, str], float]:
    """A measure of a method, by set, noise and seed."""
    return {
        (row["set"], row["noise"], row["seed"]): float(row[measure])
        for row in rows
        if row["method"] == method and row[measure]
    }


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: what people use beside the probe, with the paired difference to the better one; then its parts."""
    text = ["# Verdicts on labels, on fixed features", "",
            "Mean ± half of the 95 % interval over n seeds; Δ: the probe less the better of the two, seed by seed.",
            ""]  # fmt: skip
    text += ["| set | noise | n | measure | regression | cleanlab | probe | Δ | network |", "|" + "---|" * 9]
    cells = [(name, noise) for name in SETS for noise in NOISES]
    for name, noise in cells:
        chosen = [row for row in rows if (row["set"], row["noise"]) == (name, noise)]
        for measure in MEASURES:
            found = {method: values_of(chosen, method, measure) for method in (*PEOPLE_USE, "probe", "network")}
            paired = [key for key in found["probe"] if all(key in found[method] for method in PEOPLE_USE)]
            gains = [found["probe"][key] - max(found[method][key] for method in PEOPLE_USE) for key in paired]
            if paired:
                shown = [mean_and_half([*found[method].values()]) for method in (*PEOPLE_USE, "probe")]
                shown += [mean_and_half(gains), mean_and_half([*found["network"].values()])]
                text.append(f"| {name} | {noise} | {len(paired)} | {measure} | {' | '.join(shown)} |")
    methods = ("prototype", "R", "V", "round_1", "even_0", "even_1", "factor_1", "probe")
    text += ["", "Parts and settings of the probe: AUC, precision and share of true labels found, means over the n "
             "runs that have them all.", "",
             "| method | n | auc | precision | corrected |", "|---|---|---|---|---|"]  # fmt: skip
    complete = set.intersection(*(set(values_of(rows, method, "auc")) for method in methods))
    for method in methods:
        means = [
            fmean(
                [value for key, value in values_of(rows, method, measure).items() if key in complete] or [float("nan")]
            )
            for measure in ("auc", "precision", "corrected")
        ]
        text.append(f"| {method} | {len(complete)} | {' | '.join(f'{mean:.4f}' for mean in means)} |")
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure what is missing, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, metavar="FOLDER", help="of feature_sets.py")
    parser.add_argument("--names", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--noises", nargs="+", default=list(NOISES), choices=list(NOISES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--parts", action="store_true", help="also what each part of the probe is worth")
    parser.add_argument("--network", nargs="*", metavar="SETTING=VALUE", help="train networks instead, so")
    parser.add_argument("--table", action="store_true", help="write the table alone")
    options = parser.parse_args()
    file = RESULTS / "verdicts.csv"
    if not options.table:
        for seed in options.seeds:
            for name in options.names:
                for noise in options.noises:
                    measure_cell(file, options.sets, name, noise, seed, options)
    (RESULTS / "verdicts.md").write_text(table(read_rows(file)))


def measure_cell(file: Path, sets: Path, name: str, noise: str, seed: int, options: argparse.Namespace) -> None:
    """Append the rows of one set, noise and seed that are not there."""
    rows_there = [row for row in read_rows(file) if (row["set"], row["noise"], row["seed"]) == (name, noise, str(seed))]
    there = {row["method"] for row in rows_there}
    wanted = {"network"} if options.network is not None else {"regression", "probe"}
    if wanted <= there:
        return
    cell = load(sets / f"{name}.npz", noise, seed)
    rows: list[Row] = []
    if options.network is not None:
        rows += network(cell, seed, options.network)
    else:
        rows += [] if "regression" in there else common(cell, seed)
        rows += [] if "probe" in there else ours(cell, seed, options.parts)
    shared = {"set": name, "noise": noise, "seed": seed, "true_rate": float((cell.given != cell.true).float().mean())}
    append_rows(file, FIELDS, [shown({**shared, **row}) for row in rows])
    print(*(f"{name}, {noise}, {seed}: {row}" for row in rows), sep="\n", flush=True)


if __name__ == "__main__":
    main()
