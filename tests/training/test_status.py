"""What a progress bar says, in the width that there is."""

import pytest

from cpc_lightning.training.pace import Left
from cpc_lightning.training.status import Status, compose, line

TRAINING = Status(
    "", "epoch 12/300", "network 2", 0.45, Left(41, at_least=False), Left(18720, at_least=False), "test 87.31 %"
)
FIRST = Status("job 2 of 12", "epoch 1/300", "stage 1", 0.99, Left(141, at_least=True), Left(18720, at_least=True))


def text(status, width):
    return "".join(piece for piece, _ in compose(status, width))


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (119, f"epoch 12/300  {'━' * 9}{'─' * 11}  45 %  41 s; run: 5 h 12 min left  test 87.31 %  network 2"),
        (79, "epoch 12/300  ━━━━──────  45 %  41 s; run: 5 h 12 min left  network 2"),
        (39, "epoch 12/300  45 %  5 h 12 min left"),
        (20, "epoch 12/300  45 %"),
        (5, "epoch"),
    ],
)
def test_what_matters_least_is_left_out_first(width, expected):
    assert text(TRAINING, width) == expected


def test_a_time_that_is_only_known_in_part_says_so():
    told = "over 2 min 21 s; run: at least 5 h 12 min left"
    assert text(FIRST, 119) == f"job 2 of 12  epoch 1/300  {'━' * 19}─  99 %  {told}  stage 1"
    assert text(FIRST, 79) == f"epoch 1/300  ━━━━━━━━━─  99 %  {told}"
    assert text(FIRST, 39) == "epoch 1/300  99 %  over 5 h 12 min left"
    assert text(FIRST, 38) == "epoch 1/300  over 5 h 12 min left"


@pytest.mark.parametrize("status", [TRAINING, FIRST, Status("", "epoch 1/300", "network 1"), Status("", "x", share=1)])
def test_it_is_never_wider_than_the_terminal(status):
    for width in range(1, 140):
        assert len(text(status, width)) <= width


def test_a_pass_of_its_own_has_one_time_left():
    status = Status("", "300 epochs done", "labels of test", 0.5, run_left=Left(20, at_least=False))
    assert text(status, 79) == "300 epochs done  ━━━━━─────  50 %  20 s left  labels of test"
    assert line(status) == "300 epochs done, labels of test, 50 %, 20 s left"


def test_a_line_for_a_log():
    whole = "epoch 12/300, network 2, test 87.31 %, 45 % of the epoch, the run: 5 h 12 min left"
    assert line(TRAINING) == whole
    assert line(Status("", "epoch 1/300", "network 1")) == "epoch 1/300, network 1"
