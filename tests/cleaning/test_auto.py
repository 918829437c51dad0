"""What is chosen from an estimate of the noise: cells of the paper, by hand."""

from dataclasses import replace

import pytest
import torch
from tests.cleaning.test_probe import make_task

from cpc_lightning.cleaning.auto import AutoCleaner, choose, nominal_rate, some_of
from cpc_lightning.cleaning.evidence import Advice, Chooses
from cpc_lightning.cleaning.noise_rate import NoiseEstimate
from cpc_lightning.errors import InputError

TEN, HUNDRED = [5000] * 10, [500] * 100
AWARE, AGNOSTIC = (0.2, 0.1), (0.1, 0.2)  # which mixture is nearer to the posteriors


def estimate(rate, concentration=0.0):
    return NoiseEstimate(rate, rate - 0.01, rate + 0.01, rate, rate, rate + 0.02, torch.eye(2), concentration)


@pytest.mark.parametrize(
    ("rate", "concentration", "sizes", "misfits", "cleaner", "lambda_u", "threshold", "losses", "share"),
    [
        # Actual rates r (1 - 1/K) of the paper's cells with symmetric noise, and CIFAR-10's asymmetric one.
        (0.18, 0.05, TEN, AGNOSTIC, "cpc_awr", 0, 0.5, 1, 0.05),
        (0.45, 0.05, TEN, AGNOSTIC, "cpc_awr", 25, 0.5, 1, 0.05),
        (0.72, 0.05, TEN, AGNOSTIC, "cpc_awr", 25, 0.5, 1, 0.05),
        (0.81, 0.05, TEN, AGNOSTIC, "cpc_awr", 50, 0.6, 5, 0.05),
        (0.20, 0.90, TEN, AGNOSTIC, "cpc_agn", 0, 0.5, 1, 0.05),
        (0.198, 0.01, HUNDRED, AGNOSTIC, "cpc_awr", 25, 0.5, 1, 0.05),
        (0.495, 0.01, HUNDRED, AGNOSTIC, "cpc_awr", 150, 0.5, 1, 0.05),
        (0.792, 0.01, HUNDRED, AGNOSTIC, "cpc_awr", 150, 0.5, 1, 0.1),
        (0.891, 0.01, HUNDRED, AGNOSTIC, "cpc_awr", 150, 0.6, 5, 0.1),
        # Beyond the paper: mistakes to one class that a mixture for each fits better; few wrong labels; small classes.
        (0.20, 0.90, TEN, AWARE, "cpc_awr", 0, 0.5, 1, 0.05),
        (0.003, 0.8, TEN, AWARE, "cpc_awr", 0, 0.5, 1, 0.05),
        (0.003, 0.8, TEN, AGNOSTIC, "cpc_agn", 0, 0.5, 1, 0.05),
        (0.45, 0.05, [5000, 20, 0], AWARE, "cpc_agn", 25, 0.5, 1, 0.05),
    ],
)  # fmt: skip
def test_the_papers_choices(rate, concentration, sizes, misfits, cleaner, lambda_u, threshold, losses, share):
    advice = choose(estimate(rate, concentration), sizes, misfits)
    assert (advice.cleaner, advice.lambda_u, advice.threshold) == (cleaner, lambda_u, threshold)
    assert (advice.history_length, advice.warmup_share) == (losses, share)
    assert advice.class_aware == (cleaner == "cpc_awr")
    assert f"{100 * rate:.1f} % of the labels look wrong" in advice.reason


def test_on_features_the_probe_judges():
    advice = choose(estimate(0.7), [3, 5])
    assert (advice.cleaner, advice.lambda_u) == ("probe", 0)


def test_the_paper_counts_labels_that_noise_left_right():
    assert nominal_rate(0.72, 10) == pytest.approx(0.8)
    assert nominal_rate(0.95, 10) == 1
    assert nominal_rate(0.0, 1) == 0


@pytest.mark.long
def test_features_are_estimated_once_and_judged_by_the_probe():
    task, wrong = make_task(vectors=True)
    cleaner = AutoCleaner()
    result = cleaner.clean(task)
    assert result.advice.cleaner == "probe"
    assert abs(result.noise.rate - float(wrong.float().mean())) < 0.04
    assert result.scalars["noise/rate_estimated"] == result.noise.rate
    assert cleaner.clean(task).advice is result.advice
    assert torch.isnan(cleaner.judge(replace(task.judging[0], losses=torch.ones(3)), None, None, None)).all()


def with_losses(task, wrong):
    losses = torch.where(wrong, 2.0, 0.1) + 0.2 * torch.rand(len(wrong), generator=torch.Generator().manual_seed(0))
    seen = [
        replace(
            one, losses=losses, loss_history=((losses - losses.min()) / (losses.max() - losses.min()))[None],
            given_probability=torch.exp(-losses), predicted=task.draws[0].noisy_labels, confidence=torch.exp(-losses),
        )
        for one in task.judging
    ]  # fmt: skip
    optimizers = tuple(torch.optim.SGD(head.parameters(), lr=0.02, momentum=0.9) for head in task.heads)
    return replace(task, judging=tuple(seen), learning=tuple(seen), optimizers=optimizers)


@pytest.mark.long
def test_images_are_judged_by_prototypes_and_the_choice_stays():
    task, wrong = make_task(vectors=False)
    task = with_losses(task, wrong)
    cleaner = AutoCleaner(steps=20)
    assert isinstance(cleaner, Chooses)
    first = cleaner.clean(task)
    assert first.advice.cleaner.startswith("cpc_")
    assert "mostly to one other class each; one mixture for" in first.advice.reason  # 75 labels a class
    assert first.class_floor == 0.2
    assert abs(first.noise.rate - float(wrong.float().mean())) < 0.04
    assert abs(first.noise.by_mixture - float(wrong.float().mean())) < 0.04
    assert set(first.thresholds) == {"gmm", "cpc"}
    clean, _ = make_task(vectors=False, rate=0.0)
    later = cleaner.clean(with_losses(replace(clean, progress=0.5), wrong))
    assert later.advice == first.advice
    assert later.noise is first.noise


def test_what_was_chosen_before_is_not_chosen_anew():
    advice = Advice("cpc_awr", True, 0.6, 5, 0.1, 50.0, "told")
    cleaner = AutoCleaner(history_length=3)
    cleaner.advice = Advice.from_state(advice.to_state())
    chosen = cleaner._chosen
    assert (chosen.gmm.class_aware, chosen.gmm.threshold, chosen.threshold) == (True, 0.6, 0.5)
    assert (chosen.history_length, chosen.warmup_share) == (3, 0.1)  # no more than are kept
    cleaner.advice = Advice.from_state(advice.to_state())
    assert cleaner._chosen is chosen  # whose work is not thrown away


def test_some_of_many():
    assert some_of(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    few = some_of(1000, 10, 3)
    assert len(set(few.tolist())) == 10
    assert torch.equal(few, few.sort().values)
    assert torch.equal(few, some_of(1000, 10, 3))


@pytest.mark.parametrize("setting", ["history_length", "steps", "folds", "neighbours", "class_floor"])
def test_mistakes_in_settings(setting):
    with pytest.raises(InputError, match=setting):
        AutoCleaner(**{setting: -1})
