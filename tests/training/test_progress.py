"""The progress bar of whole runs: what it says while they go on."""

import os
import re

import pytest
from tests.conftest import SMALL
from tests.runs import WITNESS

from cpc_lightning.app.command_line import main
from cpc_lightning.training import progress
from cpc_lightning.training.displays import Artist
from cpc_lightning.training.progress import JOB, RunProgress, counted


class Notes:
    """A display that is asked for by name, and keeps what it was told."""

    seconds = 0.002

    def __init__(self):
        self.seen, self.kept, self.closed = [], [], False

    def show(self, status):
        if not self.seen or status != self.seen[-1]:
            self.seen.append(status)

    def keep(self, status):
        self.kept.append(status)

    def close(self):
        self.closed = True


def listen(patch):
    """What the displays of the next runs are told, one for each run."""
    opened = []

    def find(leave):
        opened.append(Notes())
        return opened[-1]

    patch.setattr(progress, "find_display", find)
    return opened


@pytest.fixture
def notes(monkeypatch):
    return listen(monkeypatch)


def run(folder, *more):
    return main([*SMALL, "callbacks=default", "cleaner=gmm_agn", *more, f"hydra.run.dir={folder}"])


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the display of a whole run was told, and that of a run that was stopped after two epochs and resumed."""
    folder = tmp_path_factory.mktemp("progress")
    with pytest.MonkeyPatch.context() as patch:
        opened = listen(patch)
        assert run(folder / "run", "training.limit_batches=6", WITNESS % (folder / "copies")) == 0
        again = f"resume={folder / 'copies' / 'after_2'}", f"hydra.run.dir={folder / 'again'}"
        assert main([*again, WITNESS % (folder / "others")]) == 0
    return opened


@pytest.mark.long
def test_a_run_from_its_first_step_to_the_last_pass(told):
    whole = told[0]
    assert whole.closed
    of_epochs = [status.where for status in whole.seen if status.where.startswith("epoch")]
    assert list(dict.fromkeys(of_epochs)) == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    doing = {status.doing for status in whole.seen}
    assert {"network 1", "network 2", "evaluation", "stage 1, looking", "stage 1, dividing"} <= doing
    assert [status.where for status in whole.kept] == ["epoch 1/3", "epoch 2/3"]
    assert all(re.fullmatch(r"test accuracy \d+\.\d\d %", status.measured) for status in whole.kept)


@pytest.mark.long
def test_the_share_of_an_epoch_never_falls(told):
    for epoch in ("epoch 1/3", "epoch 2/3", "epoch 3/3"):
        shares = [status.share for status in told[0].seen if status.where == epoch and status.share is not None]
        assert shares == sorted(shares)
        assert 0 <= shares[0] < shares[-1] <= 1


@pytest.mark.long
def test_the_time_left_is_known_from_the_first_epoch_by_the_trial_before_it(told):
    first, last = (status.run_left for status in told[0].kept)
    assert not first.at_least
    assert not last.at_least
    assert first.seconds > 0 < last.seconds


@pytest.mark.long
def test_a_resumed_run_goes_on_where_it_was(told):
    seen = {status.where for status in told[1].seen}
    assert "epoch 3/3" in seen
    assert seen <= {"epoch 3/3", "3 epochs done"}


@pytest.mark.long
def test_a_run_without_a_bar(notes, tmp_path):
    assert run(tmp_path / "run", "trainer.enable_progress_bar=false") == 0
    assert notes == []


@pytest.mark.long
def test_jobs_of_a_sweep_are_counted(notes, tmp_path, monkeypatch):
    monkeypatch.delenv(JOB, raising=False)
    assert main(["-m", *SMALL, "callbacks=default", "cleaner=none", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]) == 0
    assert [{status.job for status in told.seen} for told in notes] == [{"job 1 of 2"}, {"job 2 of 2"}]
    assert JOB not in os.environ


@pytest.mark.long
def test_it_is_closed_before_an_error_is_told(notes, tmp_path, capsys):
    assert run(tmp_path / "run", "optimizer.network.lr=1e30") == 1
    assert notes[0].closed
    estimate, error = capsys.readouterr().err.splitlines()
    assert estimate.startswith("this run takes about ")
    assert error.startswith("error: the loss became")


def test_leave_is_a_switch():
    with pytest.raises(ValueError, match="leave=3: must be true or false"):
        RunProgress(leave=3)


def test_a_pass_of_its_own_has_a_bar_of_its_own_and_within_a_run_the_runs(notes):
    assert list(counted([1, 2, 3], "looking at train")) == [1, 2, 3]
    assert notes[0].closed
    bar = RunProgress()
    bar._epoch, bar._artist = 1, Artist(Notes(), bar.status)
    progress._open.append(bar)
    taken = counted([1, 2], "looking at train")
    next(taken)
    assert bar.status().doing == "looking at train"
    assert list(taken) == [2]
    bar.close()
    assert (len(notes), progress._open) == (1, [])
