import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from tests.cleaning.conftest import evidence_of, whole_set_task

from cpc_lightning.cleaning.evidence import Basis, Draw, JudgesOthers, LossMixture
from cpc_lightning.cleaning.gmm import (
    CLASS_AGNOSTIC,
    GmmCleaner,
    class_agnostic_probability,
    class_aware_probability,
    clean_posterior,
    fit_mixture,
    scale_like,
    scale_losses,
)
from cpc_lightning.errors import InputError


def two_humps(n, seed, low=0.15, high=0.7, share=0.6):
    """Scaled losses (n,), and which of them come from the low hump."""
    rng = np.random.default_rng(seed)
    is_low = rng.random(n) < share
    return np.clip(np.where(is_low, rng.normal(low, 0.06, n), rng.normal(high, 0.12, n)), 0, 1), is_low


def skewed(seed):
    """Scaled losses (300,) piled up at 0: with 1 and 16, ten iterations do not converge and the fit's seed matters."""
    losses = np.random.default_rng(seed).beta(0.2, 2, 300)
    return (losses - losses.min()) / np.ptp(losses)


def by_sklearn(losses, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GaussianMixture(n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
        model.fit(losses[:, None])
    return model, model.predict_proba(losses[:, None])[:, model.means_.argmin()]


def assert_same(probability, expected):
    """But for rounding: sums are taken in another order."""
    np.testing.assert_allclose(probability, expected, rtol=1e-10, atol=1e-12)


def task_of(history_1, history_2, noisy_labels, index=None, seed=0):
    histories = [torch.as_tensor(np.array(h), dtype=torch.float32) for h in (history_1, history_2)]
    n = len(noisy_labels)
    labels = torch.as_tensor(noisy_labels)
    softmax, features = torch.full((n, 5), 0.2), torch.zeros(n, 3)
    evidence = tuple(evidence_of(h[-1], h, softmax, labels, features) for h in histories)
    index = torch.arange(n) if index is None else index
    return whole_set_task(index, labels, labels, evidence, (None, None), (None, None), 0.5, seed)


def test_scaling_by_hand():
    assert scale_losses(torch.tensor([2.0, 4.0, 3.0, 2.5])).tolist() == [0.0, 1.0, 0.5, 0.25]


def test_constant_losses_scale_to_zero():
    assert scale_losses(torch.full((3,), 1.7)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_losses_that_are_not_finite_name_the_sample(bad):
    losses = torch.tensor([0.1, 0.2, bad, 0.3])
    with pytest.raises(ValueError, match="sample 2 "):
        scale_losses(losses)
    with pytest.raises(ValueError, match="sample 2 "):
        class_agnostic_probability(losses.numpy(), 0)
    with pytest.raises(ValueError, match="sample 2 "):
        class_aware_probability(losses.numpy(), np.zeros(4, dtype=int), 0)
    with pytest.raises(ValueError, match="sample 70 "):  # the cleaner knows the position in the training set
        GmmCleaner(False).clean(task_of([losses], [losses], [0, 0, 1, 1], index=torch.tensor([50, 60, 70, 80])))


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_agnostic_equals_sklearn(seed):
    losses, is_low = two_humps(300, seed)
    model, expected = by_sklearn(losses, seed)
    probability, mixtures = class_agnostic_probability(losses, seed)
    assert_same(probability, expected)
    assert ((probability > 0.5) == is_low).mean() > 0.97
    mixture = mixtures[CLASS_AGNOSTIC]
    assert mixture.means == pytest.approx(sorted(model.means_.ravel()), rel=1e-12)
    assert mixture.means[0] == pytest.approx(0.15, abs=0.03)
    assert mixture.variances[0] < mixture.variances[1]  # the low hump is the narrow one
    assert mixture.weights[0] == pytest.approx(is_low.mean(), abs=0.03)


@pytest.mark.parametrize("data", [1, 16])
def test_the_method_stops_after_ten_iterations_and_takes_the_given_seed(data):
    losses = skewed(data)
    expected = [by_sklearn(losses, seed) for seed in (0, 1, 2)]
    assert not expected[0][0].converged_
    for seed, (_, posterior) in enumerate(expected):
        assert_same(class_agnostic_probability(losses, seed)[0], posterior)
    assert any(not np.allclose(expected[0][1], other, atol=1e-3) for _, other in expected[1:])


def test_any_whole_number_seeds_a_fit():
    losses = skewed(1)
    np.testing.assert_array_equal(fit_mixture(losses, 2**32 + 1)[1], fit_mixture(losses, 1)[1])


def test_aware_equals_sklearn_on_each_class():
    labels = np.random.default_rng(5).integers(0, 3, 400)
    losses = np.empty(400)
    for k, (low, high) in enumerate([(0.1, 0.5), (0.3, 0.9), (0.05, 0.3)]):
        losses[labels == k] = two_humps((labels == k).sum(), k, low, high)[0]
    probability, mixtures = class_aware_probability(losses, labels, 7)
    for k in range(3):
        assert_same(probability[labels == k], by_sklearn(losses[labels == k], 7)[1])
    assert set(mixtures) == {CLASS_AGNOSTIC, 0, 1, 2}
    assert not np.allclose(probability, class_agnostic_probability(losses, 7)[0], atol=0.1)


def test_every_class_is_fitted_with_the_same_seed():
    """On these losses the fits with seeds 0, 1 and 2 all differ."""
    losses, labels = np.tile(skewed(16), 3), np.repeat([0, 1, 2], 300)
    probability, _ = class_aware_probability(losses, labels, 1)
    for k in range(3):
        assert_same(probability[labels == k], by_sklearn(skewed(16), 1)[1])
    others = [by_sklearn(skewed(16), seed)[1] for seed in (0, 2)]
    assert all(np.abs(probability[:300] - other).max() > 0.04 for other in others)


def test_small_constant_and_absent_classes_take_the_agnostic_posterior():
    """Class 0 has its own mixture; 1, 2, 3 have 9, 1, 2 samples; 4 none; 5 is constant; 6 nearly so."""
    labels = np.repeat([0, 1, 2, 3, 5, 6, 7], [100, 9, 1, 2, 30, 30, 10])
    losses = two_humps(len(labels), 3)[0]
    losses[labels == 5] = 0.4
    losses[labels == 6] = np.linspace(0.1, 0.12, 30)
    probability, mixtures = class_aware_probability(losses, labels, 0)
    agnostic, _ = class_agnostic_probability(losses, 0)
    for k in (1, 2, 3, 5, 6):
        np.testing.assert_array_equal(probability[labels == k], agnostic[labels == k])
    assert set(mixtures) == {CLASS_AGNOSTIC, 0, 7}  # ten samples are enough
    assert_same(probability[labels == 7], by_sklearn(losses[labels == 7], 0)[1])
    assert probability[labels == 6].min() > 0.9  # a well-learnt class is not cut in half


@pytest.mark.parametrize("n", [1, 2, 50])
def test_constant_losses_speak_against_no_label(n):
    losses = np.full(n, 0.3)
    for probability, mixtures in (
        class_agnostic_probability(losses, 0),
        class_aware_probability(losses, np.arange(n) % 2, 0),
    ):
        assert probability.tolist() == [1.0] * n
        assert mixtures == {}


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**6), st.booleans())
def test_the_order_of_samples_does_not_matter(seed, aware):
    # Two bands with nothing between: scikit-learn starts from a k-means whose start depends on the order, and where
    # a sample lies halfway it can end in another place.
    rng = np.random.default_rng(seed)
    losses = rng.random(80) * 0.2 + 0.8 * (rng.random(80) < 0.4)
    labels = np.arange(80) % 2
    order = np.random.default_rng(seed + 1).permutation(80)

    def q(losses, labels):
        return (class_aware_probability(losses, labels, 0) if aware else class_agnostic_probability(losses, 0))[0]

    np.testing.assert_allclose(q(losses[order], labels[order]), q(losses, labels)[order], atol=1e-3)


def test_fit_is_silent_and_leaves_the_generators_alone():
    losses = skewed(1)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = fit_mixture(losses, 0), fit_mixture(losses, 0)
    np.testing.assert_array_equal(first[1], second[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_what_one_network_finds_divides_for_the_other():
    """Network 1 finds the even samples clean, network 2 the odd ones."""
    even = np.tile([0.1, 0.9], 20) + np.linspace(0, 0.05, 40)
    odd = np.tile([0.9, 0.1], 20) + np.linspace(0, 0.05, 40)
    result = GmmCleaner(class_aware=False).clean(
        task_of([even], [odd], np.zeros(40, dtype=int), torch.arange(100, 140))
    )
    assert result.partitions[0].labeled.tolist() == list(range(101, 140, 2))
    assert result.partitions[1].labeled.tolist() == list(range(100, 140, 2))
    assert (result.estimates[0].gmm[::2] > 0.9).all()
    assert (result.estimates[1].gmm[1::2] > 0.9).all()
    assert result.estimates[0].clean_probability is result.estimates[0].gmm
    assert result.estimates[0].cpc is None
    assert result.estimates[0].mixtures[CLASS_AGNOSTIC].means == pytest.approx((0.125, 0.925), abs=0.01)


@pytest.mark.parametrize("class_aware", [False, True])
def test_each_network_judges_the_samples_that_its_peer_trains_on(class_aware):
    """Draws of 60 and 80 samples, as Clothing1M has them; what networks say of their own draws is not looked at."""
    sizes = 60, 80
    draws = [Draw(torch.arange(n) + 10 * n, torch.arange(n) % (2 + r), torch.zeros(n)) for r, n in enumerate(sizes)]
    losses = two_humps(80, 1)[0].astype(np.float32), two_humps(60, 2)[0].astype(np.float32)  # of network 1, of 2
    task = task_of([losses[0]], [losses[1]], np.zeros(80, dtype=int))
    judging = tuple(replace(e, loss_history=torch.tensor(q)[None]) for e, q in zip(task.judging, losses, strict=True))
    task = replace(task, draws=tuple(draws), judging=judging, learning=(None, None))
    result = GmmCleaner(class_aware).clean(task)
    for own, peer in ((0, 1), (1, 0)):
        labels = draws[peer].noisy_labels.numpy()
        doubles = losses[own].astype(np.float64)
        expected = by_sklearn(doubles, 0)[1]
        for k in range(2 + peer) if class_aware else ():
            expected[labels == k] = by_sklearn(doubles[labels == k], 0)[1]
        np.testing.assert_array_equal(result.estimates[own].gmm.numpy(), expected.astype(np.float32))
        partition = result.partitions[peer]
        assert torch.equal(partition.index, draws[peer].index)
        assert torch.equal(partition.clean_probability, result.estimates[own].gmm)


@pytest.mark.parametrize(("recorded", "length", "used"), [(7, 5, 5), (3, 5, 3), (7, 1, 1), (5, 5, 5)])
def test_history_is_the_mean_of_the_last_recorded_losses(recorded, length, used):
    history = np.stack([two_humps(60, s)[0] for s in range(recorded)]).astype(np.float32)
    result = GmmCleaner(False, history_length=length).clean(task_of(history, history, np.zeros(60, dtype=int)))
    averaged = torch.from_numpy(history[recorded - used :]).mean(0).double().numpy()
    assert_same(result.estimates[0].gmm.numpy(), by_sklearn(averaged, 0)[1].astype(np.float32))


def test_class_aware_follows_the_given_labels():
    labels = np.repeat([0, 1], 50)
    losses = np.concatenate([np.repeat([0.1, 0.3], 25), np.repeat([0.6, 0.9], 25)]) + np.tile(
        np.linspace(0, 0.04, 25), 4
    )
    clean = np.repeat([True, False, True, False], 25)
    aware = GmmCleaner(class_aware=True).clean(task_of([losses], [losses], labels))
    agnostic = GmmCleaner(class_aware=False).clean(task_of([losses], [losses], labels))
    assert aware.partitions[0].clean.tolist() == clean.tolist()
    assert agnostic.partitions[0].clean.tolist() == (labels == 0).tolist()


def test_the_threshold_divides():
    losses, _ = two_humps(300, 2, low=0.3, high=0.5)
    strict, mild = (GmmCleaner(False, t).clean(task_of([losses], [losses], [0] * 300)) for t in (0.9, 0.1))
    q = strict.estimates[1].gmm
    assert strict.partitions[0].clean.tolist() == (q > 0.9).tolist()
    assert mild.partitions[0].clean.tolist() == (q > 0.1).tolist()
    assert strict.partitions[0].clean.sum() < mild.partitions[0].clean.sum()


@pytest.mark.parametrize(
    ("setting", "value"), [("threshold", 0.0), ("threshold", 1), ("threshold", float("nan")), ("history_length", 0)]
)
def test_unusable_settings_are_named(setting, value):
    with pytest.raises(InputError) as error:
        GmmCleaner(False, **{setting: value})
    assert error.value.setting == setting


# Samples outside the training set -------------------------------------------------------------------------------------


def test_other_losses_are_scaled_as_the_sets_own_and_cut_off():
    assert scale_like(torch.tensor([1.0, 2.0, 3.0, 5.0]), (2.0, 4.0)).tolist() == [0.0, 0.0, 0.5, 1.0]
    assert scale_like(torch.tensor([1.0, 3.0]), (2.0, 2.0)).tolist() == [0.0, 0.0]  # as constant losses themselves


SAME = LossMixture(means=(0.1, 0.9), variances=(0.04, 0.04), weights=(0.5, 0.5))


def test_a_mixtures_posterior_by_hand():
    """Equal variances v: the log ratio at x is ((x - .9)^2 - (x - .1)^2) / 2v = (0.8 - 1.6 x) / 0.08 = 10 - 20 x.

    Class 3 has a mixture of its own, three quarters of it clean; class 5 one with means alike, whose clean component is
    half as wide and so twice as dense there; class 7 has none.
    """
    own = {
        CLASS_AGNOSTIC: SAME,
        3: LossMixture(means=(0.1, 0.9), variances=(0.04, 0.04), weights=(0.75, 0.25)),
        5: LossMixture(means=(0.5, 0.5), variances=(0.01, 0.04), weights=(0.5, 0.5)),
    }
    scaled, labels = torch.tensor([0.5, 0.4, 0.5, 0.5, 1.0]), torch.tensor([7, 7, 3, 5, 7])
    logistic = [1 / (1 + np.exp(-ratio)) for ratio in (0, 2, -10)]
    expected = [logistic[0], logistic[1], 0.75, 2 / 3, logistic[2]]
    assert clean_posterior(own, scaled, labels).tolist() == pytest.approx(expected, abs=1e-6)
    alike = {CLASS_AGNOSTIC: SAME}  # of the class-agnostic cleaner
    assert clean_posterior(alike, scaled[:3], labels[:3]).tolist() == pytest.approx([*logistic[:2], 0.5], abs=1e-6)
    for none in ({}, None):  # constant losses speak against no label
        assert clean_posterior(none, scaled, labels).tolist() == [1.0] * 5


@pytest.mark.parametrize("seed", [0, 1])
def test_the_posterior_of_the_samples_it_was_fitted_to_is_sklearns(seed):
    losses, _ = two_humps(300, seed)
    mixture, fitted = fit_mixture(losses, seed)
    told = clean_posterior({CLASS_AGNOSTIC: mixture}, torch.from_numpy(losses), torch.zeros(300, dtype=torch.int64))
    assert told.numpy() == pytest.approx(fitted, abs=1e-9)


def test_the_cleaner_judges_other_samples_by_their_last_loss():
    labels = torch.tensor([0, 1])
    evidence = evidence_of(torch.zeros(2), torch.tensor([[0.5, 0.4]]), torch.full((2, 3), 1 / 3), labels, None)
    cleaner, basis = GmmCleaner(class_aware=False), Basis((0.0, 2.0), {CLASS_AGNOSTIC: SAME}, 0.5)
    assert isinstance(cleaner, JudgesOthers)
    told = cleaner.judge(evidence, Draw(torch.arange(2), labels, labels), basis, None)
    assert told.dtype == torch.float32
    assert told.tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-2))])


def test_a_basis_travels_through_a_checkpoint(tmp_path):
    for basis in (Basis((0.25, 2.0), {CLASS_AGNOSTIC: SAME, 3: SAME}, 0.5), Basis((0.0, 0.0), None, 1.0)):
        torch.save(basis.to_state(), tmp_path / "basis")
        assert Basis.from_state(torch.load(tmp_path / "basis", weights_only=True)) == basis
