"""The co-training step: who moves, who does not, and what stops it."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tests.steps import batch, build_module
from torch import nn

from cpc_lightning.errors import InputError, TrainingError
from cpc_lightning.semisup.evr import EmpiricalVicinalRisk
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.views.autoaugment import AutoAugment


@pytest.fixture
def module(make_module):
    """A module of two small networks with its optimizers, outside of a trainer."""
    return make_module()


@pytest.fixture
def make_module(compose, small, monkeypatch):
    """Makes such modules, all with the same weights, from overrides of the config and options of the module."""
    return lambda *overrides, **options: build_module(compose(*small, *overrides), monkeypatch, **options)


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    pairs = zip(before.state_dict().items(), after.state_dict().values(), strict=True)
    return {name for (name, old), new in pairs if not torch.equal(old, new)}


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("number", [0, 1])
def test_a_step_moves_one_network_and_nothing_of_its_head(module, number, warmup):
    before = copy.deepcopy(module.networks)
    module.training_step(batch(number, warmup), 0)
    moved, peer = (
        changed(before[number], module.networks[number]),
        changed(before[1 - number], module.networks[1 - number]),
    )
    assert peer == set()  # weights and BatchNorm statistics of the peer stay
    assert not [name for name in moved if name.startswith("head.")]
    weights = {name for name, _ in module.network(number).named_parameters() if not name.startswith("head.")}
    assert weights <= moved
    assert any("running_mean" in name for name in moved)


def forwarded_in_warmup(module, asked):
    """What network 1 is shown in a step of warm-up, as levels 0..255."""
    shown = []
    module.network(0).register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].clone()))
    torch.manual_seed(7)
    module.method.warmup_losses(module.step_of(asked))
    return (255 * (0.305 + 0.376 * shown[0])).round().to(torch.uint8)


@pytest.mark.parametrize("augdesc", [False, True])
@pytest.mark.parametrize("policy", [None, "cifar10"])
def test_warm_up_shows_weak_views_or_those_of_its_own_policy(make_module, policy, augdesc):
    """AugDesc's SAW: crop and flip first, then a policy, not always that of stage 2 (on Clothing1M it is another)."""
    asked = batch(0, True)
    asked["labeled_images"] = asked["labeled_images"].repeat(1, 20, 1, 1, 1)
    asked["labels"] = asked["labels"].repeat(20)
    module = make_module("views.policy=symbols", f"views.augdesc={str(augdesc).lower()}", warmup_policy=policy)
    torch.manual_seed(7)
    expected = module.views.weak(asked["labeled_images"][0])
    if policy:
        expected = AutoAugment(policy, 128 if augdesc else 0, augdesc)(expected)
    assert torch.equal(forwarded_in_warmup(module, asked), expected)


def test_a_policy_of_warm_up_that_there_is_not_is_refused(make_module):
    with pytest.raises(InputError, match=r"warmup_policy=svhn: must be one of none, weak, cifar10"):
        make_module(warmup_policy="svhn")


def test_an_empty_unlabeled_side_is_a_step_like_any_other(module):
    before = copy.deepcopy(module.networks)
    module.training_step(batch(0, False, unlabeled=0), 0)
    assert changed(before[0], module.networks[0])


def test_a_loss_that_is_not_finite_names_where_it_came_from(module):
    with torch.no_grad():
        module.network(1).classifier.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 3, network 2, batch 7 \(samples 10 to 15\)"):
        module.training_step(batch(1, True), 7)


def test_the_confidence_penalty_enters_the_warmup_loss(module):
    """With weight w the loss grows by w times the mean of sum p log p: for uniform predictions -w log 10."""
    for parameter in module.network(0).classifier.parameters():
        nn.init.zeros_(parameter)
    plain = module.method.warmup_losses(module.step_of(batch(0, True)))["loss"]
    module.method.confidence_penalty = 2.0
    penalised = module.method.warmup_losses(module.step_of(batch(0, True)))["loss"]
    assert plain.item() == pytest.approx(2.302585, abs=1e-5)
    assert penalised.item() == pytest.approx(2.302585 - 2 * 2.302585, abs=1e-5)


def test_an_epochs_losses_are_logged_once_and_weigh_each_sample_alike(module, monkeypatch):
    logged = []
    monkeypatch.setattr(module, "log", lambda name, value, **more: logged.append((name, value, more["batch_size"])))
    trainer = SimpleNamespace(is_last_batch=False)
    monkeypatch.setattr(type(module), "trainer", trainer)
    steps = ((0, 2.0, 3), (0, 5.0, 1), (1, 7.0, 2))  # network, loss, samples
    for number, loss, samples in steps:
        trainer.is_last_batch = (number, loss) == (1, 7.0)
        assert logged == []
        module._note_losses({"loss": torch.tensor(loss, requires_grad=True)}, number, samples)
        module.on_train_batch_end(None, None, 0)
    assert logged == [("train/loss_1", 11 / 4, 4), ("train/loss_2", 7.0, 2)]
    assert not any(value.requires_grad for _, value, _ in logged)
    module.on_train_batch_end(None, None, 0)
    assert len(logged) == 2  # the next epoch starts from nothing


def test_the_prediction_sums_both_networks_logits(module):
    module.eval()
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    first, second = module.evaluate(images)
    assert not torch.equal(first, second)  # the networks start apart
    assert torch.equal(module(images), first + second)


@pytest.fixture
def prototypes(module, monkeypatch):
    """Heads that score class 0 by a feature's first number and class 1 by its second, less 10 in network 2.

    Answers a function that evaluates both on images whose features it is told, and what it logged.
    """
    for number in (0, 1):
        head = module.network(number).head
        with torch.no_grad():
            head.projector.weight.zero_()[:2, :2] = torch.eye(2)
            head.projector.bias.zero_()
            head.prototypes.fill_(-1)[:2, :2] = torch.eye(2)
            head.prototypes[:2, 2:] = 0
            head.feature_mean[1] = 10.0 * number
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.__setitem__(name, round(float(value), 2)))

    def evaluate(*batches):
        logged.clear()
        module.on_validation_epoch_start()
        for first, second, labels in batches:
            features = [F.pad(torch.tensor(v), (0, 30)) for v in (first, second)]
            logits = F.one_hot(torch.full((len(labels),), 5), 10).float()  # the classifiers say 5
            answers = [(v, logits) for v in features]
            monkeypatch.setattr(module, "features_and_logits", lambda _, answers=answers: answers)
            module.validation_step({"images": torch.zeros(len(labels)), "labels": torch.tensor(labels)}, 0)
        module.on_validation_epoch_end()
        return logged

    return SimpleNamespace(module=module, evaluate=evaluate)


def fit(prototypes, *numbers):
    for number in numbers:
        prototypes.module.network(number).head.fitted.fill_(1)


def test_prototypes_classify_by_their_largest_score(prototypes):
    """Scores of classes 0 and 1 by hand: network 1 sees 0, 1, 0, network 2 1, 0, 1, both 0, 1, 1 as the labels say."""
    fit(prototypes, 0, 1)
    images = [
        ([[3.0, 1.0], [1.0, 2.0]], [[1.0, 12.0], [2.0, 11.5]], [0, 1]),  # sums (4, 3) and (3, 3.5)
        ([[2.0, 1.0]], [[1.0, 15.0]], [1]),  # sum (3, 6)
    ]
    expected = {"test/prototype_accuracy_1": 66.67, "test/prototype_accuracy_2": 33.33, "test/prototype_accuracy": 100}
    for _ in range(2):  # nothing of the first evaluation is left in the second
        logged = prototypes.evaluate(*images)
        assert {name: value for name, value in logged.items() if "prototype" in name} == expected
        assert {logged["test/accuracy_1"], logged["test/accuracy_2"], logged["test/accuracy"]} == {0.0}


@pytest.mark.parametrize(
    ("numbers", "names"),
    [((), set()), ((1,), set()),
     ((0, 1), {"test/prototype_accuracy", "test/prototype_accuracy_1", "test/prototype_accuracy_2"})],
)  # fmt: skip
def test_prototypes_that_no_stage_1_has_fitted_are_not_reported(prototypes, numbers, names):
    fit(prototypes, *numbers)
    wrong = prototypes.evaluate(([[3.0, 1.0]], [[3.0, 11.0]], [1]))
    assert {name for name in wrong if "prototype" in name} == names
    fit(prototypes, 0, 1)
    right = prototypes.evaluate(([[3.0, 1.0]], [[3.0, 11.0]], [0]))  # what was counted before is forgotten
    assert {value for name, value in right.items() if "prototype" in name} == {100.0}


def test_scores_of_prototypes_are_not_rounded_to_bfloat16(prototypes):
    fit(prototypes, 0, 1)
    with torch.autocast("cpu", torch.bfloat16):  # where 1 and 1.001 are one number
        logged = prototypes.evaluate(([[1.0, 1.001]], [[1.0, 11.001]], [1]))
    assert logged["test/prototype_accuracy"] == 100


def test_an_evaluation_is_one_pass_of_each_backbone(module):
    passes = []
    for number in (0, 1):
        module.network(number).backbone.register_forward_hook(lambda *_, n=number: passes.append(n))
    module.eval()
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    module.validation_step({"images": images, "labels": torch.arange(4)}, 0)
    assert passes == [0, 1]


def test_views_come_as_view_by_image(module):
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 8, 8) * 50
    views = module.step_of(batch(0, True)).made(images[None], lambda batch: batch, 2)
    assert views.shape == (2, 3, 1, 8, 8)
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[1, 2], module.views.normalise(images[2:])[0])


def test_images_that_come_as_views_keep_each_view_in_its_place(module, monkeypatch):
    """Four crops of each image: two for the weak views, two for the strong ones, as image files come."""
    seen = []

    class Watched(EmpiricalVicinalRisk):
        def __call__(self, network, peer, step, *_):
            seen.append(step)
            raise InterruptedError

    module.method.risk = Watched()
    monkeypatch.setattr(module.views, "weak", lambda images: images)
    monkeypatch.setattr(module.views, "strong", lambda images: images + 100)
    asked = batch(0, False)
    asked["labeled_images"] = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1, 1).expand(4, 6, 1, 8, 8)
    asked["unlabeled_images"] = asked["labeled_images"] + 10
    with pytest.raises(InterruptedError):
        module.training_step(asked, 0)
    levels = {
        name: [round(float(level)) for level in 255 * (0.305 + 0.376 * getattr(seen[0], name)[:, 0, 0, 0, 0])]
        for name in ("weak_labeled", "strong_labeled", "weak_unlabeled", "strong_unlabeled")
    }
    assert levels == {
        "weak_labeled": [0, 1], "strong_labeled": [102, 103],
        "weak_unlabeled": [10, 11], "strong_unlabeled": [112, 113],
    }  # fmt: skip


@pytest.mark.parametrize("policy", ["weak", "none", "symbols"])
def test_a_step_is_mixmatch_on_weak_views_mixed_with_themselves_or_with_strong_ones(make_module, monkeypatch, policy):
    """By hand: of each image two views to guess on; "weak" mixes these (DivideMix), all else two more (AugDesc)."""
    module = make_module(f"views.policy={policy}", "semisup.lambda_u=5", "semisup.mixup_alpha=4")
    network, peer = copy.deepcopy(module.network(0)), copy.deepcopy(module.network(1))
    asked, guess, weak = batch(0, False, unlabeled=4), module.method.risk.guess, module.views.weak
    made, guessed, forwarded = [], [], []
    with monkeypatch.context() as patch:
        patch.setattr(module.views, "weak", lambda images, *more: made.append(len(images)) or weak(images, *more))
        patch.setattr(module.method.risk, "guess", lambda *views: guessed.append(guess(*views)) or guessed[-1])
        module.network(0).register_forward_pre_hook(lambda _, inputs: forwarded.append(inputs[0].clone()))
        torch.manual_seed(5)
        losses = module.method.vicinal_losses(module.step_of(asked))

    torch.manual_seed(5)
    sides, mixes, views = [], [], module.views
    for name in ("labeled_images", "unlabeled_images"):
        twice = torch.cat([asked[name][0], asked[name][0]])
        sides.append(views.normalise(views.weak(twice)).chunk(2))
        mixes.append(sides[-1] if policy == "weak" else views.normalise(views.strong(twice)).chunk(2))
    (x1, x2), (u1, u2) = sides
    network.train()
    peer.eval()
    with torch.no_grad():
        of_x = (network(x1).softmax(1) + network(x2).softmax(1)) / 2
        of_u = sum(model(u).softmax(1) for model in (network, peer) for u in (u1, u2)) / 4
    refined = 0.9 * torch.eye(10)[:6] + 0.1 * of_x
    targets = [p**2 / (p**2).sum(1, keepdim=True) for p in (refined, of_u)]  # sharpened with T = 1/2
    four = torch.tensor(4.0, dtype=torch.float64)
    drawn = torch.distributions.Beta(four, four).sample().item()
    lam, partner = max(drawn, 1 - drawn), torch.randperm(20)
    rows = torch.cat([*mixes[0], *mixes[1]])
    wanted = torch.cat([targets[0], targets[0], targets[1], targets[1]])
    mixed, wanted = lam * rows + (1 - lam) * rows[partner], lam * wanted + (1 - lam) * wanted[partner]
    predicted = network(mixed).softmax(1)
    labeled = -(wanted[:12] * predicted[:12].log()).sum(1).mean()
    unlabeled = ((predicted[12:] - wanted[12:]) ** 2).mean()
    penalty = (0.1 * (0.1 / predicted.mean(0)).log()).sum()

    assert sum(made) == (2 if policy == "weak" else 4) * 10
    torch.testing.assert_close(guessed, [tuple(targets)])
    torch.testing.assert_close(forwarded[-1], mixed)
    lambda_u = 5 * (3.5 - 1) / 16  # half of epoch 3 is over, 1 was warm-up, the ramp takes 16
    torch.testing.assert_close(losses["loss"], labeled + lambda_u * unlabeled + penalty)
    torch.testing.assert_close(losses["unlabeled_loss"], unlabeled.detach())


def test_an_epochs_draws_depend_on_seed_and_epoch_only(module, monkeypatch):
    monkeypatch.setattr(CoTrainingModule, "global_rank", 0)

    def draw(epoch: int, seed: int) -> float:
        monkeypatch.setattr(CoTrainingModule, "current_epoch", epoch)
        module.seed = seed
        module.on_train_epoch_start()
        return torch.rand(1).item()

    assert draw(1, 0) == draw(1, 0)
    assert len({draw(0, 0), draw(1, 0), draw(0, 1)}) == 3  # epoch 1 of seed 0 is not epoch 0 of seed 1


@pytest.mark.parametrize("anew", [False, True])
def test_optimizers_forget_where_networks_begin_anew(module, monkeypatch, anew):
    module.training_step(batch(0, True), 0)
    optimizers = module.optimizers()
    assert len(optimizers[0].state) > 0
    module.trainer = SimpleNamespace(optimizers=optimizers, global_rank=0)
    monkeypatch.setattr(type(module.method), "begin_epoch", lambda method, epoch: anew)
    module.on_train_epoch_start()
    assert (len(optimizers[0].state) == 0) is anew
