import numpy as np
import pytest
import torch
from torch import nn

from cpc_lightning.backbones.network import Network
from cpc_lightning.backbones.preact_resnet import small_resnet
from cpc_lightning.errors import InputError


@pytest.fixture
def network():
    return Network(small_resnet(width=4), num_classes=5, embedding_size=8)


def test_logits_are_the_classifiers_answer_to_the_features(network):
    network.eval()
    images = torch.randn(3, 1, 8, 8)
    features, logits = network.features_and_logits(images)
    torch.testing.assert_close(features, network.backbone(images))
    torch.testing.assert_close(logits, features @ network.classifier.weight.T + network.classifier.bias)
    torch.testing.assert_close(network(images), logits)
    assert (features.shape, logits.shape) == ((3, 16), (3, 5))


def test_one_pass_gives_both(network):
    passes = []
    network.backbone.register_forward_hook(lambda *_: passes.append(1))
    network.features_and_logits(torch.randn(2, 1, 8, 8))
    assert len(passes) == 1


def test_the_head_belongs_to_the_network_but_has_no_part_in_its_prediction(network):
    network(torch.randn(2, 1, 8, 8)).sum().backward()
    assert any(name.startswith("head.") for name, _ in network.named_parameters())
    assert all(p.grad is None for p in network.head.parameters())
    assert all(p.grad is not None for p in (*network.backbone.parameters(), *network.classifier.parameters()))


def test_a_backbone_may_state_its_feature_size_as_any_whole_number():
    backbone = nn.Flatten()
    backbone.feature_size = np.int64(4)
    assert Network(backbone, 3, 2)(torch.zeros(2, 1, 2, 2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("backbone", "num_classes", "setting"),
    [(nn.Flatten(), 3, "backbone.feature_size"), (small_resnet(width=2), 1, "num_classes")],
)
def test_what_is_wrong_is_named(backbone, num_classes, setting):
    with pytest.raises(InputError) as caught:
        Network(backbone, num_classes, 8)
    assert caught.value.setting == setting
