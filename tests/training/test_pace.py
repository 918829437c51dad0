"""How long a run still takes, from the parts that were timed."""

from collections import Counter

import pytest

from cpc_lightning.training.pace import (
    EVALUATION,
    HELD_OUT,
    REST,
    STAGE_ONE,
    STAGE_TWO,
    WARMUP,
    Left,
    Likeness,
    Pace,
    epoch_parts,
    parts_after,
)  # fmt: skip


def test_a_timed_part_is_expected_to_take_the_mean_of_its_last_two_times():
    pace = Pace({})
    for seconds in (100.0, 4.0, 8.0):
        pace.note(WARMUP, seconds)
    assert pace.expected(WARMUP) == Left(6.0, at_least=False)


def test_until_it_was_timed_a_part_is_at_least_what_it_is_like():
    pace = Pace({STAGE_TWO: Likeness(WARMUP, 0.5), HELD_OUT: Likeness(EVALUATION, 3.0, sure=True)})
    assert pace.expected(STAGE_TWO) == Left(0.0, at_least=True)
    pace.note(WARMUP, 10.0)
    pace.note(EVALUATION, 2.0)
    assert pace.expected(STAGE_TWO) == Left(5.0, at_least=True)
    assert pace.expected(HELD_OUT) == Left(6.0, at_least=False)
    pace.suppose(STAGE_TWO, 40.0)  # half of it took 20 s
    assert pace.expected(STAGE_TWO) == Left(40.0, at_least=False)
    pace.note(STAGE_TWO, 44.0)
    pace.suppose(STAGE_TWO, 1000.0)  # of the next one, which does not count before it is over
    assert pace.expected(STAGE_TWO) == Left(44.0, at_least=False)


def test_a_total_is_at_least_so_much_where_a_part_of_it_is():
    pace = Pace({})
    pace.note(WARMUP, 10.0)
    pace.note(REST, 1.0)
    assert pace.total({WARMUP: 3, REST: 2}) == Left(32.0, at_least=False)
    assert pace.total({WARMUP: 1, STAGE_ONE: 1}) == Left(10.0, at_least=True)
    assert pace.total({WARMUP: 1, STAGE_ONE: 0}) == Left(10.0, at_least=False)


def test_the_parts_of_epochs():
    """Warm-up of two epochs of four: stage 1 first ends the second one."""
    assert [epoch_parts(epoch, 4, 2) for epoch in range(4)] == [
        (WARMUP, EVALUATION, REST),
        (WARMUP, EVALUATION, STAGE_ONE, REST),
        (STAGE_TWO, EVALUATION, STAGE_ONE, REST),
        (STAGE_TWO, EVALUATION, STAGE_ONE, REST),
    ]
    assert [STAGE_ONE in epoch_parts(epoch, 3, None) for epoch in range(3)] == [False, False, True]
    assert {epoch_parts(epoch, 3, None)[0] for epoch in range(3)} == {WARMUP}


@pytest.mark.parametrize(("epochs", "warmup"), [(1, None), (5, None), (5, 1), (5, 3), (5, 4), (5, 5), (3, 9)])
def test_what_comes_after_an_epoch_is_what_the_later_ones_have(epochs, warmup):
    for epoch in range(epochs):
        later = Counter(part for e in range(epoch + 1, epochs) for part in epoch_parts(e, epochs, warmup))
        told = parts_after(epoch, epochs, warmup)
        assert told.pop(HELD_OUT) == 1
        assert {part: count for part, count in told.items() if count} == later
