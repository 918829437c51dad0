"""Batches of both sides of a partition as one, for methods that ask for it."""

import torch

from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.training.datamodule import LEAST, mixed_share
from cpc_lightning.training.samplers import CoTrainingSampler, warmup_share


def test_every_sample_is_drawn_and_a_clean_probability_of_zero_marks_the_unlabeled():
    clean = torch.tensor([True, False, True, False])
    targets = torch.eye(3)[[0, 1, 2, 0]]
    share = mixed_share(
        Partition(torch.tensor([4, 6, 7, 9]), torch.tensor([0.8, 0.3, 0.0, 0.0]), clean, targets=targets)
    )
    assert share.labeled.tolist() == [4, 6, 7, 9]
    torch.testing.assert_close(share.clean_probability, torch.tensor([0.8, 0.0, LEAST, 0.0]))
    plans = list(CoTrainingSampler((share, warmup_share(torch.empty(0, dtype=torch.int64))), 2, seed=1, epoch=3))
    assert sorted(torch.cat([plan.labeled for plan in plans]).tolist()) == [4, 6, 7, 9]
    for plan in plans:
        assert not plan.warmup
        assert len(plan.unlabeled) == 0
        assert torch.equal(plan.targets, targets[torch.searchsorted(share.labeled, plan.labeled)])
