"""Estimates of memory, disk and steps against numbers worked out by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cpc_lightning.checkup import needs
from cpc_lightning.checkup.needs import (
    Memory,
    disk_finding,
    main_memory,
    memory_findings,
    saved_for_backward,
    shared_memory_finding,
    size,
    state_copies,
    step_findings,
    weight_bytes,
)


def test_what_a_forward_pass_keeps():
    # The convolution keeps its input (2x1x4x4), ReLU its output (2x3x4x4), which is the one tensor that both the
    # second convolution and ReLU need; weights do not count. 4 bytes each.
    network = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 5, 1, bias=False))
    assert saved_for_backward(network, torch.ones(2, 1, 4, 4)) == 4 * (2 * 16 + 2 * 3 * 16)


def test_what_optimizers_keep():
    assert state_copies(lambda p: torch.optim.SGD(p, lr=0.1)) == 0
    assert state_copies(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)) == 1
    assert state_copies(lambda p: torch.optim.Adam(p, lr=0.1)) == 2


def test_weight_bytes():
    # 3 x 2 + 3 weights, and a BatchNorm: 3 + 3 weights, 3 + 3 statistics in float32, one counter in int64
    assert weight_bytes(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))) == 4 * (9 + 6 + 6) + 8


@pytest.mark.parametrize(
    ("total", "free", "status"), [(1000, 1000, "ok"), (1000, 100, "ok"), (1000, 99, "warning"), (99, 99, "error")]
)
def test_memory_against_what_there_is(monkeypatch, total, free, status):
    monkeypatch.setattr(needs, "main_memory", lambda: (total, free))
    (row,) = memory_findings(Memory(weights=40, activations=30, features=20, images=10), on_gpu=False)
    assert row.status == status
    assert row.found.startswith(f"about 100 B of {size(total)}, {size(free)} of it free: ")
    assert bool(row.advice) == (status != "ok")


def test_on_a_gpu_only_features_and_images_are_on_the_host(monkeypatch):
    monkeypatch.setattr(needs, "main_memory", lambda: (1000, 30))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60, 65))
    host, device = memory_findings(Memory(weights=40, activations=30, features=20, images=10), on_gpu=True)
    assert (host.topic, host.status) == ("memory", "ok")
    assert (device.topic, device.status) == ("GPU memory", "error")
    assert device.found == "about 70 B of 65 B, 60 B of it free"


def test_this_machines_memory():
    total, free = main_memory()
    assert 1 << 28 < free <= total


def test_a_containers_limit(monkeypatch, tmp_path):
    (tmp_path / "limit").write_text("1000000\n")
    (tmp_path / "use").write_text("400000\n")
    monkeypatch.setattr(needs, "CGROUP", ((str(tmp_path / "limit"), str(tmp_path / "use")),))
    assert main_memory() == (1_000_000, 600_000)
    (tmp_path / "limit").write_text("max\n")
    assert main_memory()[0] > 1_000_000


def test_disk(tmp_path):
    assert disk_finding(tmp_path / "not" / "yet", 10).status == "ok"
    row = disk_finding(tmp_path, 1 << 60)
    assert row.status == "error"
    assert f"free in {tmp_path}" in row.found
    assert list(tmp_path.iterdir()) == []


def test_the_batch_size_that_would_fit(monkeypatch):
    # 100 bytes are free, 70 of them for all but activations: 30 for a step, where 64 images take 60
    monkeypatch.setattr(needs, "main_memory", lambda: (1000, 100))
    (row,) = memory_findings(Memory(40, 60, 20, 10, batch_size=64), on_gpu=False)
    assert row.advice.startswith("training.batch_size=32, by this estimate, or a smaller backbone")
    (row,) = memory_findings(Memory(100, 60, 20, 10, batch_size=64), on_gpu=False)
    assert row.advice.startswith("a smaller training.batch_size or a smaller backbone")
    # On a GPU what the host holds does not count: 50 - 40 for a step
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (50, 1000))
    _, row = memory_findings(Memory(40, 60, 20, 10, batch_size=64), on_gpu=True)
    assert row.advice.startswith("training.batch_size=10, ")


@pytest.mark.parametrize(("size_of_batch", "status"), [(100, "ok"), (101, "warning"), (800, "warning"), (801, "error")])
def test_shared_memory_against_the_batches_that_wait_in_it(monkeypatch, tmp_path, size_of_batch, status):
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda folder: SimpleNamespace(free=800))
    row = shared_memory_finding(size_of_batch, 3, tmp_path)  # two for each worker, and two in the loop: 8
    assert row.status == status
    assert row.found == f"up to {size(8 * size_of_batch)} in batches of {size_of_batch} B, 800 B free in {tmp_path}"
    assert ("training.num_workers" in row.advice) == (status != "ok")
    assert shared_memory_finding(10**9, 3, tmp_path / "none") is None


def test_a_system_that_does_not_tell_its_memory(monkeypatch):
    monkeypatch.delattr(needs.os, "sysconf")
    assert main_memory() is None
    (row,) = memory_findings(Memory(weights=40, activations=30, features=20, images=10), on_gpu=False)
    assert row.status == "ok"
    assert row.found.startswith("about 100 B, of an amount that this system does not tell: ")


def test_steps():
    (row,) = step_findings(warmup_steps=391, steps=391, batch_size=128, samples=50_000, epochs=450, warmup_epochs=10)
    assert (
        row.found == "391 an epoch and network in warm-up, at most as many in stage 2; 450 epochs: up to 351,900 in all"
    )
    (row,) = step_findings(1000, 500, batch_size=64, samples=1_000_000, epochs=80, warmup_epochs=2)
    # 2 networks (2 epochs of 1,000 + 78 of 500)
    assert row.found == "1,000 an epoch and network in warm-up, at most 500 in stage 2; 80 epochs: up to 82,000 in all"
    rows = step_findings(warmup_steps=1, steps=1, batch_size=64, samples=63, epochs=2, warmup_epochs=2)
    assert [row.status for row in rows] == ["ok", "warning"]
    assert "stage 2" not in rows[0].found


def test_sizes():
    assert [size(n) for n in (0, 999, 1500, 2_340_000, 25_300_000_000, 5e15)] == [
        "0 B", "999 B", "1.5 kB", "2.34 MB", "25.3 GB", "5,000 TB",
    ]  # fmt: skip
