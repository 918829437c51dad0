from dataclasses import replace

import pytest
import torch
from tests.cleaning.conftest import evidence_of, whole_set_task

from cpc_lightning.cleaning.evidence import Draw, JudgesOthers
from cpc_lightning.cleaning.reference import NoCleaner, OracleCleaner
from cpc_lightning.errors import InputError


def task_of(noisy_labels, true_labels):
    n = len(noisy_labels)
    labels = torch.tensor(noisy_labels), torch.tensor(true_labels)
    evidence = evidence_of(torch.zeros(n), torch.zeros(1, n), torch.full((n, 3), 1 / 3), labels[0], torch.zeros(n, 4))
    index = torch.arange(20, 20 + n)
    return whole_set_task(index, *labels, (evidence, evidence), (None, None), (None, None), 0.0, 0)


def test_oracle_knows():
    result = OracleCleaner().clean(task_of([0, 1, 2, 2], [0, 2, 2, 2]))
    for partition, estimate in zip(result.partitions, result.estimates, strict=True):
        assert estimate.clean_probability.tolist() == [1.0, 0.0, 1.0, 1.0]
        assert partition.labeled.tolist() == [20, 22, 23]
    assert OracleCleaner.active


def test_oracle_judges_each_draw_for_its_network():
    task = task_of([0, 1, 2, 2], [0, 2, 2, 2])
    other = Draw(torch.tensor([7, 9]), torch.tensor([1, 2]), torch.tensor([1, 1]))
    result = OracleCleaner().clean(replace(task, draws=(task.draws[0], other)))
    assert [p.labeled.tolist() for p in result.partitions] == [[20, 22, 23], [7, 9]]  # too few: falls back
    assert result.estimates[0].clean_probability.tolist() == [1.0, 0.0]  # network 1 judges network 2's draw


@pytest.mark.parametrize("true_labels", [[-1, -1, -1], [0, 1, -1]])
def test_oracle_needs_the_truth(true_labels):
    with pytest.raises(InputError, match="cleaner=oracle: needs true labels, and this data set has none"):
        OracleCleaner().clean(task_of([0, 1, 2], true_labels))


def test_oracle_knows_that_an_image_of_no_class_is_labeled_wrong():
    result = OracleCleaner().clean(task_of([0, 1, 2, 2], [0, -2, 2, 2]))
    assert result.estimates[0].clean_probability.tolist() == [1.0, 0.0, 1.0, 1.0]


def test_no_cleaner_divides_nothing():
    assert not NoCleaner.active
    with pytest.raises(RuntimeError, match="not active"):
        NoCleaner().clean(task_of([0, 1], [0, 1]))


def test_the_oracle_judges_other_samples_where_the_truth_is_known():
    draw = Draw(torch.arange(4), torch.tensor([0, 1, 2, 2]), torch.tensor([0, 2, -1, -2]))
    told = OracleCleaner().judge(None, draw, None, None)
    assert told[:2].tolist() == [1.0, 0.0]
    assert bool(told[2].isnan())
    assert told[3] == 0.0
    assert not isinstance(NoCleaner(), JudgesOthers)


def test_even_the_oracle_may_have_a_floor():
    assert OracleCleaner(class_floor=0.5).clean(task_of([0, 1, 2, 2], [0, 2, 2, 2])).class_floor == 0.5
    with pytest.raises(InputError, match="class_floor"):
        OracleCleaner(class_floor=-1)
