"""IDO's wrong events: counting by hand, the mixture against a float64 reference, a memory that is given back."""

import numpy as np
import pytest
import torch
from scipy.stats import beta

from cpc_lightning.cleaning.evidence import CleaningTask, Draw, Evidence, Remembers
from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.cleaning.wrong_events import WrongEventsCleaner, beta_mixture, clean_share
from cpc_lightning.errors import InputError

LABELS = torch.tensor([0, 1, 1, 0])


def draw_of(index, labels=LABELS):
    return Draw(torch.tensor(index), labels, torch.full_like(labels, -1))


def seen_of(*predicted):
    none = torch.zeros(len(predicted))
    return Evidence(none, none[None], none, torch.tensor(predicted), none, torch.empty(len(predicted), 0))


def task_of(draw, first, second):
    return CleaningTask((draw, draw), (first, second), (first, second), (None, None), (None, None), 0.0, 0)


def test_events_are_counted_by_hand_for_each_network_and_sample():
    cleaner = WrongEventsCleaner(class_aware=False)
    cleaner.remember(draw_of([0, 2, 3, 5]), (seen_of(0, 1, 1, 0), seen_of(1, 0, 0, 1)))
    cleaner.remember(draw_of([0, 2, 3, 5]), (seen_of(0, 0, 1, 0), seen_of(1, 0, 1, 1)))
    cleaner.remember(draw_of([2, 7], LABELS[:2]), (seen_of(1, 1), seen_of(0, 1)))  # 2 is 0 here, 7 is 1
    state = cleaner.state_dict()
    assert state["looks"].tolist() == [2, 0, 3, 2, 0, 2, 0, 1]
    assert state["events"].tolist() == [[0, 0, 2, 0, 0, 0, 0, 0], [2, 0, 2, 1, 0, 2, 0, 0]]
    shares = [cleaner.share_of_events(r, draw_of([0, 2, 3, 5]), seen_of(9, 9, 9, 9)).tolist() for r in (0, 1)]
    assert shares == [[0, pytest.approx(2 / 3), 0, 0], [1, pytest.approx(2 / 3), 0.5, 1]]


def test_what_is_not_remembered_is_judged_by_what_is_said_now():
    cleaner = WrongEventsCleaner()
    cleaner.remember(draw_of([3], LABELS[:1]), (seen_of(1), seen_of(1)))
    assert cleaner.share_of_events(0, draw_of([1, 2, 3, 9]), seen_of(0, 0, 1, 1)).tolist() == [0, 1, 1, 1]


def by_scipy(values, iterations=20, margin=1e-6):
    """The posterior of the clean component, one plain step after the other."""
    x = values * (1 - 2 * margin) + margin
    shapes, weights = [[1.0, 2.0], [2.0, 1.0]], [0.5, 0.5]

    def posterior(x):
        logs = np.array([np.log(w) + beta.logpdf(x, *shape) for w, shape in zip(weights, shapes, strict=True)])
        densities = np.exp(logs - logs.max(axis=0))
        return densities / densities.sum(axis=0)

    for _ in range(iterations):
        shares = posterior(x)
        for k, share in enumerate(shares):
            total = share.sum() + margin
            mean = (share * x).sum() / total
            spread = max((share * (x - mean) ** 2).sum() / total, margin)
            common = mean * (1 - mean) / spread - 1
            shapes[k] = [max(mean * common, margin), max((1 - mean) * common, margin)]
        if shapes[0][1] < 1.02:
            shapes[0][1] = 1.1
        if shapes[1][0] < 1.02:
            shapes[1][0] = 1.1
        weights = shares.sum(axis=1) / len(x)
    found, (clean, wrong) = posterior(x)[0], (a / (a + b) for a, b in shapes)
    for sample in range(len(x)):  # the cleanest of what has as many events or more, below the mean; and the reverse
        if x[sample] <= clean:
            found[sample] = posterior(x[(x >= x[sample]) & (x <= clean)])[0].max()
        if x[sample] >= wrong:
            found[sample] = posterior(x[(x <= x[sample]) & (x >= wrong)])[0].min()
    return found


@pytest.mark.parametrize("epochs", [1, 4, 30])
def test_the_mixture_is_that_of_plain_steps(epochs):
    stream = np.random.RandomState(0)
    events = np.concatenate([stream.binomial(epochs, 0.15, 300), stream.binomial(epochs, 0.9, 150)]) / epochs
    found = beta_mixture(events)
    np.testing.assert_allclose(found, by_scipy(events), atol=1e-9)
    assert found[events == events.min()].min() > 0.9
    assert found[events == events.max()].max() < 0.1
    assert (np.diff(found[np.argsort(events)]) < 1e-6).all()  # more events are never cleaner


def test_a_class_has_a_mixture_of_its_own_where_it_is_large_enough():
    stream = np.random.RandomState(1)
    easy = np.concatenate([stream.binomial(20, 0.05, 60), stream.binomial(20, 0.9, 60)]) / 20
    hard = np.concatenate([stream.binomial(20, 0.5, 60), stream.binomial(20, 0.95, 60)]) / 20
    shares, labels = np.concatenate([easy, hard, [0.5] * 5]), np.repeat([0, 2, 3], [120, 120, 5])
    own, common = clean_share(shares, labels), clean_share(shares, None)
    scaled = (shares - shares.min()) / (shares.max() - shares.min())
    np.testing.assert_allclose(common, by_scipy(scaled), atol=1e-9)
    np.testing.assert_allclose(own[:120], by_scipy(scaled[:120]), atol=1e-9)
    np.testing.assert_allclose(own[120:240], by_scipy(scaled[120:240]), atol=1e-9)
    np.testing.assert_allclose(own[240:], common[240:])  # five are too few
    assert (own[120:180] > 0.5).mean() > (common[120:180] > 0.5).mean() + 0.3


def test_a_class_of_equal_shares_takes_the_mixture_of_all():
    shares, labels = np.array([0.0] * 20 + [1.0] * 10 + [0.0] * 20), np.repeat([0, 1], [30, 20])
    np.testing.assert_allclose(clean_share(shares, labels)[30:], clean_share(shares, None)[30:])


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("labels", [None, np.zeros(12, int)])
def test_all_right_or_all_wrong_speaks_against_no_label(share, labels):
    assert clean_share(np.full(12, share), labels).tolist() == [1.0] * 12
    assert clean_share(np.empty(0), None).tolist() == []


def test_what_is_no_share_is_refused():
    for value in (float("nan"), -0.1, 1.1):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
            clean_share(np.array([0.0, value]), None)


def test_the_data_is_divided_by_the_peer():
    cleaner = WrongEventsCleaner(class_aware=False)
    for _ in range(5):
        cleaner.remember(draw_of([0, 1, 2, 3]), (seen_of(0, 1, 0, 0), seen_of(1, 1, 1, 0)))
    result = cleaner.clean(task_of(draw_of([0, 1, 2, 3]), seen_of(0, 1, 0, 0), seen_of(1, 1, 1, 0)))
    assert [(e.clean_probability > 0.5).tolist() for e in result.estimates] == [[1, 1, 0, 1], [0, 1, 1, 1]]
    assert [p.labeled.tolist() for p in result.partitions] == [[1, 2, 3], [0, 1, 3]]
    assert result.scalars == {"wrong_events/epochs": 5.0}


def test_a_memory_that_is_given_back_goes_on_where_it_was():
    looks = [(seen_of(0, 1, 0, 1), seen_of(1, 1, 1, 0)), (seen_of(0, 0, 0, 1), seen_of(0, 1, 1, 1))]
    straight, first, again = WrongEventsCleaner(), WrongEventsCleaner(), WrongEventsCleaner()
    for seen in looks:
        straight.remember(draw_of([0, 1, 2, 3]), seen)
    first.remember(draw_of([0, 1, 2, 3]), looks[0])
    state = first.state_dict()
    again.load_state_dict(state)
    again.remember(draw_of([0, 1, 2, 3]), looks[1])
    for name, value in straight.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert torch.equal(state["looks"], first.state_dict()["looks"])  # a state is a copy: it does not count on
    assert isinstance(straight, Remembers)
    assert not isinstance(GmmCleaner(False), Remembers)


@pytest.mark.parametrize(("setting", "value"), [("threshold", 1.5), ("class_aware", 1), ("class_floor", 2)])
def test_what_cannot_be_used_is_refused(setting, value):
    with pytest.raises(InputError, match=setting):
        WrongEventsCleaner(**{setting: value})
