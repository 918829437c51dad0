"""What tests of mode=check share."""

import pytest

from cpc_lightning.app import rehearsal
from cpc_lightning.app.compose import read
from cpc_lightning.app.rehearsal import rehearse
from cpc_lightning.training.forecast import Forecast
from cpc_lightning.training.pace import WARMUP


@pytest.fixture
def findings(tmp_path, monkeypatch):
    """What is found for the overrides, as {(topic, status): text with advice}; in an empty folder."""
    monkeypatch.chdir(tmp_path)
    # Of how long the run takes, a busy machine would say something else each time: tests/app/test_ahead.py looks at it.
    minute = Forecast({WARMUP: 1}, {WARMUP: 60.0})
    monkeypatch.setattr(rehearsal, "forecast_of", lambda parts, features: minute)

    def findings(*overrides):
        rows = {}
        asked = read([*overrides, f"hydra.run.dir={tmp_path / 'run'}"], multirun=False)
        for row in rehearse(asked.compose(asked.first)):
            key = (row.topic, row.status)
            rows[key] = f"{rows.get(key, '')} {row.found} > {row.advice}".strip()
        return rows

    return findings
