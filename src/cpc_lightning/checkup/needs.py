"""Estimates the memory, disk space and steps of a run. Shapes: N samples, B batch, D features."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cpc_lightning.checkup.findings import Finding, Status
from cpc_lightning.methods.memory import SampleMemory
from cpc_lightning.methods.method import Method

CGROUP = (
    # limit and use of the memory of a container, in version 2 and version 1 of control groups
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class Memory:
    """Memory that a run takes, in bytes.

    Attributes:
        weights: networks with gradients and the optimizers' state.
        activations: what one step of stage 2 keeps for its backward pass.
        features: of the whole training set by both networks, which stage 1 keeps on the host where the cleaner needs
            them.
        images: those that the data set holds on the host.
        batch_size: what `activations` grow with; 0 where it is not to be named.
        method: what a method has of its own on the device that trains, with gradients and the optimizers' state.
        method_on_host: the same in the main memory.
    """

    weights: int
    activations: int
    features: int
    images: int
    batch_size: int = 0
    method: int = 0
    method_on_host: int = 0

    @property
    def device(self) -> int:
        """The part that is on the device that trains."""
        return self.weights + self.activations + self.method

    @property
    def host(self) -> int:
        """The part that is in the main memory whatever the device."""
        return self.features + self.images + self.method_on_host


def memory_findings(need: Memory, on_gpu: bool) -> list[Finding]:
    """Needs against what there is; a GPU's memory, where one trains, and the main memory.

    An estimate above all there is counts as an error, one above what is free now as a warning.
    """
    parts = (
        f"networks and optimizers {size(need.weights)}, a step's activations {size(need.activations)}, "
        f"stage 1's features {size(need.features)}, images {size(need.images)}"
    )
    own = need.method + need.method_on_host
    parts += f", of the method's own {size(own)}" if own else ""
    places: list[tuple[str, int, tuple[int, int] | None]] = []
    places.append(("memory", need.host + (0 if on_gpu else need.device), main_memory()))
    if on_gpu:
        free, total = torch.cuda.mem_get_info()
        places.append(("GPU memory", need.device, (total, free)))
    findings: list[Finding] = []
    for topic, needed, there in places:
        if there is None:
            found = f"about {size(needed)}, of an amount that this system does not tell: {parts}"
            findings.append(Finding(topic, "ok", found))
            continue
        total, free = there
        found = f"about {size(needed)} of {size(total)}, {size(free)} of it free"
        advice = ""
        if needed > free:
            rest = needed - need.activations
            fits = (free - rest) * need.batch_size // max(need.activations, 1)
            smaller = f"training.batch_size={fits}, by this estimate," if fits > 1 else "a smaller training.batch_size"
            advice = f"{smaller} or a smaller backbone, or another machine"
        status = "error" if needed > total else "warning" if needed > free else "ok"
        findings.append(Finding(topic, status, found if findings else f"{found}: {parts}", advice))  # type: ignore[arg-type]
    return findings


def main_memory() -> tuple[int, int] | None:
    """This machine's memory and what is free of it, in bytes; a container's, where it has a limit.

    None where the system does not say (Windows).
    """
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):
        return None
    free = total
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass  # not Linux: what is free is not known
    for limit, use in CGROUP:
        try:
            allowed, used = int(Path(limit).read_text()), int(Path(use).read_text())
        except (OSError, ValueError):  # "max": no limit
            continue
        if allowed < total:
            total, free = allowed, min(free, max(allowed - used, 0))
    return total, free


def saved_for_backward(network: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass keeps for its backward pass, beside the weights.

    Args:
        network: in train mode; its BatchNorm statistics see the images.
        images: (B, C, H, W) as the network reads them.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(images)  # until it is gone, no memory that was kept is used again
    del output
    return sum(kept.values())


def state_copies(make_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]) -> int:
    """How many numbers an optimizer keeps for each weight: 1 for SGD with momentum, 2 for Adam."""
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer = make_optimizer([parameter])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer.state[parameter].values()
    return sum(isinstance(value, Tensor) and value.shape == parameter.shape for value in state)


def weight_bytes(network: nn.Module) -> int:
    """Bytes of the network's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))


class MethodBytes(NamedTuple):
    """What a method has of its own, beside the networks, in bytes.

    Attributes:
        device: on the device that trains: weights, averages, buffers, memories of samples.
        host: other tensors that it keeps.
        trained: of `device`, what an optimizer trains.
    """

    device: int
    host: int
    trained: int


def method_bytes(method: Method, networks: Sequence[nn.Module]) -> MethodBytes:
    """What `method`, which has begun, has beside `networks`; their tensors may be of the device "meta"."""
    theirs = {id(parameter) for network in networks for parameter in network.parameters()}
    memories = [module.rows for module in method.modules() if isinstance(module, SampleMemory)]
    device = {id(t): t for t in (*method.parameters(), *method.buffers(), *memories)}
    kept = [value for module in method.modules() for value in vars(module).items() if not value[0].startswith("_")]
    host = {id(t): t for _, value in kept for t in tensors_in(value) if id(t) not in device}
    trained = {id(p): p for number in (0, 1) for p in method.parameters_of(number) if id(p) not in theirs}
    return MethodBytes(*(sum(t.numel() * t.element_size() for t in of.values()) for of in (device, host, trained)))


def tensors_in(value: object) -> list[Tensor]:
    """The tensors in lists and dicts, however nested."""
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in inner for tensor in tensors_in(item)]


def disk_finding(folder: Path, checkpoint: int) -> Finding:
    """Free space against a run's checkpoints.

    Args:
        folder: the run's, which need not be there yet.
        checkpoint: estimated bytes of one. best.ckpt, last.ckpt, and a new one before it takes its place.
    """
    present = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(present).free
    found = f"three checkpoints of {size(checkpoint)}, {size(free)} free in {present}"
    if 3 * checkpoint > free:
        return Finding("disk", "error", found, "hydra.run.dir=FOLDER on another disk")
    return Finding("disk", "ok", found)


def shared_memory_finding(batch: int, workers: int, folder: Path = Path("/dev/shm")) -> Finding | None:
    """The shared memory through which batches come from worker processes, against what they may keep there.

    Each worker prepares two batches ahead, and the loop holds two more. One batch that does not fit is an error.

    Args:
        batch: bytes of the largest.
        workers: processes that fetch, of all processes that train.
        folder: where this system keeps shared memory.

    Returns:
        None where there is no such folder (macOS and Windows have no such limit).
    """
    if not folder.is_dir():
        return None
    free, needed = shutil.disk_usage(folder).free, (2 * workers + 2) * batch
    found = f"up to {size(needed)} in batches of {size(batch)}, {size(free)} free in {folder}"
    advice = "fewer training.num_workers (0 needs none); in a container, more of it (docker run --shm-size=8g)"
    status: Status = "error" if batch > free else "warning" if needed > free else "ok"
    return Finding("shared memory", status, found, "" if status == "ok" else advice)


def step_findings(
    warmup_steps: int, steps: int, batch_size: int, samples: int, epochs: int, warmup_epochs: int, turns: int = 2
) -> list[Finding]:
    """How long a run is.

    Args:
        warmup_steps: an epoch and network in warm-up.
        steps: the same in stage 2, where all samples are labeled.
        batch_size: the larger one of both, of all processes together.
        samples: N.
        epochs: all.
        warmup_epochs: of them; all where there is no stage 2.
        turns: networks that have steps of their own.
    """
    total = turns * (warmup_steps * warmup_epochs + steps * (epochs - warmup_epochs))
    found = f"{warmup_steps:,} an epoch{' and network' if turns > 1 else ''} in warm-up"
    if warmup_epochs < epochs:
        found += f", at most {'as many' if steps == warmup_steps else f'{steps:,}'} in stage 2"
    findings = [Finding("steps", "ok", f"{found}; {epochs:,} epochs: up to {total:,} in all")]
    if batch_size > samples:
        found = f"a batch of {batch_size:,} holds each of the {samples:,} images more than once"
        findings.append(Finding("steps", "warning", found, "a smaller training.batch_size"))
    return findings


def size(count: float) -> str:
    """Bytes in a unit that leaves at most four digits: "1.5 GB", "640 kB"."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
