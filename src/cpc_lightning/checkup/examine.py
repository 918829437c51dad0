"""`mode=check`: examines the parts of a run one after the other. Nothing is written.

What fails becomes a finding, and the rest is looked at all the same; only what depends on it is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cpc_lightning.backbones.network import Network
from cpc_lightning.checkup.data import image_findings, label_findings, size_findings, stand_in, two_views
from cpc_lightning.checkup.findings import Finding, Findings
from cpc_lightning.checkup.needs import (
    Memory,
    MethodBytes,
    disk_finding,
    memory_findings,
    method_bytes,
    saved_for_backward,
    shared_memory_finding,
    state_copies,
    step_findings,
    weight_bytes,
)
from cpc_lightning.checkup.protocol import Plan, protocol_findings
from cpc_lightning.cleaning.evidence import Cleaner
from cpc_lightning.cleaning.gmm import MIN_CLASS_SAMPLES
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Images, pictures_of
from cpc_lightning.datasets.vectors import ArrayVectors
from cpc_lightning.errors import InputError, count_of, first_line
from cpc_lightning.files import usable_cores
from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.noise.noise import AsymmetricNoise, Noise, NoNoise, PairNoise, SymmetricNoise
from cpc_lightning.noise.open_set import MixedImages
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.observation import HALF_BEYOND
from cpc_lightning.training.same_run import flatten
from cpc_lightning.training.selection import VALIDATION
from cpc_lightning.views.views import VIEWS, Views


class Examination:
    """Looks at the parts of one run, one after the other, and adds to `findings`.

    Args:
        parts: of the run (`app.parts.Parts`), each of which raises `InputError` where it cannot be built.
        folder: the run's, which need not be there; None where it cannot be written.
        findings: to add to.
    """

    def __init__(self, parts: Any, folder: Path | None, findings: Findings) -> None:
        self.parts, self.folder, self.findings = parts, folder, findings
        attempt, before = findings.attempt, len(findings.rows)
        attempt("settings", parts.check_run)
        self.method = attempt("settings", lambda: parts.method)
        self.cleaner = attempt("settings", lambda: parts.cleaner)
        self.risk = attempt("settings", lambda: parts.risk)
        self.features = attempt("settings", lambda: parts.features)
        self.views = attempt("settings", lambda: parts.views)
        policy = self.settings["training"]["warmup_policy"]
        if self.views is not None and policy is not None:
            attempt("settings", lambda: parts.views.with_policy(policy, "training.warmup_policy"))
        self.noise = attempt("settings", lambda: parts.noise)
        self.optimizers = attempt("settings", lambda: parts.optimizers)
        self.sound = True  # whether all values are of the right kind: else what is built of them may fail in any way
        try:
            parts.check_kinds()
        except InputError as error:
            self.sound = False
            if not any(row.found.startswith(f"{error.setting}=") for row in findings.errors):  # our own parts say more
                findings.add("settings", "error", str(error))
        if len(findings.rows) == before and self.cleaner is not None and self.noise is not None:
            findings.add("settings", "ok", "every part of the method can be built from its settings")
            for line in parts.set_aside:
                findings.add("method", "ok", line)
            if type(parts.method) is CoDivide:  # whose protocol the paper's is
                findings.rows += protocol_findings(plan_of(self.settings, self.cleaner, self.noise))

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the parts, which know more once they have seen the images."""
        settings: dict[str, Any] = self.parts.settings
        return settings

    def devices(self) -> int:
        """What the trainer asks for against what this machine has; the number of processes, 1 where that fails."""
        processes: int | None = self.findings.attempt("devices", lambda: self.parts.processes)
        if processes is None:
            return 1
        on_gpu, gpus = self.parts.on_gpu, torch.cuda.device_count()
        there = f"{count_of(gpus, 'GPU')} ({torch.cuda.get_device_name(0)})" if gpus else "no GPU"
        on_apple = self.settings["trainer"]["accelerator"] == "mps"
        asked = f"{count_of(processes, 'process')} on the {'GPU' if on_gpu or on_apple else 'CPU'}"
        found = f"{asked}; there are {count_of(usable_cores(), 'processor')} and {there}"
        idle = gpus > 0 and not on_gpu and not on_apple
        self.findings.add("devices", "warning" if idle else "ok", found, "trainer=gpu" if idle else "")
        return processes

    def data(self) -> ImageDataset | None:
        """Count, decode some images; the data set with its noise, if it can be opened and the noise added."""
        before, findings = len(self.findings.rows), self.findings
        clean: ImageDataset | None = findings.attempt("data set", lambda: self.parts.clean_dataset)
        dataset = clean
        if clean is not None and self.noise is not None:
            dataset = findings.attempt("noise", lambda: self.parts.noisy_images)
        if self.features is None:
            dataset = None
        elif dataset is not None and self.noise is not None and self.features.active:
            dataset = findings.attempt("features", lambda: self.parts.dataset)
            if (left_out := self.parts.features_left_out) is not None:
                found = f"features.weights={left_out.value} {left_out.expected}"
                findings.add("features", "warning", found, "without a network: a file's path")
            elif dataset is not None:
                findings.add("features", "ok", self.parts.features_found)
        if dataset is None:
            if self.parts.downloads:
                advice = "the run may download it first: check again once it is there"
                findings.rows[before:] = [Finding(r.topic, "warning", r.found, advice) for r in findings.rows[before:]]
            return None
        if self.views is not None:  # of a size that the images may have chosen
            self.views = findings.attempt("views", lambda: self.parts.views)
        if self.parts.choice:
            findings.add("views", "ok", self.parts.choice)
        of_cleaner = self.settings["cleaner"]
        minimum = MIN_CLASS_SAMPLES if of_cleaner.get("class_aware") else None
        findings.rows += size_findings(dataset, minimum, of_cleaner.get("folds"))
        nominal_rate = None if self.noise is None else self.noise.nominal_rate
        findings.rows += label_findings(dataset.train, nominal_rate, dataset.class_names)
        if self.cleaner is not None:
            findings.attempt("labels", self.parts.check_truth)
            findings.attempt("cleaner", self.parts.check_neighbours)
        workers = self.settings["training"]["num_workers"]
        workers = workers if isinstance(workers, int) else usable_cores()
        skips = self.settings["dataset"].get("on_bad_image") == "skip"
        views = 2 * VIEWS
        if self.method is not None and self.views is not None and self.risk is not None:
            views = self.method.images_of(self.views, self.risk)
        findings.rows += image_findings(dataset, self.settings["seed"], max(workers, 1), skips, views)
        return dataset

    def length(self, dataset: ImageDataset, processes: int) -> bool:
        """How many steps there will be; whether that can be told."""
        training = self.settings["training"]
        datamodule = self.findings.attempt("training", lambda: self.parts.datamodule)
        if datamodule is None or self.cleaner is None or any(row.topic == "settings" for row in self.findings.errors):
            return False
        steps = datamodule.most_steps(0, processes), datamodule.most_steps(training["epochs"], processes)
        batch = max(datamodule.batch_size, datamodule.warmup_batch_size)
        warmup_epochs = training["warmup_epochs"] if self.cleaner.active else training["epochs"]
        samples, epochs = len(dataset.train), training["epochs"]
        self.findings.rows += step_findings(*steps, batch * processes, samples, epochs, warmup_epochs, datamodule.turns)
        return True

    def network(self, dataset: ImageDataset) -> tuple[Network, int] | None:
        """Show a network two views; the network, and the bytes that it keeps of each for a backward pass."""
        findings, views, weights = self.findings, self.views, self.settings["backbone"].get("weights")
        network = findings.attempt("backbone", lambda: self.parts.make_network(dataset))
        if self.parts.left_out is not None:
            found = f"backbone.weights={self.parts.left_out.value} {self.parts.left_out.expected}"
            findings.add("backbone", "warning", found, "without a network: a file's path")
        inputs = None if views is None else findings.attempt("views", lambda: two_views(views, dataset))
        if network is None or inputs is None:
            return None
        shape = " x ".join(str(side) for side in inputs.shape[1:])
        try:
            kept = saved_for_backward(network, inputs) // len(inputs)
        except Exception as error:  # any model of any library, and images of any size
            found = f"fails on views of {shape}: {first_line(error)}"
            advice = "backbone=mlp" if inputs.ndim == 2 else "another views.size, or backbone"
            findings.add("backbone", "error", found, advice)
            return None
        count = sum(parameter.numel() for parameter in network.backbone.parameters())
        found = f"{count:,} parameters, {network.classifier.in_features:,} features of views of {shape}"
        start = "from scratch" if weights is None else f"weights {weights}"
        start += "" if self.parts.left_out is None else " not tried"
        findings.add("backbone", "ok", f"{found}; {start}")
        return network, kept

    def needs(self, dataset: ImageDataset, network: Network, kept: int, processes: int) -> None:
        """Memory and disk."""
        if self.risk is None or self.optimizers is None or self.cleaner is None:
            return
        samples = len(dataset.train)
        kept_features = 2 * samples * network.classifier.in_features * self.cleaner.needs_features
        trained = sum(p.numel() * p.element_size() for p in network.parameters())
        count, copies = 1 if self.parts.method.trains_one else 2, state_copies(self.optimizers[0])
        own = self.method_bytes(network)
        state = count * (weight_bytes(network) + copies * trained)
        rows = self.settings["training"]["batch_size"] * self.parts.method.forwarded(self.risk)
        narrow = str(self.settings["trainer"]["precision"]).startswith(("16", "bf16"))
        images = [split.images for split in (dataset.train, *dataset.evaluation.values())]
        need = Memory(
            weights=state + count * trained,
            activations=kept * rows // (2 if narrow else 1),
            features=kept_features * (2 if kept_features > 2 * HALF_BEYOND else 4),
            images=processes * sum(map(held_bytes, images)),
            batch_size=self.settings["training"]["batch_size"],
            method=own.device + (1 + copies) * own.trained,
            method_on_host=own.host,
        )
        self.findings.rows += memory_findings(need, self.parts.on_gpu)
        datamodule = self.parts.datamodule
        batch = self.findings.attempt("shared memory", lambda: largest_batch(datamodule))
        if datamodule.num_workers > 0 and batch is not None:
            shared = shared_memory_finding(batch, processes * datamodule.num_workers)
            self.findings.rows += [shared] if shared else []
        if self.folder is not None:
            labels = samples * (8 + 2 * (8 + 4) + 2 * 4 * self.cleaner.history_length)  # given, partitions, losses
            best = count * weight_bytes(network) if VALIDATION in dataset.evaluation else 0  # the best so far, besides
            method = own.device + copies * own.trained
            self.findings.rows.append(disk_finding(self.folder, state + best + labels + method))

    def method_bytes(self, network: Network) -> MethodBytes:
        """What the method will have of its own; it begins on tensors without content, as it may be much."""
        method, networks = copy.deepcopy(self.parts.method), [copy.deepcopy(network).to("meta") for _ in range(2)]
        if method.trains_one:
            networks[1] = networks[0]

        def begin() -> bool:
            try:
                beginning = self.parts.beginning(networks)
                with torch.device("meta"):
                    method.begin(beginning)
            except InputError as error:
                raise error.within("training") from None
            return True

        try:
            if not self.findings.attempt("method", begin):
                return MethodBytes(0, 0, 0)
        except (NotImplementedError, RuntimeError) as error:  # of a method that reads what its tensors hold
            found = f"what it holds beside the networks cannot be told: {first_line(error)}"
            self.findings.add("method", "warning", found, "watch the memory of the first epoch")
            return MethodBytes(0, 0, 0)
        return method_bytes(method, networks)


def examine(parts: Any, folder: Path | None, findings: Findings) -> bool:
    """Look at everything that a run would need; whether all of it is there, so that the parts are ready.

    Args:
        parts: of the run, none of them built yet.
        folder: the run's, which need not be there; None where it cannot be written.
        findings: to add to.
    """
    examination = Examination(parts, folder, findings)
    if not examination.sound:
        return False
    processes = examination.devices()
    dataset = examination.data()
    sized = dataset is not None and examination.length(dataset, processes)
    views = examination.views
    shown = stand_in(views) if dataset is None and isinstance(views, Views) else dataset
    built = None if shown is None else examination.network(shown)
    if dataset is not None and sized and built is not None:
        examination.needs(dataset, *built, processes)
    # With other weights than the run's it would not be continued.
    tried = (parts.left_out is None and parts.features_left_out is None) or parts.settings["resume"] is None
    ready = dataset is not None and not findings.errors and tried and findings.attempt("run", parts.ready) is not None
    if ready:
        findings.add("run", "ok", "all parts fit together, up to the first step")
    return ready


def plan_of(settings: Mapping[str, Any], cleaner: Cleaner, noise: Noise) -> Plan:
    """What the run is to do, as the protocol sees it."""
    kinds = ((NoNoise, "none"), (SymmetricNoise, "symmetric"), (AsymmetricNoise | PairNoise, "asymmetric"))
    kind: Any = next((kind for of, kind in kinds if isinstance(noise, of)), "other")
    names = ("training", "cleaner", "method", "semisup", "optimizer", "noise", "views", "backbone")
    flat = flatten({name: settings[name] for name in names})
    crop = settings["dataset"].get("crop") or {}
    flat |= {f"dataset.crop.{name}": crop[name] for name in crop if name in ("resize", "random_resized")}
    flat["backbone"] = settings["backbone"].get("name") or last_part(settings["backbone"])
    return Plan(last_part(settings["dataset"]), kind, noise.nominal_rate, cleaner.active, flat)


def last_part(node: Mapping[str, Any]) -> str:
    """The name of what the node builds, without its module."""
    return str(node.get("_target_", "")).rsplit(".", 1)[-1]


def largest_batch(datamodule: CoTrainingDataModule) -> int:
    """Bytes of the images of the largest batch that a loader fetches: of warm-up, stage 2 or an evaluation."""
    images, first = datamodule.dataset.train.images, torch.tensor([0])
    samples = max(len(split) for split in (datamodule.dataset.train, *datamodule.dataset.evaluation.values()))
    return max(
        images.fetch_views(first, datamodule.warmup_views, 0).nbytes * datamodule.warmup_batch_size,
        images.fetch_views(first, datamodule.views, 0).nbytes * 2 * datamodule.batch_size,
        images.fetch(first).nbytes * min(datamodule.evaluation_batch_size, samples),
    )


def held_bytes(images: Images) -> int:
    """Of the pixels that are in memory all the time."""
    if isinstance(images, MixedImages):
        return held_bytes(images.own) + held_bytes(images.other)
    if isinstance(images, ArrayVectors):
        pictures = pictures_of(images)
        return images.views.nbytes + (0 if pictures is None else held_bytes(pictures))
    return images.pixels.nbytes if isinstance(images, ArrayImages) else 0
