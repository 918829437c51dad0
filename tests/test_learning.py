"""It learns: the README's table, from whole runs over three seeds (about ten minutes on 2 cores)."""

import statistics

import pytest

from cpc_lightning.app.run import run


@pytest.mark.slow
def test_cpc_beats_plain_training_and_the_oracle_bounds_it(compose, tmp_path):
    def accuracy(cleaner: str) -> float:
        """Mean over seeds 1, 2, 3 of the mean test accuracy of the last 10 epochs."""
        settings = ("noise=symmetric", "noise.rate=0.8", "callbacks=none", f"cleaner={cleaner}")
        runs = [
            run(compose(*settings, f"seed={seed}", folder=tmp_path / f"{cleaner}{seed}"))["test_accuracy_last10"]
            for seed in (1, 2, 3)
        ]
        return statistics.fmean(runs)

    plain, cpc, oracle = accuracy("none"), accuracy("cpc_awr"), accuracy("oracle")
    assert cpc >= plain + 5
    assert oracle >= cpc
