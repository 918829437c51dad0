"""Every experiment: its values against a table typed from the papers, and a short run on files in real formats."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import cpc_lightning.conf
import pytest
from omegaconf import DictConfig
from tests.datasets.cifar_files import write_cifar10, write_cifar100
from tests.datasets.image_trees import write_clothing1m, write_webvision

from cpc_lightning.app.run import run

FOLDER = Path(cpc_lightning.conf.__path__[0]) / "experiment"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


class Cell(NamedTuple):
    """What the papers say of one experiment; `e` and `alpha` are CPC's alone."""

    dataset: str
    rate: float | None
    asymmetric: bool
    cleaner: str
    class_aware: bool | None
    threshold: float
    history: int
    warmup_epochs: int
    lambda_u: float
    epochs: int
    step: int
    e: float | None = None
    alpha: float | None = None
    policy: str = "cifar10"
    batch: int | None = None  # where it is not the data set's
    warmup_batch: int | None = None
    weight_decay: float | None = None
    draws: int | None = None  # class-balanced batches
    whole: bool = False  # epochs of WebVision, not cut
    gmm: float | None = None  # threshold of the mixture that teaches
    warmup_policy: str | None = None


# Columns: data set, rate, asymmetric, cleaner, class-aware, threshold, losses averaged, W, lambda_u, epochs, lr/10 at.
CELLS = {
    # Table 2, Ours
    "cifar10_sym20": Cell("cifar10", 0.2, False, "Cpc", True, 0.5, 1, 10, 0, 450, 225, 0.05, 0),
    "cifar10_sym50": Cell("cifar10", 0.5, False, "Cpc", True, 0.5, 1, 10, 25, 450, 225, 0.05, 0),
    "cifar10_sym80": Cell("cifar10", 0.8, False, "Cpc", True, 0.5, 1, 10, 25, 450, 225, 0.05, 0),
    "cifar10_sym90": Cell("cifar10", 0.9, False, "Cpc", True, 0.5, 5, 10, 50, 450, 225, 0.05, 0),
    "cifar10_asym40": Cell("cifar10", 0.4, True, "Cpc", False, 0.5, 1, 10, 0, 450, 225, 0.05, 0),
    "cifar100_sym20": Cell("cifar100", 0.2, False, "Cpc", True, 0.5, 1, 30, 25, 450, 225, 0.05, 0),
    "cifar100_sym50": Cell("cifar100", 0.5, False, "Cpc", True, 0.5, 1, 30, 150, 450, 225, 0.05, 0),
    "cifar100_sym80": Cell("cifar100", 0.8, False, "Cpc", True, 0.5, 1, 30, 150, 450, 225, 0.05, 0),
    "cifar100_sym90": Cell("cifar100", 0.9, False, "Cpc", True, 0.5, 5, 30, 150, 450, 225, 0.10, 0),
    # Table 1, Ours
    "webvision": Cell("webvision", None, False, "Cpc", True, 0.5, 1, 1, 0, 100, 50, 0.05, 1, "weak", gmm=0.5),
    "clothing1m": Cell("clothing1m", None, False, "Cpc", False, 0.3, 1, 1, 0, 80, 40, 0.05, 1, "imagenet", gmm=0.5),
    # The same cells by another sentence of the paper: tau of Table 4, e of A.2.2
    "clothing1m_tau07": Cell(
        "clothing1m", None, False, "Cpc", False, 0.7, 1, 1, 0, 80, 40, 0.05, 1, "imagenet", gmm=0.5
    ),
    "cifar100_sym80_e10": Cell("cifar100", 0.8, False, "Cpc", True, 0.5, 1, 30, 150, 450, 225, 0.10, 0),
    # Table 1, DivideMix with Inception-ResNet-v2: its code; whole epochs
    "dividemix_inception": Cell(
        "webvision", None, False, "Gmm", False, 0.5, 1, 1, 0, 80, 40, policy="weak", weight_decay=5e-4, whole=True
    ),
    "dividemix_clothing1m": Cell("clothing1m", None, False, "Gmm", False, 0.5, 1, 1, 0, 80, 40, policy="weak"),
    # Table 1, AugDMix: AugDesc's SAW
    "augdesc_clothing1m": Cell(
        "clothing1m", None, False, "Gmm", False, 0.5, 1, 1, 0, 80, 40, policy="imagenet", warmup_policy="cifar10"
    ),
    # Table 1, DivideMix with ResNet-50: the code of C2D (Train_webvision.py), which Table 3 quotes
    "dividemix_webvision": Cell(
        "webvision",
        None,
        False,
        "Gmm",
        False,
        0.5,
        1,
        5,
        0,
        80,
        40,
        policy="weak",
        weight_decay=5e-4,
        draws=2000,
        whole=True,
    ),
    # Table 3
    "cifar100_sym90_gmm_agn": Cell("cifar100", 0.9, False, "Gmm", False, 0.6, 5, 30, 150, 450, 225),
    "cifar100_sym90_gmm_awr": Cell("cifar100", 0.9, False, "Gmm", True, 0.6, 5, 30, 150, 450, 225),
    "cifar100_sym90_cpc_agn": Cell("cifar100", 0.9, False, "Cpc", False, 0.5, 5, 30, 150, 450, 225, 0.10, 0),
    "cifar10_asym40_gmm_agn": Cell("cifar10", 0.4, True, "Gmm", False, 0.5, 1, 10, 0, 450, 225),
    "cifar10_asym40_gmm_awr": Cell("cifar10", 0.4, True, "Gmm", True, 0.5, 1, 10, 0, 450, 225),
    "cifar10_asym40_cpc_awr": Cell("cifar10", 0.4, True, "Cpc", True, 0.5, 1, 10, 0, 450, 225, 0.05, 0),
    "webvision_gmm_agn": Cell("webvision", None, False, "Gmm", False, 0.5, 1, 1, 0, 100, 50, policy="weak"),
    "webvision_gmm_awr": Cell("webvision", None, False, "Gmm", True, 0.5, 1, 1, 0, 100, 50, policy="weak"),
    "webvision_cpc_agn": Cell("webvision", None, False, "Cpc", False, 0.5, 1, 1, 0, 100, 50, 0.05, 1, "weak", gmm=0.5),
    "clothing1m_gmm_agn": Cell("clothing1m", None, False, "Gmm", False, 0.5, 1, 1, 0, 80, 40, policy="imagenet"),
    "clothing1m_gmm_awr": Cell("clothing1m", None, False, "Gmm", True, 0.5, 1, 1, 0, 80, 40, policy="imagenet"),
    "clothing1m_cpc_awr": Cell(
        "clothing1m", None, False, "Cpc", True, 0.3, 1, 1, 0, 80, 40, 0.05, 1, "imagenet", gmm=0.5
    ),
    # Table 5, CPC w/o GMM Cleaner: one row a data set, the rest as its other cells
    "cifar100_sym90_cpc_contrastive": Cell("cifar100", 0.9, False, "Contrastive", None, 0.5, 1, 30, 150, 450, 225),
    "webvision_cpc_contrastive": Cell(
        "webvision", None, False, "Contrastive", None, 0.5, 1, 1, 0, 100, 50, policy="weak"
    ),
    "cifar10_asym40_cpc_contrastive": Cell("cifar10", 0.4, True, "Contrastive", None, 0.5, 1, 10, 0, 450, 225),
    "clothing1m_cpc_contrastive": Cell(
        "clothing1m", None, False, "Contrastive", None, 0.5, 1, 1, 0, 80, 40, policy="imagenet"
    ),
    # AugDesc, the schedules of its published presets; WS but for the one that Table 2 quotes as SAW
    "augdesc_cifar10_sym20": Cell("cifar10", 0.2, False, "Gmm", False, 0.5, 1, 10, 0, 300, 150),
    "augdesc_cifar10_sym50": Cell(
        "cifar10", 0.5, False, "Gmm", False, 0.5, 1, 10, 25, 300, 200, warmup_policy="cifar10"
    ),
    "augdesc_cifar10_sym80": Cell("cifar10", 0.8, False, "Gmm", False, 0.5, 1, 10, 25, 350, 200),
    "augdesc_cifar10_sym90": Cell("cifar10", 0.9, False, "Gmm", False, 0.6, 5, 10, 50, 350, 250),
    "augdesc_cifar10_asym40": Cell("cifar10", 0.4, True, "Gmm", False, 0.5, 1, 10, 0, 350, 250),
    "augdesc_cifar100_sym20": Cell("cifar100", 0.2, False, "Gmm", False, 0.5, 1, 30, 25, 400, 300),
    "augdesc_cifar100_sym50": Cell("cifar100", 0.5, False, "Gmm", False, 0.5, 1, 30, 150, 400, 300),
    "augdesc_cifar100_sym80": Cell("cifar100", 0.8, False, "Gmm", False, 0.5, 1, 30, 150, 400, 300),
    "augdesc_cifar100_sym90": Cell("cifar100", 0.9, False, "Gmm", False, 0.6, 5, 30, 150, 400, 300),
    # DivideMix (Li et al. 2020, section 4.2 and appendix)
    "dividemix_cifar10_sym20": Cell("cifar10", 0.2, False, "Gmm", False, 0.5, 1, 10, 0, 300, 150, policy="weak"),
    "dividemix_cifar10_sym50": Cell("cifar10", 0.5, False, "Gmm", False, 0.5, 1, 10, 25, 300, 150, policy="weak"),
    "dividemix_cifar10_sym80": Cell("cifar10", 0.8, False, "Gmm", False, 0.5, 1, 10, 25, 300, 150, policy="weak"),
    "dividemix_cifar10_sym90": Cell("cifar10", 0.9, False, "Gmm", False, 0.6, 5, 10, 50, 300, 150, policy="weak"),
    "dividemix_cifar10_asym40": Cell("cifar10", 0.4, True, "Gmm", False, 0.5, 1, 10, 0, 300, 150, policy="weak"),
    "dividemix_cifar100_sym20": Cell("cifar100", 0.2, False, "Gmm", False, 0.5, 1, 30, 25, 300, 150, policy="weak"),
    "dividemix_cifar100_sym50": Cell("cifar100", 0.5, False, "Gmm", False, 0.5, 1, 30, 150, 300, 150, policy="weak"),
    "dividemix_cifar100_sym80": Cell("cifar100", 0.8, False, "Gmm", False, 0.5, 1, 30, 150, 300, 150, policy="weak"),
    "dividemix_cifar100_sym90": Cell("cifar100", 0.9, False, "Gmm", False, 0.6, 5, 30, 150, 300, 150, policy="weak"),
}
OWN = {
    "animal10n", "cifar10_pair45", "digits_sym80", "fashion_mnist_asym40", "food101n", "mini_imagenet_red", "photos",
}  # fmt: skip
"""Of this library, or of data that the paper does not have: no paper says what they must be."""

for name, cell in CELLS.items():
    if name.startswith("dividemix_cifar"):  # its code: --batch_size 64, and twice that in warm-up
        CELLS[name] = cell._replace(batch=64, warmup_batch=128)

# What all cells of a data set share: learning rate, weight decay, batch, mixup alpha, crop, mean, backbone.
SHARED = {
    "cifar10": (0.02, 5e-4, 128, 4, 32, [0.4914, 0.4822, 0.4465], "preact_resnet18"),
    "cifar100": (0.02, 5e-4, 128, 4, 32, [0.507, 0.487, 0.441], "preact_resnet18"),
    "webvision": (0.01, 1e-3, 32, 0.5, 227, [0.485, 0.456, 0.406], "torchvision_backbone"),
    "dividemix_inception": (0.01, 1e-3, 32, 0.5, 299, [0.485, 0.456, 0.406], "timm_backbone"),
    "clothing1m": (0.002, 1e-3, 32, 0.5, 224, [0.6959, 0.6537, 0.6371], "torchvision_backbone"),
}


def test_every_experiment_is_in_the_table():
    assert set(NAMES) == set(CELLS) | OWN


@pytest.mark.long
@pytest.mark.parametrize("name", CELLS)
def test_values_are_the_papers(compose, name):
    cell, config = CELLS[name], compose(f"experiment={name}", *needs(name, Path("unused")))
    assert config.dataset._target_.endswith(f".{cell.dataset}")
    check_noise(config, cell)
    cleaner = config.cleaner
    assert cleaner._target_.endswith(f".{cell.cleaner}Cleaner")
    assert (cleaner.get("class_aware"), cleaner.threshold, cleaner.get("history_length", 1)) == (
        cell.class_aware, cell.threshold, cell.history,
    )  # fmt: skip
    assert (cleaner.get("warmup_share"), cleaner.get("alpha")) == (cell.e, cell.alpha)
    assert cleaner.get("gmm_threshold") in (cell.gmm or cell.threshold, None)
    assert cleaner.get("gmm_threshold") is not None or cell.gmm is None
    training, schedule = config.training, config.optimizer.schedule
    assert (training.epochs, training.warmup_epochs) == (cell.epochs, cell.warmup_epochs)
    assert (list(schedule.milestones), schedule.gamma) == ([cell.step], 0.1)
    assert (config.views.policy, training.warmup_policy) == (cell.policy, cell.warmup_policy)
    assert config.views.augdesc == (cell.dataset != "webvision")  # whose views are weak
    network, semisup = config.optimizer.network, config.semisup
    backbone = config.backbone._target_.rsplit(".", 1)[1]
    rate, decay, batch, *more = SHARED.get(name, SHARED[cell.dataset])
    assert (network.lr, network.weight_decay) == (rate, cell.weight_decay or decay)
    assert [semisup.mixup_alpha, config.views.size, list(config.views.mean), backbone] == more
    assert training.batch_size == (cell.batch or batch)
    real = cell.dataset in ("webvision", "clothing1m")
    assert training.warmup_batch_size == (64 if real else cell.warmup_batch)
    assert (network.momentum, semisup.temperature, semisup.rampup_epochs) == (0.9, 0.5, 16)
    assert semisup.lambda_u == cell.lambda_u
    assert semisup.forward_unlabeled == cell.dataset.startswith("cifar")  # at lambda_u 0 too; not in the code of others
    assert config.embedding_size == 128
    if backbone == "torchvision_backbone":
        assert config.backbone.name == "resnet50"
        assert (config.backbone.weights is None) == (cell.dataset == "webvision")
    if backbone == "timm_backbone":
        crop = config.dataset.crop
        assert (config.backbone.name, config.backbone.weights) == ("inception_resnet_v2", None)
        assert (crop.resize, crop.size, crop.random_resized) == (320, 299, True)
    assert training.balanced_batches == (1000 if cell.dataset == "clothing1m" else cell.draws)
    if cell.dataset == "webvision":
        assert (training.limit_batches, config.dataset.num_classes) == (None if cell.whole else 1000, 50)


def check_noise(config: DictConfig, cell: Cell) -> None:
    noise = config.noise
    if cell.rate is None:
        assert noise._target_.endswith(".NoNoise")
        # Clothing1M's mistakes are of alike classes, as asymmetric noise is.
        assert config.training.confidence_penalty == (1.0 if cell.dataset == "clothing1m" else 0.0)
        return
    assert noise._target_.endswith(".AsymmetricNoise" if cell.asymmetric else ".SymmetricNoise")
    assert noise.rate == cell.rate
    assert config.training.confidence_penalty == (1.0 if cell.asymmetric else 0.0)
    assert noise.get("include_true_class", True)  # DivideMix's convention
    assert noise.get("class_map") is None  # the data set's own


@pytest.mark.long
def test_embeddings_of_our_own_experiments(compose):
    assert {name: compose(f"experiment={name}").embedding_size for name in OWN} == {
        "animal10n": 128, "cifar10_pair45": 128, "digits_sym80": 64, "fashion_mnist_asym40": 128, "food101n": 128,
        "mini_imagenet_red": 128, "photos": 128,
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_command_source_and_hours(name):
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    header = " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
    assert lines[1].startswith(f"# python -m cpc_lightning experiment={name}")
    if name in CELLS:
        assert re.search(r"\(Table [1235].*\): published.* \d\d\.\d+", header)
        assert "GPU hours: not measured." in header


def needs(name: str, folder: Path) -> list[str]:
    """What the data set of an experiment must be told."""
    return [f"dataset.root={folder}"] if CELLS[name].dataset in ("webvision", "clothing1m") else []


def write_files(dataset: str, folder: Path) -> list[str]:
    """Small files in the data set's real format, and the settings that read them."""
    if dataset in ("cifar10", "cifar100"):
        (write_cifar10 if dataset == "cifar10" else write_cifar100)(folder)
        return [f"dataset.root={folder}", "dataset.verify=false"]
    small = ["views.size=24", "dataset.crop.resize=28", f"dataset.root={folder}"]
    if dataset == "clothing1m":
        write_clothing1m(folder)
        return [*small, "training.balanced_batches=1"]
    return [*small, f"dataset.ilsvrc_root={write_webvision(folder)}", "dataset.num_classes=8"]


FAST = {"cifar10_asym40", "cifar100_sym90", "webvision", "clothing1m", "dividemix_cifar10_sym90", "augdesc_clothing1m",
        "cifar100_sym90_cpc_contrastive"}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in CELLS])
def test_two_short_epochs(compose, tmp_path, name):
    """One of warm-up and one of stage 2, of the real protocol but for its length and its network."""
    cell = CELLS[name]
    settings = [
        f"experiment={name}", *write_files(cell.dataset, tmp_path / "files"), "training.epochs=2",
        "training.warmup_epochs=1", "training.batch_size=8", "training.limit_batches=1", "training.num_workers=0",
        "backbone=small_resnet", "backbone.width=8", "embedding_size=8", "callbacks=none",
    ]  # fmt: skip
    if cell.cleaner != "Gmm":
        settings.append("cleaner.steps=20")
    summary = run(compose(*settings, folder=tmp_path / "run"))
    assert summary["epochs"] == 2
    assert summary["noise_rate_nominal"] == cell.rate
    with open(tmp_path / "run/metrics.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert 0 < float(last["partition/labeled_1"]) <= summary["training_samples"]
    assert (last.get("cpc/share_kept") is not None) == (cell.cleaner != "Gmm")
