"""What belongs to network 1 and what to network 2: evidence, heads, optimizers, schedules, partitions, names."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tests.steps import batch, build_module
from tests.training.test_stage_one import fit

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.cleaning.evidence import CleaningResult, Draw, Estimate
from cpc_lightning.cleaning.partition import Partition
from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.errors import TrainingError
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.module import CoTrainingModule
from cpc_lightning.training.stage_one import StageOne, measure_result

TRUST = 0.9, 0.6  # of network 1 and network 2, in every label


class Apart:
    """Believes every label, network 1 more than network 2, and keeps all that it is asked.

    Beside each task it keeps what each network says of each draw at that moment, by a plain pass over the images.
    """

    history_length, active, needs_true_labels, needs_features = 1, True, False, True

    def __init__(self):
        self.tasks, self.said, self.rates, self.results = [], [], [], []

    def clean(self, task):
        self.tasks.append(task)
        self.said.append([[self.word(number, draw) for draw in task.draws] for number in (0, 1)])
        self.rates.append([group["lr"] for optimizer in self.trainer.optimizers for group in optimizer.param_groups])
        first, second = task.draws
        by = [torch.full((len(d.index),), q) for d, q in zip((second, first), TRUST, strict=True)]
        for_1 = Partition(first.index, by[1], by[1] > 0)
        for_2 = Partition(second.index, by[0], by[0] > 0, fell_back=True)
        result = CleaningResult(tuple(Estimate(q) for q in by), (for_1, for_2), 0.5, {}, {"told": 7.0})
        self.results.append(result)
        return result

    def word(self, number, draw):
        module, split = self.module, self.datamodule.dataset.train
        network = module.network(number).eval()
        with torch.no_grad():
            images = module.views.normalise(split.images.fetch(draw.index))
            features, logits = network.features_and_logits(images)
        network.train()
        return features, F.cross_entropy(logits, draw.noisy_labels, reduction="none")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Three small epochs, 1 of them warm-up, in which each network draws samples of its own, as on Clothing1M."""
    with pytest.warns(UserWarning, match="looked clean to train network") as warned:
        done = fit(tmp_path_factory.mktemp("apart"), Apart(), balanced_batches=2)
    done.warned = {str(w.message) for w in warned if "looked clean" in str(w.message)}
    return done


def test_each_network_judges_its_peers_draw_and_learns_from_its_own(done):
    assert len(done.probe.tasks) == 3
    for task, said in zip(done.probe.tasks, done.probe.said, strict=True):
        assert len(task.draws[0].index) in (128, 1438)  # after the last epoch, every label
        for own, peer in ((0, 1), (1, 0)):
            for evidence, (features, losses) in (
                (task.judging[own], said[own][peer]), (task.learning[own], said[own][own])
            ):  # fmt: skip
                assert torch.allclose(evidence.losses, losses, atol=1e-5)
                assert torch.allclose(evidence.features, features, atol=1e-5)
            losses = said[own][peer][1]
            scaled = (losses - losses.min()) / (losses.max() - losses.min())
            assert torch.allclose(task.judging[own].loss_history, scaled[None], atol=1e-4)
        assert not torch.allclose(said[0][0][1], said[1][0][1], atol=0.1)  # the networks differ
    for epoch, task in enumerate(done.probe.tasks[:2], start=1):
        index = done.datamodule.draws(epoch)
        assert all(torch.equal(draw.index, i) for draw, i in zip(task.draws, index, strict=True))
        assert not torch.equal(*index)  # and so do the draws


def test_each_head_is_its_networks_and_has_its_own_optimizer(done):
    for task in done.probe.tasks:
        for number in (0, 1):
            network = done.module.network(number)
            assert task.heads[number] is network.head
            (group,) = task.optimizers[number].param_groups
            assert [id(p) for p in group["params"]] == [id(p) for p in network.head.parameters()]
            (group,) = done.trainer.optimizers[number].param_groups
            learnt = [*network.backbone.parameters(), *network.classifier.parameters()]
            assert [id(p) for p in group["params"]] == [id(p) for p in learnt]


def test_both_networks_learning_rates_drop_and_those_of_the_heads_do_not(done):
    """A milestone after two epochs; what is logged is what the optimizers have."""
    assert done.probe.rates == [pytest.approx([*2 * [rate], 0.02, 0.02]) for rate in (0.05, 0.05, 0.005)]
    logged = [float(done.trainer.callback_metrics[f"train/learning_rate_{number}"]) for number in (1, 2)]
    assert logged == pytest.approx([0.005, 0.005])


def test_each_network_trains_on_its_own_side_with_the_clean_probabilities_of_its_peer(done):
    """By the peer, network 1's labels are clean with 0.6, network 2's with 0.9; in warm-up all with 1."""
    seen = {(epoch, b["network"], *b["clean_probability"].unique().tolist()) for epoch, b in done.seen}
    trusted = pytest.approx(0.6), pytest.approx(0.9)
    assert sorted(seen) == [(0, 0, 1.0), (0, 1, 1.0)] + [(e, r, trusted[r]) for e in (1, 2) for r in (0, 1)]
    sides = [done.datamodule.draws(0)]
    sides += [tuple(partition.labeled for partition in result.partitions) for result in done.probe.results[:2]]
    for epoch, pair in enumerate(sides):
        for number, side in enumerate(pair):
            index = {int(i) for e, b in done.seen if (e, b["network"]) == (epoch, number) for i in b["index"]}
            assert index == set(side.tolist())


def test_what_is_left_behind_names_the_right_network(done):
    assert done.warned == {
        f"epoch {epoch}: no label looked clean to train network 2 on; it goes on with the {kept} that looked cleanest"
        for epoch, kept in ((1, 128), (2, 128), (3, 1438))
    }
    report = done.stage_one.label_report(done.datamodule)
    assert report.clean_probabilities[:, 0].tolist() == pytest.approx(TRUST)
    verdict, task = done.stage_one.verdict, done.probe.tasks[-1]
    for number in (0, 1):
        assert torch.equal(verdict.judging[number].losses, task.judging[number].losses)
        assert done.datamodule.partitions[number] is done.probe.results[-1].partitions[number]


def test_losses_are_logged_under_the_networks_number(compose, small, monkeypatch):
    module, logged = build_module(compose(*small), monkeypatch), []
    monkeypatch.setattr(module, "log", lambda name, *_, **__: logged.append(name))
    for number in (0, 1):
        module.training_step(batch(number, warmup=True), 0)
        module.training_step(batch(number, warmup=False), 0)
    monkeypatch.setattr(CoTrainingModule, "trainer", SimpleNamespace(is_last_batch=True))
    module.on_train_batch_end(None, None, 0)
    of_stage_2 = ("loss", "labeled_loss", "unlabeled_loss", "prior_penalty")
    assert logged == [f"train/{name}_{number}" for number in (1, 2) for name in of_stage_2]


def test_learning_rates_are_logged_under_the_networks_number(compose, small, monkeypatch):
    module, logged = build_module(compose(*small), monkeypatch), {}
    rates = [SimpleNamespace(get_last_lr=lambda rate=rate: [rate]) for rate in (0.1, 0.2)]
    monkeypatch.setattr(CoTrainingModule, "global_rank", 0)
    monkeypatch.setattr(module, "lr_schedulers", lambda: rates)
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.__setitem__(name, value))
    module.on_train_epoch_start()
    assert logged == {"train/learning_rate_1": 0.1, "train/learning_rate_2": 0.2}


def test_accuracies_are_logged_under_the_networks_number(compose, small, monkeypatch):
    """Network 1 is right on images 0 and 1, network 2 on 2, their sum on 0, 2 and 3; of the sum's five best, on all."""
    module, logged = build_module(compose(*small), monkeypatch), {}
    first, second = torch.zeros(4, 10), torch.zeros(4, 10)
    first[0, 0], first[1, 1], first[2, 9], first[3, 9], first[3, 3] = 5, 1, 1, 1, 0.9
    second[0, 9], second[1, 9], second[2, 2], second[3, 8], second[3, 3] = 1, 5, 5, 1, 0.9
    answers = [(torch.zeros(4, 32), logits) for logits in (first, second)]
    monkeypatch.setattr(module, "features_and_logits", lambda _: answers)
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.__setitem__(name, float(value)))
    module.on_validation_epoch_start()
    module.validation_step({"images": torch.zeros(4), "labels": torch.arange(4)}, 0)
    module.on_validation_epoch_end()
    assert logged == {
        "test/accuracy_1": 50, "test/accuracy_2": 25, "test/accuracy": 75, "test/accuracy_top5": 100,
    }  # fmt: skip


def test_every_sample_comes_with_its_own_clean_probability():
    """Two partitions of 40 samples, whose clean probabilities are all different."""
    split = Split(ArrayImages(torch.zeros(40, 1, 2, 2, dtype=torch.uint8)), torch.arange(40) % 4)
    datamodule = CoTrainingDataModule(ImageDataset("set", tuple("abcd"), split, {"test": split}), 4, seed=3)
    rising = torch.arange(40) / 100 + 0.5
    probabilities = rising, rising.flip(0) - 0.1
    datamodule.partitions = tuple(Partition.from_probability(torch.arange(40), q, 0.6) for q in probabilities)
    batches = list(datamodule.train_dataloader())
    assert {b["network"] for b in batches} == {0, 1}
    for b in batches:
        assert torch.equal(b["clean_probability"], probabilities[b["network"]][b["index"]])
        assert bool((b["clean_probability"] > 0.6).all())
        assert bool((probabilities[b["network"]][b["unlabeled_index"]] <= 0.6).all())
    other = CoTrainingDataModule(datamodule.dataset, 4, seed=3)
    other.load_state_dict(datamodule.state_dict())
    for ours, theirs in zip(other.partitions, datamodule.partitions, strict=True):
        assert torch.equal(ours.clean_probability, theirs.clean_probability)


def test_agreement_is_measured_between_the_two_estimates_of_one_network():
    """Network 1's q' and q differ in one of four samples; network 2's all differ, and cross the threshold in three."""
    gmm = torch.tensor([0.9, 0.8, 0.2, 0.1]), torch.tensor([0.8, 0.8, 0.8, 0.8])
    cpc = torch.tensor([0.9, 0.3, 0.2, 0.1]), torch.tensor([0.7, 0.2, 0.2, 0.2])
    draw = Draw(torch.arange(4), torch.zeros(4).long(), torch.full((4,), -1))
    by = Partition.from_probability(draw.index, cpc[0], 0.5)
    estimates = tuple(Estimate(q, gmm=p, cpc=q) for p, q in zip(gmm, cpc, strict=True))
    values = measure_result(CleaningResult(estimates, (by, by), 0.5, {"gmm": 0.5, "cpc": 0.5}, {}), (draw, draw))
    assert (values["gmm_cpc/agreement_1"], values["gmm_cpc/agreement_2"]) == (0.75, 0.25)
    far, near, across = (  # KL of 0.8 from 0.3, from 0.7 and from 0.2
        0.8 * math.log(0.8 / q) + 0.2 * math.log(0.2 / (1 - q)) for q in (0.3, 0.7, 0.2)
    )
    assert values["gmm_cpc/kl_divergence_1"] == pytest.approx(far / 4, rel=1e-5)
    assert values["gmm_cpc/kl_divergence_2"] == pytest.approx((near + 3 * across) / 4, rel=1e-5)


@pytest.mark.parametrize("number", [0, 1])
def test_a_network_without_finite_answers_stops_stage_1_and_is_named(done, number):
    bias = done.module.network(number).classifier.bias.data
    whole = bias.clone()
    bias[3] = float("nan")
    with pytest.raises(TrainingError, match=rf"^network {number + 1} gives no finite answer for \d+ samples"):
        StageOne(Apart(), seed=1).on_train_epoch_end(done.trainer, done.module)
    bias.copy_(whole)


def test_a_run_starts_with_two_networks_of_different_weights(compose, small, tmp_path):
    first, second = Parts(plain(compose(*small, folder=tmp_path))).networks
    weights = [dict(network.named_parameters()) for network in (first, second)]
    random = [name for name, value in weights[0].items() if value.std() > 0]  # BatchNorm starts with 1 and 0
    assert {"classifier.weight", "head.prototypes", "head.projector.weight"} < set(random)
    assert not [name for name in random if torch.equal(weights[0][name], weights[1][name])]
