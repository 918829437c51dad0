import pytest
import torch

from cpc_lightning.backbones.preact_resnet import PreActBlock, PreActResNet, preact_resnet18, small_resnet
from cpc_lightning.errors import InputError


@pytest.mark.parametrize(("num_classes", "total"), [(10, 11_171_274), (100, 11_217_444)])
def test_preact_resnet18_has_the_published_number_of_parameters(num_classes, total):
    with torch.device("meta"):
        backbone = preact_resnet18()
        classifier = torch.nn.Linear(backbone.feature_size, num_classes)
    assert sum(p.numel() for p in (*backbone.parameters(), *classifier.parameters())) == total


def test_preact_resnet18_stages_halve_the_image_from_the_second_on():
    with torch.device("meta"):
        backbone = preact_resnet18()
        maps = backbone.stem(torch.empty(2, 3, 32, 32))
        shapes = []
        for block in backbone.stages:
            maps = block(maps)
            shapes.append(tuple(maps.shape[1:]))
        features = backbone(torch.empty(2, 3, 32, 32))
    assert shapes == [(64, 32, 32)] * 2 + [(128, 16, 16)] * 2 + [(256, 8, 8)] * 2 + [(512, 4, 4)] * 2
    assert features.shape == (2, 512)


def test_a_block_takes_its_shortcut_from_the_activated_input():
    block = PreActBlock(1, 1, stride=2).eval()  # BN: (x - 0) / sqrt(1 + 1e-5)
    torch.nn.init.zeros_(block.conv2.weight)  # leaves only the shortcut
    torch.nn.init.constant_(block.shortcut.weight, 2.0)
    out = block(torch.tensor([[[[-3.0, 9.0], [9.0, 9.0]]]]))
    assert out.tolist() == [[[[0.0]]]]  # 2 relu(-3); from x itself it would be -6
    out = block(torch.tensor([[[[3.0, 9.0], [9.0, 9.0]]]]))
    assert float(out.detach()) == pytest.approx(6 / 1.00001**0.5)


def test_a_block_of_unchanged_shape_adds_its_input_as_it_is_and_ends_without_relu():
    block = PreActBlock(1, 1, stride=1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.tensor([[[[-3.0, 4.0], [5.0, -6.0]]]])
    assert torch.equal(block(x), x)


def test_a_block_equals_the_formula():
    torch.manual_seed(0)
    block, x = PreActBlock(3, 5, stride=2), torch.randn(4, 3, 6, 6)

    def normalise(maps):  # BatchNorm in train mode with weight 1 and bias 0
        centred = maps - maps.mean((0, 2, 3), keepdim=True)
        return centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()

    activated = normalise(x).clamp(min=0)
    inner = torch.conv2d(activated, block.conv1.weight, stride=2, padding=1)
    outer = torch.conv2d(normalise(inner).clamp(min=0), block.conv2.weight, padding=1)
    shortcut = torch.einsum("oi,bihw->bohw", block.shortcut.weight[:, :, 0, 0], activated[:, :, ::2, ::2])
    torch.testing.assert_close(block(x), outer + shortcut, rtol=1e-4, atol=1e-5)


def test_features_are_the_mean_of_the_last_blocks_maps():
    backbone = small_resnet(width=4).eval()
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = backbone.stages(backbone.stem(images))
    assert maps.shape == (2, 16, 2, 2)
    torch.testing.assert_close(backbone(images), maps.sum((2, 3)) / 4)
    assert float(maps.detach().min()) < 0  # neither BN and ReLU nor a ReLU after the last block


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32)])
def test_small_resnet_takes_digits_fashion_and_cifar_images_and_trains(channels, size):
    backbone = small_resnet(channels)
    images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    features = backbone(images)
    assert features.shape == (2, 128)
    assert backbone.feature_size == 128
    features.square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in backbone.parameters())


@pytest.mark.parametrize(
    ("build", "setting"),
    [
        (lambda: small_resnet(width=0), "width"),
        (lambda: small_resnet(in_channels=0), "in_channels"),
        (lambda: PreActResNet((8, 16), (1,), 3), "blocks"),
        (lambda: PreActResNet((8, 16), (1, 0), 3), "blocks"),
    ],
)
def test_wrong_shapes_are_named(build, setting):
    with pytest.raises(InputError) as caught:
        build()
    assert caught.value.setting == setting
