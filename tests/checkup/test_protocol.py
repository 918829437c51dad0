"""Settings against the paper's protocol: for each contradiction a plan that makes it, beside one that does not."""

import pytest

from cpc_lightning.checkup.protocol import RULES, Plan, protocol_findings, shown

CIFAR10 = {  # METHOD.md, Constants, typed anew
    "training.epochs": 450,
    "training.warmup_epochs": 10,
    "training.batch_size": 128,
    "training.warmup_batch_size": None,
    "training.confidence_penalty": 0.0,
    "training.balanced_batches": None,
    "training.limit_batches": None,
    "semisup.lambda_u": 25,
    "semisup.mixup_alpha": 4,
    "semisup.temperature": 0.5,
    "semisup.forward_unlabeled": True,
    "semisup.rampup_epochs": 16,
    "optimizer.network.lr": 0.02,
    "optimizer.network.weight_decay": 0.0005,
    "optimizer.schedule.milestones": [225],
    "cleaner.class_aware": True,
    "cleaner.threshold": 0.5,
    "cleaner.alpha": 0,
    "cleaner.history_length": 1,
    "cleaner.warmup_share": 0.05,
    "cleaner.steps": 2000,
    "optimizer.network.momentum": 0.9,
    "backbone": "preact_resnet18",
    "backbone.weights": None,
    "views.size": 32,
    "views.policy": "cifar10",
    "views.augdesc": True,
}
CLOTHING = CIFAR10 | {
    "training.epochs": 80,
    "training.warmup_epochs": 1,
    "training.batch_size": 32,
    "training.warmup_batch_size": 64,
    "training.confidence_penalty": 1.0,
    "training.balanced_batches": 1000,
    "semisup.lambda_u": 0,
    "semisup.mixup_alpha": 0.5,
    "semisup.forward_unlabeled": False,
    "optimizer.network.lr": 0.002,
    "optimizer.network.weight_decay": 0.001,
    "optimizer.schedule.milestones": [40],
    "cleaner.class_aware": False,
    "cleaner.threshold": 0.3,
    "cleaner.gmm_threshold": 0.5,
    "cleaner.alpha": 1,
    "backbone": "resnet50",
    "backbone.weights": "IMAGENET1K_V1",
    "views.size": 224,
    "views.policy": "imagenet",
    "views.mean": [0.6959, 0.6537, 0.6371],
    "views.std": [0.3113, 0.3192, 0.3214],
    "dataset.crop.resize": 256,
    "dataset.crop.random_resized": False,
}
WEBVISION = CLOTHING | {
    "training.epochs": 100,
    "training.confidence_penalty": 0.0,
    "training.balanced_batches": None,
    "training.limit_batches": 1000,
    "optimizer.network.lr": 0.01,
    "optimizer.schedule.milestones": [50],
    "cleaner.class_aware": True,
    "cleaner.threshold": 0.5,
    "backbone.weights": None,
    "views.size": 227,
    "views.policy": "weak",
    "views.mean": [0.485, 0.456, 0.406],
    "views.std": [0.229, 0.224, 0.225],
}
INCEPTION = {
    "backbone": "inception_resnet_v2",
    "views__size": 299,
    "dataset__crop__resize": 320,
    "dataset__crop__random_resized": True,
}


def plan(dataset="cifar10", noise="symmetric", rate=0.5, active=True, base=CIFAR10, **changes):
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    return Plan(dataset, noise, rate, active, base | {"noise.rate": rate} | changed)


def clothing(**changes):
    return plan("clothing1m", **({"noise": "none", "rate": None, "base": CLOTHING} | changes))


def webvision(**changes):
    return plan("webvision", **({"noise": "none", "rate": None, "base": WEBVISION} | changes))


ASYMMETRIC = {
    "noise": "asymmetric",
    "rate": 0.4,
    "semisup__lambda_u": 0,
    "cleaner__class_aware": False,
    "training__confidence_penalty": 1.0,
}
SYM90 = {"rate": 0.9, "semisup__lambda_u": 50, "cleaner__history_length": 5}
C100 = {"dataset": "cifar100", "semisup__lambda_u": 150, "training__warmup_epochs": 30}

C2D = {
    "training__epochs": 80,
    "optimizer__schedule__milestones": [40],
    "optimizer__network__weight_decay": 5e-4,
}


def mixture(of):
    """The plan with a loss mixture alone, which has no settings of prototypes."""
    gone = ("cleaner.alpha", "cleaner.warmup_share", "cleaner.steps", "cleaner.gmm_threshold")
    settings = {name: value for name, value in of.settings.items() if name not in gone}
    return Plan(of.dataset, of.noise, of.rate, of.active, settings)


FINE = {
    "cifar10 at 50 %": plan(),
    "cifar10 at 20 %": plan(rate=0.2, semisup__lambda_u=0),
    "cifar10 at 90 %": plan(**SYM90),
    "cifar10 asymmetric": plan(**ASYMMETRIC),
    "cifar100 at 20 %": plan(**(C100 | {"rate": 0.2, "semisup__lambda_u": 25})),
    "cifar100 at 90 %": plan(**C100, rate=0.9, cleaner__history_length=5, cleaner__warmup_share=0.1),
    "cifar100 at 80 %": plan(**C100, rate=0.8),
    "cifar10 at 85 %, which no table has": plan(rate=0.85),
    "clothing1m": clothing(),
    "clothing1m from a file": clothing(backbone__weights="resnet50.pth"),
    "webvision": webvision(),
    "webvision with Inception-ResNet-v2": webvision(**INCEPTION),
    "cifar10 as AugDesc": plan(training__epochs=300, optimizer__schedule__milestones=[150]),
    "cifar100 at 80 % with the e of 90 %, which A.2.2 took from here": plan(
        **C100, rate=0.8, cleaner__warmup_share=0.1
    ),
    "clothing1m with the tau of Table 4": clothing(cleaner__threshold=0.7),
    "cifar10 as DivideMix": mixture(plan(training__batch_size=64, views__policy="weak")),
    "clothing1m as DivideMix": mixture(clothing(views__policy="weak")),
    "webvision as C2D": mixture(
        webvision(**C2D, training__warmup_epochs=5, training__balanced_batches=2000, training__limit_batches=None)
    ),
    "webvision as DivideMix, with Inception-ResNet-v2": mixture(
        webvision(**INCEPTION, **C2D, training__limit_batches=None)
    ),
    "other data, other values": plan("own", training__batch_size=7, semisup__mixup_alpha=1.0),
    "plain training": plan(**(ASYMMETRIC | {"active": False, "training__confidence_penalty": 0.0})),
}


@pytest.mark.parametrize("name", FINE)
def test_the_papers_settings_are_fine(name):
    assert [(finding.status, finding.topic) for finding in protocol_findings(FINE[name])] == [("ok", "protocol")]


BROKEN = [
    # a plan, what its one warning says, and what it advises
    (plan(**ASYMMETRIC | {"training__confidence_penalty": 0.0}), "training.confidence_penalty=0: ", "=1"),
    (clothing(training__confidence_penalty=0.0), "training.confidence_penalty=0: ", "=1"),
    (plan(**ASYMMETRIC | {"rate": 0.5}), "noise.rate=0.5: ", "below 0.5"),
    (plan(**ASYMMETRIC | {"cleaner__class_aware": True}), "cleaner.class_aware=true: ", "cpc_agn"),
    (plan(**SYM90 | {"cleaner__history_length": 1}), "cleaner.history_length=1: ", "=5"),
    (plan(cleaner__warmup_share=0.98), "cleaner.warmup_share=0.98: ", "smaller"),
    (
        plan(**C100, rate=0.9, cleaner__history_length=5, cleaner__warmup_share=0.05),
        "cleaner.warmup_share=0.05: above 80 %",
        "=0.1",
    ),
    (plan(**C100, rate=0.82), "cleaner.warmup_share=0.05: above 80 %", "=0.1"),
    (plan(cleaner__steps=42), "cleaner.steps=42: ", "=2000"),
    (plan(cleaner__class_aware=False), "cifar10: cleaner.class_aware=false", "cleaner.class_aware=true"),
    (plan(**C100, cleaner__class_aware=False), "cifar100: cleaner.class_aware=false", "cleaner.class_aware=true"),
    (webvision(views__policy="imagenet"), "views.policy=imagenet", "views.policy=weak"),
    (clothing(views__augdesc=False), "views.augdesc=false", "views.augdesc=true"),
    (plan(views__augdesc=False), "views.augdesc=false", "views.augdesc=true"),
    (clothing(views__policy="weak"), "views.policy=weak", "views.policy=imagenet"),
    (
        plan(training__epochs=26, optimizer__schedule__milestones=[20]),
        "semisup.rampup_epochs=16: ",
        "training.epochs",
    ),
    (plan(optimizer__schedule__milestones=[225, 450]), "optimizer.schedule.milestones=[225,450]: ", "below"),
    (clothing(noise="symmetric", rate=0.2), "noise adds wrong labels to clothing1m", "noise=none"),
    (webvision(noise="other"), "noise adds wrong labels to webvision", "noise=none"),
    (clothing(semisup__lambda_u=25), "not the paper's for clothing1m: semisup.lambda_u=25", "semisup.lambda_u=0"),
    (clothing(cleaner__class_aware=True), "cleaner.class_aware=true", "cleaner.class_aware=false"),
    (clothing(cleaner__threshold=0.5, cleaner__alpha=0), "cleaner.threshold=0.5, cleaner.alpha=0", "cleaner.alpha=1"),
    (clothing(cleaner__threshold=0.6), "clothing1m: cleaner.threshold=0.6", "cleaner.threshold=0.3"),
    (clothing(cleaner__gmm_threshold=0.3), "clothing1m: cleaner.gmm_threshold=0.3", "cleaner.gmm_threshold=0.5"),
    (webvision(**C2D, training__limit_batches=None), "training.epochs=80", "training.epochs=100"),  # with prototypes
    (
        mixture(webvision(**C2D, training__warmup_epochs=5, training__balanced_batches=2000)),
        "limit_batches=1000",
        "limit_batches=null",
    ),
    (plan(**C100, rate=0.5, cleaner__warmup_share=0.1), "cleaner.warmup_share=0.1", "cleaner.warmup_share=0.05"),
    (clothing(training__balanced_batches=None), "training.balanced_batches=null", "training.balanced_batches=1000"),
    (webvision(training__limit_batches=None), "training.limit_batches=null", "training.limit_batches=1000"),
    (clothing(training__warmup_batch_size=None), "training.warmup_batch_size=null", "training.warmup_batch_size=64"),
    (webvision(training__warmup_batch_size=32), "training.warmup_batch_size=32", "training.warmup_batch_size=64"),
    (webvision(cleaner__class_aware=False), "cleaner.class_aware=false", "cleaner.class_aware=true"),
    (
        plan(**C100 | {"training__warmup_epochs": 10}),
        "not the paper's for cifar100: training.warmup_epochs=10",
        "training.warmup_epochs=30",
    ),
    (clothing(backbone__weights=None), "clothing1m: backbone.weights=null", "backbone.weights=IMAGENET1K_V1"),
    (clothing(backbone="resnet18"), "backbone=resnet18", "backbone=resnet50"),
    (clothing(views__mean=[0.1] * 3), "views.mean=[0.1,0.1,0.1]", "views.mean=[0.6959,0.6537,0.6371]"),
    (clothing(views__std=[0.1] * 3), "views.std=[0.1,0.1,0.1]", "views.std=[0.3113,0.3192,0.3214]"),
    (clothing(dataset__crop__resize=300), "dataset.crop.resize=300", "dataset.crop.resize=256"),
    (clothing(training__epochs=60), "training.epochs=60", "training.epochs=80"),
    (clothing(optimizer__schedule__milestones=[70]), "milestones=[70]", "optimizer.schedule.milestones=[40]"),
    (webvision(backbone__weights="DEFAULT"), "backbone.weights=DEFAULT", "backbone.weights=null"),
    (webvision(**INCEPTION | {"views__size": 227}), "views.size=227", "views.size=299"),
    (webvision(optimizer__network__momentum=0.5), "momentum=0.5", "optimizer.network.momentum=0.9"),
    (plan(backbone="small_resnet"), "backbone=small_resnet", "backbone=preact_resnet18"),
    (plan(cleaner__threshold=0.4, cleaner__alpha=1), "cleaner.threshold=0.4, cleaner.alpha=1", "cleaner.alpha=0"),
    (plan(cleaner__warmup_share=0.2), "cleaner.warmup_share=0.2", "cleaner.warmup_share=0.05"),
    (plan(training__batch_size=64), "training.batch_size=64", "training.batch_size=128"),
    (
        plan(rate=0.2, semisup__lambda_u=0, semisup__forward_unlabeled=False),
        "forward_unlabeled=false",
        "unlabeled=true",
    ),
    (webvision(semisup__forward_unlabeled=True), "forward_unlabeled=true", "unlabeled=false"),
    (plan(rate=0.2), "semisup.lambda_u=25", "semisup.lambda_u=0"),
    (plan(**SYM90 | {"semisup__lambda_u": 25}), "semisup.lambda_u=25", "semisup.lambda_u=50"),
]


@pytest.mark.parametrize(("broken", "says", "advises"), BROKEN, ids=[says[:60] for _, says, _ in BROKEN])
def test_a_contradiction_gives_one_warning(broken, says, advises):
    (finding,) = protocol_findings(broken)
    assert finding.status == "warning"
    assert says in finding.found
    assert advises in finding.advice


def test_every_rule_has_its_plan():
    for rule in RULES:
        assert any(b[rule.setting] is not None and rule.broken(b) for b, _, _ in BROKEN), rule.setting


def test_the_last_epoch_that_is_enough():
    # e = 0.05 * 40 = 2 epochs, and there are 2 after the warm-up: the prototypes never divide.
    few = {"training__epochs": 40, "optimizer__schedule__milestones": [20], "semisup__lambda_u": 0, "dataset": "own"}
    (finding,) = protocol_findings(plan(**few, training__warmup_epochs=38))
    assert "cleaner.warmup_share" in finding.found
    assert protocol_findings(plan(**few, training__warmup_epochs=37))[0].status == "ok"
    # The ramp of 16 epochs ends with the last of 27 after a warm-up of 10, not of 26.
    assert protocol_findings(plan(training__epochs=27, optimizer__schedule__milestones=[20]))[0].status == "ok"


def test_a_setting_that_is_not_there_is_not_asked_for():
    settings = {name: value for name, value in CIFAR10.items() if not name.startswith(("cleaner.", "semisup."))}
    for noise, rate in (("asymmetric", 0.4), ("symmetric", 0.9)):
        assert {f.found.split("=")[0] for f in protocol_findings(Plan("cifar10", noise, rate, False, settings))} == {
            "no setting contradicts the paper's protocol for cifar10"
        }


def test_another_length_on_cifar_is_a_note():
    (finding,) = protocol_findings(FINE["cifar10 as AugDesc"])
    assert finding.found.endswith("; its own runs have training.epochs=450, optimizer.schedule.milestones=[225]")


@pytest.mark.parametrize("class_aware", [True, False])
@pytest.mark.parametrize("made", [clothing, webvision, plan])
def test_threshold_and_classes_are_those_of_prototypes_and_table_3_tries_both_mixtures_alone(made, class_aware):
    mixture = {"cleaner.threshold": 0.5, "cleaner.class_aware": class_aware, "cleaner.history_length": 1}
    others = {name: value for name, value in made().settings.items() if not name.startswith("cleaner.")}
    assert [row.status for row in protocol_findings(made(base=others | mixture))] == ["ok"]


def test_values_as_the_command_line_takes_them():
    assert [shown(v) for v in (None, True, False, 5e-4, 1000, [40])] == [
        "null",
        "true",
        "false",
        "0.0005",
        "1000",
        "[40]",
    ]
