"""The study of what accuracy costs: its table by hand, and made anew from the committed rows; its plain loop."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def study(benchmarks):
    return benchmarks("time_to_accuracy")


def row(choice, seed, accuracy, seconds, cleaner="gmm_agn"):
    return {"set": "digits", "choice": choice, "cleaner": cleaner, "seed": str(seed), "accuracy": str(accuracy),
            "seconds": str(seconds), "host": "h"}  # fmt: skip


def test_the_table_by_hand(study):
    """fast: -1, -2, -3 of paper, t(2) = 4.303, s = 1: -2 +- 2.484; 0.5, 0.4, 0.3 of its time; 40 of plain's 200 s."""
    rows = [
        row("plain loop", 1, 90, 200),
        *(row("preset=paper", seed, 92, 100) for seed in (1, 2, 3)),
        *(row("preset=fast", seed, 92 - seed, seconds) for seed, seconds in ((1, 50), (2, 40), (3, 30))),
        row("preset=fast", 1, 80, 10, "cpc_awr"),
    ]
    lines = study.table(rows).splitlines()
    assert [line for line in lines if line.startswith("| digits")] == [
        "| digits, symmetric 80 % | gmm_agn | plain loop | 1 | 90.00 | -2.00, one seed | 2.00 | 1.00 |",
        "| digits, symmetric 80 % | gmm_agn | preset=paper | 3 | 92.00 | - | 1.00 | 0.50 |",
        "| digits, symmetric 80 % | gmm_agn | preset=fast | 3 | 90.00 | -2.00 (-4.48 to +0.48) | 0.40 | 0.20 |",
        "| digits, symmetric 80 % | cpc_awr | preset=fast | 1 | 80.00 | - | - | 0.05 |",
    ]


def test_the_committed_table_is_that_of_the_committed_rows(study):
    rows = study.read_rows(BENCHMARKS / "results" / "time_to_accuracy.csv")
    assert (BENCHMARKS / "results" / "time_to_accuracy.md").read_text() == study.table(rows)


@pytest.mark.long
def test_the_plain_loop_learns_what_the_settings_say(study, monkeypatch):
    """Two epochs of warm-up and one of stage 2 on the digits, without wrong labels: far above chance."""
    epochs = []
    train = study.PlainLoop.train

    def remembered(self, *given, **more):
        epochs.append((self, more))
        train(self, *given, **more)

    monkeypatch.setattr(study.PlainLoop, "train", remembered)
    settings = ["dataset=digits", "backbone.width=8", "embedding_size=16", "cleaner=gmm_agn", "training.epochs=3",
                "training.warmup_epochs=2", "optimizer.schedule.milestones=[2]", "seed=1"]  # fmt: skip
    assert study.run_plain(settings) > 60
    assert [group["lr"] for group in epochs[0][0].optimizers[0].param_groups] == [pytest.approx(0.005)]
    assert [more for _, more in epochs] == [{"forward_unlabeled": False}] * 2
