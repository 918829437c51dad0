import copy
import math

import pytest
import torch
from tests.device import DEVICE
from torch.nn import functional as F

from cpc_lightning.cleaning.prototypes import (
    WINDOW,
    PrototypeHead,
    _shuffled_windows,
    confident_predictions,
    fit_prototypes,
    prototype_loss,
    settling_span,
)
from cpc_lightning.errors import InputError, TrainingError


def random_case(n=40, K=4, D=6, d=3, seed=0, dtype=torch.float64):
    """A head and everything `fit_prototypes` takes, with some samples in X, U and P each."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    head = PrototypeHead(D, d, K).to(dtype)
    features = torch.randn(n, D, generator=g, dtype=dtype) * 3 + 1
    head.standardise_to(features)
    labels, predicted = (torch.randint(K, (n,), generator=g) for _ in "ab")
    labeled = torch.rand(n, generator=g) < 0.5
    confident = ~labeled & (torch.rand(n, generator=g) < 0.5)
    return head, (features, labels, labeled, confident, predicted)


def sgd(head, lr=0.1):
    return torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9, weight_decay=0.01)


def reference_loss(scores, labels, labeled, confident, predicted, alpha):
    """Eq. 2-5, term by term."""
    n, K = scores.shape
    terms_x, terms_u, terms_p = [], [], []
    for i in range(n):
        s = [1 / (1 + math.exp(-float(x))) for x in scores[i]]
        y = int(labels[i])
        if labeled[i]:
            terms_x.append(sum(math.log(s[k]) if k == y else math.log(1 - s[k]) / K for k in range(K)))
        else:
            terms_u.append(math.log(1 - s[y]))
        if confident[i]:
            terms_p.append(math.log(s[int(predicted[i])]))
    mean = [-sum(t) / len(t) if t else 0.0 for t in (terms_x, terms_u, terms_p)]
    return mean[0] + mean[1] + alpha * mean[2]


# --- Eq. 2-5

# Scores are logits of probabilities that are easy to read: s(log 3) = 3/4, s(0) = 1/2, s(-log 4) = 1/5.
SCORES = torch.tensor(
    [[math.log(3), 0.0], [0.0, -math.log(4)], [math.log(3), 0.0], [-math.log(4), math.log(3)]], dtype=torch.float64
)
LABELS = torch.tensor([0, 1, 1, 0])
PREDICTED = torch.tensor([0, 0, 0, 1])
BOTH_SIDES = torch.tensor([True, True, False, False])
LAST_TWO = torch.tensor([False, False, True, True])
NOBODY = torch.zeros(4, dtype=torch.bool)

# Eq. 2, samples 0 and 1, K = 2: own class 3/4 and 1/5, the other class half weighted with 1 - 1/2 and 1 - 1/2.
LOSS_X = -((math.log(3 / 4) + math.log(1 / 2) / 2) + (math.log(1 / 5) + math.log(1 / 2) / 2)) / 2
# Eq. 3, samples 2 and 3: given classes score 1/2 and 1/5.
LOSS_U = -(math.log(1 - 1 / 2) + math.log(1 - 1 / 5)) / 2
# Eq. 4, samples 2 and 3: predicted classes score 3/4 and 3/4.
LOSS_P = -math.log(3 / 4)


@pytest.mark.parametrize(
    ("labeled", "confident", "alpha", "expected"),
    [
        (BOTH_SIDES, NOBODY, 0.0, LOSS_X + LOSS_U),
        (BOTH_SIDES, LAST_TWO, 0.0, LOSS_X + LOSS_U),
        (BOTH_SIDES, LAST_TWO, 0.5, LOSS_X + LOSS_U + 0.5 * LOSS_P),
        (BOTH_SIDES, NOBODY, 1.0, LOSS_X + LOSS_U),
        # All in U: given classes score 3/4, 1/5, 1/2, 1/5.
        (NOBODY, NOBODY, 1.0, -(math.log(1 / 4) + math.log(4 / 5) + math.log(1 / 2) + math.log(4 / 5)) / 4),
    ],
)
def test_loss_by_hand(labeled, confident, alpha, expected):
    loss = prototype_loss(SCORES, LABELS, labeled, confident, PREDICTED, alpha)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("K", [2, 5])
@pytest.mark.parametrize("side", ["both", "labeled", "unlabeled"])
def test_loss_equals_a_loop(K, side):
    head, (features, labels, labeled, confident, predicted) = random_case(K=K)
    if side != "both":
        labeled = torch.full_like(labeled, side == "labeled")
        confident = confident & ~labeled
    scores = head(features).detach()
    loss = float(prototype_loss(scores, labels, labeled, confident, predicted, 0.7))
    assert loss == pytest.approx(reference_loss(scores, labels, labeled, confident, predicted, 0.7), rel=1e-12)


def test_loss_is_finite_and_exact_for_large_scores():
    """log(1 - s(80)) is -80, where 1 - s(80) is 0 in any float."""
    scores = torch.tensor([[80.0, -80.0]])
    one, nobody = torch.tensor([0]), torch.tensor([False])
    assert float(prototype_loss(scores, one, nobody, nobody, one, 1.0)) == 80.0


# --- P

PROBABILITIES = torch.tensor(
    [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [0.5, 0.25, 0.25], [0.625, 0.25, 0.125], [0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]
)


def confident(probabilities, noisy_labels, labeled):
    """The mask of P and the predicted classes, from a whole softmax."""
    confidence, predicted = probabilities.max(dim=1)
    given = probabilities.gather(1, noisy_labels[:, None]).squeeze(1)
    classes = probabilities.shape[1]
    return confident_predictions(given, predicted, confidence, noisy_labels, labeled, classes), predicted


def test_confident_predictions_by_hand():
    """Given class 0 in X: samples 0, 1 with p_0 = 3/4, 1/4: mean 1/2. Class 1, 2 are nowhere given in X."""
    labels = torch.tensor([0, 0, 1, 1, 2, 1])
    labeled = torch.tensor([True, True, False, False, False, False])
    mask, predicted = confident(PROBABILITIES, labels, labeled)
    # 2: 1/2 is not above 1/2. 3: 5/8 is. 4: 1/2 is not (argmax tie). 5: predicted as 2, which X does not have.
    assert mask.tolist() == [False, False, False, True, False, False]
    assert predicted[[0, 1, 2, 3, 5]].tolist() == [0, 1, 0, 0, 2]


def test_confident_predictions_of_clean_samples_do_not_count():
    labels = torch.tensor([0, 0, 0, 0, 0, 0])
    everyone = torch.ones(6, dtype=torch.bool)
    assert not confident(PROBABILITIES, labels, everyone)[0].any()
    assert not confident(PROBABILITIES, labels, ~everyone)[0].any()


def test_equal_probabilities_are_never_above_their_mean():
    probabilities = torch.full((1000, 2), 0.1) + torch.tensor([0.8, 0.0])
    labeled = torch.arange(1000) < 997
    assert not confident(probabilities, torch.zeros(1000, dtype=torch.int64), labeled)[0].any()


def test_a_network_that_predicts_one_class_only():
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]])
    labeled = torch.tensor([True, True, False, False])
    mask, predicted = confident(probabilities, torch.tensor([0, 0, 1, 1]), labeled)
    assert predicted.tolist() == [0, 0, 0, 0]
    assert mask.tolist() == [False, False, True, False]  # above 0.75 or not


# --- the head


def test_head_by_hand():
    head = PrototypeHead(2, 1, 2)
    head.standardise_to(torch.tensor([[1.0, 10.0], [3.0, 30.0]]))
    assert head.feature_mean.tolist() == [2.0, 20.0]
    assert head.feature_std.tolist() == [1.0, 10.0]
    with torch.no_grad():
        head.projector.weight.copy_(torch.tensor([[1.0, 2.0]]))
        head.projector.bias.fill_(0.5)
        head.prototypes.copy_(torch.tensor([[1.0], [-2.0]]))
    features = torch.tensor([[4.0, 25.0]])  # standardised 2, 0.5; embedded 2 + 1 + 0.5
    assert head.embed(features).tolist() == [[3.5]]
    assert head(features).tolist() == [[3.5, -7.0]]
    expected = torch.sigmoid(torch.tensor([-7.0]))
    assert torch.equal(head.clean_probability(features, torch.tensor([1])), expected)


def test_prototypes_start_at_a_length_of_about_one():
    """Each of 64 numbers has a standard deviation of 1/8, so that v' c_k is as large as a number of v'."""
    torch.manual_seed(0)
    drawn = PrototypeHead(65, 64, 500).prototypes.detach()
    assert float(drawn.std()) == pytest.approx(1 / 8, rel=0.02)  # five standard errors
    assert float(drawn.mean()) == pytest.approx(0, abs=0.004)


def test_dead_features_stay_silent():
    features = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    features[:, 1] = 1234.567
    features[::2, 1] = 1234.5671  # the neighbour in float32: a rounding error, not a signal
    features[:, 2] = 0.0
    head = PrototypeHead(3, 2, 2)
    head.standardise_to(features)
    assert head.feature_std[1:].tolist() == [1.0, 1.0]
    assert head.standardise(features)[:, 1:].abs().max() < 1e-2


def test_gradients_stop_at_the_features():
    head, (features, labels, *sets) = random_case()
    features.requires_grad_()
    prototype_loss(head(features), labels, *sets, 1.0).backward()
    assert features.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_everything_of_the_head_is_in_its_state():
    assert set(PrototypeHead(4, 2, 3).state_dict()) == {
        "feature_mean",
        "feature_std",
        "fitted",
        "projector.weight",
        "projector.bias",
        "prototypes",
    }


@pytest.mark.parametrize(
    ("sizes", "setting"), [((4, 4, 2), "embedding_size"), ((4, 0, 2), "embedding_size"), ((4, 2, 1), "num_classes")]
)
def test_unusable_sizes_are_named(sizes, setting):
    with pytest.raises(InputError) as error:
        PrototypeHead(*sizes)
    assert error.value.setting == setting


# --- the fit


@pytest.mark.parametrize(("n", "batch_size"), [(40, 16), (40, 40), (7, 128), (300, 2)])
def test_windows_are_shuffled_passes_in_a_row(n, batch_size):
    steps = 2 * WINDOW + 7
    batch_size = min(n, batch_size)
    windows = list(_shuffled_windows(n, batch_size, steps, seed=3))
    assert [len(w) for w in windows] == [WINDOW, WINDOW, 7]
    stream = torch.cat([w.flatten() for w in windows])
    assert len(stream) == steps * batch_size
    passes = [part for part in stream.split(n) if len(part) == n]
    for part in passes:
        assert sorted(part.tolist()) == list(range(n))
    if len(passes) > 1:
        assert not torch.equal(passes[0], passes[1])


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize(("batch_size", "K"), [(16, 4), (3, 2), (64, 4)])
def test_fit_equals_autograd(alpha, batch_size, K):
    """The written-down gradient against autograd, through momentum and weight decay, over more than one window.

    Batches of 3 often lack X, U or P altogether.
    """
    head, data = random_case(K=K)
    other = copy.deepcopy(head)
    steps = WINDOW + 20
    fit = fit_prototypes(
        head, sgd(head, 0.05), *data, alpha=alpha, steps=steps, batch_size=batch_size, seed=9, tolerance=0.0
    )
    optimizer, losses = sgd(other, 0.05), []
    for rows in torch.cat(list(_shuffled_windows(40, min(batch_size, 40), steps, seed=9))):
        features, labels, *sets = (t[rows] for t in data)
        optimizer.zero_grad()
        losses.append(prototype_loss(other(features), labels, *sets, alpha))
        losses[-1].backward()
        optimizer.step()
    for mine, theirs in zip(head.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)
    assert fit.steps == steps
    assert fit.loss == pytest.approx(float(torch.stack(losses[WINDOW:]).detach().mean()), rel=1e-9)
    assert all(p.grad is None for p in head.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=0.01),
        lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9),
        lambda parameters: torch.optim.SGD(parameters, 0.05, weight_decay=0.01),
        lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, nesterov=True),
        lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, dampening=0.3),
        lambda parameters: torch.optim.Adam(parameters, 0.01),
    ],
    ids=["as by default", "no weight decay", "no momentum", "nesterov", "dampening", "adam"],
)
def test_an_optimizer_and_its_state_are_as_after_its_own_steps(make):
    """In two fits, the second of which starts from an optimizer that a checkpoint has restored."""
    head, data = random_case()
    other = copy.deepcopy(head)
    mine, theirs = make(head.parameters()), make(other.parameters())
    for seed in (1, 2):
        fit_prototypes(head, mine, *data, alpha=0.3, steps=30, batch_size=16, seed=seed)
        for rows in torch.cat(list(_shuffled_windows(40, 16, 30, seed))):
            features, labels, *sets = (t[rows] for t in data)
            theirs.zero_grad()
            prototype_loss(other(features), labels, *sets, 0.3).backward()
            theirs.step()
        torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(
            head.state_dict(), other.state_dict() | {"fitted": torch.tensor(1)}, rtol=1e-9, atol=0
        )
        restored = make(head.parameters())
        restored.load_state_dict(copy.deepcopy(mine.state_dict()))
        mine = restored


def test_fit_is_deterministic_and_leaves_the_generator_alone():
    def fitted(seed):
        head, data = random_case(dtype=torch.float32)
        state = torch.get_rng_state()
        fit_prototypes(head, sgd(head), *data, alpha=1.0, steps=30, batch_size=8, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        return head.prototypes

    assert torch.equal(fitted(1), fitted(1))
    assert not torch.equal(fitted(1), fitted(2))


def test_fit_goes_on_from_where_it_stood():
    """Two fits are not one fit twice: the second starts from the first's parameters and momentum."""
    head, data = random_case()
    optimizer = sgd(head, 0.02)
    assert head.fitted == 0
    losses = [fit_prototypes(head, optimizer, *data, alpha=0.0, steps=50, batch_size=16, seed=1).loss for _ in range(3)]
    assert head.fitted == 1
    assert losses[0] > losses[1] > losses[2]


def test_fit_stops_when_the_loss_has_settled():
    head, data = random_case()
    settled = fit_prototypes(head, sgd(head), *data, alpha=0.0, steps=5000, batch_size=40, seed=1, tolerance=1e-3)
    assert 2 * WINDOW <= settled.steps < 5000
    assert settled.steps % WINDOW == 0
    full = fit_prototypes(head, sgd(head), *data, alpha=0.0, steps=700, batch_size=40, seed=1, tolerance=0.0)
    assert full.steps == 700
    assert full.loss == pytest.approx(settled.loss, rel=0.05)


@pytest.mark.parametrize(
    ("n", "batch_size", "steps"),
    [
        (200, 1, 400),  # a pass of 200 steps, which is a span; the second shows that the loss stays
        (100, 1, 200),  # two passes would be more than LOOK, 100 steps: a span is one
        (25, 1, 100),  # a span is two passes
        (40, 40, 50),  # of one step: a span is as long as a window, 25 steps
    ],
)
def test_whether_a_loss_has_settled_is_seen_on_whole_passes(n, batch_size, steps):
    """Nothing is learnt, and the losses of the parts of a pass differ."""
    head, data = random_case(n=n)
    for seed in range(5):
        fit = fit_prototypes(
            head, sgd(head, lr=0.0), *data, alpha=0.0, steps=1000, batch_size=batch_size, seed=seed, tolerance=1e-3
        )
        assert fit.steps == steps


def test_fit_does_not_stop_while_the_loss_falls():
    head, data = random_case()
    slow = torch.optim.SGD(head.parameters(), lr=1e-3)
    fit = fit_prototypes(head, slow, *data, alpha=0.0, steps=5 * WINDOW, batch_size=40, seed=1, tolerance=1e-3)
    assert fit.steps == 5 * WINDOW


@pytest.mark.parametrize("side", ["labeled", "unlabeled"])
def test_fit_with_one_side_empty(side):
    head, (features, labels, labeled, confident, predicted) = random_case()
    everyone = torch.full_like(labeled, side == "labeled")
    fit = fit_prototypes(
        head,
        sgd(head),
        features,
        labels,
        everyone,
        confident & ~everyone,
        predicted,
        alpha=1.0,
        steps=50,
        batch_size=16,
        seed=0,
    )
    assert math.isfinite(fit.loss)
    assert all(torch.isfinite(p).all() for p in head.parameters())
    q = head.clean_probability(features, labels).detach().mean()
    # With random labels of 4 classes, X alone has 1/4 pull to 3/4 * 1/4 push at each score: 0.57.
    assert (q > 0.5) if side == "labeled" else (q < 0.3)


@pytest.mark.gpu
@pytest.mark.parametrize("where", ["head", "head and features", "features"])
def test_a_fit_reads_each_tensor_from_the_device_that_it_is_on(where):
    """Labels and masks stay on the CPU. Float64: sums in another order are all that may differ."""
    head, (features, *rest) = random_case()
    other = copy.deepcopy(head).to(DEVICE if "head" in where else "cpu")
    theirs = features.to(DEVICE if "features" in where else "cpu")
    settings = {"alpha": 0.3, "steps": WINDOW + 20, "batch_size": 16, "seed": 9}
    expected = fit_prototypes(head, sgd(head, 0.05), features, *rest, **settings)
    fit = fit_prototypes(other, sgd(other, 0.05), theirs, *rest, **settings)
    assert fit.steps == expected.steps
    assert fit.loss == pytest.approx(expected.loss, rel=1e-9)
    for one, another in zip(head.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, another.cpu(), rtol=1e-7, atol=1e-9)
    q = other.clean_probability(theirs, rest[0])
    assert q.device == theirs.device
    torch.testing.assert_close(q.cpu(), head.clean_probability(features, rest[0]), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fit_that_diverges_says_so(momentum):
    """And leaves behind what the optimizer has made of the parameters."""
    head, data = random_case()
    before = head.prototypes.detach().clone()
    optimizer = torch.optim.SGD(head.parameters(), 1e6, momentum=momentum)
    with pytest.raises(TrainingError, match="lower their learning rate"):
        fit_prototypes(head, optimizer, *data, alpha=0.0, steps=300, batch_size=16, seed=0)
    assert not torch.equal(head.prototypes, before)
    assert all(p.grad is None for p in head.parameters())


@pytest.mark.parametrize(
    ("samples", "span"),
    # Of 128: 1, 12 and 37 steps a pass, twice that rounded up to 25; then 38, 42 and 391 rounded up to 100.
    [(10, 25), (1438, 25), (4736, 75), (4737, 100), (5300, 100), (50_000, 400)],
)
def test_looks_at_the_loss_go_over_whole_passes(samples, span):
    assert settling_span(samples, 128) == span


def test_fit_separates_what_can_be_separated():
    """Three classes far apart, a third of labels wrong and known to be: q tells them apart."""
    g = torch.Generator().manual_seed(0)
    true = torch.arange(300) % 3
    features = torch.randn(300, 5, generator=g) + 6 * F.one_hot(true, 5)
    right = torch.rand(300, generator=g) < 2 / 3
    labels = torch.where(right, true, (true + 1) % 3)
    torch.manual_seed(0)
    head = PrototypeHead(5, 4, 3)
    head.standardise_to(features)
    nobody = torch.zeros(300, dtype=torch.bool)
    fit_prototypes(
        head, sgd(head, 0.02), features, labels, right, nobody, true, alpha=0.0, steps=300, batch_size=32, seed=0
    )
    assert ((head.clean_probability(features, labels) > 0.5) == right).all()
