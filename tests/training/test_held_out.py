"""The verdict on held-out images: what training left, applied to their losses and features."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import expit
from scipy.stats import norm
from tests.training.test_stage_one import Probe, fit

from cpc_lightning.cleaning.contrastive import ContrastiveCleaner
from cpc_lightning.cleaning.cpc import CpcCleaner
from cpc_lightning.cleaning.gmm import GmmCleaner
from cpc_lightning.cleaning.reference import NoCleaner
from cpc_lightning.training.held_out import held_out_reports
from cpc_lightning.training.stage_one import StageOne

pytestmark = pytest.mark.long


def judge(done, stage_one=None):
    return held_out_reports(done.trainer, done.module, done.datamodule, stage_one or done.stage_one)


def by_hand(done, network, split, labels):
    """Losses and features of a plain pass of one network over all images at once."""
    module = done.module.eval()
    inputs = module.views.normalise(split.images.fetch(torch.arange(len(split))))
    with torch.no_grad():
        features = module.network(network).backbone(inputs)
        logits = module.network(network).classifier(features)
    return F.cross_entropy(logits, labels, reduction="none"), features, logits


def scaled_by_hand(done, network):
    """Losses of the test images, where the training set's own reach from 0 to 1; cut off there."""
    data = done.datamodule.dataset
    own, _, _ = by_hand(done, network, data.train, done.datamodule.noisy_labels)
    losses, _, _ = by_hand(done, network, data.evaluation["test"], data.evaluation["test"].labels)
    return ((losses - own.min()) / (own.max() - own.min())).clip(0, 1).double().numpy()


def clean_share(mixture, x):
    """The posterior of the first component, by scipy's densities."""
    parts = zip(mixture.weights, mixture.means, mixture.variances, strict=True)
    clean, noisy = (np.log(weight) + norm.logpdf(x, mean, variance**0.5) for weight, mean, variance in parts)
    return expit(clean - noisy)


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    """A run whose mixtures judge; what stage 1 said of the training set before and after the pass over the others."""
    done = fit(tmp_path_factory.mktemp("run"), GmmCleaner(class_aware=True))
    before = done.stage_one.label_report(done.datamodule)
    seen = [], []
    hooks = [
        done.module.network(r).backbone.register_forward_pre_hook(lambda _, images, r=r: seen[r].append(len(images[0])))
        for r in (0, 1)
    ]
    reports = judge(done)
    for hook in hooks:
        hook.remove()
    return SimpleNamespace(done=done, before=before, reports=reports, seen=seen)


def test_the_training_sets_mixtures_and_scale_judge_held_out_losses(mixtures):
    done, report = mixtures.done, mixtures.reports["test"]
    labels = done.datamodule.dataset.evaluation["test"].labels
    assert torch.equal(report.noisy_labels, labels)
    assert report.threshold == 0.5
    for network, estimate in enumerate(done.stage_one.verdict.result.estimates):
        fitted = estimate.mixtures
        assert len(fitted) > 5  # most classes have one of their own
        x = scaled_by_hand(done, network)
        expected = [clean_share(fitted.get(int(y), fitted[-1]), loss) for y, loss in zip(labels, x, strict=True)]
        assert report.clean_probabilities[network].tolist() == pytest.approx(expected, abs=1e-3)


def test_both_networks_suggest_together(mixtures):
    split = mixtures.done.datamodule.dataset.evaluation["test"]
    answers = [by_hand(mixtures.done, r, split, split.labels)[2].softmax(dim=1) for r in (0, 1)]
    mean = (answers[0] + answers[1]) / 2
    assert torch.allclose(mixtures.reports["test"].confidence, mean.max(dim=1).values, atol=1e-5)
    sure = mean.topk(2).values[:, 0] - mean.topk(2).values[:, 1] > 1e-4
    assert torch.equal(mixtures.reports["test"].suggested[sure], mean.argmax(dim=1)[sure])


def test_it_is_one_pass_and_leaves_the_training_verdict_alone(mixtures):
    assert mixtures.seen == ([359], [359])
    after = mixtures.done.stage_one.label_report(mixtures.done.datamodule)
    for name in ("clean_probabilities", "suggested", "confidence"):
        assert torch.equal(getattr(mixtures.before, name), getattr(after, name))


def test_what_the_verdict_rests_on_travels_through_the_checkpoint(mixtures, tmp_path):
    torch.save(mixtures.done.stage_one.state_dict(), tmp_path / "state")
    other = StageOne(GmmCleaner(class_aware=True), seed=1)
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    again = judge(mixtures.done, other)["test"]
    assert torch.equal(again.clean_probabilities, mixtures.reports["test"].clean_probabilities)


def test_a_checkpoint_of_before_gives_suggestions_alone(mixtures):
    state = mixtures.done.stage_one.state_dict()
    state["final"] = {name: value for name, value in state["final"].items() if name != "bases"}
    other = StageOne(GmmCleaner(class_aware=True), seed=1)
    other.load_state_dict(state)
    again = judge(mixtures.done, other)["test"]
    assert again.clean_probabilities is None
    assert torch.equal(again.suggested, mixtures.reports["test"].suggested)


def test_a_trusted_label_is_never_suspected(mixtures, monkeypatch):
    split = mixtures.done.datamodule.dataset.evaluation["test"]
    worst = int(mixtures.reports["test"].clean_probability.argmin())
    trusted = torch.arange(359) == worst
    data = replace(mixtures.done.datamodule.dataset, evaluation={"test": replace(split, trusted=trusted)})
    monkeypatch.setattr(mixtures.done.datamodule, "dataset", data)
    told = judge(mixtures.done)["test"]
    assert told.clean_probabilities[:, worst].tolist() == [1.0, 1.0]
    assert torch.equal(told.clean_probability[~trusted], mixtures.reports["test"].clean_probability[~trusted])


def test_prototypes_judge_held_out_features(tmp_path):
    done = fit(tmp_path, CpcCleaner(class_aware=False, steps=20))
    split = done.datamodule.dataset.evaluation["test"]
    report = judge(done)["test"]
    for network in (0, 1):
        _, features, _ = by_hand(done, network, split, split.labels)
        head = done.module.network(network).head
        with torch.no_grad():
            embeddings = head.projector((features - head.feature_mean) / head.feature_std)
            q = torch.sigmoid((embeddings * head.prototypes[split.labels]).sum(dim=1))
        assert torch.allclose(report.clean_probabilities[network], q, atol=1e-4)


def test_while_prototypes_learn_the_mixture_judges(tmp_path):
    done = fit(tmp_path, CpcCleaner(class_aware=False, steps=20, warmup_share=1.0))
    report = judge(done)["test"]
    for network, estimate in enumerate(done.stage_one.verdict.result.estimates):
        expected = clean_share(estimate.mixtures[-1], scaled_by_hand(done, network))
        assert report.clean_probabilities[network].tolist() == pytest.approx(expected.tolist(), abs=1e-3)


@pytest.mark.parametrize("cleaner", [NoCleaner(), Probe()], ids=["none", "one that judges the training set alone"])
def test_without_a_judge_there_are_suggestions(tmp_path, cleaner):
    report = judge(fit(tmp_path, cleaner))["test"]
    assert report.clean_probabilities is None
    assert report.suspected is None
    assert len(report.suggested) == len(report.confidence) == 359


def test_prototypes_without_a_mixture_judge_too(tmp_path):
    done = fit(tmp_path, ContrastiveCleaner(steps=20))
    report = judge(done)["test"]
    assert report.clean_probabilities.shape == (2, 359)
    assert bool(((report.clean_probabilities >= 0) & (report.clean_probabilities <= 1)).all())


def test_before_the_last_epoch_is_over_there_is_none(mixtures):
    with pytest.raises(RuntimeError, match="the last epoch is not over"):
        judge(mixtures.done, StageOne(GmmCleaner(class_aware=True), seed=1))
