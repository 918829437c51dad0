"""Class prototypes: the head of a network and its training by Eq. 2-5.

Shapes: n samples looked at, B batch, K classes, D features, d embedding, T steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpc_lightning.cleaning.packed import Packed, stepping
from cpc_lightning.errors import TrainingError, require, require_integer

WINDOW = 25
"""Steps that are prepared at once, at most: few enough that their features stay in a processor's cache."""

LOOK = 100
"""What the steps of a look at whether the loss has settled are rounded up to, but for small sets."""

CHUNK = 1 << 13
"""Rows of features that are worked on at once, so that millions of them need no second copy."""


class PrototypeHead(nn.Module):
    """The projector (v -> v', one linear layer on standardised features) and the class prototypes of one network.

    Attributes:
        feature_mean: (D,) buffer, of the features that `standardise_to` last saw.
        feature_std: (D,) buffer, 1 for features that do not vary.
        fitted: () int64 buffer, 1 once `fit_prototypes` has trained this head: before, it is as drawn.
        projector: linear, D -> d.
        prototypes: (K, d) parameter C.
    """

    feature_mean: Tensor
    feature_std: Tensor
    fitted: Tensor

    def __init__(self, feature_size: int, embedding_size: int, num_classes: int) -> None:
        """Draw projector and prototypes from torch's generator.

        Args:
            feature_size: D.
            embedding_size: d, in [1, D).
            num_classes: K, at least 2.

        Raises:
            InputError: a setting cannot be used.
        """
        super().__init__()
        require_integer("feature_size", feature_size, minimum=2)
        require_integer("embedding_size", embedding_size, minimum=1)
        require(
            embedding_size < feature_size,
            "embedding_size",
            embedding_size,
            f"must be below the backbone's feature size, {feature_size}",
        )
        require_integer("num_classes", num_classes, minimum=2)
        self.register_buffer("feature_mean", torch.zeros(feature_size))
        self.register_buffer("feature_std", torch.ones(feature_size))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.int64))  # a type that every backend sends
        self.projector = nn.Linear(feature_size, embedding_size)
        # Scores v' c_k start at the size of v', well inside the sigmoid's slope.
        self.prototypes = nn.Parameter(torch.randn(num_classes, embedding_size) * embedding_size**-0.5)

    @torch.no_grad()
    def standardise_to(self, features: Tensor) -> None:
        """From now on, shift and scale features as `features` (n, D) need it for mean 0 and standard deviation 1."""
        total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
        for rows in torch.split(features, CHUNK):
            total += rows.sum(dim=0, dtype=torch.float64)
        mean = total / len(features)
        squares = torch.zeros_like(total)
        for rows in torch.split(features, CHUNK):  # a second pass: the mean of squares would cancel
            squares += (rows.double() - mean).square().sum(dim=0)
        std = (squares / len(features)).sqrt()
        # A dead feature's deviation is the rounding error of its mean; dividing by it would make noise loud.
        dead = std <= 1e-6 * (1 + mean.abs())
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(torch.where(dead, torch.ones_like(std), std))

    def standardise(self, features: Tensor) -> Tensor:
        """Standardised features (..., D), cut off from the backbone: gradients stop at v (Section 4.1)."""
        return (features.detach().to(self.feature_mean) - self.feature_mean) / self.feature_std

    def embed(self, features: Tensor) -> Tensor:
        """Embeddings v' (B, d) of features v (B, D)."""
        embedding: Tensor = self.projector(self.standardise(features))
        return embedding

    def forward(self, features: Tensor) -> Tensor:
        """Scores v' c_k (B, K) of features (B, D), before the sigmoid; their argmax is what the image shows."""
        return self.embed(features) @ self.prototypes.t()

    @torch.no_grad()
    def clean_probability(self, features: Tensor, noisy_labels: Tensor) -> Tensor:
        """Clean probability q = s(v' c_y) of features (n, D) with given labels y (n,): (n,) on the features' device."""
        # Not forward(): of a million samples and a thousand classes, one score in a thousand is wanted.
        chunks = [
            torch.sigmoid((self.embed(v) * self.prototypes[y.to(self.prototypes.device)]).sum(dim=1)).to(
                features.device
            )
            for v, y in zip(torch.split(features, CHUNK), torch.split(noisy_labels, CHUNK), strict=True)
        ]
        return torch.cat(chunks)


def confident_predictions(
    given_probability: Tensor,
    predicted: Tensor,
    confidence: Tensor,
    noisy_labels: Tensor,
    labeled: Tensor,
    num_classes: int,
) -> Tensor:
    """The set P of Eq. 4: noisy samples that are predicted with more confidence than clean ones of that class.

    Sample i of U belongs to P if p_ik, of its predicted class k = argmax p_i, is above the mean of p_jk over the j of X
    with y_j = k. Where X has no such j, nothing says what confident means, and no sample predicted as k belongs to P.

    Args:
        given_probability: (n,) softmax p_iy of the given label.
        predicted: (n,) int64 predicted class, argmax p_i.
        confidence: (n,) softmax p_ik of the predicted class.
        noisy_labels: (n,) int64 given labels y.
        labeled: (n,) bool, True for X and False for U.
        num_classes: K.

    Returns:
        The mask of P, (n,) bool.
    """
    given = noisy_labels[labeled]
    # Double: a mean of equal probabilities must not round below them.
    sums = torch.zeros(num_classes, dtype=torch.float64, device=given.device)
    sums.index_add_(0, given, given_probability[labeled].double())
    counts = torch.bincount(given, minlength=num_classes)
    average = torch.where(counts > 0, sums / counts, torch.inf)
    return ~labeled & (confidence.double() > average[predicted])


def prototype_loss(
    scores: Tensor, noisy_labels: Tensor, labeled: Tensor, confident: Tensor, predicted: Tensor, alpha: float
) -> Tensor:
    """L_C = L_X + L_U + alpha L_P (Eq. 5), each a mean over its set; an empty set contributes 0.

    Args:
        scores: (B, K) of v' c_k.
        noisy_labels: (B,) int64 given labels y.
        labeled: (B,) bool, True for X and False for U.
        confident: (B,) bool, the mask of P.
        predicted: (B,) int64 predicted classes, read where `confident`.
        alpha: weight of L_P.

    Returns:
        The loss, a scalar.
    """
    num_classes = scores.shape[1]
    log_same = F.logsigmoid(scores)  # log s(v' c_k)
    log_other = F.logsigmoid(-scores)  # log(1 - s(v' c_k)), which log1p(-s) loses for large scores

    def mean_over(mask: Tensor, values: Tensor) -> Tensor:
        return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)

    def of(classes: Tensor, values: Tensor) -> Tensor:
        return values.gather(1, classes[:, None]).squeeze(1)

    others = log_other.sum(dim=1) - of(noisy_labels, log_other)
    loss_labeled = -mean_over(labeled, of(noisy_labels, log_same) + others / num_classes)  # Eq. 2
    loss_unlabeled = -mean_over(~labeled, of(noisy_labels, log_other))  # Eq. 3
    loss_confident = -mean_over(confident, of(predicted, log_same))  # Eq. 4
    return loss_labeled + loss_unlabeled + alpha * loss_confident  # Eq. 5


@dataclass(frozen=True)
class PrototypeFit:
    """How a fit went: the steps taken, and the mean mini-batch loss over the last `WINDOW` of them."""

    steps: int
    loss: float


def settling_span(samples: int, batch_size: int) -> int:
    """Steps over which one look goes at whether the loss of prototypes has settled.

    Whole passes over the samples, rounded up to `LOOK` steps: parts of a pass have different losses because their
    samples differ. Small sets are fitted so well in few passes that more of them learn the wrong labels of X: where two
    passes are fewer steps than `LOOK`, a span holds two passes, rounded up to `WINDOW` steps.

    Args:
        samples: n, at least 1.
        batch_size: B; the whole set if it is smaller.
    """
    whole = -(-samples // min(batch_size, samples))
    least, passes = (WINDOW, 2) if 2 * whole < LOOK else (LOOK, 1)
    return least * -(-passes * whole // least)


@torch.no_grad()
def fit_prototypes(
    head: PrototypeHead,
    optimizer: torch.optim.Optimizer,
    features: Tensor,
    noisy_labels: Tensor,
    labeled: Tensor,
    confident: Tensor,
    predicted: Tensor,
    *,
    alpha: float,
    steps: int,
    batch_size: int,
    seed: int,
    tolerance: float = 0.0,
) -> PrototypeFit:
    """Minimise `prototype_loss` over the head's projector and prototypes, in place, from where they stand.

    Mini-batches are cut from one shuffled pass after the other; each term is a mean over its part of the mini-batch.
    Everything is computed on the head's device, to which one window's features are brought at a time. The gradient is
    written down instead of recorded, because a step on cached features costs less than autograd's bookkeeping; a test
    holds it against autograd.

    Args:
        head: trained in place; its standardisation is used as it is.
        optimizer: of the head's parameters; its state is taken over and brought up to date.
        features: (n, D).
        noisy_labels: (n,) int64 given labels.
        labeled: (n,) bool, True for X and False for U.
        confident: (n,) bool, the mask of P.
        predicted: (n,) int64 predicted classes.
        alpha: weight of L_P.
        steps: the most optimizer steps to take.
        batch_size: B; the whole set if it is smaller.
        seed: of the order of samples, whatever the device.
        tolerance: stop once the mean loss of a span of steps is not below that of the span before by more than this
            share of it (`settling_span`); 0 always takes all steps.

    Returns:
        The steps taken and the last mean loss.

    Raises:
        TrainingError: the loss is not finite.
    """
    parameters = head.projector.weight, head.projector.bias, head.prototypes
    values, gradient = Packed(parameters), Packed(parameters)
    weight, prototypes = values.weight, values.prototypes
    weight_t, prototypes_t = weight.t(), prototypes.t()  # views, which follow the values through every in-place step
    batch_size = min(batch_size, len(features))
    span = settling_span(len(features), batch_size)
    taken, before, sums, counted = 0, float("inf"), 0.0, 0
    with stepping(optimizer, parameters, values, gradient) as step:
        for window in _shuffled_windows(len(features), batch_size, steps, seed):
            shape, rows = window.shape, window.flatten()
            # (T, B, D), and (T, B) four times; each from the device that it is on. Much faster than column[rows].
            vectors, given, in_x, in_p, guessed = (
                column.index_select(0, rows.to(column.device)).to(weight.device).view(*shape, *column.shape[1:])
                for column in (features, noisy_labels, labeled, confident, predicted)
            )
            pull, both = _score_weights(given, in_x, in_p, guessed, alpha, len(prototypes), weight.dtype)
            inputs = F.pad(head.standardise(vectors), (0, 1), value=1.0)  # the column that the bias is for
            scores = inputs.new_empty(*shape, len(prototypes))
            for v, score, positive, total in zip(inputs, scores, pull, both, strict=True):
                embedding = v @ weight_t
                torch.mm(embedding, prototypes_t, out=score)
                d_score = torch.sigmoid(score).mul_(total).sub_(positive)
                torch.mm(d_score.t(), embedding, out=gradient.prototypes)
                torch.mm((d_score @ prototypes).t(), v, out=gradient.weight)
                step()
            taken += shape[0]
            loss = float((both * F.softplus(scores) - pull * scores).sum() / shape[0])
            if not loss < float("inf"):
                raise TrainingError(
                    f"the prototypes diverged: their loss is {loss} after {taken} steps; lower their learning rate"
                )
            sums, counted = sums + loss * shape[0], counted + shape[0]
            if counted < span:
                continue
            mean, sums, counted = sums / counted, 0.0, 0
            if tolerance > 0 and mean >= (1 - tolerance) * before:
                break
            before = mean
    head.fitted.fill_(1)
    return PrototypeFit(taken, loss)


def _score_weights(
    noisy_labels: Tensor,
    labeled: Tensor,
    confident: Tensor,
    predicted: Tensor,
    alpha: float,
    num_classes: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Eq. 5 as a sum of - pull log s(x) - push log(1 - s(x)) over scores x, for T mini-batches (T, B) at once.

    As s' = s (1 - s), the derivative of such a term is (pull + push) s(x) - pull, and its value
    (pull + push) softplus(x) - pull x.

    Returns:
        pull and pull + push, each (T, B, K).
    """

    def share(mask: Tensor) -> Tensor:
        return (mask.to(dtype) / mask.sum(dim=1, keepdim=True).clamp(min=1))[..., None]

    classes = torch.arange(num_classes, device=noisy_labels.device)
    is_given = noisy_labels[..., None] == classes
    pull = torch.where(is_given, share(labeled), 0)  # Eq. 2, k = y
    push = torch.where(is_given, share(~labeled), share(labeled) / num_classes)  # Eq. 3; Eq. 2, k != y
    if alpha > 0:
        pull = pull + alpha * torch.where(predicted[..., None] == classes, share(confident), 0)  # Eq. 4
    return pull, pull + push


def _shuffled_windows(count: int, batch_size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Rows of up to `WINDOW` mini-batches at a time, (T, B) int64 on the CPU, cut from shuffled passes in a row."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.int64)
    for start in range(0, steps, WINDOW):
        window = min(WINDOW, steps - start)
        wanted = window * batch_size
        passes = max(0, -(-(wanted - len(left)) // count))
        stream = torch.cat([left, *(torch.randperm(count, generator=generator) for _ in range(passes))])
        left = stream[wanted:]
        yield stream[:wanted].reshape(window, batch_size)
