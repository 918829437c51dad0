"""The co-training schedule, and real data loaders that follow it."""

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from cpc_lightning.datasets.dataset import ArrayImages, Split
from cpc_lightning.errors import InputError
from cpc_lightning.training.loading import CoTrainingDataset, EvaluationDataset, as_is
from cpc_lightning.training.samplers import (
    BatchPlan,
    CoTrainingSampler,
    NetworkShare,
    balanced_draw,
    warmup_share,
    weighted_draw,
)


def partition(labeled: list[int], unlabeled: list[int]) -> NetworkShare:
    """Each labeled position's clean probability is a thousandth of it, so that a mix-up shows."""
    index = torch.tensor(labeled, dtype=torch.int64)
    return NetworkShare(index, index / 1000, torch.tensor(unlabeled, dtype=torch.int64))


# Network 0: 7 labeled, 3 unlabeled. Network 1: 4 labeled, 6 unlabeled.
SHARES = (partition([0, 2, 4, 6, 8, 10, 12], [1, 3, 5]), partition([1, 3, 5, 7], [0, 2, 4, 6, 8, 10]))


def plans(shares=SHARES, batch_size=3, seed=0, epoch=0, **options):
    return list(CoTrainingSampler(shares, batch_size, seed, epoch, **options))


def content(plan):
    probability = [round(value, 4) for value in plan.clean_probability.tolist()]
    return plan.network, plan.labeled.tolist(), probability, plan.unlabeled.tolist(), plan.warmup


def contents(*arguments, **options):
    return [content(plan) for plan in plans(*arguments, **options)]


def test_all_of_network_0_then_all_of_network_1_in_full_batches():
    sampler = CoTrainingSampler(SHARES, 3, 0, 0)
    epoch = list(sampler)
    assert [plan.network for plan in epoch] == [0, 0, 0, 1, 1]  # ceil(7 / 3), ceil(4 / 3)
    assert len(sampler) == 5
    assert (sampler.steps(0), sampler.steps(1)) == (3, 2)
    assert all(len(plan.labeled) == len(plan.clean_probability) == len(plan.unlabeled) == 3 for plan in epoch)
    assert not any(plan.warmup for plan in epoch)
    assert {plan.labeled.dtype for plan in epoch} | {plan.unlabeled.dtype for plan in epoch} == {torch.int64}
    assert {plan.clean_probability.dtype for plan in epoch} == {torch.float32}


def test_both_sides_go_round_in_whole_permutations():
    epoch = plans()
    labeled = torch.cat([plan.labeled for plan in epoch if plan.network == 0]).tolist()
    assert sorted(labeled[:7]) == [0, 2, 4, 6, 8, 10, 12]
    assert len(set(labeled[7:])) == 2  # the filling, from the next permutation
    unlabeled = torch.cat([plan.unlabeled for plan in epoch if plan.network == 0]).tolist()
    rounds = [unlabeled[start : start + 3] for start in (0, 3, 6)]
    assert [sorted(each) for each in rounds] == [[1, 3, 5]] * 3
    unlabeled = torch.cat([plan.unlabeled for plan in plans(batch_size=1) if plan.network == 1]).tolist()
    assert len(set(unlabeled)) == 4


def test_successive_permutations_differ():
    share = partition([0, 1], list(range(20)))
    (plan,) = (each for each in plans((share, share), batch_size=40) if each.network == 0)
    first, second = plan.unlabeled[:20].tolist(), plan.unlabeled[20:].tolist()
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_the_clean_probability_is_the_samples_own():
    for plan in plans():
        assert plan.clean_probability.tolist() == pytest.approx((plan.labeled / 1000).tolist())


def test_fewer_samples_than_a_batch_go_round():
    share = partition([5], [1, 2])
    epoch = plans((share, share), batch_size=4)
    assert [plan.labeled.tolist() for plan in epoch] == [[5, 5, 5, 5]] * 2
    assert all(plan.unlabeled.bincount().tolist() == [0, 2, 2] for plan in epoch)


def test_warmup_has_no_unlabeled_side():
    share = warmup_share(torch.arange(10, 20))
    epoch = plans((share, share), batch_size=5)
    assert [plan.network for plan in epoch] == [0, 0, 1, 1]
    assert all(plan.warmup and plan.unlabeled.shape == (0,) for plan in epoch)
    assert all(plan.clean_probability.tolist() == [1.0] * 5 for plan in epoch)
    for network in (0, 1):
        seen = torch.cat([plan.labeled for plan in epoch if plan.network == network])
        assert sorted(seen.tolist()) == list(range(10, 20))


def test_one_sided_partitions():
    everything, nothing = partition([0, 1, 2], []), partition([], [0, 1, 2])
    epoch = plans((everything, nothing), batch_size=2)
    assert [plan.network for plan in epoch] == [0, 0]
    assert all(plan.unlabeled.shape == (0,) and not plan.warmup for plan in epoch)
    assert plans((nothing, nothing)) == []
    assert len(CoTrainingSampler((nothing, nothing), 3, 0, 0)) == 0
    assert len(CoTrainingSampler((nothing, nothing), 3, 0, 0, limit_batches=0.5)) == 0


def test_same_epoch_same_plans_and_iteration_can_repeat():
    sampler = CoTrainingSampler(SHARES, 3, 5, 2)
    torch.manual_seed(0)
    first = [content(plan) for plan in sampler]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert [content(plan) for plan in sampler] == first
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_epoch_network_and_side_each_have_an_order_of_their_own():
    share = partition(list(range(50)), list(range(50)))
    orders = []
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        for plan in plans((share, share), batch_size=50, seed=seed, epoch=epoch):
            orders += [tuple(plan.labeled.tolist()), tuple(plan.unlabeled.tolist())]
    assert len(orders) == 16
    assert len(set(orders)) == 16


@given(
    labeled=st.tuples(st.integers(0, 25), st.integers(0, 25)),
    unlabeled=st.tuples(st.integers(0, 25), st.integers(0, 25)),
    batch_size=st.integers(1, 5),
    world_size=st.integers(1, 4),
    limit=st.one_of(st.none(), st.integers(1, 4), st.floats(0.01, 1.0)),
)
@settings(max_examples=100, deadline=None)
def test_ranks_share_the_batches_of_one_process(labeled, unlabeled, batch_size, world_size, limit):
    shares = tuple(
        partition(list(range(n)), list(range(100, 100 + m))) for n, m in zip(labeled, unlabeled, strict=True)
    )
    samplers = [
        CoTrainingSampler(shares, batch_size, 3, 1, rank, world_size, limit_batches=limit) for rank in range(world_size)
    ]
    ranks = [list(sampler) for sampler in samplers]
    whole = plans(shares, batch_size * world_size, seed=3, epoch=1, limit_batches=limit)
    assert [len(sampler) for sampler in samplers] == [len(whole)] * world_size
    assert [len(each) for each in ranks] == [len(whole)] * world_size
    for plan, *parts in zip(whole, *ranks, strict=True):
        assert {part.network for part in parts} == {plan.network}
        assert all(len(part.labeled) == batch_size for part in parts)
        for name in ("labeled", "clean_probability", "unlabeled"):
            assert torch.cat([getattr(part, name) for part in parts]).tolist() == getattr(plan, name).tolist()
    if limit is None:
        steps = [math.ceil(n / (batch_size * world_size)) for n in labeled]
        assert [plan.network for plan in whole] == [0] * steps[0] + [1] * steps[1]
        for network, size in enumerate(labeled):
            seen = [place for plan in whole if plan.network == network for place in plan.labeled.tolist()]
            assert sorted(seen[:size]) == list(range(size))


@pytest.mark.parametrize(
    ("limit", "steps"),
    [(None, [100, 50]), (1, [1, 1]), (70, [70, 50]), (1.0, [100, 50]), (0.29, [29, 14]), (0.001, [1, 1])],
)
def test_limits_hold_for_each_network(limit, steps):
    shares = (warmup_share(torch.arange(200)), warmup_share(torch.arange(100)))
    sampler = CoTrainingSampler(shares, 2, 0, 0, limit_batches=limit)
    networks = [plan.network for plan in sampler]
    assert [networks.count(0), networks.count(1)] == steps
    assert len(sampler) == sum(steps)


def test_an_epoch_of_a_given_size_takes_its_steps_whatever_the_labeled_side_fills():
    sampler = CoTrainingSampler(SHARES, 3, 0, 0, epoch_size=10)
    epoch = list(sampler)
    assert [plan.network for plan in epoch] == [0] * 4 + [1] * 4  # ceil(10 / 3) each, for 7 and 4 labeled samples
    seen = torch.cat([plan.labeled for plan in epoch if plan.network == 1])
    assert seen.bincount(minlength=8).tolist() == [0, 3, 0, 3, 0, 3, 0, 3]  # 12 places, three rounds of four
    assert [plan.epoch_share for plan in epoch[4:]] == [0, 0.25, 0.5, 0.75]
    assert CoTrainingSampler(SHARES, 3, 0, 0, limit_batches=0.5, epoch_size=10).steps(0) == 2
    nothing = partition([], [1, 2, 3])
    assert len(CoTrainingSampler((nothing, nothing), 3, 0, 0, epoch_size=10)) == 0


def test_a_limit_keeps_the_front_of_the_epoch():
    everything, front = contents(), contents(limit_batches=2)
    # Networks 0, 0, 0, 1, 1 become 0, 0, 1, 1. The second side's permutations are as long as needed, the front stays.
    assert front == [everything[0], everything[1], everything[3], everything[4]]


@pytest.mark.parametrize("limit", [0, -1, 0.0, 1.5, -0.5, float("nan"), True, "all"])
def test_wrong_limits_are_named(limit):
    with pytest.raises(InputError) as error:
        CoTrainingSampler(SHARES, 3, 0, 0, limit_batches=limit)
    assert error.value.setting == "limit_batches"


def test_wrong_batch_sizes_ranks_and_shares():
    with pytest.raises(InputError, match="batch_size"):
        CoTrainingSampler(SHARES, 0, 0, 0)
    with pytest.raises(ValueError, match="rank 2"):
        CoTrainingSampler(SHARES, 3, 0, 0, rank=2, world_size=2)
    with pytest.raises(ValueError, match="3 labeled samples, 2 clean"):
        NetworkShare(torch.arange(3), torch.ones(2))


def test_every_step_network_and_process_fetches_with_a_seed_of_its_own():
    plans = [plan for rank in (0, 1) for plan in CoTrainingSampler(SHARES, 3, 0, 0, rank=rank, world_size=2)]
    plans += list(CoTrainingSampler(SHARES, 3, 0, 1)) + list(CoTrainingSampler(SHARES, 3, 1, 0))
    seeds = [plan.seed for plan in plans]
    assert len(set(seeds)) == len(seeds) > 10
    assert all(seed % 2 == 0 for seed in seeds)  # seed + 1 is the unlabeled side's
    assert [p.seed for p in CoTrainingSampler(SHARES, 3, 1, 0)] == seeds[-len(CoTrainingSampler(SHARES, 3, 1, 0)) :]


def test_a_balanced_draw_takes_as_many_of_each_class():
    labels = torch.arange(1000) % 3 + (torch.arange(1000) % 7 == 0).long()  # classes 0..3, of different sizes
    draw = balanced_draw(labels, 120, 4, seed=0, epoch=5, network=1)
    assert labels[draw].bincount(minlength=4).tolist() == [30, 30, 30, 30]
    assert draw.tolist() == sorted(set(draw.tolist()))
    again = balanced_draw(labels, 120, 4, 0, 5, 1)
    assert torch.equal(draw, again)
    for other in ((1, 5, 1), (0, 6, 1), (0, 5, 0)):
        assert not torch.equal(draw, balanced_draw(labels, 120, 4, *other))


def test_a_class_that_has_too_few_gives_all_it_has():
    labels = torch.tensor([0, 0, 0, 0, 1, 0, 0, 2, 2, 2])
    draw = balanced_draw(labels, 7, 4, 0, 0, 0)  # ceil(7 / 4) = 2 of each class; class 3 has none
    assert labels[draw].bincount(minlength=4).tolist() == [2, 1, 2, 0]
    assert 4 in draw.tolist()
    assert len(balanced_draw(labels, 3, 3, 0, 0, 0)) == 3
    # Five of three classes: two of each would be six.
    assert len(balanced_draw(torch.arange(30) % 3, 5, 3, 0, 0, 0)) == 5


# Real loaders. Image n is filled with n, its noisy label is n % 7.

SPLIT = Split(
    ArrayImages(torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 1, 2, 3).clone()), torch.zeros(40)
)
NOISY = torch.arange(40) % 7


class NeverNothing:
    """Images that cannot be asked for an empty batch, as with files that are decoded and stacked."""

    def __len__(self):
        return 40

    def fetch_views(self, positions, views, seed):
        return torch.stack([SPLIT.images.pixels[position] for position in positions])[None].expand(
            views, -1, -1, -1, -1
        )


class SeedImages:
    """Images that answer with what they are asked: as many views as asked for, filled with the seed."""

    def __len__(self):
        return 40

    def fetch_views(self, positions, views, seed):
        return torch.full((views, len(positions), 1, 2, 3), seed)


@pytest.mark.parametrize(("more", "views"), [((), 4), ((2,), 2)])
def test_images_are_asked_for_the_views_of_a_step_with_its_seeds(more, views):
    dataset = CoTrainingDataset(Split(SeedImages(), torch.zeros(40)), NOISY, *more)
    for plan in CoTrainingSampler(SHARES, 3, 0, 0):
        batch = dataset.__getitems__(plan)
        assert batch["labeled_images"].shape == batch["unlabeled_images"].shape == (views, 3, 1, 2, 3)
        assert (batch["labeled_images"] == plan.seed).all()
        assert (batch["unlabeled_images"] == plan.seed + 1).all()
    share = warmup_share(torch.arange(40))
    plan = next(iter(CoTrainingSampler((share, share), 3, 0, 0)))
    assert dataset.__getitems__(plan)["labeled_images"].shape == (1, 3, 1, 2, 3)


@pytest.mark.parametrize(("workers", "pin"), [(0, False), (2, False), (2, True)])
@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_a_loader_gives_the_batches_of_the_plans(workers, pin):
    sampler = CoTrainingSampler(SHARES, 3, 0, 0)
    dataset = CoTrainingDataset(SPLIT, NOISY)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=as_is, num_workers=workers, pin_memory=pin)
    assert len(loader) == 5
    batches = list(loader)
    assert len(batches) == 5
    for batch, plan in zip(batches, sampler, strict=True):
        assert set(batch) == {
            "network",
            "warmup",
            "epoch_share",
            "labeled_images",
            "labels",
            "clean_probability",
            "targets",
            "certain",
            "unlabeled_images",
            "index",
            "unlabeled_index",
        }
        assert (batch["network"], batch["warmup"]) == (plan.network, False)
        assert batch["epoch_share"] == plan.epoch_share
        assert batch["index"].tolist() == plan.labeled.tolist()
        assert batch["unlabeled_index"].tolist() == plan.unlabeled.tolist()
        assert batch["clean_probability"].tolist() == plan.clean_probability.tolist()
        assert batch["labels"].tolist() == [place % 7 for place in plan.labeled.tolist()]
        assert batch["labeled_images"].shape == batch["unlabeled_images"].shape == (1, 3, 1, 2, 3)
        assert batch["labeled_images"].dtype == torch.uint8
        assert batch["labeled_images"][0, :, 0, 1, 2].tolist() == plan.labeled.tolist()
        assert batch["unlabeled_images"][0, :, 0, 0, 0].tolist() == plan.unlabeled.tolist()


def test_warmup_batches_keep_the_images_shape():
    share = warmup_share(torch.arange(40))
    dataset = CoTrainingDataset(Split(NeverNothing(), torch.zeros(40)), NOISY)
    loader = DataLoader(dataset, batch_sampler=CoTrainingSampler((share, share), 16, 0, 0), collate_fn=as_is)
    shapes = {(tuple(batch["labeled_images"].shape), tuple(batch["unlabeled_images"].shape)) for batch in loader}
    assert shapes == {((1, 16, 1, 2, 3), (1, 0, 1, 2, 3))}
    assert all(batch["warmup"] for batch in loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_evaluation_loader_covers_the_set_once_over_ranks(workers):
    seen = []
    for rank in range(2):
        loader = DataLoader(
            EvaluationDataset(SPLIT, NOISY),
            sampler=range(rank, 40, 2),
            batch_size=7,
            collate_fn=as_is,
            num_workers=workers,
        )
        for batch in loader:
            assert batch["images"][:, 0, 0, 0].tolist() == batch["index"].tolist()
            assert batch["labels"].tolist() == [place % 7 for place in batch["index"].tolist()]
            assert batch["index"].dtype == torch.int64
            seen += batch["index"].tolist()
    assert seen == [*range(0, 40, 2), *range(1, 40, 2)]


def test_one_label_for_each_image():
    with pytest.raises(ValueError, match="40 images, 39 labels"):
        CoTrainingDataset(SPLIT, NOISY[:39])
    with pytest.raises(ValueError, match="40 images, 39 labels"):
        EvaluationDataset(SPLIT, NOISY[:39])


def test_a_step_knows_how_far_the_epoch_of_its_network_is():
    """Eight samples in batches of two: four steps a network, each a quarter of its epoch."""
    share = NetworkShare(torch.arange(8), torch.ones(8), torch.arange(8, 12))
    plans = list(CoTrainingSampler((share, share), 2, 0, 0))
    assert [plan.epoch_share for plan in plans] == [0, 0.25, 0.5, 0.75] * 2


def test_weighted_samples_come_as_often_as_their_weights_say():
    draw = weighted_draw(torch.tensor([1.0, 2.0, 5.0]), 80, torch.Generator().manual_seed(0))
    assert torch.bincount(draw).tolist() == [10, 20, 50]
    assert draw.tolist() != draw.sort().values.tolist()
    rare = [weighted_draw(torch.tensor([0.25, 3.75]), 4, torch.Generator().manual_seed(s)) for s in range(200)]
    often = sum(int((places == 0).sum()) for places in rare)  # a quarter of a time each
    assert all(int((places == 0).sum()) <= 1 for places in rare)
    assert 30 < often < 70


def test_targets_and_weights_reach_the_plans():
    labeled = torch.tensor([4, 7])
    share = NetworkShare(
        labeled, torch.ones(2), labeled[:0], torch.tensor([[1.0, 0], [0.25, 0.75]]), torch.tensor([1.0, 3])
    )
    plans = list(CoTrainingSampler((share, share), batch_size=4, seed=0, epoch=3))
    for plan in plans:
        assert sorted(plan.labeled.tolist()) == [4, 7, 7, 7]
        wanted = [[1, 0] if position == 4 else [0.25, 0.75] for position in plan.labeled.tolist()]
        assert pickle.loads(pickle.dumps(plan)).targets.tolist() == wanted


@pytest.mark.parametrize(
    ("targets", "probability", "unlabeled", "certain"),
    [(True, 1.0, 0, True), (True, 0.9, 0, False), (True, 1.0, 2, False), (False, 1.0, 0, False)],
)
def test_targets_are_certain_where_nothing_else_counts(targets, probability, unlabeled, certain):
    images = ArrayImages(torch.zeros(4, 1, 2, 2, dtype=torch.uint8))
    dataset = CoTrainingDataset(Split(images, torch.arange(4)), torch.arange(4))
    plan = BatchPlan(
        0, torch.tensor([0, 1]), torch.tensor([1.0, probability]), torch.arange(unlabeled), False, 0.0, 0,
        torch.eye(4)[:2] if targets else None,
    )  # fmt: skip
    assert dataset.__getitems__(plan)["certain"] is certain
