"""Weights from files of many makes, strictly."""

import argparse

import pytest
import torch

from cpc_lightning.backbones.preact_resnet import preact_resnet18, small_resnet
from cpc_lightning.backbones.torchvision_backbone import torchvision_backbone
from cpc_lightning.backbones.weights import load_weights
from cpc_lightning.errors import InputError


def source():
    torch.manual_seed(3)
    return small_resnet(in_channels=3, width=4).state_dict()


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


HEAD = {"0.weight": torch.zeros(16, 16), "0.bias": torch.zeros(16), "2.weight": torch.zeros(8, 16)}
ENCODERS = {
    "bare": source(),
    "SimCLR": {"state_dict": prefixed(source(), "module.encoder.") | prefixed(HEAD, "module.projector.")},
    "SimCLR, flat": {"model": prefixed(source(), "backbone.") | prefixed(HEAD, "fc.")},
    "SupCon": {
        "opt": argparse.Namespace(learning_rate=0.5),
        "epoch": 1000,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.5}]},
        "model": prefixed(source(), "module.encoder.") | prefixed(HEAD, "module.head."),
    },
    "MoCo": {
        "state_dict": prefixed(source(), "module.encoder_q.")
        | {"module.encoder_q.fc.weight": torch.zeros(8, 16)}
        | prefixed({key: value + 1 for key, value in source().items()}, "module.encoder_k.")
        | {"module.queue": torch.zeros(8, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}
    },
    "net": {"net": prefixed(source(), "module."), "acc": 95.1, "epoch": 200},
    "with a classifier": prefixed(source(), "module.") | {"module.linear.weight": torch.zeros(10, 16)},
}


@pytest.mark.parametrize("make", ENCODERS)
def test_the_encoder_of_each_make_is_loaded_whole(tmp_path, make):
    torch.save(ENCODERS[make], tmp_path / "weights.pt")
    loaded = small_resnet(in_channels=3, width=4, weights=str(tmp_path / "weights.pt")).state_dict()
    assert loaded.keys() == source().keys()
    assert all(torch.equal(loaded[key], value) for key, value in source().items())


@pytest.mark.long
def test_preact_resnets_by_their_common_names(tmp_path):
    """DivideMix's names, here typed out for one block of each kind; the rest by number."""
    own = preact_resnet18().state_dict()
    pairs = {
        "conv1.weight": "stem.0.weight",
        "bn1.running_var": "stem.1.running_var",
        "layer1.1.bn2.bias": "stages.1.bn2.bias",
        "layer2.0.conv1.weight": "stages.2.conv1.weight",
        "layer3.0.shortcut.0.weight": "stages.4.shortcut.weight",
        "layer4.1.conv2.weight": "stages.7.conv2.weight",
    }
    theirs = {}
    for key, value in own.items():
        name = key.replace("stem.0", "conv1").replace("stem.1", "bn1").replace("shortcut", "shortcut.0")
        if name.startswith("stages."):
            number, rest = int(name[7]), name[9:]
            name = f"layer{number // 2 + 1}.{number % 2}.{rest}"
        theirs[name] = value
    assert all(torch.equal(theirs[name], own[key]) for name, key in pairs.items())
    torch.save({"state_dict": prefixed(theirs, "module.encoder.") | {"module.head.weight": torch.zeros(8, 512)}},
               tmp_path / "weights.pt")  # fmt: skip
    loaded = preact_resnet18(weights=str(tmp_path / "weights.pt")).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in own.items())
    torch.save({key: value for key, value in theirs.items() if key != "layer4.1.conv2.weight"}, tmp_path / "part.pt")
    with pytest.raises(InputError, match=r"stages\.7\.conv2\.weight is missing"):
        preact_resnet18(weights=str(tmp_path / "part.pt"))


def without(key):
    return {k: v for k, v in source().items() if k != key}


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        (prefixed(without("stem.0.weight"), "encoder."), "does not fit the model: stem.0.weight is missing"),
        # A key of that name beside the encoder is another layer: it must not fill the gap.
        (prefixed(without("stem.0.weight"), "encoder.") | {"stem.0.weight": torch.zeros(4, 3, 3, 3)}, "is missing"),
        (source() | {"stages.9.conv1.weight": torch.zeros(1)}, "stages.9.conv1.weight is not the model's"),
        (source() | {"extra.weight": torch.zeros(2, 2)}, "extra.weight is not the model's"),
        # A convolution is no part of a head, whatever its name.
        (source() | {"head.conv.weight": torch.zeros(2, 2, 3, 3)}, "head.conv.weight is not the model's"),
        (source() | {"stem.1.bias": torch.zeros(5)}, "stem.1.bias has shape (5,), not (4,)"),
        # 32 keys, less the counters of 5 BatchNorms
        ({}, "and 24 more"),
        ({"state_dict": 3}, "and 24 more; state_dict is not the model's"),
        (prefixed(source(), "trunk."), "is missing and 24 more; trunk.stem.0.weight is not the model's, trunk.stem.1"),
        (source() | {"stem.1.bias": torch.full((4,), torch.nan)}, "stem.1.bias holds infinite numbers or NaN"),
        (source() | {"stem.1.bias": torch.full((4,), -torch.inf).half()}, "stem.1.bias holds infinite numbers or NaN"),
        (source() | {"stem.1.bias": torch.ones(4, dtype=torch.int64)}, "stem.1.bias is int64, not floating-point"),
        (source() | {"stem.1.bias": [0.0] * 4}, "stem.1.bias is no tensor"),
    ],
)
def test_what_does_not_fit_is_told_key_by_key(tmp_path, checkpoint, says):
    torch.save(checkpoint, tmp_path / "weights.pt")
    model = small_resnet(in_channels=3, width=4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_weights(model, str(tmp_path / "weights.pt"))
    assert says in str(error.value)
    assert error.value.setting == "weights"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.long
def test_every_backbone_starts_from_a_file(tmp_path):
    for name, make in (("preact", preact_resnet18), ("resnet", lambda **k: torchvision_backbone("resnet18", **k))):
        torch.manual_seed(1)
        state = make().state_dict()
        torch.save({"state_dict": {f"module.{k.removeprefix('model.')}": v for k, v in state.items()}}, tmp_path / name)
        loaded = make(weights=str(tmp_path / name)).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_a_file_that_is_not_there():
    with pytest.raises(InputError, match=r"weights=gone\.pt: is not there"):
        preact_resnet18(weights="gone.pt")


@pytest.mark.long
@pytest.mark.parametrize("make", [preact_resnet18, lambda **k: torchvision_backbone("resnet18", **k)])
def test_old_files_have_no_counters_of_batches(tmp_path, make):
    state = {k.removeprefix("model."): v for k, v in make().state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pth")
    loaded = {k.removeprefix("model."): v for k, v in make(weights=str(tmp_path / "old.pth")).state_dict().items()}
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert loaded.keys() - state.keys()


def test_safetensors_and_home(tmp_path, monkeypatch):
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="is a safetensors file: load it with"):
        preact_resnet18(weights=str(tmp_path / "w.safetensors"))
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(source(), tmp_path / "w.pt")
    small_resnet(in_channels=3, width=4, weights="~/w.pt")
