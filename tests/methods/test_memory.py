"""What is remembered of each sample."""

import torch
from torch import nn

from cpc_lightning.methods.memory import SampleMemory


def test_rows_are_read_and_written_by_index():
    memory = SampleMemory(torch.zeros(4, 2))
    memory.write(torch.tensor([3, 1]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert memory.rows.tolist() == [[0, 0], [3, 4], [0, 0], [1, 2]]
    assert memory.read(torch.tensor([1, 1])).tolist() == [[3, 4], [3, 4]]


def test_of_a_sample_that_comes_twice_the_later_row_counts():
    memory = SampleMemory(torch.zeros(3, 1))
    memory.write(torch.tensor([2, 0, 2, 2]), torch.tensor([[1.0], [5.0], [2.0], [3.0]]))
    assert memory.rows.flatten().tolist() == [5, 0, 3]


def test_a_gradient_is_not_kept_and_the_kind_of_number_stays():
    memory = SampleMemory(torch.zeros(2, 1))
    memory.write(torch.tensor([0]), torch.ones(1, 1, dtype=torch.float64, requires_grad=True))
    assert memory.rows.dtype == torch.float32
    assert not memory.rows.requires_grad


def test_it_is_in_checkpoints_but_no_buffer_and_follows_its_module():
    """Buffers are sent to all processes in every step."""
    whole, other = (nn.ModuleDict({"memory": SampleMemory(torch.full((2, 1), value))}) for value in (7.0, 0.0))
    assert list(whole.buffers()) == []
    other.load_state_dict(whole.state_dict())
    assert other["memory"].rows.tolist() == [[7.0], [7.0]]
    assert whole.to("meta")["memory"].rows.device.type == "meta"
    assert whole["memory"].rows.dtype == torch.float32
