"""LongReMix's cleaner: streaks by hand, which set is kept, and what each stage labels."""

import pytest
import torch

from cpc_lightning.cleaning.evidence import CleaningTask, Draw, Evidence, JudgesOthers, Remembers
from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.cleaning.high_confidence import HighConfidenceCleaner, first_stage
from cpc_lightning.errors import InputError

LABELS = torch.tensor([0, 1, 1, 0, 2, 0])


def draw_of(index=range(6), labels=LABELS):
    return Draw(torch.tensor(list(index)), labels, torch.full_like(labels, -1))


def seen_of(clean, draw):
    """Losses of 0.1 or so where the label is to look clean, of 5 or so elsewhere."""
    losses = torch.where(torch.tensor(clean, dtype=torch.bool), 0.1, 5.0) + 0.01 * torch.arange(len(clean))
    none = torch.zeros(len(clean))
    return Evidence(
        losses, ((losses - losses.min()) / 5.0)[None].clamp(max=1), none, draw.noisy_labels, none, none[:, None]
    )


def task_of(draw, first, second):
    return CleaningTask((draw, draw), (first, second), (first, second), (None, None), (None, None), 0.0, 0)


def after(cleaner, *epochs, draw=None):
    """The cleaner's answer and its partitions after epochs: who looks clean to network 1 and to network 2."""
    draw = draw or draw_of()
    for first, second in epochs:
        seen = seen_of(first, draw), seen_of(second, draw)
        cleaner.remember(draw, seen)
    result = cleaner.clean(task_of(draw, *seen))
    return result, [p.clean.int().tolist() for p in result.partitions]


A, B, C = [1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1]


def test_in_the_first_stage_the_last_epochs_must_all_take_it_for_clean():
    cleaner = HighConfidenceCleaner(epochs=20, warmup_epochs=1, streak=2)
    result, (for_first, for_second) = after(cleaner, (A, B))
    assert (for_second, for_first) == (A, B)  # one epoch so far; network 1 divides for network 2
    result, (for_first, for_second) = after(cleaner, (B, C))
    assert for_second == [1, 0, 1, 0, 0, 1]  # A and B
    assert for_first == [1, 0, 0, 0, 1, 1]  # B and C
    _, (_, for_second) = after(cleaner, (A, C))
    assert for_second == [1, 0, 1, 0, 0, 1]  # B and A; 1 begins anew
    _, (_, for_second) = after(cleaner, (A, C))
    assert for_second == A
    assert (result.estimates[0].clean_probability > 0.5).int().tolist() == B  # the verdict is the mixture's
    labeled = result.partitions[1].clean_probability
    torch.testing.assert_close(
        labeled[0], result.estimates[0].clean_probability[0]
    )  # and so is the refinement's weight


def test_samples_that_are_not_always_looked_at_count_by_their_looks():
    cleaner = HighConfidenceCleaner(epochs=20, warmup_epochs=1, streak=2)
    every, some = draw_of(), draw_of([0, 3, 4], LABELS[[0, 3, 4]])
    cleaner.remember(every, (seen_of(A, every), seen_of(A, every)))
    cleaner.remember(some, (seen_of([1, 0, 1], some),) * 2)
    assert cleaner.state_dict()["streaks"][0].tolist() == [2, 1, 1, 0, 1, 1]
    assert cleaner.state_dict()["looks"].tolist() == [2, 1, 1, 2, 2, 1]
    assert after(cleaner, ([1, 1, 1, 1, 1, 0],) * 2)[1][0] == [1, 1, 1, 0, 1, 0]


def test_the_largest_set_of_network_1_in_the_second_half_of_the_first_stage_is_kept():
    """Six epochs of the first stage: sets of 4 and 5 labels come too early; of two with 3 the later counts."""
    cleaner, most = HighConfidenceCleaner(epochs=12, warmup_epochs=2, streak=1), [1, 1, 1, 1, 1, 0]
    sets = []
    for clean in (A, most, most, [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0]):
        after(cleaner, (clean, most))
        sets.append(cleaner.state_dict()["kept"].int().tolist())
    assert [sum(found) for found in sets] == [0, 0, 0, 3, 3, 3]
    assert sets[-1] == [0, 0, 0, 1, 1, 1]


def test_the_second_stage_labels_all_then_what_is_kept_and_what_looks_clean():
    cleaner = HighConfidenceCleaner(epochs=8, warmup_epochs=2, streak=1)
    after(cleaner, (A, B), (A, B), (A, B))
    assert after(cleaner, (A, B))[1] == [[1] * 6] * 2  # at the end of epoch 4: epochs 5 and 6 warm up
    result, partitions = after(cleaner, (C, C))
    assert partitions == [[1] * 6] * 2
    assert [p.clean_probability.tolist() for p in result.partitions] == [[1.0] * 6] * 2
    result, partitions = after(cleaner, (C, B))
    assert partitions == [[1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 1, 1]]  # A and what B, what C add
    assert result.partitions[0].clean_probability[[0, 1, 2, 5]].tolist() == [1.0] * 4
    assert result.scalars == {"high_confidence/labels": 4.0}
    assert (result.estimates[0].clean_probability > 0.5).int().tolist() == C


def test_losses_are_averaged_before_the_mixture_is_fitted():
    """Label 0 looks wrong in the last epoch; in the mean of five it lies nearer to the clean ones."""
    looks = {}
    for length in (1, 5):
        cleaner = HighConfidenceCleaner(epochs=40, warmup_epochs=1, streak=1, history_length=length)
        for clean in (A, A, A, A, [0, 1, 1, 0, 0, 1]):
            cleaner.remember(draw_of(), (seen_of(clean, draw_of()),) * 2)
        looks[length] = int(cleaner.state_dict()["streaks"][0, 0])
        assert len(cleaner.state_dict()["history"]) == length
    assert looks == {1: 0, 5: 5}


def test_what_it_remembers_can_be_given_back():
    cleaner, again = (HighConfidenceCleaner(epochs=8, warmup_epochs=1, streak=3, history_length=2) for _ in range(2))
    assert isinstance(cleaner, Remembers)
    assert isinstance(cleaner, JudgesOthers)
    again.load_state_dict(cleaner.state_dict())  # of before the first epoch
    after(cleaner, (A, B), (B, C), (C, C))
    again.load_state_dict(cleaner.state_dict())
    for epochs in ([(B, A)], [(A, A)], [(C, C)]):
        assert after(cleaner, *epochs)[1] == after(again, *epochs)[1]
    state, other = cleaner.state_dict(), again.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_nothing_remembered_leaves_the_mixture_alone():
    """As where only a try takes place before the run; and where nothing looks clean two labels are trained on."""
    draw = draw_of()
    result = HighConfidenceCleaner(8, 1).clean(task_of(draw, seen_of(A, draw), seen_of(B, draw)))
    assert [p.clean.int().tolist() for p in result.partitions] == [B, A]
    cleaner = HighConfidenceCleaner(20, 1, streak=2)
    _, partitions = after(cleaner, ([1, 1, 1, 0, 0, 0],) * 2, ([0, 0, 0, 1, 1, 1],) * 2)
    assert [sum(p) for p in partitions] == [2, 2]


def test_other_samples_are_judged_by_the_mixture():
    draw = draw_of()
    cleaner, mixture = HighConfidenceCleaner(8, 1, class_aware=False), GmmCleaner(class_aware=False)
    seen = seen_of(A, draw)
    found = cleaner.clean(task_of(draw, seen, seen)).estimates[0]
    expected = mixture.clean(task_of(draw, seen, seen)).estimates[0]
    assert torch.equal(found.clean_probability, expected.clean_probability)
    assert found.mixtures == expected.mixtures


@pytest.mark.parametrize(("epochs", "share", "first"), [(600, 0.5, 300), (12, 0.25, 3), (2, 0.1, 1), (7, 0.5, 4)])
def test_the_first_stage_has_its_share_of_the_epochs(epochs, share, first):
    assert first_stage(epochs, share) == first


@pytest.mark.parametrize(
    ("setting", "value"), [("streak", 0), ("first_share", 0), ("first_share", 1.0), ("class_aware", 1),
                           ("threshold", 1), ("history_length", 0), ("class_floor", 2), ("epochs", 0),
                           ("warmup_epochs", 0)],
)  # fmt: skip
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(InputError) as caught:
        HighConfidenceCleaner(**{"epochs": 8, "warmup_epochs": 1, setting: value})
    assert caught.value.setting == setting
