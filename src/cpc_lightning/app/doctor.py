"""`mode=check`: everything that a run needs is looked at before anybody waits a night. Nothing is written.

What fails becomes a finding, and the rest is looked at all the same; only what depends on it is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from cpc_lightning.app.building import (
    add_noise,
    build_part,
    check_draw,
    check_lengths,
    check_settings,
    check_truth,
    make_network,
    make_optimizer_parts,
    make_trainer,
    process_count,
    settings_of,
)
from cpc_lightning.app.settings import plain_settings
from cpc_lightning.app.train import prepare
from cpc_lightning.backbones.network import Network
from cpc_lightning.backbones.timm_backbone import timm_backbone
from cpc_lightning.backbones.torchvision_backbone import cached_weights, torchvision_backbone
from cpc_lightning.checkup.data import image_findings, label_findings, size_findings, stand_in, two_views
from cpc_lightning.checkup.findings import Finding, Findings, counted
from cpc_lightning.checkup.needs import (
    Memory,
    disk_finding,
    memory_findings,
    saved_for_backward,
    state_copies,
    step_findings,
    weight_bytes,
)
from cpc_lightning.checkup.protocol import Plan, protocol_findings
from cpc_lightning.cleaning.evidence import Cleaner
from cpc_lightning.cleaning.gmm import MIN_CLASS_SAMPLES
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Images
from cpc_lightning.errors import InputError, first_line
from cpc_lightning.files import usable_cores
from cpc_lightning.noise.noise import AsymmetricNoise, Noise, NoNoise, SymmetricNoise
from cpc_lightning.noise.open_set import MixedImages
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.training.checkpoints import flatten
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.selection import VALIDATION
from cpc_lightning.training.stage_one import HALF_BEYOND
from cpc_lightning.views.views import VIEWS, Views


@dataclass(frozen=True)
class Parts:
    """Those of `building.Method`, each None where it cannot be built."""

    cleaner: Cleaner | None
    risk: EmpiricalVicinalRisk | None
    views: Views | None
    noise: Noise | None
    optimizers: tuple[Any, Any, Any] | None


def examine(
    config: DictConfig, find_folder: Callable[[], Path], check_kinds: Callable[[], None] = lambda: None
) -> list[Finding]:
    """Look at everything that the run which `config` describes would need.

    Args:
        config: composed. It stays as it is.
        find_folder: answers the run's folder, which need not be there; raises `InputError` where it cannot be written.
        check_kinds: raises `InputError` for a value of another kind than its setting takes; nothing is built of it.
    """
    findings = Findings()
    folder = findings.attempt("run folder", find_folder)
    asked = config.copy()
    asked.mode, asked.run_dir = "train", str(folder)
    config = asked.copy()
    downloads = forbid_downloads(config)
    parts = examine_settings(config, check_kinds, findings)
    if parts is None:
        return findings.rows
    processes = examine_devices(config, findings)
    dataset = examine_data(config, parts, downloads, findings)
    sized = dataset is not None and examine_length(config, parts, dataset, processes, findings)
    shown = stand_in(parts.views) if dataset is None and parts.views is not None else dataset
    built = None if shown is None else examine_network(config, parts, shown, findings)
    if dataset is not None and sized and built is not None:
        examine_needs(config, parts, dataset, *built, processes, folder, findings)
    if dataset is not None and not findings.errors:
        rehearse(asked, config, dataset, findings)
    return findings.rows


def rehearse(asked: DictConfig, config: DictConfig, dataset: ImageDataset, findings: Findings) -> None:
    """Prepare the run as the run itself does, so that nothing that stops it there passes here.

    Args:
        asked: the config as the user gave it.
        config: the one without downloads.
        dataset: noise included.
        findings: to add to.
    """
    if asked.backbone != config.backbone:
        if asked.resume is not None:
            return  # with other weights than the run's it would not be continued
        asked.backbone = config.backbone
    if findings.attempt("run", lambda: prepare(asked, (), dataset)) is not None:
        findings.add("run", "ok", "all parts fit together, up to the first step")


def forbid_downloads(config: DictConfig) -> bool:
    """Have data sets use only what is there; returns whether they were allowed to download."""
    allowed = False
    for name in ("dataset", "noise.source"):
        node = OmegaConf.select(config, name)
        if node is not None and node.get("download"):
            node.download, allowed = False, True
    return allowed


# Settings -----------------------------------------------------------------------------------------------------------


def examine_settings(config: DictConfig, check_kinds: Callable[[], None], findings: Findings) -> Parts | None:
    """Build each part that needs neither data nor device, and hold the settings against the protocol.

    None where a value is of another kind than its setting takes: what else is built of it may fail in any way.
    """
    before = len(findings.rows)
    findings.attempt("settings", lambda: check_settings(config))
    fine = len(findings.rows) == before
    cleaner, risk, views, noise = (
        findings.attempt("settings", lambda name=name, method=method: build_part(config, name, method))  # type: ignore[misc]
        for name, method in (("cleaner", "clean"), ("semisup", "risk"), ("views", "weak"), ("noise", "corrupt"))
    )
    policy = config.training.warmup_policy
    if views is not None and policy is not None:
        findings.attempt("settings", lambda: views.with_policy(policy, "training.warmup_policy"))
    optimizers = findings.attempt("settings", lambda: make_optimizer_parts(config))
    if cleaner is not None and fine:
        findings.attempt("settings", lambda: check_lengths(config, cleaner))
        findings.attempt("settings", lambda: check_draw(config, cleaner))
    try:
        check_kinds()
    except InputError as error:
        if not any(row.found.startswith(f"{error.setting}=") for row in findings.errors):  # our own parts say more
            findings.add("settings", "error", str(error))
        return None
    if len(findings.rows) == before and cleaner is not None and noise is not None:
        findings.add("settings", "ok", "every part of the method can be built from its settings")
        findings.rows += protocol_findings(plan_of(config, cleaner, noise))
    return Parts(cleaner, risk, views, noise, optimizers)


def plan_of(config: DictConfig, cleaner: Cleaner, noise: Noise) -> Plan:
    """What the run is to do, as the protocol sees it."""
    kinds = ((NoNoise, "none"), (SymmetricNoise, "symmetric"), (AsymmetricNoise, "asymmetric"))
    kind: Any = next((kind for of, kind in kinds if isinstance(noise, of)), "other")
    dataset = str(config.dataset.get("_target_", "")).rsplit(".", 1)[-1]
    names = ["training", "cleaner", "semisup", "optimizer", "noise", "views", "backbone"]
    settings = flatten(plain_settings(OmegaConf.masked_copy(config, names)))
    crop = OmegaConf.select(config, "dataset.crop") or {}
    settings |= {f"dataset.crop.{name}": crop[name] for name in crop if name in ("resize", "random_resized")}
    settings["backbone"] = config.backbone.get("name") or str(config.backbone.get("_target_", "")).rsplit(".", 1)[-1]
    return Plan(dataset, kind, noise.nominal_rate, cleaner.active, settings)


def examine_devices(config: DictConfig, findings: Findings) -> int:
    """What the trainer asks for against what this machine has; the number of processes, 1 where that fails."""
    if findings.attempt("devices", lambda: make_trainer(config, [])) is None:
        return 1
    processes = process_count(config.trainer)
    cores, gpus = usable_cores(), torch.cuda.device_count()
    there = f"{counted(gpus, 'GPU')} ({torch.cuda.get_device_name(0)})" if gpus else "no GPU"
    asked = f"{counted(processes, 'process')} on the {'GPU' if uses_gpu(config) else 'CPU'}"
    found = f"{asked}; there are {counted(cores, 'processor')} and {there}"
    idle = gpus > 0 and not uses_gpu(config)
    findings.add("devices", "warning" if idle else "ok", found, "trainer=gpu" if idle else "")
    return processes


def uses_gpu(config: DictConfig) -> bool:
    """Whether the run trains on a GPU."""
    return bool(config.trainer.accelerator != "cpu" and torch.cuda.is_available())


# Data ---------------------------------------------------------------------------------------------------------------


def examine_data(config: DictConfig, parts: Parts, downloads: bool, findings: Findings) -> ImageDataset | None:
    """Open the data set, count, add the noise, decode some images; the data set with its noise, if all that works."""
    before = len(findings.rows)
    clean = findings.attempt("data set", lambda: open_dataset(config))
    dataset, noise = clean, parts.noise
    if clean is not None and noise is not None:
        dataset = findings.attempt("noise", lambda: add_noise(clean, noise, config.noise_seed))
    if dataset is None:
        if downloads:
            advice = "the run may download it first: check again once it is there"
            findings.rows[before:] = [Finding(r.topic, "warning", r.found, advice) for r in findings.rows[before:]]
        return None
    cleaner = parts.cleaner
    findings.rows += size_findings(dataset, MIN_CLASS_SAMPLES if config.cleaner.get("class_aware") else None)
    nominal_rate = None if parts.noise is None else parts.noise.nominal_rate
    findings.rows += label_findings(dataset.train, nominal_rate, dataset.class_names)
    if cleaner is not None:
        findings.attempt("labels", lambda: check_truth(cleaner, dataset))
    workers = config.training.num_workers
    workers = workers if isinstance(workers, int) else usable_cores()
    skips = config.dataset.get("on_bad_image") == "skip"
    views = 2 * VIEWS if parts.views is None else parts.views.per_image
    findings.rows += image_findings(dataset, config.seed, max(workers, 1), skips, views)
    return dataset


def open_dataset(config: DictConfig) -> ImageDataset:
    """The data set; where files that cannot be read are to be skipped, without decoding a million to find them."""
    if config.dataset.get("on_bad_image") != "skip":
        return build_part(config, "dataset", "train")  # type: ignore[no-any-return]
    quick = config.copy()
    quick.dataset.on_bad_image = "error"  # looks at small sets only
    try:
        return build_part(quick, "dataset", "train")  # type: ignore[no-any-return]
    except InputError as error:
        if not error.setting.endswith("on_bad_image"):
            raise
    return build_part(config, "dataset", "train")  # type: ignore[no-any-return]


def examine_length(config: DictConfig, parts: Parts, dataset: ImageDataset, processes: int, findings: Findings) -> bool:
    """How many steps there will be; whether that can be told."""
    training = config.training

    def make() -> CoTrainingDataModule:
        with settings_of("training"):
            return CoTrainingDataModule(
                dataset, training.batch_size, config.seed, training.evaluation_batch_size, training.limit_batches,
                training.num_workers, training.balanced_batches,
                warmup_epochs=training.warmup_epochs if parts.cleaner is None or parts.cleaner.active else 0,
                warmup_batch_size=training.warmup_batch_size,
            )  # fmt: skip

    datamodule = findings.attempt("training", make)
    if datamodule is None or parts.cleaner is None or any(row.topic == "settings" for row in findings.errors):
        return False
    steps = datamodule.most_steps(0, processes), datamodule.most_steps(training.epochs, processes)
    warmup_epochs = training.warmup_epochs if parts.cleaner.active else training.epochs
    batch = max(datamodule.batch_size, datamodule.warmup_batch_size) * processes
    findings.rows += step_findings(*steps, batch, len(dataset.train), training.epochs, warmup_epochs)
    return True


# Networks, and what they need -----------------------------------------------------------------------------------------


def examine_network(
    config: DictConfig, parts: Parts, dataset: ImageDataset, findings: Findings
) -> tuple[Network, int] | None:
    """Build a network and show it two views; the network, and the bytes that it keeps of each for a backward pass."""
    start = examine_weights(config, findings)
    network = findings.attempt("backbone", lambda: make_network(config, dataset))
    views = parts.views
    inputs = None if views is None else findings.attempt("views", lambda: seen_by_network(views, dataset))
    if network is None or inputs is None:
        return None
    shape = " x ".join(str(side) for side in inputs.shape[1:])
    try:
        kept = saved_for_backward(network, inputs) // len(inputs)
    except Exception as error:  # any model of any library, and images of any size
        found = f"fails on views of {shape}: {first_line(error)}"
        findings.add("backbone", "error", found, "another views.size, or backbone")
        return None
    count = sum(parameter.numel() for parameter in network.backbone.parameters())
    found = f"{count:,} parameters, {network.classifier.in_features:,} features of views of {shape}"
    findings.add("backbone", "ok", f"{found}; {start}")
    return network, kept


def seen_by_network(views: Views, dataset: ImageDataset) -> Tensor:
    """`two_views`; what does not fit names its setting."""
    with settings_of("views"):
        return two_views(views, dataset)


def examine_weights(config: DictConfig, findings: Findings) -> str:
    """What the backbone starts from, in words. Weights that the run would have to download are left out, and a row."""
    node = config.backbone
    weights, name, make = node.get("weights"), node.get("name"), node.get("_target_")
    if weights is None:
        return "from scratch"
    if not isinstance(weights, str):
        return f"weights {weights}"  # which the backbone refuses
    if Path(weights).expanduser().is_file():
        return f"weights of {weights}"
    if make == name_of(torchvision_backbone) and cached_weights(name, weights) is False:
        where = "are not in torchvision's cache yet: the run downloads them"
    elif make == name_of(timm_backbone):
        where = "come from timm's cache, or are downloaded by the run"
    else:
        return f"weights {weights}"
    findings.add("backbone", "warning", f"backbone.weights={weights} {where}", "without a network: a file's path")
    node.weights = None
    return f"weights {weights} not tried"


def name_of(make: Callable[..., Any]) -> str:
    """What a node's `_target_` calls it."""
    return f"{make.__module__}.{make.__qualname__}"


def examine_needs(
    config: DictConfig, parts: Parts, dataset: ImageDataset, network: Network, kept: int, processes: int,
    folder: Path | None, findings: Findings,
) -> None:  # fmt: skip
    """Memory and disk."""
    if parts.risk is None or parts.optimizers is None or parts.cleaner is None:
        return
    samples = len(dataset.train)
    kept_features = 2 * samples * network.classifier.in_features * parts.cleaner.needs_features
    trained = sum(p.numel() * p.element_size() for p in network.parameters())
    state = 2 * (weight_bytes(network) + state_copies(parts.optimizers[0]) * trained)
    rows = VIEWS * config.training.batch_size * (2 if parts.risk.forwards_unlabeled else 1)
    narrow = str(config.trainer.precision).startswith(("16", "bf16"))
    images = [split.images for split in (dataset.train, *dataset.evaluation.values())]
    need = Memory(
        weights=state + 2 * trained,
        activations=kept * rows // (2 if narrow else 1),
        features=kept_features * (2 if kept_features > 2 * HALF_BEYOND else 4),
        images=processes * sum(map(held_bytes, images)),
    )
    findings.rows += memory_findings(need, uses_gpu(config))
    if folder is not None:
        labels = samples * (8 + 2 * (8 + 4) + 2 * 4 * parts.cleaner.history_length)  # given, partitions, losses
        selected = 2 * weight_bytes(network) if VALIDATION in dataset.evaluation else 0  # the best so far, kept besides
        findings.rows.append(disk_finding(folder, state + selected + labels))


def held_bytes(images: Images) -> int:
    """Of the pixels that are in memory all the time."""
    if isinstance(images, MixedImages):
        return held_bytes(images.own) + held_bytes(images.other)
    return images.pixels.nbytes if isinstance(images, ArrayImages) else 0
