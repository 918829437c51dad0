"""What counts the waits of a run counts those within its steps, all of them, and nothing else."""

import json
import warnings

from tests.device import Waits


def say(message: str = "called a synchronizing CUDA operation") -> None:
    """As torch does where the host waits for a GPU, in its mode "warn"."""
    warnings.warn(message, stacklevel=1)


def test_waits_within_steps_are_counted_with_their_places(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.device.DEVICE", "cpu")
    waits = Waits(tmp_path / "waits.json")
    for place in range(3):
        waits.on_train_batch_start(None, None, None, place)
        if place:  # the first step of an epoch is not looked at
            say()
            say()
            say("another warning")
        waits.on_train_batch_end(None, None, None, None, place)
    waits.on_train_end(None, None)
    found = json.loads((tmp_path / "waits.json").read_text())
    assert found["steps"] == 2
    assert len(found["places"]) == 4  # Python itself shows each place once
    assert all("test_device.py" in place[-1] for place in found["places"])
