"""The paper's settings for each data set, typed from it (Sections 5.1, A.2), and those of its baselines.

Settings by full name; "backbone" is the name of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REAL_NOISE = ("animal10n", "clothing1m", "food101n", "mini_imagenet_red", "webvision")
"""Data sets whose labels are wrong as they come."""

CIFAR = {
    "backbone": "preact_resnet18",
    "views.size": 32,
    "views.augdesc": True,
    "training.batch_size": 128,
    "semisup.mixup_alpha": 4.0,
    "semisup.temperature": 0.5,
    "semisup.forward_unlabeled": True,
    "semisup.views": 2,
    "semisup.kept_guesses": False,
    "optimizer.network.lr": 0.02,
    "optimizer.network.weight_decay": 5e-4,
    "optimizer.network.momentum": 0.9,
    "cleaner.threshold": 0.5,
    "cleaner.alpha": 0,
    "cleaner.warmup_share": 0.05,
}
PAPER: Mapping[str, Mapping[str, Any]] = {
    "cifar10": CIFAR
    | {
        "training.warmup_epochs": 10,
        "views.mean": [0.4914, 0.4822, 0.4465],
        "views.std": [0.2023, 0.1994, 0.2010],
    },
    "cifar100": CIFAR
    | {
        "training.warmup_epochs": 30,  # Figure 1 and AugDesc; the appendix says 10
        "views.mean": [0.507, 0.487, 0.441],
        "views.std": [0.267, 0.256, 0.276],
    },
    "clothing1m": {
        "backbone": "resnet50",
        "views.size": 224,
        "views.mean": [0.6959, 0.6537, 0.6371],
        "views.std": [0.3113, 0.3192, 0.3214],
        "dataset.crop.resize": 256,
        "dataset.crop.random_resized": False,
        "views.policy": "imagenet",
        "views.augdesc": True,
        "training.epochs": 80,
        "optimizer.schedule.milestones": [40],
        "optimizer.network.momentum": 0.9,
        "cleaner.warmup_share": 0.05,
        "training.batch_size": 32,
        "training.warmup_batch_size": 64,
        "training.warmup_epochs": 1,
        "training.balanced_batches": 1000,
        "semisup.lambda_u": 0,
        "semisup.mixup_alpha": 0.5,
        "semisup.temperature": 0.5,
        "semisup.forward_unlabeled": False,
        "optimizer.network.lr": 0.002,
        "optimizer.network.weight_decay": 1e-3,
        "cleaner.class_aware": False,
        "cleaner.threshold": 0.3,
        "cleaner.gmm_threshold": 0.5,
        "cleaner.alpha": 1,
    },
    "webvision": {
        "backbone": "resnet50",
        "backbone.weights": None,
        "views.size": 227,
        "views.mean": [0.485, 0.456, 0.406],
        "views.std": [0.229, 0.224, 0.225],
        "dataset.crop.random_resized": False,
        "views.policy": "weak",  # DivideMix's
        "training.epochs": 100,
        "optimizer.schedule.milestones": [50],
        "optimizer.network.momentum": 0.9,
        "cleaner.warmup_share": 0.05,
        "training.batch_size": 32,
        "training.warmup_batch_size": 64,
        "training.warmup_epochs": 1,
        "training.limit_batches": 1000,
        "semisup.lambda_u": 0,
        "semisup.mixup_alpha": 0.5,
        "semisup.temperature": 0.5,
        "semisup.forward_unlabeled": False,
        "optimizer.network.lr": 0.01,
        "optimizer.network.weight_decay": 1e-3,
        "cleaner.class_aware": True,
        "cleaner.threshold": 0.5,
        "cleaner.alpha": 1,
    },
}
INCEPTION = {  # the other backbone that is usual on WebVision, with its crops
    "backbone": "inception_resnet_v2",
    "views.size": 299,
    "dataset.crop.resize": 320,
    "dataset.crop.random_resized": True,
}
# From the code of C2D, a copy of DivideMix's, and from DivideMix's own.
C2D = {"training.epochs": 80, "optimizer.schedule.milestones": [40], "optimizer.network.weight_decay": 5e-4}
OTHERWISE: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "clothing1m": ({"cleaner.threshold": 0.7},),  # Table 4, whose best is Table 1's number; Section 5.1 says 0.3
    "webvision": (INCEPTION,),
}
"""By data set: other values that the paper gives as well, or that are usual."""

BASELINES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "cifar10": ({"training.batch_size": 64, "views.policy": "weak"},),  # DivideMix
    "cifar100": ({"training.batch_size": 64, "views.policy": "weak"},),
    "clothing1m": ({"views.policy": "weak"},),  # DivideMix
    "webvision": (
        C2D | {"training.warmup_epochs": 5, "training.balanced_batches": 2000, "training.limit_batches": None},
        INCEPTION | C2D | {"training.limit_batches": None},
    ),
}
"""By data set: values of the baselines in the paper's tables, for mixtures without prototypes."""

LENGTH = {"training.epochs": 450, "optimizer.schedule.milestones": [225]}
"""Of the paper's runs on CIFAR. Those of AugDesc and DivideMix are shorter, so that another length is no warning."""
LAMBDA_U: Mapping[tuple[str, str, float], float] = {  # by data set, noise and its rate
    ("cifar10", "symmetric", 0.2): 0,
    ("cifar10", "symmetric", 0.5): 25,
    ("cifar10", "symmetric", 0.8): 25,
    ("cifar10", "symmetric", 0.9): 50,
    ("cifar10", "asymmetric", 0.4): 0,
    ("cifar100", "symmetric", 0.2): 25,
    ("cifar100", "symmetric", 0.5): 150,
    ("cifar100", "symmetric", 0.8): 150,
    ("cifar100", "symmetric", 0.9): 150,
}
