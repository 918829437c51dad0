"""What a trial of a run's work tells, by a clock that the work itself moves, and what it leaves as it was."""

import random

import numpy as np
import pytest
import torch
from tests.conftest import SMALL

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.training import trial
from cpc_lightning.training.trial import Trial, extrapolated, try_out

CPU = torch.device("cpu")


@pytest.fixture
def parts(compose, tmp_path):
    def parts(*overrides):
        return Parts(plain(compose(*SMALL, *overrides, folder=tmp_path / "run"))).ready()

    return parts


def trial_of(parts, clock=lambda: 0.0):
    context = parts.trainer.precision_plugin.forward_context
    return Trial(parts.module, parts.datamodule, parts.cleaner, CPU, context, 1, clock)


def test_a_larger_piece_costs_what_the_last_two_tell():
    assert extrapolated([(2, 1.0), (4, 1.5)], 10) == 1.5 + 6 * 0.25
    assert extrapolated([(2, 1.0), (4, 1.0)], 10) == 1.0 + 6 * 0.0625  # at least a quarter of in proportion, 0.25 each
    assert extrapolated([(2, 0.1), (4, 2.0)], 10) == pytest.approx(2.0 + 6 * 0.95)  # 0.95 each, below twice 0.5
    assert extrapolated([(3, 0.0), (4, 2.0)], 10) == 2.0 + 6 * 1.0  # not 2 each: at most twice 0.5


class Clock:
    """Moved by the work: each image takes `each` seconds, each pass `base` more."""

    def __init__(self, each, base=0.0):
        self.now, self.each, self.base, self.sizes = 0.0, each, base, []

    def __call__(self):
        return self.now

    def work(self, size):
        self.sizes.append(size)
        self.now += self.base + self.each * size


@pytest.mark.parametrize(
    ("each", "sizes"),
    [
        (0.001, [2, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64]),  # the first does not count; 0.064 s for all: five times
        (0.05, [2, 2, 4, 4]),  # 0.2 s for 4 are above a quarter of 0.6 s, twice
        (1.0, [2, 2, 4, 4]),  # two sizes at least
    ],
)
def test_pieces_grow_as_far_as_the_time_reaches(parts, each, sizes):
    clock = Clock(each)
    one = trial_of(parts(), clock)
    assert one._timed(clock.work, int, 64) == pytest.approx(64 * each)
    assert clock.sizes == sizes


@pytest.mark.parametrize("each", [0.001, 0.1])
@pytest.mark.parametrize("slow", [1, 3])
def test_a_slow_first_pass_and_a_stop_of_the_machine_are_not_multiplied(parts, each, slow):
    """Pass 1 is the first of all, pass 3 the first of the second size."""
    clock = Clock(each)
    one = trial_of(parts(), clock)

    def work(size):
        clock.work(size)
        clock.now += 0.3 if len(clock.sizes) == slow else 0.0

    assert one._timed(work, int, 64) == pytest.approx(64 * each)


@pytest.mark.parametrize(
    ("workers", "cores", "processes", "seconds"),
    [
        (0, 2, 1, 7.0),  # one after the other
        (2, 8, 1, 4.0),  # the step takes longer than the fetching of two workers, 1.5 s
        (1, 8, 1, 4.0),
        (2, 1, 1, 7.0),  # one processor for 4 s and 3 s of work
        (2, 2, 2, 7.0),  # two processors for twice as much
    ],
)
def test_batches_are_fetched_meanwhile(parts, monkeypatch, workers, cores, processes, seconds):
    one = trial_of(parts())
    one.data.num_workers, one.processes = workers, processes
    monkeypatch.setattr(trial, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert one._together(4.0, 3.0) == seconds


def state_of(parts):
    """All that a trial might change: weights and buffers, random generators, partitions, loaders."""
    module = {name: value.clone() for name, value in parts.module.state_dict().items()}
    generators = torch.get_rng_state(), torch.tensor(np.random.get_state()[1].astype(np.int64))  # noqa: NPY002
    return module, generators, random.getstate(), parts.datamodule.partitions, dict(parts.datamodule._loaders)


@pytest.mark.long
@pytest.mark.parametrize(
    "cleaner", ["cpc_awr", "gmm_agn", "cpc_contrastive", "uniform", "wrong_events", "mixture_2d", "oracle", "none"]
)
def test_a_trial_leaves_everything_as_it_was(parts, cleaner):
    run = parts(f"cleaner={cleaner}")
    training = run.module.training
    module, generators, pythons, partitions, loaders = state_of(run)
    costs = try_out(run.module, run.datamodule, run.cleaner, CPU, run.trainer.precision_plugin.forward_context)
    after = state_of(run)
    assert module.keys() == after[0].keys()
    assert all(torch.equal(module[name], after[0][name]) for name in module)
    assert all(torch.equal(one, other) for one, other in zip(generators, after[1], strict=True))
    assert (pythons, partitions, loaders, training) == (*after[2:], run.module.training)
    assert all(parameter.grad is None for parameter in run.module.parameters())
    active = cleaner != "none"
    assert costs.remembers == (cleaner == "wrong_events")
    assert (costs.stage_two > 0, costs.cleaning > 0, costs.divides) == (active, active, True)
    assert costs.warmup > 0 < costs.look


@pytest.mark.long
def test_a_cleaner_that_takes_many_steps_is_tried_with_few(parts):
    """50 steps cost 50 ticks, 250 cost 250: of 2,000, three looks of 25 steps are expected, 75 ticks."""
    run = parts("cleaner=cpc_awr", "cleaner.steps=2000")
    clock = Clock(0.0)
    one = trial_of(run, clock)
    tried = []
    clean = one.cleaner.clean

    def counted(task):
        tried.append(one.cleaner.steps)
        clock.now += one.cleaner.steps * 1e-4
        return clean(task)

    one.cleaner.clean = counted
    classes, first, later = one._cleaning()
    assert classes is None
    assert first == later == pytest.approx(75e-4)
    assert set(tried) == {50, 250}
