"""A run that is resumed continues as if nothing had happened, or is refused in one line."""

import json
import shutil

import pytest
import torch
from tests.datasets.image_trees import write_table
from tests.runs import SIX_EPOCHS, WITNESS, assert_same_run, digest

from cpc_lightning.app.run import run
from cpc_lightning.training.stage_one import StageOne

VARIANTS = {
    "as it is": ([], (1, 3, 5)),
    "with workers and a loss history": (["training.num_workers=2", "cleaner.history_length=5"], (4,)),
    "while the division waits": (["training.divide_when=paying"], (1, 4)),
    "with draws": (["training.balanced_batches=2"], (2,)),
}


@pytest.mark.long
@pytest.mark.parametrize(("more", "stops"), VARIANTS.values(), ids=VARIANTS)
def test_a_resumed_run_ends_like_one_that_was_not_interrupted(compose, tmp_path, more, stops):
    """Stopped after 1 epoch: in network warm-up; after 2, 3 and 4: in CPC warm-up; after 5: past both."""
    settings = [*SIX_EPOCHS, *more]
    straight, seen = tmp_path / "straight", tmp_path / "seen"
    run(compose(*settings, WITNESS % seen, folder=straight))
    for epoch in stops:
        folder, again = seen / f"after_{epoch}", tmp_path / f"again_{epoch}"
        run(compose(*settings, WITNESS % again, f"resume={folder}", folder=folder))
        assert_same_run(folder, straight)
        ours, theirs = (torch.load(place / "random_states", weights_only=True) for place in (again, seen))
        assert torch.equal(ours["torch"], theirs["torch"])
        assert (ours["numpy"], ours["python"]) == (theirs["numpy"], theirs["python"])


@pytest.mark.long
def test_a_run_whose_division_waited_resumes(compose, tmp_path, monkeypatch):
    """Divided after epoch 3 and not after 2, as is said here; stopped while it waits, then, and one epoch later."""

    def pays(self, trainer, module, draw, seen, values):
        values["stage1/effective_gain"] = 0.3 * self._trained
        return self._trained >= 3

    monkeypatch.setattr(StageOne, "_pays", pays)
    settings = [*SIX_EPOCHS, "training.divide_when=paying"]
    straight, seen = tmp_path / "straight", tmp_path / "seen"
    assert run(compose(*settings, WITNESS % seen, folder=straight))["divided_after"] == 3
    for epoch in (2, 3, 4):
        folder, again = seen / f"after_{epoch}", tmp_path / f"again_{epoch}"
        run(compose(*settings, WITNESS % again, f"resume={folder}", folder=folder))
        assert_same_run(folder, straight)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A finished run, and its folder as it was after three of six epochs."""
    from cpc_lightning.app.command_line import main

    folder = tmp_path_factory.mktemp("stopped")
    assert main([*SIX_EPOCHS, WITNESS % (folder / "seen"), f"hydra.run.dir={folder / 'straight'}"]) == 0
    shutil.move(folder / "seen" / "after_3", folder / "half")
    shutil.rmtree(folder / "seen")
    return folder


@pytest.fixture
def half(stopped, tmp_path):
    """A copy of the stopped run's folder, whose name needs quotes."""
    return shutil.copytree(stopped / "half", tmp_path / "half, it's = a [run]")


def test_resume_alone_continues_the_run_in_its_folder(command, stopped, half):
    code, _, err = command(f"resume={quoted(half)}", "~callbacks.witness")
    assert (code, err) == (0, "")
    assert_same_run(half, stopped / "straight")


def quoted(path):
    return "'" + str(path).replace("'", r"\'") + "'"


@pytest.mark.long
def test_a_run_may_go_on_in_another_folder(command, stopped, half, tmp_path):
    """With what the checkpoint knows: rows of the metrics, and the best checkpoint, which came before."""
    checkpoint = half / "checkpoints" / "last.ckpt"
    code, _, err = command(f"resume={quoted(checkpoint)}", "~callbacks.witness", f"hydra.run.dir={tmp_path / 'new'}")
    assert (code, err) == (0, "")
    assert_same_run(tmp_path / "new", stopped / "straight")


@pytest.mark.long
def test_a_checkpoint_named_from_its_own_folder_continues_its_run(command, stopped, half, monkeypatch):
    monkeypatch.chdir(half / "checkpoints")
    code, _, err = command("resume=last.ckpt", "~callbacks.witness")
    assert (code, err) == (0, "")
    assert_same_run(half, stopped / "straight")


@pytest.mark.long
def test_a_run_stopped_between_its_last_checkpoint_and_its_report_reports(command, stopped, tmp_path):
    folder = shutil.copytree(stopped / "straight", tmp_path / "run")
    for name in ("labels.csv", "summary.json", "metrics.csv"):
        (folder / name).unlink()
    assert command(f"resume={folder}", "~callbacks.witness")[0] == 0
    assert digest(folder) == digest(stopped / "straight")
    assert json.loads((folder / "summary.json").read_text())["seconds"] > 0


@pytest.mark.long
def test_a_run_stopped_before_its_first_checkpoint_begins_anew(command, stopped, half):
    shutil.rmtree(half / "checkpoints")
    assert command(f"resume={quoted(half)}", "~callbacks.witness")[0] == 0
    assert_same_run(half, stopped / "straight")


REFUSED = {
    "other noise": ("noise.rate=0.4", "noise.rate=0.4", "has 0.5"),
    "another seed": ("seed=2", "seed=2", "has 1"),
    "another seed of the noise": ("noise_seed=2", "noise_seed=2", "has 1"),
    "other data": ("dataset.test_share=0.5", "dataset.test_share=0.5", "has 0.2"),
    "another K": ("embedding_size=8", "embedding_size=8", "has 16"),
    "another backbone": ("backbone.width=4", "backbone.width=4", "has 8"),
    "another cleaner": ("cleaner.threshold=0.6", "cleaner.threshold=0.6", "has 0.5"),
    "more epochs": ("training.epochs=8", "training.epochs=8", "has 6"),
    "another optimizer": ("optimizer.network.lr=0.1", "optimizer.network.lr=0.1", "has 0.05"),
    "one more setting": ("+optimizer.network.nesterov=true", "optimizer.network.nesterov=true", "does not have it"),
    "a limit of the trainer": ("+trainer.limit_val_batches=1", "trainer.limit_val_batches=1", "does not have it"),
    "another precision": ("trainer.precision=64-true", "trainer.precision=64-true", "has '"),
}


@pytest.mark.long
@pytest.mark.parametrize(("change", "names", "says"), REFUSED.values(), ids=REFUSED)
def test_a_change_that_cannot_continue_is_refused_in_one_line(command, half, change, names, says):
    before = {path: path.read_bytes() for path in half.rglob("*") if path.is_file()}
    code, out, err = command(f"resume={quoted(half)}", change)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {names}: the run to resume {says}"), err
    assert err.count("\n") == 1
    assert before == {path: path.read_bytes() for path in half.rglob("*") if path.is_file()}  # nothing was touched


@pytest.mark.long
def test_where_and_how_a_run_computes_may_change(command, stopped, half):
    more = ["training.num_workers=1", "trainer.enable_progress_bar=false", "logger=tensorboard"]
    assert command(f"resume={quoted(half)}", "~callbacks.witness", *more)[0] == 0
    assert (half / "labels.csv").read_bytes() == (stopped / "straight" / "labels.csv").read_bytes()


@pytest.mark.long
def test_other_labels_under_the_same_settings_are_refused(command, tmp_path, small):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(str(number % 10) for number in range(1438)))
    settings = [*small[2:], "noise=file", f"noise.path={labels}", "cleaner=none", "training.epochs=2"]
    assert command(*settings, f"hydra.run.dir={tmp_path / 'run'}")[0] == 0
    labels.write_text("\n".join(str(number % 10 if number != 7 else 3) for number in range(1438)))
    code, _, err = command(f"resume={tmp_path / 'run'}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: noise=label 3 of sample 7: the run to resume has 7 there (1 labels differ)")


BROKEN = {
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "garbage": lambda content: b"garbage" * 1000,
    "a byte flipped": lambda content: content[:100_000] + bytes([content[100_000] ^ 255]) + content[100_001:],
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_broken_checkpoint_gives_one_line_and_code_2(command, half, damage):
    path = half / "checkpoints" / "last.ckpt"
    path.write_bytes(damage(path.read_bytes()))
    code, out, err = command(f"resume={quoted(path)}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: resume={path}: is no whole checkpoint")


def test_a_pickle_that_would_run_code_is_not_loaded(command, half, tmp_path):
    path = half / "checkpoints" / "last.ckpt"
    whole = torch.load(path, weights_only=True)
    torch.save({**whole, "trap": Trap(tmp_path / "sprung")}, path)
    assert command(f"resume={quoted(path)}")[0] == 2
    assert not (tmp_path / "sprung").exists()


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


INCOMPLETE = {
    "no state of the networks": (lambda c: c.pop("state_dict"), "is no checkpoint"),
    "no optimizers": (lambda c: c.pop("optimizer_states"), "is no whole checkpoint (optimizer_states is absent"),
    "no schedules": (lambda c: c.update(lr_schedulers=None), "is no whole checkpoint (lr_schedulers is absent"),
    "no loops": (lambda c: c.update(loops=[]), "is no whole checkpoint (loops is absent or garbled)"),
    "no table": (lambda c: c["callbacks"].pop("EpochTable"), "is no whole checkpoint (callbacks.EpochTable is absent"),
    "no labels": (lambda c: c.pop("CoTrainingDataModule"), "is no whole checkpoint (CoTrainingDataModule is absent"),
    "no config": (lambda c: c["run"].pop("config"), "is no whole checkpoint (run.config is absent"),
    "numbers as overrides": (lambda c: c["run"].update(overrides=[1]), "is no whole checkpoint (run.overrides is"),
    "no digest": (lambda c: c["run"]["data"].pop("labels"), "is no whole checkpoint (run.data.labels is absent"),
}
UNFIT = {  # found when the networks are there: seconds each
    "an empty loop": (lambda c: c["loops"].update(fit_loop={"state_dict": 3}), "cannot be loaded ("),
    "another network": (lambda c: c["state_dict"].popitem(), "cannot be loaded (RuntimeError: "),
    "an optimizer less": (lambda c: c["optimizer_states"].pop(), "is no whole checkpoint (other"),
}


@pytest.mark.parametrize(
    ("damage", "says"),
    [*INCOMPLETE.values(), *(pytest.param(*case, marks=pytest.mark.long) for case in UNFIT.values())],
    ids=[*INCOMPLETE, *UNFIT],
)
def test_a_checkpoint_that_is_not_complete_gives_one_line_and_code_2(command, half, damage, says):
    path = half / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    damage(checkpoint)
    torch.save(checkpoint, path)
    code, _, err = command(f"resume={quoted(path)}", "~callbacks.witness")
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith(f"error: resume={path}: {says}"), err


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", "garbage"])
def test_a_folder_without_a_checkpoint_or_settings_gives_one_line(command, half, content):
    shutil.rmtree(half / "checkpoints")
    file = half / "overrides.json"
    file.unlink() if content is None else file.write_text(content)
    code, _, err = command(f"resume={quoted(half)}")
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith(f"error: resume={half}: ")


CHANGED = {
    "a label of test": (lambda root: edit(root / "labels.csv", "test,dark", "test,light"), "labels in evaluation"),
    "a true label": (lambda root: edit(root / "labels.csv", "train,light", "train,dark"), "true labels in train"),
    "an image": (
        lambda root: (root / "photos" / "6.jpg").write_bytes((root / "photos" / "7.jpg").read_bytes()),
        "images",
    ),
}


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.long
@pytest.mark.parametrize(("change", "says"), CHANGED.values(), ids=CHANGED)
def test_other_data_under_the_same_settings_is_refused(command, tmp_path, change, says):
    file = write_table(tmp_path / "data", 40)
    settings = [
        "dataset=table", f"dataset.file={file}", "backbone.width=8", "embedding_size=16", "views.size=16",
        "dataset.crop.resize=20", "training.batch_size=4", "training.warmup_epochs=1", "training.limit_batches=1",
        "training.num_workers=0", "callbacks=none", "cleaner=none", "training.epochs=1", "backbone=small_resnet",
        "optimizer.schedule.milestones=[1]",
    ]  # fmt: skip
    assert command(*settings, f"hydra.run.dir={tmp_path / 'run'}")[0] == 0
    change(tmp_path / "data")
    code, _, err = command(f"resume={tmp_path / 'run'}")
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith(f"error: dataset=table: the run to resume has other {says}"), err


@pytest.mark.long
def test_a_folder_falls_back_to_its_newest_whole_checkpoint(command, stopped, half):
    (half / "checkpoints" / "last.ckpt").write_bytes(b"garbage")
    assert command(f"resume={quoted(half)}", "~callbacks.witness")[0] == 0  # from best.ckpt
    assert_same_run(half, stopped / "straight")


@pytest.mark.parametrize("what", ["weights.pt", "folder", "nothing"])
def test_what_is_no_run_is_refused(command, tmp_path, what):
    torch.save({"state_dict": {}}, tmp_path / "weights.pt")
    (tmp_path / "folder").mkdir()
    code, out, err = command(f"resume={tmp_path / what}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: resume={tmp_path / what}: is n")


def test_a_sweep_cannot_be_resumed_as_a_whole(command, half):
    code, _, err = command("-m", f"resume={quoted(half)}", "seed=1,2")
    assert code == 2
    assert "one by one" in err


def test_a_new_run_does_not_write_over_another(command, half):
    code, _, err = command(*SIX_EPOCHS, f"hydra.run.dir={quoted(half)}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: hydra.run.dir={half}: holds the checkpoints of a run")
