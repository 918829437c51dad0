"""Which networks keep out of channels last, and that they train where torch would break memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cpc_lightning.backbones.layout import may_be_channels_last
from cpc_lightning.backbones.preact_resnet import preact_resnet18, small_resnet

ROOT = Path(__file__).parents[2]

# Gradients of networks that the module has laid out. Arguments: their widths.
TRAIN = """
import sys
import torch
from cpc_lightning.backbones.network import Network
from cpc_lightning.backbones.preact_resnet import small_resnet
from cpc_lightning.training.module import CoTrainingModule
torch.set_num_threads(1)
for width in map(int, sys.argv[1:]):
    networks = [Network(small_resnet(3, width), 10, 4) for _ in range(2)]
    CoTrainingModule(networks, None, None, None, None, None, 10, 1, channels_last=True)
    for _ in range(20):
        networks[0](torch.randn(16, 3, 16, 16)).sum().backward()
    print(width)
"""


@pytest.mark.parametrize(
    ("convolution", "fine"),
    [
        (nn.Conv2d(4, 8, 1, stride=2), False),
        (nn.Conv2d(7, 64, 1, stride=2), False),
        (nn.Conv2d(15, 32, 1, stride=2), False),
        (nn.Conv2d(4, 8, 1, stride=3), False),
        (nn.Conv2d(4, 8, 1, stride=(1, 2)), False),
        (nn.Conv2d(16, 32, 1, stride=2), True),
        (nn.Conv2d(4, 8, 1), True),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1), True),
        (nn.Conv2d(8, 8, 1, stride=2, groups=8), True),
    ],
)
def test_a_strided_1x1_convolution_of_few_channels_keeps_its_network_out(convolution, fine):
    assert may_be_channels_last(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(convolution))) is fine


@pytest.mark.parametrize(("width", "fine"), [(1, False), (8, False), (15, False), (16, True), (32, True)])
def test_small_networks_keep_out_below_a_width_of_16(width, fine):
    assert may_be_channels_last(small_resnet(1, width)) is fine


def test_the_papers_backbone_does_not():
    with torch.device("meta"):
        assert may_be_channels_last(preact_resnet18())


@pytest.mark.long
def test_narrow_networks_train():
    """In a process of its own, as on a CPU with AVX2: torch 2.14.1 dies of these widths channels last."""
    answer = subprocess.run(
        [sys.executable, "-c", TRAIN, "2", "4", "6"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
    )  # fmt: skip
    assert (answer.returncode, answer.stdout) == (0, "2\n4\n6\n"), answer.stderr
