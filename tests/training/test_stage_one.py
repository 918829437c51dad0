"""Stage 1 under Lightning."""

from dataclasses import replace
from types import SimpleNamespace

import hydra
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from tests.conftest import SMALL
from tests.steps import module_of

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.app.trainer import make_trainer
from cpc_lightning.cleaning.evidence import CleaningResult, Draw, Estimate, Evidence
from cpc_lightning.cleaning.partition import Partition, co_divide
from cpc_lightning.datasets.dataset import UNLABELED
from cpc_lightning.methods.codivide import CoDivide
from cpc_lightning.training.callbacks import EpochTable
from cpc_lightning.training.datamodule import CoTrainingDataModule
from cpc_lightning.training.distributed import gather_by_index
from cpc_lightning.training.measures import measure_losses, measure_result
from cpc_lightning.training.observation import Columns, Observation, observe_batch
from cpc_lightning.training.stage_one import StageOne


class Probe:
    """A cleaner that keeps what it is asked and answers by halves: network 1 trusts the first, network 2 the last."""

    history_length, active, needs_true_labels, needs_features = 2, True, False, True

    def __init__(self):
        self.tasks = []

    def clean(self, task):
        self.tasks.append(task)
        index = task.draws[0].index
        first = (torch.arange(len(index)) < 500).float()
        pair = first, 1 - first
        by = [Partition.from_probability(index, probability, 0.5) for probability in pair]
        return CleaningResult(tuple(Estimate(p, gmm=p) for p in pair), co_divide(*by), 0.5, {"gmm": 0.5}, {"told": 7.0})


def fit(folder, probe, settings=(), unlabeled=0, **more):
    """Three small epochs with the probe, the first labels missing; what was trained on in each."""
    with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):
        config = hydra.compose("config", [f"run_dir={folder}", *SMALL, *settings])
    torch.manual_seed(0)
    method = Parts(plain(config))
    dataset = method.dataset
    if unlabeled:
        labels = torch.cat([torch.full((unlabeled,), UNLABELED), dataset.train.labels[unlabeled:]])
        dataset = replace(dataset, train=replace(dataset.train, labels=labels), some_unlabeled=True)
    networks = [method.make_network(dataset) for _ in range(2)]
    module = module_of(method, networks, 10, len(dataset.train))
    datamodule = CoTrainingDataModule(dataset, 64, seed=1, **more)
    seen = []
    step = module.training_step

    def listen(batch, batch_idx):
        seen.append((module.current_epoch, batch))
        return step(batch, batch_idx)

    module.training_step = listen
    stage_one = StageOne(probe, seed=1)
    passes = count_passes(stage_one, module)
    table, logged, log = EpochTable(folder / "metrics.csv", {}), set(), module.log
    module.log = lambda name, value, **more: (logged.add(name), log(name, value, **more))
    trainer = make_trainer(method.settings, [stage_one, table])
    probe.module, probe.datamodule, probe.trainer = module, datamodule, trainer
    trainer.fit(module, datamodule)
    return SimpleNamespace(
        module=module, datamodule=datamodule, probe=probe, seen=seen, stage_one=stage_one, trainer=trainer,
        passes=passes, table=table, logged=logged,
    )  # fmt: skip


def count_passes(stage_one, module):
    """Fills a list with one item for each stage 1: how many images went through the backbones of 1 and 2, by pass."""
    passes, work = [], stage_one.on_train_epoch_end

    def listen(*arguments):
        seen = [], []
        hooks = [
            module.network(r).backbone.register_forward_pre_hook(lambda _, images, r=r: seen[r].append(len(images[0])))
            for r in (0, 1)
        ]
        work(*arguments)
        passes.append(seen)
        for hook in hooks:
            hook.remove()

    stage_one.on_train_epoch_end = listen
    return passes


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("run"), Probe())


class AllClean:
    """A cleaner that believes every label."""

    history_length, active, needs_true_labels, needs_features = 1, True, False, True

    def __init__(self):
        self.tasks = []

    def clean(self, task):
        self.tasks.append(task)
        pair = [torch.ones(len(draw.index)) for draw in reversed(task.draws)]
        by = [
            Partition.from_probability(draw.index, q, 0.5) for draw, q in zip(reversed(task.draws), pair, strict=True)
        ]
        return CleaningResult(tuple(Estimate(q, gmm=q) for q in pair), co_divide(*by), 0.5, {"gmm": 0.5}, {})


def test_guesses_that_are_kept_are_what_each_network_says_of_the_images_as_they_are(tmp_path):
    """After the last stage 1 no weight changes: the memories hold what the networks answer now, to half precision."""
    done = fit(tmp_path, Probe(), settings=["semisup.kept_guesses=true", "semisup.views=1"])
    module = done.module.eval()
    images = done.datamodule.dataset.train.images.fetch(torch.arange(1438))
    with torch.no_grad():
        answers = module.evaluate(images)
    for memory, logits in zip(module.method.guesses, answers, strict=True):
        torch.testing.assert_close(memory.rows.float(), logits.softmax(dim=1), atol=1e-3, rtol=0)
    assert {tuple(b["labeled_images"].shape[:1]) for _, b in done.seen} == {(1,)}


def test_samples_without_a_label_are_guessed_as_all_others_are(tmp_path):
    """After the warm-up's epoch no guess is what it was in the beginning, the same for every class."""
    first = []
    keep = CoDivide.keep

    def listen(self, index, probabilities):
        keep(self, index, probabilities)
        first.append([memory.rows.float().clone() for memory in self.guesses])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CoDivide, "keep", listen)
        fit(tmp_path, Probe(), settings=["semisup.kept_guesses=true"], unlabeled=400)
    for rows in first[0]:
        assert bool((rows.max(dim=1).values - rows.min(dim=1).values > 1e-3).all())


@pytest.mark.long
def test_each_network_trains_on_draws_of_its_own(tmp_path):
    """Draws of two batches, as Clothing1M has them: of 64 samples a network and epoch, of 128 in warm-up."""
    done = fit(tmp_path, AllClean(), balanced_batches=2, warmup_epochs=1, warmup_batch_size=128)
    trained_on = [
        [sorted(int(i) for e, b in done.seen if e == epoch and b["network"] == r for i in b["index"]) for r in (0, 1)]
        for epoch in range(3)
    ]
    assert [[len(set(index)) for index in pair] for pair in trained_on] == [[256, 256], [128, 128], [128, 128]]
    assert len({tuple(index) for pair in trained_on for index in pair}) == 6
    first, second, last = done.probe.tasks
    looked_at = [len({*pair[0], *pair[1]}) for pair in trained_on[1:]]  # what is in both draws, once
    assert [[sum(rows) for rows in pair] for pair in done.passes] == [[n, n] for n in (*looked_at, 1438)]
    for task, pair in ((first, trained_on[1]), (second, trained_on[2])):
        assert [draw.index.tolist() for draw in task.draws] == pair
        labels = done.datamodule.noisy_labels
        for draw, judged in zip(task.draws, reversed(task.judging), strict=True):
            assert torch.equal(draw.noisy_labels, labels[draw.index])
            assert draw.noisy_labels.bincount(minlength=10).tolist().count(13) >= 8  # 128 / 10, rounded up
            assert (float(judged.loss_history.min()), float(judged.loss_history.max())) == (0.0, 1.0)
            assert judged.loss_history.shape == (1, 128)
    assert [len(draw.index) for draw in last.draws] == [1438, 1438]  # the final verdict is on every label
    assert len(done.stage_one.label_report(done.datamodule).noisy_labels) == 1438
    # Features of the draws: what the networks say of these very images, not of others.
    module, task = done.module.eval(), last
    for r in (0, 1):
        images = done.datamodule.dataset.train.images.fetch(task.draws[r].index[:50])
        with torch.no_grad():
            features, _ = module.network(r).features_and_logits(module.views.normalise(images))
        assert torch.allclose(task.learning[r].features[:50], features, atol=1e-5)


def test_an_observation_gives_each_draw_its_own_rows():
    index = torch.tensor([3, 5, 8, 9])
    column = torch.arange(4.0)
    evidence = Evidence(column, torch.empty(0, 4), column, column.long(), column, column[:, None])
    seen = Observation(index, (evidence, evidence), column.long(), column)
    draw = Draw(torch.tensor([5, 9]), torch.zeros(2), torch.zeros(2))
    got = seen.of(1, draw)
    assert got.losses.tolist() == got.confidence.tolist() == got.features[:, 0].tolist() == [1.0, 3.0]
    assert got.predicted.tolist() == [1, 3]
    assert seen.of(0, Draw(index, column, column)) is evidence


def test_what_network_1_finds_divides_for_network_2(fitted):
    for epoch, batch in fitted.seen:
        if epoch == 0:
            assert batch["warmup"]
            continue
        trusted_by_network_1 = bool((batch["index"] < 500).all())
        assert trusted_by_network_1 == (batch["network"] == 1)  # and network 1 trains on what network 2 trusts
        assert bool((batch["unlabeled_index"] < 500).all()) == (batch["network"] == 0)


def test_network_1_trains_before_network_2_in_every_epoch(fitted):
    for epoch in range(3):
        order = [batch["network"] for e, batch in fitted.seen if e == epoch]
        assert order == sorted(order)
        assert set(order) == {0, 1}


def test_the_evidence_is_the_networks_word_on_every_sample(fitted):
    """The final stage 1 saw the networks as they are now: compare with a plain pass over all images at once."""
    task, split = fitted.probe.tasks[-1], fitted.datamodule.dataset.train
    inputs = fitted.module.views.normalise(split.images.fetch(torch.arange(len(split))))
    for draw in task.draws:
        assert torch.equal(draw.index, torch.arange(1438))
        assert torch.equal(draw.noisy_labels, split.labels)
        assert torch.equal(draw.true_labels, split.true_labels)
    fitted.module.eval()
    mean = torch.zeros(1438, 10)
    for number, evidence in enumerate(task.judging):
        learnt = task.learning[number]
        for name in ("losses", "given_probability", "predicted", "confidence", "features"):
            assert torch.equal(getattr(learnt, name), getattr(evidence, name))  # both draws are the whole set
        with torch.no_grad():
            features = fitted.module.network(number).backbone(inputs)
            logits = fitted.module.network(number).classifier(features)
        assert torch.allclose(evidence.features, features, atol=1e-5)
        softmax = logits.softmax(dim=1)
        mean += softmax / 2
        assert torch.allclose(evidence.given_probability, softmax[torch.arange(1438), split.labels], atol=1e-5)
        assert torch.allclose(evidence.confidence, softmax.max(dim=1).values, atol=1e-5)
        assert torch.allclose(softmax[torch.arange(1438), evidence.predicted], evidence.confidence, atol=1e-5)
        losses = F.cross_entropy(logits, split.labels, reduction="none")
        assert torch.allclose(evidence.losses, losses, atol=1e-5)
        scaled = (losses - losses.min()) / (losses.max() - losses.min())
        assert torch.allclose(evidence.loss_history[-1], scaled, atol=1e-5)
    verdict = fitted.stage_one.verdict
    assert torch.allclose(verdict.confidence, mean.max(dim=1).values, atol=1e-5)
    assert torch.allclose(mean[torch.arange(1438), verdict.suggested], verdict.confidence, atol=1e-5)


def test_a_stage_1_is_one_pass_of_each_network_in_large_batches(fitted):
    assert fitted.passes == [([512, 512, 414], [512, 512, 414])] * 3


def test_stage_1_ran_after_warm_up_and_after_every_epoch_since(fitted):
    assert [round(3 * task.progress) for task in fitted.probe.tasks] == [0, 1, 2]
    assert len({task.seed for task in fitted.probe.tasks}) == 3
    assert [len(task.judging[0].loss_history) for task in fitted.probe.tasks] == [1, 2, 2]  # history_length is 2
    assert fitted.stage_one.verdict.epoch == 3


def test_all_that_the_module_and_stage_1_log_is_a_column(fitted):
    """Whatever its name: "told" is a cleaner's own."""
    some = {"told", "stage1/seconds", "partition/labeled_2", "gmm/auc_1", "losses/ks_deviating_clean_1"}
    some |= {"train/learning_rate_2", "train/loss_1", "train/unlabeled_loss_2", "test/accuracy", "test/accuracy_1"}
    assert some <= fitted.logged
    lines = fitted.table.path.read_text().splitlines()
    assert set(lines[0].split(",")) == {"epoch", "seconds", *fitted.logged}
    assert [row["told"] for row in fitted.table.rows] == [7.0] * 3


def test_losses_of_networks_that_began_anew_are_not_averaged_with_those_of_before(fitted, tmp_path, monkeypatch):
    """A history of two losses at the end of epochs 1, 2 and 3; in the second run networks begin anew with epoch 2."""
    monkeypatch.setattr(CoDivide, "begin_epoch", lambda method, epoch: epoch == 1)
    anew = fit(tmp_path, Probe())
    for run, lengths in ((fitted, [1, 2, 2]), (anew, [1, 1, 2])):
        judged = [task.judging[0] for task in run.probe.tasks]
        assert [len(evidence.loss_history) for evidence in judged] == lengths
        for evidence in judged:
            low, high = evidence.losses.min(), evidence.losses.max()
            torch.testing.assert_close(evidence.loss_history[-1], (evidence.losses - low) / (high - low))
        assert torch.equal(judged[2].loss_history[0], judged[1].loss_history[-1])


def test_partitions_travel_through_the_checkpoint(fitted):
    state = fitted.datamodule.state_dict()
    other = CoTrainingDataModule(fitted.datamodule.dataset, 64, seed=1)
    other.load_state_dict(state)
    for ours, theirs in zip(other.partitions, fitted.datamodule.partitions, strict=True):
        assert torch.equal(ours.labeled, theirs.labeled)
        assert torch.equal(ours.labeled_probability, theirs.labeled_probability)


def test_what_is_measured_of_a_division_by_hand():
    """Labels 1 and 2 are right, 3 and 4 wrong. Network 1 judges all well; network 2 takes one wrong for a right one."""
    noisy, true = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 1, 0])
    first, second = torch.tensor([0.9, 0.8, 0.3, 0.1]), torch.tensor([0.9, 0.2, 0.6, 0.1])
    by = [Partition.from_probability(torch.arange(4), p, 0.5) for p in (first, second)]
    estimates = Estimate(first, gmm=first), Estimate(second, gmm=second)
    draw = Draw(torch.arange(4), noisy, true)
    values = measure_result(CleaningResult(estimates, co_divide(*by), 0.5, {"gmm": 0.5}, {"told": 7.0}), (draw, draw))
    assert values["told"] == 7.0
    assert (values["partition/labeled_1"], values["partition/unlabeled_1"]) == (2, 2)
    assert (values["gmm/auc_1"], values["gmm/precision_1"], values["gmm/recall_1"]) == (1.0, 1.0, 1.0)
    assert (values["gmm/auc_2"], values["gmm/precision_2"], values["gmm/recall_2"]) == (0.75, 0.5, 0.5)
    # The means 0.9, 0.5, 0.45, 0.1: ranked right; only the first is above 0.5.
    assert (values["gmm/auc"], values["gmm/precision"], values["gmm/recall"]) == (1.0, 1.0, 0.5)
    assert not [name for name in values if name.startswith(("cpc", "gmm_cpc"))]


def test_each_source_is_held_against_its_own_threshold():
    """The mixture kept samples above 0.8, the prototypes those above 0.2."""
    noisy = true = torch.tensor([0, 1, 0, 1])
    q_gmm, q_cpc = torch.tensor([0.9, 0.7, 0.5, 0.1]), torch.tensor([0.9, 0.3, 0.1, 0.1])
    by = Partition.from_probability(torch.arange(4), q_cpc, 0.2)
    estimate, draw = Estimate(q_cpc, gmm=q_gmm, cpc=q_cpc), Draw(torch.arange(4), noisy, true)
    result = CleaningResult((estimate, estimate), (by, by), 0.2, {"gmm": 0.8, "cpc": 0.2}, {})
    values = measure_result(result, (draw, draw))
    assert (values["gmm/share_kept"], values["cpc/share_kept"]) == (0.25, 0.5)
    assert values["gmm_cpc/agreement_1"] == 0.75  # they disagree on the second


def test_what_is_measured_of_two_draws_is_joined_sample_by_sample():
    """Network 1 judges samples 5, 6, 7 (network 2's draw), network 2 judges samples 1, 2."""
    first = Draw(torch.tensor([1, 2]), torch.tensor([0, 1]), torch.tensor([0, 0]))
    second = Draw(torch.tensor([5, 6, 7]), torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
    q = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0.6, 0.75])
    by = Partition.from_probability(second.index, q[0], 0.5), Partition.from_probability(first.index, q[1], 0.5)
    result = CleaningResult((Estimate(q[0], gmm=q[0]), Estimate(q[1], gmm=q[1])), co_divide(*by), 0.5, {"gmm": 0.5}, {})
    values = measure_result(result, (first, second))
    assert (values["partition/labeled_1"], values["partition/labeled_2"]) == (2, 3)
    assert (values["gmm/auc_1"], values["gmm/auc_2"]) == (1.0, 0.0)
    assert (values["gmm/precision_1"], values["gmm/precision_2"]) == (pytest.approx(2 / 3), 0.5)
    # Right 0.9, 0.8, 0.6; wrong 0.7, 0.75: four of six pairs in order. All are kept.
    assert values["gmm/auc"] == pytest.approx(4 / 6)
    assert values["gmm/precision"] == pytest.approx(3 / 5)


def share_by_scipy(losses, labels):
    """The share of classes that one Kolmogorov-Smirnov test for each class finds."""
    classes = labels.unique().tolist()
    return sum(ks_2samp(losses[labels == k], losses, method="asymp").pvalue < 0.05 for k in classes) / len(classes)


@pytest.mark.long
@pytest.mark.parametrize("draws", [False, True])
def test_the_losses_of_classes_are_compared_at_the_end_of_the_warm_up_alone(fitted, tmp_path, draws):
    """In draws of their own, network 1 judges network 2's. Only the first stage 1 logs it."""
    done = fit(tmp_path, AllClean(), balanced_batches=4) if draws else fitted
    task, (logged, *later) = done.probe.tasks[0], done.table.rows
    assert torch.equal(task.draws[0].index, task.draws[1].index) != draws
    shares = []
    for number in (0, 1):
        draw, losses = task.draws[1 - number], task.judging[number].losses
        for kind, rows in (
            ("clean", draw.noisy_labels == draw.true_labels), ("noisy", draw.noisy_labels != draw.true_labels)
        ):  # fmt: skip
            shares.append(share_by_scipy(losses[rows], draw.noisy_labels[rows]))
            assert logged[f"losses/ks_deviating_{kind}_{number + 1}"] == pytest.approx(shares[-1])
    assert not [name for row in later for name in row if name.startswith("losses/")]
    assert len(set(shares)) > 1 or not draws


def test_how_losses_of_classes_differ_by_hand():
    """Three classes, of which the third lies apart among network 1's noisy samples and among network 2's clean ones.

    Network 1 judges network 2's draw. Samples of unknown truth, which lie further apart, are left out.
    """
    spread = torch.linspace(0, 1, 50)
    alike, apart = torch.cat([spread, spread, spread[::2]]), torch.cat([spread, spread, spread[:20] + 5])
    of_alike, of_apart = (torch.tensor([0] * 50 + [1] * 50 + [2] * size) for size in (25, 20))
    wrong = torch.where(of_apart == 1, -2, (of_apart + 1) % 3)  # -2: the image shows none of the classes

    def judged(*parts):
        losses, noisy, true = (torch.cat(column) for column in zip(*parts, strict=True))
        none = torch.empty(0)
        return Evidence(losses, none, none, none, none, none), Draw(torch.arange(len(losses)), noisy, true)

    unknown = spread + 50, torch.zeros(50).long(), torch.full((50,), -1)
    first, by_first = judged((alike, of_alike, of_alike), (apart, of_apart, wrong), unknown)
    second, by_second = judged(unknown, (apart, of_apart, of_apart))
    assert measure_losses((first, second), (by_second, by_first)) == {
        "losses/ks_deviating_clean_1": 0.0,
        "losses/ks_deviating_noisy_1": pytest.approx(1 / 3),
        "losses/ks_deviating_clean_2": pytest.approx(1 / 3),  # and network 2 judges no sample that is known to be noisy
    }
    silent, by_silent = judged(unknown)
    assert measure_losses((silent, silent), (by_silent, by_silent)) == {}


def test_gathering_wants_each_sample_exactly_once():
    values = torch.tensor([[3.0, 0.5], [1.0, 0.25]])
    gathered = gather_by_index(values, torch.tensor([1, 0]), 2, torch.device("cpu"))
    assert gathered.tolist() == [[1.0, 0.25], [3.0, 0.5]]
    with pytest.raises(RuntimeError, match="sample 0 was evaluated 2 times"):
        gather_by_index(values, torch.tensor([0, 0]), 2, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="sample 2 was evaluated 0 times"):
        gather_by_index(values, torch.tensor([0, 1]), 3, torch.device("cpu"))


def test_many_features_are_kept_in_half_precision_and_nothing_else(monkeypatch):
    """Six numbers of features are more than five; the three losses are not."""
    monkeypatch.setattr("cpc_lightning.training.observation.HALF_BEYOND", 5)
    columns = Columns(3, 3)
    for row in ([2], [0, 1]):
        index = torch.tensor(row)
        columns.add({"row": index, "losses": index + 0.1, "features": torch.full((len(row), 2), 7e4)})
    seen = columns.gather(torch.device("cpu"))
    assert {name: column.dtype for name, column in seen.items()} == {
        "losses": torch.float32, "features": torch.float16,
    }  # fmt: skip
    assert seen["losses"].tolist() == pytest.approx([0.1, 1.1, 2.1])
    assert bool((seen["features"] == 65504).all())  # the largest number of that precision, not infinity


def test_a_few_features_keep_their_precision():
    columns = Columns(2, 2)
    columns.add({"row": torch.tensor([0, 1]), "features": torch.full((2, 3), 0.1)})
    features = columns.gather(torch.device("cpu"))["features"]
    assert features.dtype == torch.float32
    assert torch.equal(features, torch.full((2, 3), 0.1))


@pytest.mark.long
def test_features_are_kept_for_cleaners_that_read_them_alone(tmp_path):
    probe = Probe()
    probe.needs_features = False
    run = fit(tmp_path, probe)
    assert [evidence.features.shape for evidence in probe.tasks[0].judging] == [(1438, 0)] * 2
    assert run.datamodule.partitions is not None
    answers = [(torch.tensor([[float("nan")], [0.0]]), torch.zeros(2, 3))] * 2
    seen = observe_batch(answers, torch.tensor([0, 1]), keep_features=False)
    assert "features_1" not in seen
    assert seen["finite_1"].tolist() == [0, 1]  # a network that breaks is seen all the same


def test_an_answer_that_is_not_finite_is_seen():
    features, logits = torch.zeros(3, 2), torch.zeros(3, 2)
    broken, silent = features.clone(), logits.clone()
    broken[0, 1] = float("inf")
    silent[2] = float("nan")
    seen = observe_batch([(broken, logits), (features, silent)], torch.tensor([0, 1, 0]))
    assert seen["finite_1"].tolist() == [0, 1, 1]
    assert seen["finite_2"].tolist() == [1, 1, 0]
