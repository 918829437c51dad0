import pytest
import torch
import torchvision

from cpc_lightning.backbones.torchvision_backbone import torchvision_backbone
from cpc_lightning.errors import InputError

FAMILIES = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 1024,
    "resnet50": 2048,
    "resnext50_32x4d": 2048,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "vgg11": 4096,
    "vit_b_16": 768,
}


def size_of(name):
    if name.startswith(("vit", "maxvit")):
        return 224
    return 75 if name == "inception_v3" else 64


def assert_features(name, channels):
    """Shapes only, on the meta device: nothing is computed. In train mode, where auxiliary outputs would show."""
    with torch.device("meta"):
        backbone = torchvision_backbone(name, in_channels=channels).train()
        features = backbone(torch.empty(2, channels, size_of(name), size_of(name)))
    assert features.shape == (2, backbone.feature_size)
    return backbone


@pytest.mark.parametrize(("name", "feature_size"), FAMILIES.items())
def test_each_family_yields_the_input_of_its_classifier(name, feature_size):
    assert assert_features(name, 3).feature_size == feature_size


def has_no_meta_device(name):
    return name.startswith("regnet")  # torchvision computes its widths with tensors


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in torchvision.models.list_models(module=torchvision.models) if not has_no_meta_device(n)]
)
def test_every_torchvision_classifier(name):
    assert_features(name, 1)


def test_regnet():
    backbone = torchvision_backbone("regnet_y_400mf").eval()
    assert backbone(torch.zeros(1, 3, 32, 32)).shape == (1, 440)


def test_features_are_what_the_whole_models_classifier_gets():
    torch.manual_seed(0)
    whole = torchvision.models.resnet18().eval()
    torch.manual_seed(0)
    backbone = torchvision_backbone("resnet18").eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(whole.fc(backbone(images)), whole(images))


def test_a_grayscale_image_is_repeated_to_three_channels():
    backbone = torchvision_backbone("resnet18", in_channels=1).eval()
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(backbone(images), backbone(images.repeat(1, 3, 1, 1)))


def test_vgg_keeps_its_hidden_layers_and_dropout():
    with torch.device("meta"):
        kept = torchvision_backbone("vgg11").model.classifier
    assert [type(layer).__name__ for layer in kept] == [
        *("Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout"),
        "Identity",
    ]


@pytest.fixture
def weights_file(tmp_path):
    """The state_dict of a whole model with another number of classes."""
    torch.manual_seed(5)
    model = torchvision.models.resnet18(num_classes=7)
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    return model, path


def test_a_file_of_weights_is_loaded(weights_file):
    model, path = weights_file
    loaded = torchvision_backbone("resnet18", str(path)).model.state_dict()
    expected = {key: value for key, value in model.state_dict().items() if not key.startswith("fc.")}
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_googlenets_auxiliary_weights_are_left_aside(tmp_path):
    model = torchvision.models.googlenet(init_weights=False)
    assert any(key.startswith("aux1.") for key in model.state_dict())
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    loaded = torchvision_backbone("googlenet", str(tmp_path / "weights.pt"))
    assert torch.equal(loaded.model.conv1.conv.weight, model.conv1.conv.weight)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {"conv1.weight": state["conv1.weight"]}, "bn1.weight is missing"),
        (lambda state: {**state, "extra": state["bn1.weight"]}, "extra is not the model's"),
        (lambda state: {**state, "bn1.weight": torch.ones(3)}, "bn1.weight has shape (3,), not (64,)"),
        (lambda state: {"weights": state}, "and 97 more"),  # 20 convolutions and 80 of BatchNorm, 3 of them shown
        (lambda state: [1, 2], "must hold a state_dict, but holds a list"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights_file, change, said):
    model, path = weights_file
    torch.save(change(model.state_dict()), path)
    with pytest.raises(InputError) as caught:
        torchvision_backbone("resnet18", str(path))
    assert caught.value.setting == "weights"
    assert said in str(caught.value)


def test_a_file_that_is_no_weights_is_refused(tmp_path):
    (tmp_path / "weights.pt").write_text("not weights")
    with pytest.raises(InputError, match="cannot be read safely"):
        torchvision_backbone("resnet18", str(tmp_path / "weights.pt"))


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_file_of_weights_runs_no_code(tmp_path):
    torch.save({"conv1.weight": Hostile(tmp_path / "written")}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="cannot be read safely"):
        torchvision_backbone("resnet18", str(tmp_path / "weights.pt"))
    assert not (tmp_path / "written").exists()


def test_unknown_names_are_answered_with_the_nearest_one():
    with pytest.raises(InputError) as caught:
        torchvision_backbone("resnet5O")
    assert str(caught.value) == 'name=resnet5O: is no torchvision classifier; did you mean "resnet50"?'
    with pytest.raises(InputError, match=r"is no torchvision classifier$"):
        torchvision_backbone("qqqq")
    with pytest.raises(InputError, match="is no torchvision classifier"):
        torchvision_backbone("fasterrcnn_resnet50_fpn")


def test_unknown_weights_are_answered_with_the_known_ones():
    with pytest.raises(InputError, match=r"neither a file nor .* resnet50 \(IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT\)"):
        torchvision_backbone("resnet50", "IMAGENET")


def test_a_failed_download_is_told_in_one_line(monkeypatch):
    def offline(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(InputError, match=r"could not be downloaded \(no network\)") as caught:
        torchvision_backbone("resnet18", "DEFAULT")
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in str(caught.value)
    assert "give the file's path here" in str(caught.value)


def test_other_channels_are_refused():
    with pytest.raises(InputError) as caught:
        torchvision_backbone("resnet18", in_channels=4)
    assert caught.value.setting == "in_channels"
