"""Estimates the true class of each sample from fixed features and from given labels that are partly wrong.

Nothing judges a sample whose own label it was fitted to (docs/features.md). In the order of the work: near
copies form groups; softmax regression in folds that no group straddles; a transition matrix from the confident joint;
forward-corrected regression (Patrini et al., "Making deep neural networks robust to label noise", CVPR 2017) with one
EM step of the matrix; posteriors given the label; in rounds, the nearest neighbours' posteriors and the classes' means
(`cleaning.jury`); and how sure to be of it all (`cleaning.sharpness`).

Shapes: N samples, D features, K classes, F folds, k neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cpc_lightning.cleaning.jury import Verdict, judge_together
from cpc_lightning.cleaning.neighbours import groups_of_copies, leading, nearest, standardise, vote
from cpc_lightning.cleaning.transition import given_the_label, shrunk_matrix

CHOOSING = 50_000
"""Of more samples as many, drawn at random, choose the decay: at most a little stronger than all would like it."""

DECAYS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Weights of the squared norm in softmax regression to choose from."""

AXES_FROM = 8192
"""Samples at least, evenly spread, that the principal axes of a regression are read off; or all."""

NOBODY = -10.0
"""In the place of the cosine of a neighbour that has no vote: less by far than any."""


@dataclass(frozen=True)
class Posterior:
    """What is known of the true class of N samples.

    Attributes:
        true_class: (N, K) float32 U, the probability of each true class from the features of the sample, of its
            neighbours and of their labels, without the sample's own label.
        posterior: (N, K) float32 the same given the label: proportional to U_k T[k, g].
        transition_matrix: (K, K) float32, T[k, g] = P(given g | true k).
        noise_rate: the estimated share of wrong labels: 1 minus the mean posterior of the given label.
        given: (N, K) float32 out-of-fold P(given label | features), what is commonly used.
        decays: the chosen weights of the squared norm, of the plain and of the corrected regression.
        groups: (N,) int64, the same number for near copies.
        verdict: what regression, neighbours and class means say together.
        regressions: F of (D + 1, K), the weights of each fold's corrected regression.
        recall: the share of the nearest neighbours that was found.
    """

    true_class: Tensor
    posterior: Tensor
    transition_matrix: Tensor
    noise_rate: float
    given: Tensor
    decays: tuple[float, float]
    groups: Tensor
    verdict: Verdict
    regressions: list[Tensor]
    recall: float = 1.0


def infer_true_classes(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    seed: int = 0,
    folds: int = 5,
    neighbours: int = 30,
    decays: Sequence[float] = DECAYS,
    rounds: int = 2,
) -> Posterior:
    """Judge the labels of N samples by everybody else's.

    Args:
        features: (N, D) floating point.
        labels: (N,) int64 given labels in 0..K-1.
        num_classes: K.
        seed: of the folds.
        folds: F, how many parts take turns in being judged.
        neighbours: k.
        decays: to choose from, by the held-out likelihood of the given labels.
        rounds: of forward-corrected regression; more make the matrix drift towards the identity.
    """
    inputs = leading(standardise(features))
    near, similarity, recall = nearest(inputs, neighbours)
    groups = groups_of_copies(near, similarity)
    weights = 1 / torch.bincount(groups)[groups].float()
    fold = split_in_folds(labels, groups, folds, seed)
    some = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))[:CHOOSING].sort().values
    few = inputs[some], labels[some], fold[some], weights[some]
    decay = choose_decay(*few, num_classes, decays)
    models = [
        fit_regression(inputs[fold != number], labels[fold != number], weights[fold != number], num_classes, decay)
        for number in range(folds)
    ]
    given = predict_out_of_fold(inputs, fold, models)
    matrix = confident_joint(given, labels)
    # The corrected loss is flatter in the weights: it takes a weaker decay than the plain one.
    corrected = choose_decay(*few, num_classes, decays, matrix)
    for number in range(rounds):
        models = [
            fit_regression(
                inputs[fold != part], labels[fold != part], weights[fold != part], num_classes, corrected, matrix, start
            )
            for part, start in enumerate(models)
        ]
        by_features = predict_out_of_fold(inputs, fold, models)
        posterior = given_the_label(by_features, labels, matrix)
        if number < rounds - 1:
            matrix = shrunk_matrix(posterior, labels, by_features, weights, fold).matrix
    matrix = shrunk_matrix(posterior, labels, by_features, weights, fold).matrix

    def votes(posterior: Tensor, silent: Tensor) -> Tensor:
        unheard = silent[near]
        heard = vote(posterior, near, similarity.masked_fill(unheard, NOBODY), groups)
        nobody = (unheard | (groups[near] == groups[:, None])).all(dim=1, keepdim=True)
        return torch.where(nobody, by_features, heard)  # the regression speaks for them

    verdict = judge_together(inputs, by_features, votes, labels, weights, fold, matrix)
    true_class, matrix = verdict.true_class, verdict.transition_matrix
    judged = given_the_label(true_class, labels, matrix)
    alone = torch.bincount(labels, minlength=num_classes)[labels] == 1  # nobody else of its class: nobody can tell
    judged[alone] = F.one_hot(labels[alone], num_classes).float()
    noise_rate = 1 - float(judged.gather(1, labels[:, None]).mean())
    chosen = decay, corrected
    return Posterior(true_class, judged, matrix, noise_rate, given, chosen, groups, verdict, models, recall)


# Folds ----------------------------------------------------------------------------------------------------------------


def split_in_folds(labels: Tensor, groups: Tensor, folds: int, seed: int) -> Tensor:
    """(N,) int64 the fold of each sample: classes spread evenly, no group in two folds, the same for the same seed.

    A group goes with the class of its first sample.
    """
    generator = torch.Generator().manual_seed(seed)
    first = torch.full((int(groups.max()) + 1,), len(groups)).scatter_reduce(
        0, groups, torch.arange(len(groups)), "amin"
    )
    shuffled = torch.randperm(len(first), generator=generator)
    order = shuffled[torch.argsort(labels[first][shuffled], stable=True)]  # classes one after another
    of_group = torch.empty(len(first), dtype=torch.int64)
    of_group[order] = torch.arange(len(first)) % folds
    return of_group[groups]


# Regression -----------------------------------------------------------------------------------------------------------


def fit_regression(
    inputs: Tensor,
    labels: Tensor,
    weights: Tensor,
    num_classes: int,
    decay: float,
    transition_matrix: Tensor | None = None,
    start: Tensor | None = None,
    steps: int = 100,
) -> Tensor:
    """Softmax regression: the weights (D + 1, K) that minimise mean loss + decay / 2 |W|^2; the last row is the bias.

    Args:
        inputs: (n, D).
        labels: (n,) int64.
        weights: (n,) of the samples in the mean.
        num_classes: K.
        decay: of all but the bias.
        transition_matrix: (K, K); given, the loss is -log sum_k softmax(x W)_k T[k, g], forward-corrected.
        start: (D + 1, K) to begin from; zeros without. It must not have seen what is judged.
        steps: at most so many of L-BFGS.
    """
    share = weights / weights.sum()
    # Along the principal axes of the inputs, in units in which the second derivative of the loss is 1 where all classes
    # are equally likely: as it comes, L-BFGS takes two to three times as many steps.
    curvature = (1 - 1 / num_classes) / num_classes
    every = max(1, len(inputs) // AXES_FROM)
    some, shares = inputs[::every], share[::every, None]
    variances, axes = torch.linalg.eigh((some * shares).T @ some / shares.sum())
    second = variances * curvature
    units = torch.maximum(second, 1e-6 * second.max()).add(decay).clamp(min=1e-12).sqrt()[:, None]
    scaled = inputs.new_zeros(inputs.shape[1] + 1, num_classes)
    if start is not None:
        scaled[:-1], scaled[-1] = units * (axes.T @ start[:-1]), start[-1] * curvature**0.5
    scaled.requires_grad_(True)

    def weights_of(scaled: Tensor) -> tuple[Tensor, Tensor]:
        return axes @ (scaled[:-1] / units), scaled[-1] / curvature**0.5

    log_matrix = None if transition_matrix is None else transition_matrix.clamp(min=1e-12).log().T[labels]  # (n, K)
    optimizer = torch.optim.LBFGS(
        [scaled],
        max_iter=steps,
        history_size=10,
        tolerance_grad=1e-4,
        tolerance_change=1e-6,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        weight, bias = weights_of(scaled)
        log_probabilities = F.log_softmax(torch.addmm(bias, inputs, weight), dim=1)
        if log_matrix is None:
            losses = -log_probabilities.gather(1, labels[:, None]).squeeze(1)
        else:
            losses = -(log_probabilities + log_matrix).logsumexp(dim=1)
        value = (share * losses).sum() + decay / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    weight, bias = weights_of(scaled.detach())
    return torch.cat([weight, bias[None]])


def predict(inputs: Tensor, wide: Tensor) -> Tensor:
    """(n, K) softmax of the regression with the weights `wide` (D + 1, K)."""
    return torch.addmm(wide[-1], inputs, wide[:-1]).softmax(dim=1)


def predict_out_of_fold(inputs: Tensor, fold: Tensor, models: Sequence[Tensor]) -> Tensor:
    """(N, K) each sample judged by the model that has not seen its fold."""
    result = inputs.new_empty(len(inputs), models[0].shape[1])
    for number, model in enumerate(models):
        result[fold == number] = predict(inputs[fold == number], model)
    return result


def choose_decay(
    inputs: Tensor,
    labels: Tensor,
    fold: Tensor,
    weights: Tensor,
    num_classes: int,
    decays: Sequence[float],
    transition_matrix: Tensor | None = None,
) -> float:
    """The decay under which the given labels of the first fold are most likely to a model that has not seen them.

    Weaker ones, which take the most steps, are no longer tried after two that were worse than the best.
    """
    if len(decays) == 1:
        return decays[0]
    learnt, judged = fold != 0, fold == 0
    start, losses = None, {}
    for decay in sorted(decays, reverse=True):  # from strong to weak, each from the one before
        start = fit_regression(
            inputs[learnt], labels[learnt], weights[learnt], num_classes, decay, transition_matrix, start
        )
        predicted = predict(inputs[judged], start)
        if transition_matrix is not None:
            predicted = predicted @ transition_matrix
        probabilities = predicted.gather(1, labels[judged, None]).squeeze(1)
        losses[decay] = -float((weights[judged] * probabilities.clamp(min=1e-12).log()).sum())
        if min([*losses.values()][-2:]) > min(losses.values()):
            break
    return min(losses, key=lambda decay: losses[decay])


# The transition matrix ------------------------------------------------------------------------------------------------


def confident_joint(given: Tensor, labels: Tensor) -> Tensor:
    """The transition matrix (K, K) from out-of-fold probabilities of the given label (Northcutt et al. 2021).

    Of the classes whose probability is at least the mean that the samples labeled so have, a sample counts under the
    most probable; under none if there is none. One is added on the diagonal, and rows are normalised.

    Args:
        given: (N, K) out-of-fold P(given label | features).
        labels: (N,) int64 given labels.
    """
    classes = given.shape[1]
    own = given.gather(1, labels[:, None]).squeeze(1)
    counts = torch.bincount(labels, minlength=classes)
    thresholds = torch.zeros(classes).index_add(0, labels, own) / counts.clamp(min=1)
    thresholds[counts == 0] = torch.inf
    confident = torch.where(given >= thresholds, given, -1.0)
    chance, likely = confident.max(dim=1)
    counted = chance >= 0
    joint = torch.zeros(classes, classes)
    joint.index_put_((likely[counted], labels[counted]), torch.ones(int(counted.sum())), accumulate=True)
    joint += torch.eye(classes)
    return joint / joint.sum(dim=1, keepdim=True)
