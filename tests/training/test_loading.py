"""Loaders on image files: the same batches from worker processes, and errors that arrive as they are."""

import pickle
import resource

import pytest
import torch
from tests.datasets.image_trees import write_folders

from cpc_lightning.datasets.image_folder import image_folder
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.errors import InputError, TrainingError
from cpc_lightning.files import usable_cores
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.loading import BatchLoader, CoTrainingDataset, EvaluationDataset
from cpc_lightning.training.samplers import CoTrainingSampler, NetworkShare, warmup_share


@pytest.fixture
def data(tmp_path):
    write_folders(tmp_path, {"a": 10, "b": 10})
    return image_folder(str(tmp_path), Crop(16, 12))


def batches(data, workers):
    labeled, rest = torch.arange(6), torch.arange(6, 16)
    shares = warmup_share(torch.arange(16)), NetworkShare(labeled, torch.ones(6), rest)
    sampler = CoTrainingSampler(shares, batch_size=4, seed=1, epoch=0)
    torch.manual_seed(workers)  # workers must not take part in the draws
    return list(
        BatchLoader(CoTrainingDataset(data.train, data.train.labels), batch_sampler=sampler, num_workers=workers)
    )


@pytest.mark.long
def test_batches_do_not_depend_on_the_number_of_workers(data):
    ours, theirs = batches(data, 0), batches(data, 2)
    assert [b["labeled_images"].shape for b in ours] == [(1, 4, 3, 12, 12)] * 4 + [(4, 4, 3, 12, 12)] * 2
    assert [b["unlabeled_images"].shape for b in ours] == [(1, 0, 3, 12, 12)] * 4 + [(4, 4, 3, 12, 12)] * 2
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_cannot_be_read_is_named_also_from_a_worker(data, tmp_path, workers):
    (tmp_path / data.train.paths[5]).write_bytes(b"")
    loader = BatchLoader(
        EvaluationDataset(data.train, data.train.labels), batch_sampler=[[0, 1], [4, 5]], num_workers=workers
    )
    with pytest.raises(InputError, match=r"^image=.*is empty; dataset.on_bad_image=skip leaves such files out"):
        list(loader)


def test_a_batch_for_which_shared_memory_has_no_room_is_an_error_and_no_wait(data, monkeypatch):
    """A limit on the size of files stands in for a full /dev/shm: there, too, shared memory cannot be had."""
    dataset = EvaluationDataset(data.train, data.train.labels)
    answer = EvaluationDataset.__getitems__

    def limited(self, positions):
        resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))  # of the worker, which is a process of its own
        return answer(self, positions)

    monkeypatch.setattr(EvaluationDataset, "__getitems__", limited)
    loader = BatchLoader(dataset, batch_sampler=[[0, 1], [2, 3]], num_workers=1)
    # 2 images of 3 x 12 x 12 bytes, 2 labels and 2 positions of 8 each
    expected = r"^training.num_workers=1, .* no room for another batch of 896 bytes \(.*\); try fewer of them, or 0"
    with pytest.raises(TrainingError, match=expected):
        list(loader)


def test_workers_that_cannot_be_started_are_an_error_with_the_setting(data, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.multiprocessing, "Queue", full)
    loader = BatchLoader(EvaluationDataset(data.train, data.train.labels), batch_sampler=[[0]], num_workers=1)
    with pytest.raises(
        TrainingError, match=r"^training.num_workers=1, .* cannot be started \(No space left on device\)"
    ):
        list(loader)


@pytest.mark.long
def test_a_plan_travels_by_value_not_through_shared_memory(data):
    """Nor does it take the whole permutation along, of which it is a piece."""
    shares = warmup_share(torch.arange(100_000)), warmup_share(torch.arange(4))
    plan = next(iter(CoTrainingSampler(shares, batch_size=4, seed=1, epoch=0)))
    sent = pickle.dumps(plan)
    assert len(sent) < 1500
    for name, value in vars(pickle.loads(sent)).items():
        ours = getattr(plan, name)
        assert type(value) is type(ours)
        assert torch.equal(value, ours) if isinstance(value, torch.Tensor) else value == ours


def test_as_many_workers_as_processors(data):
    assert CoTrainingDataModule(data, 4, seed=1, num_workers=None).num_workers == usable_cores() >= 1
