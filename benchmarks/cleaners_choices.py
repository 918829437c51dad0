"""What `cleaners.py` compares: choices by name, in groups.

Ablations change one decision of `cpc_awr` that the paper leaves open or tunes (Table 4), or leave out the mixture
(Table 5). Only what is a setting of the library can be changed here. These decisions are no settings, and no run tries
others than those in brackets: whether prototypes are updated before or after partitioning (before, as Section 4.1;
Algorithm 1 has the reverse); features of the evaluation pass or of fresh augmentations (of the pass); guesses in train
or in eval mode (the trained network in train mode, its peer in eval mode); networks trained one after the other or
interleaved (one after the other); losses scaled over the set or within each class, in `awr` (over the set); scores
normalised or raw (raw); a sigmoid or a softmax over the classes (a sigmoid, Eq. 2).
"""

from __future__ import annotations

from cleaners_claims import LONG, PLAIN

# How the networks learn: as in the paper (but for lambda_u); as dataset=arrays had it; and as it has it, where the
# division waits until it pays, and nothing is known of the kind of noise.
PAPERS = ("semisup=mixmatch", "semisup.lambda_u=0", "training.full_epochs=false", "training.divide_when=scheduled")
OWN = ("semisup=unmixed", "training.full_epochs=true", "views.policy=weak", "training.divide_when=scheduled")
PAYING = (*OWN[:-1], "training.divide_when=paying", "training.confidence_penalty=0")
LATER = ("uniform", "knn", "wrong_events", "mixture_2d", "probe")

# Asymmetric noise brings a penalty on confident predictions for the warm-up, and to plain training all is warm-up.
PLAINLY = ("cleaner=none", "training.confidence_penalty=0")

REFERENCE = "cpc_awr, default"
"""What ablations change: `cpc_awr`, run again beside them, so that both sides of a difference are of the same code."""

PEOPLE: dict[str, tuple[str, ...]] = {
    PLAIN: PLAINLY,
    "cross-entropy, one network": ("method=label_smoothing", "method.smoothing=0"),
    "label_smoothing": ("method=label_smoothing",),
    "co_teaching": ("method=co_teaching",),
    "cleanlab": PLAINLY,
    "cleanlab, full folds": PLAINLY,
}
"""What people use; those of `FOLD_EPOCHS` are trained by `people.py`."""

PRETRAINED = ("training.warmup_epochs=3", *PAPERS)
"""Of trainings that start from a backbone that mode=pretrain has taught on the same set and seed; a short warm-up, as
in C2D: it has a classifier to teach, and no features."""

FOLD_EPOCHS = {"cleanlab": 4, "cleanlab, full folds": 1}
"""Trainings on folds have the set's epochs divided by this, rounded up: five of 4/5 of the samples cost one more plain
training, so that the whole costs two, about as much as CPC; or four more."""


_CHANGES: dict[str, tuple[str, ...]] = {
    "42 steps": ("cleaner.steps=42", "cleaner.tolerance=0"),
    "400 steps": ("cleaner.steps=400", "cleaner.tolerance=0"),
    "2,000 steps": ("cleaner.tolerance=0",),
    "10,000 steps": ("cleaner.steps=10000", "cleaner.tolerance=0"),
    "projector to 8": ("embedding_size=8",),
    "projector to 16": ("embedding_size=16",),
    "features as they are": ("cleaner.standardise_features=false",),
    "losses of 5 epochs": ("cleaner.history_length=5",),
    "unlabeled half forwarded": ("semisup.forward_unlabeled=true",),
    "e 10 %": ("cleaner.warmup_share=0.1",),
    "e 15 %": ("cleaner.warmup_share=0.15",),
    "tau 0.6": ("cleaner.threshold=0.6", "cleaner.gmm_threshold=0.5"),
    "tau 0.7": ("cleaner.threshold=0.7", "cleaner.gmm_threshold=0.5"),
    "alpha 0.5": ("cleaner.alpha=0.5",),
    "alpha 1": ("cleaner.alpha=1",),
}

ABLATIONS: dict[str, tuple[str, ...]] = {
    REFERENCE: ("cleaner=cpc_awr", *PAPERS),
    **{f"cpc_awr, {name}": ("cleaner=cpc_awr", *PAPERS, *changes) for name, changes in _CHANGES.items()},
    "cpc_awr, no mixture": ("cleaner=cpc_contrastive", *PAPERS),
}
"""By name the settings; each name says what differs from `REFERENCE`, whose steps end once the loss has settled."""

ABLATED = (("letters", "symmetric 50 %"), ("letters", "asymmetric 40 %"), ("digits", "symmetric 80 %"))
"""The cells that ablations are run on."""

CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "paper": {
        PLAIN: PLAINLY,
        LONG: PLAINLY,
        **{name: (f"cleaner={name}", *PAPERS) for name in ("gmm_agn", "gmm_awr", "cpc_agn", "cpc_awr", "oracle")},
    },
    "own": {f"{name}, own data": (f"cleaner={name}", *OWN) for name in ("gmm_agn", "cpc_agn", "cpc_awr", "oracle")},
    "paying": {f"{name}, own data, paying": (f"cleaner={name}", *PAYING) for name in ("cpc_agn", "cpc_awr", "probe")},
    "later": {name: (f"cleaner={name}", *PAPERS) for name in LATER},
    "later, own": {f"{name}, own data": (f"cleaner={name}", *OWN) for name in LATER},
    "careful": {  # own data, where plain training is ahead: no label left out but weighted, or divided late
        "gmm_agn, own data, weights": ("cleaner=gmm_agn", "cleaner.threshold=1e-6", *OWN),
        "cpc_awr, own data, weights": ("cleaner=cpc_awr", "cleaner.threshold=1e-6", "cleaner.gmm_threshold=0.5", *OWN),
        "cpc_awr, own data, late": ("cleaner=cpc_awr", *OWN, "training.warmup_epochs=16"),
    },
    "pretrained": {
        **{f"{name}, pretrained": (f"cleaner={name}", *PRETRAINED) for name in ("cpc_awr", "cpc_agn", "knn", "probe")},
        "knn, full epochs, pretrained": ("cleaner=knn", *PRETRAINED, "training.full_epochs=true"),
    },
    "people": PEOPLE,
    "ablations": ABLATIONS,
}
"""By group and name the settings of every choice."""


def rate_of(method: str, noise: str) -> tuple[str, ...]:
    """Settings of a method that has to be told the noise rate: it is, as the kind of noise names it."""
    told = {"co_teaching": "method.forget_rate"}
    return (f"{told[method]}={int(noise.split()[1]) / 100}",) if method in told else ()
