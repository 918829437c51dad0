"""Label smoothing by hand."""

import math

import pytest
from tests.methods.steps_of import Says, step_of

from cpc_lightning.errors import InputError
from cpc_lightning.methods.label_smoothing import LabelSmoothing


def test_a_share_of_the_label_goes_to_all_classes():
    """K = 2, logits (0, log 3): p = (1/4, 3/4). Target of label 1 with a = 0.2: (0.1, 0.9)."""
    network = Says([[0.0, math.log(3.0)]])
    loss = LabelSmoothing(0.2).losses(step_of([network, network], [1]))["loss"]
    assert loss.item() == pytest.approx(0.1 * math.log(4) + 0.9 * math.log(4 / 3), abs=1e-6)
    loss.backward()
    assert network.logits.grad.tolist()[0] == pytest.approx([0.25 - 0.1, 0.75 - 0.9], abs=1e-6)  # p less target


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, "much"])
def test_a_share_out_of_its_range_is_refused(smoothing):
    with pytest.raises(InputError, match="smoothing="):
        LabelSmoothing(smoothing)
