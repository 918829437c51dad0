"""METHOD.md's constants, typed anew: those that tests/app/test_experiments.py does not hold against every experiment.

They are the same in all experiments of a data set, so that one of each is composed; a second test sees to it that no
experiment sets one of them for itself.
"""

from pathlib import Path

import cpc_lightning.conf
import pytest
import yaml
from omegaconf import OmegaConf

EXPERIMENTS = Path(cpc_lightning.conf.__path__[0]) / "experiment"

PROTOTYPES = {  # "How long": SGD at 0.02 with momentum 0.9, batches of 128, 2,000 steps, whatever the data set
    "optimizer.head._target_": "torch.optim.SGD",
    "optimizer.head.lr": 0.02,
    "optimizer.head.momentum": 0.9,
    "cleaner.steps": 2000,
    "cleaner.batch_size": 128,
}
EVERYWHERE = PROTOTYPES | {
    "optimizer.network._target_": "torch.optim.SGD",
    "optimizer.network.nesterov": None,  # nowhere in METHOD.md, and off where it is not given
    "optimizer.schedule._target_": "torch.optim.lr_scheduler.MultiStepLR",
    "views.flip": True,
    "views.padding_mode": None,  # black where it is not given
    "training.limit_batches": None,
    "training.balanced_batches": None,
}
CIFAR = EVERYWHERE | {"views.padding": 4}
PHOTOS = EVERYWHERE | {"views.padding": 0, "dataset.crop.random_resized": False}
IMAGENET = [0.229, 0.224, 0.225]
CONSTANTS = {
    "cifar10_sym50": CIFAR | {"views.std": [0.2023, 0.1994, 0.2010]},
    "cifar100_sym50": CIFAR | {"views.std": [0.267, 0.256, 0.276]},
    "clothing1m": PHOTOS
    | {
        "views.std": [0.3113, 0.3192, 0.3214],
        "dataset.crop.resize": 256,
        "dataset.crop.size": 224,
        "backbone.weights": "IMAGENET1K_V1",
        "training.balanced_batches": 1000,
    },
    "webvision": PHOTOS | {"views.std": IMAGENET, "dataset.crop.size": 227, "training.limit_batches": 1000},
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_the_methods(compose, name):
    files = [] if name.startswith("cifar") else ["dataset.root=unused"]
    config = compose(f"experiment={name}", *files)
    given = {setting: OmegaConf.select(config, setting) for setting in CONSTANTS[name]}
    plain = {n: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for n, v in given.items()}
    assert plain == CONSTANTS[name]


def settings_in(node, within=""):
    """The names of a file's settings, such as "views.padding"."""
    if not isinstance(node, dict):
        return {within}
    return {name for key, inner in node.items() for name in settings_in(inner, f"{within}.{key}".removeprefix("."))}


def test_no_experiment_sets_such_a_constant_for_itself():
    files = sorted(EXPERIMENTS.glob("*.yaml"))
    assert len(files) > 40
    own = {
        path.stem: sorted(settings_in(yaml.safe_load(path.read_text())) & {"optimizer.head.lr", *PHOTOS, "views.std"})
        for path in files
    }
    assert {name: settings for name, settings in own.items() if settings} == {
        # C2D's code and DivideMix's, which the heads of these two follow in the place of the paper's protocol
        "dividemix_inception": ["dataset.crop.random_resized", "training.limit_batches"],
        "dividemix_webvision": ["training.balanced_batches", "training.limit_batches"],
        "photos": ["training.limit_batches"],  # on own data, in minutes
    }
