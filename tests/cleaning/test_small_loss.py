"""ProMix's selection: by hand, its growth, who selects for whom, and a verdict that agrees with it."""

import pytest
import torch

from cpc_lightning.cleaning.evidence import CleaningTask, Draw, Evidence
from cpc_lightning.cleaning.floor import keep_floor
from cpc_lightning.cleaning.prototypes import PrototypeHead
from cpc_lightning.cleaning.small_loss import SmallLossCleaner, select
from cpc_lightning.errors import InputError

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2])
FIRST = torch.tensor([0.4, 0.1, 0.3, 0.2, 0.9, 0.7, 0.8, 5.0])
SECOND = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.7, 0.8, 0.9, 5.0])


def draw_of(index=range(8)):
    index = torch.tensor(list(index))
    return Draw(index, LABELS[index], torch.full((len(index),), -1))


def seen_of(losses, draw):
    none = torch.zeros(len(losses))
    return Evidence(losses, none[None], torch.exp(-losses), draw.noisy_labels, none, none[:, None])


def task_of(progress=0.0, first=FIRST, second=SECOND):
    draw, head = draw_of(), PrototypeHead(3, 2, 3)
    both = seen_of(first, draw), seen_of(second, draw)
    return CleaningTask((draw, draw), both, both, (head, head), (None, None), progress, 0)


@pytest.mark.parametrize(
    ("share", "chosen"),
    [
        (0.0, [1, 5, 7]),
        (0.375, [1, 5, 7]),
        (0.4, [1, 3, 5, 6, 7]),
        (0.75, [1, 3, 5, 6, 7]),
        (1.0, [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_of_each_class_the_smallest_losses_by_hand(share, chosen):
    """8 samples in 3 classes: rho 8 / 3 of each, rounded up (1, 1, 2, 2, 3); at least one, and what there is."""
    draw = draw_of()
    assert torch.nonzero(select(draw, seen_of(FIRST, draw), 3, share)).flatten().tolist() == chosen


def test_the_earlier_of_equal_losses_and_classes_without_samples():
    draw = Draw(torch.arange(4), torch.tensor([0, 2, 2, 2]), torch.full((4,), -1))
    chosen = select(draw, seen_of(torch.full((4,), 0.5), draw), 3, 0.9)  # 1.2, rounded up
    assert chosen.tolist() == [True, True, True, False]


def test_each_network_selects_for_itself_and_all_samples_are_labeled():
    result = SmallLossCleaner(0.4, 0.4).clean(task_of())
    first, second = result.partitions
    assert first.clean_probability.tolist() == [0, 1, 0, 1, 0, 1, 1, 1]
    assert second.clean_probability.tolist() == [1, 1, 0, 0, 1, 1, 0, 1]
    assert first.clean.all()
    assert second.clean.all()


@pytest.mark.parametrize(("progress", "share"), [(0, 0.2), (0.05, 0.4), (0.1, 0.6), (0.9, 0.6)])
def test_the_share_grows_over_the_ramp(progress, share):
    cleaner = SmallLossCleaner(0.2, 0.6, ramp_share=0.1)
    assert cleaner.share(progress) == pytest.approx(share)
    assert cleaner.clean(task_of(progress)).scalars == {"small_loss/share": pytest.approx(share)}
    assert SmallLossCleaner(0.2, 0.6, ramp_share=0).share(0) == 0.6


def test_the_verdict_is_what_is_selected_or_matched():
    losses = torch.tensor([0.4, 0.005, 0.006, 0.2, 0.9, 0.7, 0.8, 300.0])
    result = SmallLossCleaner(0.0, 0.0, matched_above=0.99).clean(task_of(first=losses))
    found = result.estimates[0].clean_probability
    assert result.threshold == 0.495
    assert (found > result.threshold).tolist() == [False, True, True, False, False, True, False, True]
    torch.testing.assert_close(found[[0, 1, 2, 7]], torch.tensor([0.33516, 0.99751, 0.49701, 0.5]), atol=1e-4, rtol=0)
    chosen = result.partitions[0].clean_probability
    assert chosen.tolist() == [0, 1, 0, 0, 0, 1, 0, 1]  # 2 is matched alone: the method sees to it


def test_a_floor_adds_to_what_is_selected_and_to_the_verdict():
    """Half of 4, of 3 and of 1 label: 2, 2 and 1, where rho alone has 1 of each."""
    task, cleaner = task_of(), SmallLossCleaner(0.0, 0.0, class_floor=0.5)
    result = cleaner.clean(task)
    assert [p.clean_probability.tolist() for p in result.partitions] == [
        [0, 1, 0, 1, 0, 1, 1, 1], [1, 1, 0, 0, 1, 1, 0, 1],
    ]  # fmt: skip
    assert (result.estimates[0].clean_probability > result.threshold).tolist() == [0, 1, 0, 1, 0, 1, 1, 1]
    assert keep_floor(result, task.draws) is result


def test_a_loss_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match="the loss of sample 3 is nan"):
        SmallLossCleaner().clean(task_of(first=torch.where(torch.arange(8) == 3, torch.nan, FIRST)))


@pytest.mark.parametrize(
    ("setting", "value"), [("share_from", -0.1), ("share_to", 1.1), ("ramp_share", 2), ("matched_above", 1),
                           ("matched_above", 0), ("class_floor", 2)],
)  # fmt: skip
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(InputError) as caught:
        SmallLossCleaner(**{setting: value})
    assert caught.value.setting == setting
