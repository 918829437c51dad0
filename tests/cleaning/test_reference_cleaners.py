import pytest
import torch

from cpc_lightning.cleaning.evidence import CleaningTask, Evidence
from cpc_lightning.cleaning.reference import NoCleaner, OracleCleaner
from cpc_lightning.errors import InputError


def task_of(noisy_labels, true_labels):
    n = len(noisy_labels)
    evidence = Evidence(torch.zeros(n), torch.zeros(1, n), torch.full((n, 3), 1 / 3), torch.zeros(n, 4))
    index = torch.arange(20, 20 + n)
    labels = torch.tensor(noisy_labels), torch.tensor(true_labels)
    return CleaningTask(index, *labels, (evidence, evidence), (None, None), (None, None), 0.0, 0)


def test_oracle_knows():
    result = OracleCleaner().clean(task_of([0, 1, 2, 2], [0, 2, 2, 2]))
    for partition, estimate in zip(result.partitions, result.estimates, strict=True):
        assert estimate.clean_probability.tolist() == [1.0, 0.0, 1.0, 1.0]
        assert partition.labeled.tolist() == [20, 22, 23]
    assert OracleCleaner.active


@pytest.mark.parametrize("true_labels", [[-1, -1, -1], [0, 1, -1]])
def test_oracle_needs_the_truth(true_labels):
    with pytest.raises(InputError, match="cleaner=oracle: needs true labels, and this data set has none"):
        OracleCleaner().clean(task_of([0, 1, 2], true_labels))


def test_no_cleaner_divides_nothing():
    assert not NoCleaner.active
    with pytest.raises(RuntimeError, match="not active"):
        NoCleaner().clean(task_of([0, 1], [0, 1]))
