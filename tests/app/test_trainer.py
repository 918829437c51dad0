"""What the configuration leaves to the machine."""

import pytest
import torch

from cpc_lightning.app.trainer import choose_precision


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"avx512_f": True, "avx512_bf16": False, "cpu_name": "a processor"}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_auto_precision_follows_the_processor(monkeypatch, has, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert choose_precision("auto", "cpu") == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_auto_precision_follows_the_gpu(monkeypatch, accelerator, native, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert choose_precision("auto", accelerator) == expected


def test_a_precision_that_was_asked_for_stays():
    assert choose_precision("16-mixed", "gpu") == "16-mixed"
    assert choose_precision("64-true", "cpu") == "64-true"
