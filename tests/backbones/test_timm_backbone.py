"""timm's models as backbones."""

import sys

import pytest
import timm
import torch

from cpc_lightning.backbones.timm_backbone import timm_backbone
from cpc_lightning.errors import InputError


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "feature_size", "side"),
    [
        ("inception_resnet_v2", 1536, 299),
        ("mobilenetv3_small_050", 1024, 64),  # a hidden layer follows the pool: 288 pooled features
        ("resnet10t", 512, 64),
        ("vit_tiny_patch16_224", 192, 224),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_and_their_size(name, feature_size, side, channels):
    with torch.device("meta"):
        backbone = timm_backbone(name, in_channels=channels).train()
        features = backbone(torch.empty(2, channels, side, side))
    assert features.shape == (2, feature_size)
    assert backbone.feature_size == feature_size


def test_features_are_what_the_whole_models_classifier_gets(tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model("resnet10t", num_classes=7).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    backbone = timm_backbone("resnet10t", str(tmp_path / "weights.pt")).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(whole.fc(backbone(images)), whole(images))


def test_weights_that_do_not_fit(tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"weights=.*: does not fit the model: .*layer1\.1\.conv1\.weight is missing"):
        timm_backbone("resnet18", str(tmp_path / "weights.pt"))


def test_unknown_names_and_weights():
    with pytest.raises(InputError) as error:
        timm_backbone("inception_resnet_v3")
    assert str(error.value).startswith('name=inception_resnet_v3: is no timm model; did you mean "inception_resnet_v2"')
    with pytest.raises(InputError, match=r"weights=nowhere\.pt: is neither a file nor weights .* resnet18 \(.*a1_in1k"):
        timm_backbone("resnet18", "nowhere.pt")


def test_weights_of_timms_own_are_asked_for_by_tag(monkeypatch):
    asked = []
    create = timm.create_model

    def record(name, pretrained, **settings):
        asked.append((name, pretrained))
        return create(name, pretrained=False, **settings)

    monkeypatch.setattr(timm, "create_model", record)
    timm_backbone("resnet18", "a1_in1k")
    timm_backbone("resnet18", "DEFAULT", in_channels=1)
    timm_backbone("resnet18")
    assert asked == [("resnet18.a1_in1k", True), ("resnet18", True), ("resnet18", False)]

    def offline(*arguments, **settings):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"could not be downloaded \(no network\)") as caught:
        timm_backbone("resnet18", "DEFAULT")
    assert "https://huggingface.co/timm/resnet18.a1_in1k" in str(caught.value)


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError) as error:
        timm_backbone("resnet18")
    assert str(error.value) == "name=resnet18: needs timm: pip install 'cpc-lightning[timm]'"
