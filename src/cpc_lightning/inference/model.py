"""A trained model from a checkpoint's own contents: preprocessing, both networks, names of the classes.

Shapes: B batch, C channels, H x W pixels, S the side of what is decoded, D numbers of a vector, K classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cpc_lightning.backbones.network import Network
from cpc_lightning.datasets.dataset import ArrayImages, Images, Vectors
from cpc_lightning.datasets.reading.image_files import MAX_PIXELS, Crop, ImageFiles
from cpc_lightning.datasets.reading.levels import TOPS
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError, first_line, require, require_integer
from cpc_lightning.features.extractor import Extractor
from cpc_lightning.inference.build import build_part
from cpc_lightning.inference.checkpoint_file import checkpoint_of
from cpc_lightning.inference.pixels import GRAY, Decoder, GrayImages, fitted
from cpc_lightning.training.checkpoints import RECORD, is_pretraining, read_checkpoint
from cpc_lightning.training.fingerprint import digest_tensor
from cpc_lightning.training.same_run import as_now
from cpc_lightning.views.vector_views import VectorViews
from cpc_lightning.views.views import Views


class TrainedModel:
    """What a run has learnt, ready to use on any device.

    Args:
        settings: of the run, nested, as this version names them.
        checkpoint: as `read_checkpoint` gives it.
        trust: whether parts of other libraries that the settings name may be built. Without it no code runs but this
            library's, whoever wrote the checkpoint.

    Attributes:
        settings: as given.
        class_names: K names.
        networks: network 1 and network 2, in evaluation mode; the same one twice where the run's method trains one.
        alone: whether that is so.
        views: the run's, of which evaluation takes the centre, and normalises.
        extractor: makes the vectors that the networks see; None where they see images, or vectors of one's own.
        crop: how an image file becomes pixels; None for a run on vectors of one's own.
        channels: C of the images, 1 or 3; D for vectors.
        device: where it computes.
        rows: what the run measured, an item for each epoch.

    Raises:
        InputError: named "run", where the checkpoint names parts that are not this library's, or weights of others.
    """

    def __init__(self, settings: Mapping[str, Any], checkpoint: Mapping[str, Any], trust: bool = False) -> None:
        record = checkpoint[RECORD]
        require_integer("training.evaluation_batch_size", settings["training"]["evaluation_batch_size"], 1)
        recorded = record["data"].get("images") or {}
        self.settings, self.device = settings, torch.device("cpu")
        self.class_names = tuple(str(name) for name in record["data"]["classes"])
        self.rows: list[dict[str, Any]] = checkpoint["callbacks"]["EpochTable"].get("rows", [])
        self.extractor = _extractor(settings, trust)
        known = recorded.get("features", "")
        same = self.extractor is None or not known or self.extractor.digest == known
        computed = "computes other features than the run was trained on: give its weights, features.weights=FILE"
        require(same, "features", str(settings["features"].get("name", "of the run")), computed)
        weights: dict[str, Tensor] = checkpoint["state_dict"]
        of_images = settings["views"] is not None
        name = "vector_views" if self.extractor is not None or not of_images else "views"
        self.views: Views | VectorViews = build_part(name, settings[name], ("cpc_lightning.views",), trust)
        self.crop = _crop(settings, recorded, trust) if of_images else None
        self.top = int(recorded.get("top") or TOPS[-1])
        seen = _seen_channels(weights, vectors=name == "vector_views")
        self.stored = tuple(map(int, recorded["shape"])) if recorded else None  # of an image or a vector in the data
        large = self.stored is not None and (min(self.stored) < 1 or math.prod(self.stored) > 3 * MAX_PIXELS)
        require(not large, "run", str(self.stored), "is no size of an image, in the checkpoint's record of its data")
        self.channels = int(recorded["shape"][0]) if recorded else seen
        if not recorded and self.extractor is not None:
            self.channels = len(settings["views"]["mean"])
        if self.extractor is not None and self.crop is not None and "crop" in settings["dataset"]:
            sized = self.extractor.sized(ImageFiles("", PathList(), self.crop))
            assert isinstance(sized, ImageFiles)
            self.crop = sized.crop
        node = settings["backbone"] | ({"weights": None} if "weights" in settings["backbone"] else {})
        networks = [self._network(node, seen, trust) for _ in range(2)]
        self.networks = nn.ModuleList(networks).eval()
        self._load(weights)

    def _network(self, node: Mapping[str, Any], channels: int, trust: bool) -> Network:
        size = self.settings["embedding_size"]
        try:
            backbone = build_part("backbone", node, ("cpc_lightning.backbones",), trust, in_channels=channels)
            return Network(backbone, len(self.class_names), size)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise InputError("run", str(node.get("_target_")), f"cannot be built ({first_line(error)})") from error

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        own = {name: value for name, value in weights.items() if name.startswith("networks.")}
        broken = next((name for name, value in own.items() if not bool(value.isfinite().all())), None)
        require(broken is None, "run", str(broken), "holds NaN or infinite weights: the networks can say nothing")
        try:
            self.networks.load_state_dict({name.removeprefix("networks."): value for name, value in own.items()})
            if isinstance(self.views, VectorViews):
                self.views.mean, self.views.std = weights["views.mean"], weights["views.std"]
        except (RuntimeError, KeyError) as error:
            other = f"holds other networks than its settings describe ({first_line(error)})"
            raise InputError("run", "the checkpoint", other) from error
        states = [network.state_dict() for network in self.networks]
        self.alone = all(torch.equal(value, states[1][name]) for name, value in states[0].items())
        if self.alone:
            self.networks = nn.ModuleList([self.networks[0], self.networks[0]])

    def to(self, device: str | torch.device) -> TrainedModel:
        """The same model, which computes on `device` from now on."""
        self.device = torch.device(device)
        self.networks.to(self.device)
        if isinstance(self.views, VectorViews):
            self.views.to(self.device)
        if self.extractor is not None:
            self.extractor.network.to(self.device)
        return self

    @property
    def digest(self) -> str:
        """sha256 of the weights, the names of the classes and what is done to an image before."""
        before = (self.class_names, self.crop, self.top, self.channels, self.extractor and self.extractor.digest)
        hashed = hashlib.sha256(repr((before, self.settings["views"], self.settings["backbone"])).encode())
        for name, value in {**self.networks.state_dict(), **_buffers(self.views)}.items():
            hashed.update(f"{name} {digest_tensor(value.detach().cpu())}\0".encode())
        return hashed.hexdigest()

    # What it takes ----------------------------------------------------------------------------------------------------

    @property
    def takes_vectors(self) -> bool:
        """Whether it was trained on vectors of one's own, for which there is nothing to decode."""
        return self.crop is None

    @property
    def decode(self) -> Decoder | None:
        """What makes pixels of image files; None for vectors."""
        return None if self.crop is None else Decoder(self.crop, self.top, self.channels)

    def prepared(self, images: Images) -> Images:
        """Images of any data set as this model takes them: files cropped as the run's were, others of its channels.

        Raises:
            InputError: named "dataset", for images where it takes vectors, or the reverse.
        """
        other = "consists of vectors, and the run was trained on images"
        require(self.takes_vectors or not isinstance(images, Vectors), "dataset", "its test set", other)
        other = "consists of images, and the run was trained on vectors"
        require(not self.takes_vectors or isinstance(images, Vectors), "dataset", "its test set", other)
        if self.crop is None:
            return images
        if isinstance(images, ImageFiles):
            files = ImageFiles(images.root, images.paths, self.crop, images.top)
            return GrayImages(files) if self.channels == GRAY else files
        if isinstance(images, ArrayImages):
            same = tuple(images.pixels.shape[1:]) == self.stored
            return images if same else ArrayImages(fitted(images.pixels, self.channels, self.crop.resize))
        return images

    # What it answers --------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def logits(self, batch: Tensor, precision: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Logits of network 1 and of network 2, each (B, K) float32 on the model's device.

        Args:
            batch: (B, C, S, S) uint8, or (B, D) floating point.
            precision: to compute in (autocast); None: float32.
        """
        if self.extractor is not None:
            batch = self.extractor(batch, str(self.device)).mean(dim=1)
        with torch.autocast(self.device.type, dtype=precision) if precision else nullcontext():
            inputs = self.views.normalise(self.views.evaluation(batch.to(self.device)))
            first = self.networks[0](inputs)
            second = first if self.alone else self.networks[1](inputs)
        return first.float(), second.float()

    def probabilities(self, batch: Tensor, precision: torch.dtype | None = None) -> Tensor:
        """The mean softmax of both networks, (B, K) float32 on the CPU; args as for `logits`."""
        first, second = self.logits(batch, precision)
        return (first.softmax(dim=1) + second.softmax(dim=1)).div_(2).cpu()


def _buffers(views: Views | VectorViews) -> dict[str, Tensor]:
    return views.state_dict() if isinstance(views, VectorViews) else {}


def _extractor(settings: Mapping[str, Any], trust: bool) -> Extractor | None:
    node = settings.get("features")
    features = None if node is None else build_part("features", node, ("cpc_lightning.features",), trust)
    if features is None or not features.active:
        return None
    try:
        extractor: Extractor = features.extractor
    except InputError as error:
        raise error.within("features") from None
    return extractor


def _crop(settings: Mapping[str, Any], recorded: Mapping[str, Any], trust: bool) -> Crop:
    """How an image file becomes pixels: as in the run; of images in memory, the shorter side becomes as long as theirs.

    Runs of before the checkpoint knew how large its images are: as long as a view's.
    """
    node = settings["dataset"].get("crop")
    if node is not None:
        crop: Crop = build_part("dataset.crop", node, ("cpc_lightning.datasets.reading.image_files",), trust)
        return crop
    size = recorded["shape"][1:] if recorded else settings["views"]["size"]
    longest = max(size) if isinstance(size, (list, tuple)) else int(size)
    return Crop(longest, longest)


def _seen_channels(weights: Mapping[str, Tensor], vectors: bool) -> int:
    """How many channels, or numbers of a vector, the network takes: by the first weights that have as many axes."""
    if vectors:
        return len(weights["views.mean"]) if "views.mean" in weights else 0
    first = (value for name, value in weights.items() if name.startswith("networks.0.backbone.") and value.ndim == 4)
    return next((value.shape[1] for value in first), 3)


# Reading --------------------------------------------------------------------------------------------------------------


def read_model(
    text: str, trust: bool = False, change: Callable[[dict[str, Any]], dict[str, Any]] = lambda settings: settings
) -> TrainedModel:
    """The model of a run.

    Args:
        text: the folder of a run, or a checkpoint, which need not lie in one.
        trust: see `TrainedModel`.
        change: what to do to the settings before anything is built, such as to name another file of weights.

    Raises:
        InputError: named "run", where there is no checkpoint that can be read safely, or none of this version.
    """
    file = checkpoint_of(text)
    try:
        checkpoint = read_checkpoint(file, selected=True)
    except InputError as error:
        raise InputError("run", error.value, error.expected) from error
    alone = "is of mode=pretrain, which has learnt no classes: start a training from it, backbone.weights=FILE"
    require(not is_pretraining(checkpoint), "run", str(file), alone)
    config = checkpoint[RECORD]["config"]
    groups = ("dataset", "backbone", "features", "views", "embedding_size", "training", "trainer")
    settings = as_now(config)
    absent = next((name for name in groups if name not in settings), None)
    require(absent is None, "run", str(file), f"was made by another version of this library: it has no {absent}")
    try:
        return TrainedModel(change(settings), checkpoint, trust)
    except (KeyError, AttributeError, TypeError, ValueError) as error:  # settings of another shape
        if isinstance(error, InputError):
            raise
        what = f"was made by another version of this library, or is garbled ({first_line(error)})"
        raise InputError("run", str(file), what) from error
