import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from cpc_lightning.cleaning.mixtures import fit_pairs


def groups(seed, most):
    """Losses of up to `most` classes of all sizes, from such as have a hump of large losses to such as have a tail."""
    rng = np.random.default_rng(seed)
    for _ in range(rng.integers(1, most + 1)):
        count, share = rng.integers(10, 400), rng.uniform(0.05, 0.95)
        low = rng.gamma(1.5, 0.05, int(count * share))
        high = rng.normal(rng.uniform(0.2, 0.8), rng.uniform(0.02, 0.3), count - len(low))
        yield rng.permutation(np.concatenate([low, high]).clip(0, 1))


@pytest.mark.parametrize("seed", range(8))
def test_each_group_is_scikit_learns_own_fit(seed):
    """Which no other group changes, whether its EM settles before the others' or after."""
    parts = list(groups(seed, 12))
    pairs, posterior = fit_pairs(np.concatenate(parts), np.array([len(part) for part in parts]), seed)
    ends = np.cumsum([len(part) for part in parts])
    for place, (part, own) in enumerate(zip(parts, np.split(posterior, ends[:-1]), strict=True)):
        model = GaussianMixture(n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(part[:, None])
        order = model.means_.ravel().argsort()
        np.testing.assert_allclose(own, model.predict_proba(part[:, None])[:, order[0]], rtol=1e-9, atol=1e-12)
        for mine, theirs in (
            (pairs.means, model.means_.ravel()),
            (pairs.variances, model.covariances_.ravel()),
            (pairs.weights, model.weights_),
        ):
            np.testing.assert_allclose(mine[:, place], theirs[order], rtol=1e-9)


def test_two_values_by_hand():
    """k-means gives each of 0 and 1 a Gaussian of its own, as narrow as the variance that is added, 5e-4."""
    pairs, posterior = fit_pairs(np.array([1.0, 0.0]), np.array([2]), 0)
    assert pairs.means[:, 0] == pytest.approx([0, 1], abs=1e-9)
    assert pairs.variances[:, 0] == pytest.approx([5e-4, 5e-4], rel=1e-6)
    assert pairs.weights[:, 0] == pytest.approx([0.5, 0.5])
    assert posterior == pytest.approx([0, 1])


def test_equal_values_are_no_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs, posterior = fit_pairs(np.full(5, 0.25), np.array([5]), 0)
    assert np.isfinite(pairs.means).all()
    assert np.isfinite(posterior).all()
