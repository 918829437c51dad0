"""Every leaf of conf/ composes, instantiates and keeps its group's contract."""

from pathlib import Path

import cpc_lightning.conf
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from tests.datasets.cifar_files import write_cifar10, write_cifar100
from tests.datasets.embedding_files import write_embeddings
from tests.datasets.image_trees import write_clothing1m, write_folders, write_table, write_webvision
from tests.datasets.labeled import labeled
from tests.datasets.noisy_sets import write_animal10n, write_food101n, write_mini_imagenet_red

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split, Vectors
from cpc_lightning.errors import InputError

CONF = Path(cpc_lightning.conf.__path__[0])
LEAVES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
LEAVES = [leaf for leaf in LEAVES if "/_" not in leaf]  # what choices share is none
GROUPS = {
    "dataset",
    "noise",
    "cleaner",
    "backbone",
    "semisup",
    "optimizer",
    "trainer",
    "logger",
    "method",
    "callbacks",
    "experiment",
    "features",
    "hparams_search",
    "preset",
    "pretraining",
    "vector_views",
}
WITHIN = {"noise/source": ["noise=open_set"]}  # a group within a choice of another
NEEDS = {
    "noise/file": ["noise.path=labels.npy"],
    "noise/matrix": ["noise.path=T.npy"],
    "dataset/fashion_mnist": [],
    "noise/source/imagefolder": ["noise.source.root=unused"],
    "features/module": ["features.network._target_=torchvision.models.resnet18"],
    "cleaner/high_confidence": ["method=longremix"],
    "trainer/gpu": [],
    "trainer/ddp": [],
}


def of(group: str) -> list[str]:
    found = [leaf.rsplit("/", 1)[1] for leaf in LEAVES if leaf.rsplit("/", 1)[0] == group]
    assert found, group
    return found


LABELS = torch.arange(200) % 10


def noise_settings(choice: str, folder: Path) -> list[str]:
    """What the noise `choice` needs to work on `LABELS`, written to `folder` where it is a file."""
    if choice == "file":
        (folder / "labels.txt").write_text("\n".join(map(str, LABELS.tolist())))
        return [f"noise.path={folder}/labels.txt"]
    if choice in ("cifar10n", "cifar100n"):
        keys = ("clean_label", "worse_label", "noisy_label")
        torch.save(dict.fromkeys(keys, LABELS.numpy()), folder / "labels.pt")
        return [f"noise.path={folder}/labels.pt"]
    if choice == "matrix":
        matrix = 0.5 * torch.eye(10) + 0.05
        (folder / "T.json").write_text(str(matrix.tolist()))
        return [f"noise.path={folder}/T.json"]
    if choice == "open_set":
        write_cifar100(folder)
        return [f"noise.source.root={folder}", "noise.source.verify=false"]
    return []


def dataset_settings(choice: str, folder: Path) -> list[str]:
    """What the data set `choice` needs, with small files written to `folder`."""
    if choice in ("cifar10", "cifar100"):
        (write_cifar10 if choice == "cifar10" else write_cifar100)(folder)
        return [f"dataset.root={folder}", "dataset.verify=false"]
    if choice == "imagefolder":
        write_folders(folder, {"dark": 6, "light": 6})
        return [f"dataset.root={folder}"]
    if choice == "table":
        return [f"dataset.file={write_table(folder)}"]
    if choice == "embeddings":
        return [f"dataset.file={write_embeddings(folder / 'train.npz')}"]
    if choice == "arrays":
        images = np.arange(20 * 5 * 6).reshape(20, 5, 6) % 256
        np.savez(folder / "train.npz", images=images.astype(np.uint8), labels=np.arange(20) % 2)
        return [f"dataset.file={folder / 'train.npz'}"]
    if choice == "clothing1m":
        write_clothing1m(folder)
        return [f"dataset.root={folder}"]
    if choice == "animal10n":
        write_animal10n(folder)
        return [f"dataset.root={folder}"]
    if choice == "food101n":
        noisy, clean = write_food101n(folder)
        return [f"dataset.root={noisy}", f"dataset.test_root={clean}"]
    if choice == "mini_imagenet_red":
        return [f"dataset.root={write_mini_imagenet_red(folder)}"]
    if choice == "webvision":
        return [f"dataset.ilsvrc_root={write_webvision(folder)}", f"dataset.root={folder}", "dataset.num_classes=8"]
    if choice == "fashion_mnist" and not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    return []


def test_the_walk_finds_every_group():
    assert {leaf.split("/")[0] for leaf in LEAVES if "/" in leaf} == GROUPS
    assert len(LEAVES) > 20


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param(leaf, marks=pytest.mark.long) if leaf.startswith("experiment/") else leaf
        for leaf in LEAVES
        if "/" in leaf
    ],
)
def test_every_leaf_composes_into_a_method(compose, leaf):
    cut = leaf.split if leaf.startswith("experiment/") else leaf.rsplit  # experiments of a method have a folder
    group, choice = cut("/", 1)
    if group == "hparams_search":
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    value = f"[{choice}]" if group == "logger" else choice
    if group.startswith("experiment/"):  # of a method: experiment=METHOD/CELL
        group, value = leaf.split("/", 1)
    Parts(plain(compose(*WITHIN.get(group, []), f"{group}={value}", *NEEDS.get(leaf, [])))).check_method()


@pytest.mark.parametrize("choice", of("noise/source"))
def test_sources_of_foreign_images(compose, choice, tmp_path):
    settings = [s.replace("dataset.", "noise.source.") for s in dataset_settings(choice, tmp_path)]
    noise = Parts(plain(compose("noise=open_set", f"noise/source={choice}", *settings))).noise
    dataset = labeled(LABELS, 10)
    split = noise.corrupt(dataset, 0)
    assert int((split.true_labels == -2).sum()) == 40
    assert split.images.fetch(torch.arange(200)).shape == (200, 1, 2, 2)


@pytest.mark.parametrize("choice", of("noise"))
def test_noise_gives_labels_of_the_right_kind_repeatably(compose, choice, tmp_path):
    config = compose(f"noise={choice}", *noise_settings(choice, tmp_path))
    noise, dataset = instantiate(config.noise), labeled(LABELS.clone(), 10, {1: 2})
    once, twice = (noise.corrupt(dataset, seed=3).labels for _ in range(2))
    assert once.dtype == torch.int64
    assert once.shape == (200,)
    assert torch.equal(once, twice)
    assert 0 <= int(once.min()) <= int(once.max()) <= 9
    assert torch.equal(dataset.train.labels, LABELS)
    assert noise.nominal_rate is None or 0 <= noise.nominal_rate <= 1


@pytest.mark.parametrize("choice", of("backbone"))
@pytest.mark.parametrize("channels", [1, 3])
def test_backbones_give_pooled_features(compose, choice, channels):
    scratch = ["backbone.weights=null"] if choice == "resnet50_imagenet" else []  # which would be fetched
    config = compose(f"backbone={choice}", *scratch)
    backbone = instantiate(config.backbone)(in_channels=channels).eval()
    side = 96 if choice == "inception_resnet_v2" else 32
    inputs = torch.zeros(2, channels) if choice == "mlp" else torch.zeros(2, channels, side, side)
    features = backbone(inputs)
    assert features.shape == (2, backbone.feature_size)
    assert config.embedding_size == (128 if backbone.feature_size > 128 else 64)  # a projector makes features fewer


@pytest.mark.long
@pytest.mark.parametrize("dataset", ["digits", "fashion_mnist", "cifar10"])
def test_the_backbone_decides_how_many_numbers_an_embedding_has(compose, dataset):
    sizes = {choice: compose(f"dataset={dataset}", f"backbone={choice}").embedding_size for choice in of("backbone")}
    assert sizes == dict.fromkeys(of("backbone"), 128) | {"small_resnet": 64}
    assert compose(f"dataset={dataset}").embedding_size == (128 if dataset == "cifar10" else 64)


@pytest.mark.parametrize("choice", of("cleaner"))
def test_cleaners_say_what_the_loop_needs(compose, choice):
    cleaner = Parts(plain(compose(f"cleaner={choice}", *NEEDS.get(f"cleaner/{choice}", [])))).cleaner
    assert cleaner.history_length >= 1
    assert cleaner.needs_true_labels == (choice == "oracle")
    assert cleaner.needs_features == choice.startswith(
        ("auto", "cpc", "graph", "knn", "mixture_2d", "neighbour_labels", "probe")
    )
    assert cleaner.active == (choice != "none")


@pytest.mark.parametrize("choice", [choice for choice in of("cleaner") if choice != "none"])
def test_every_cleaner_that_divides_has_a_floor_for_each_class(compose, choice):
    chosen = [f"cleaner={choice}", *NEEDS.get(f"cleaner/{choice}", [])]
    assert Parts(plain(compose(*chosen, "cleaner.class_floor=0.5"))).cleaner.class_floor == 0.5
    with pytest.raises(InputError, match="class_floor=2: must be a number"):
        _ = Parts(plain(compose(*chosen, "cleaner.class_floor=2"))).cleaner


@pytest.mark.parametrize("choice", of("dataset"))
def test_data_sets_fit_their_views(compose, choice, tmp_path):
    parts = Parts(plain(compose(f"dataset={choice}", *dataset_settings(choice, tmp_path))))
    dataset = parts.clean_dataset  # which decides on the size of views, where that is open
    views = parts.views
    assert isinstance(dataset, ImageDataset)
    images = dataset.train.images.fetch(torch.arange(3))
    if isinstance(dataset.train.images, Vectors):
        assert views.normalise(views.strong(images)).shape == images.shape
        return
    size = (views.height or images.shape[2], views.width or images.shape[3])
    for view in (views.weak(images), views.strong(images), views.evaluation(images)):
        assert view.dtype == torch.uint8
        assert views.normalise(view).shape == (3, images.shape[1], *size)


def test_an_image_set_checks_its_labels():
    images = ArrayImages(torch.zeros(3, 1, 8, 8, dtype=torch.uint8))
    good = Split(images, torch.tensor([0, 1, 0]))
    for labels, says in (
        ([0, 1], "3 images.*2 labels"),
        ([0, 1, 2], r"label 2 of image 2.*0\.\.1"),
        ([0, -1, 0], "label -1"),
    ):
        with pytest.raises(ValueError, match=says):
            ImageDataset("set", ("a", "b"), Split(images, torch.tensor(labels)), {"test": good})
