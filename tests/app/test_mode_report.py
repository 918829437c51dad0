"""The page at the end of a run, mode=report of finished, interrupted and older runs, and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.conftest import SMALL
from tests.pages import HOSTILE

from cpc_lightning.app.command_line import main

RUN = [*(text for text in SMALL if text != "report=false"), "cleaner=cpc_awr", "cleaner.steps=20"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    assert main([*RUN, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run, to take things from."""
    return shutil.copytree(finished, tmp_path / "run")


def data_of(folder):
    html = (folder / "index.html").read_text()
    return json.loads(re.search(r'id="cpc-data">(.*?)</script>', html, re.DOTALL)[1])


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_run_ends_with_its_page(finished):
    assert files(finished / "report") == [
        "data/000.js", "data/001.js", "data/002.js", "index.html",
        "sprites/000.png", "sprites/001.png", "sprites/002.png", "sprites/alike.png",
    ]  # fmt: skip
    data = data_of(finished / "report")
    assert (data["total"], data["embedded"], len(data["pictures"])) == (1438, 200, 200)
    html = (finished / "report" / "index.html").read_text()
    assert "Transition" not in html
    assert "Estimated transition matrix" in html
    assert "Images that look like none of the classes" in html
    assert "Losses of network 2" in html
    assert "Confusion matrix of the test images" in html
    assert "Missing:" not in html


@pytest.mark.long
def test_report_false_leaves_it_out(tmp_path, small):
    assert main([*small, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert not (tmp_path / "run" / "report").exists()


@pytest.mark.long
@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), MemoryError("not enough"), KeyError("x")])
def test_a_page_that_cannot_be_made_costs_the_run_nothing(tmp_path, command, monkeypatch, fault):
    """Also where that is a defect of ours; and the end names no page that is not there."""
    from cpc_lightning.report import page

    def broken(*_):
        raise fault

    monkeypatch.setattr(page, "labels_context", broken)
    with pytest.warns(UserWarning, match="there is no page"):
        code, out, _ = command(*RUN, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0
    assert (tmp_path / "run" / "labels.csv").is_file()
    assert (tmp_path / "run" / "summary.json").is_file()
    assert "index.html" not in out
    assert "labels.csv" in out


@pytest.mark.long
def test_the_same_run_gives_the_same_page(run, command, finished):
    code, out, _ = command("mode=report", f"run={run / 'checkpoints' / 'last.ckpt'}", f"output={run / 'again'}")
    assert (code, out.strip()) == (0, str(run / "again" / "index.html"))
    for name in files(finished / "report"):
        if name != "index.html":  # which names the folder
            assert (run / "again" / name).read_bytes() == (finished / "report" / name).read_bytes(), name
    ours, theirs = data_of(run / "again"), data_of(finished / "report")
    assert ours == theirs


@pytest.mark.long
def test_it_never_overwrites_without_being_told_to(run, command):
    (run / "report" / "index.html").write_text("mine")
    (run / "report" / "decisions.csv").write_text("mine too")
    (run / "report" / "data" / "999.js").write_text("of an older page that showed more")
    code, _, err = command("mode=report", f"run={run}")
    assert code == 2
    assert "overwrite=true" in err
    assert (run / "report" / "index.html").read_text() == "mine"
    assert command("mode=report", f"run={run}", "overwrite=true")[0] == 0
    assert "Estimated" in (run / "report" / "index.html").read_text()
    assert (run / "report" / "decisions.csv").read_text() == "mine too"
    assert not (run / "report" / "data" / "999.js").exists()


def test_an_interrupted_run_shows_what_its_networks_say(run, command):
    for name in ("labels.csv", "labels_test.csv", "summary.json"):
        (run / name).unlink()
    code, out, _ = command("mode=report", f"run={run}", "overwrite=true")
    assert code == 0
    assert "missing: labels.csv is not there: the run has not ended" in out
    html = (run / "report" / "index.html").read_text()
    assert "The networks contradict" in html
    assert "Confusion matrix of the test images" in html
    data = data_of(run / "report")
    assert data["samples"]["chance"] == [None] * 200
    # the most strongly contradicted first
    assert data["samples"]["sure"] == sorted(data["samples"]["sure"], reverse=True)


def test_an_old_run_says_what_it_cannot_give(run, command):
    shutil.rmtree(run / "checkpoints")
    for name in ("warmup_losses.npz", "labels_test.csv", "classes.json"):
        (run / name).unlink()
    code, out, _ = command("mode=report", f"run={run}", "overwrite=true")
    assert code == 0
    assert "missing: the networks cannot look at the images again" in out
    html = (run / "report" / "index.html").read_text()
    assert "Not looked for" in html
    assert len(data_of(run / "report")["pictures"]) == 200


def test_a_run_of_which_nothing_is_known_still_has_a_page(run, command):
    for name in ("labels.csv", "labels_test.csv", "summary.json"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    assert command("mode=report", f"run={run}", "overwrite=true")[0] == 0
    assert "This run has no verdict on its labels yet." in (run / "report" / "index.html").read_text()


def test_fewer_pictures(run, command):
    assert command("mode=report", f"run={run}", "pictures=300", "look=false", "overwrite=true")[0] == 0
    assert files(run / "report") == ["data/000.js", "index.html", "sprites/000.png"]
    html = (run / "report" / "index.html").read_text()
    assert "Shown are the 300 most suspicious of 1,438 labels; the other 1,138 are in labels.csv." in html


@pytest.mark.parametrize(("arguments", "message"), [
    (["run=nowhere"], "run=nowhere: is no folder of a run"),
    ([], "run=(not set): must name one file or folder"),
    (["run={run}", "pictures=0"], "pictures=0: must be a whole number of at least 1"),
    (["run={run}", "look=perhaps"], "look=perhaps: must be true or false"),
    (["run={run}", "format=svg"], "format=svg: is a setting of mode=figures"),
    (["run={run}", "noise.rat=1"], "noise.rat=1: is no setting"),
    (["run={run}", "output=/dev/null/x"], "output=/dev/null/x: cannot be"),
    (["run={run}", "-m"], "-m=mode=report: starts no sweep"),
])  # fmt: skip
def test_mistakes_are_one_line(finished, command, arguments, message):
    code, out, err = command("mode=report", *(text.format(run=finished) for text in arguments), "overwrite=true")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["pictures=5", "look=true"])
def test_settings_of_the_page_belong_to_no_run(command, name):
    code, _, err = command(name)
    assert code == 2
    assert "is a setting of mode=report" in err


# Photos ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A run on photos of mixed sizes in a table, whose classes and files have odd names."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    lines = ["path,label,split"]
    for i in range(36):
        size = [(90, 60), (60, 90), (200, 70), (72, 72)][i % 4]
        name = f"=photo {i}.png" if i == 0 else f"a & b {i}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / name)
        label = (HOSTILE, "Füße, 'x'", "=1+1")[i % 3]
        lines.append(f'{name},"{label}",{"test" if i >= 30 else "train"}')
    (root / "set.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    small = [text for text in RUN if not text.startswith(("noise", "training.warmup_batch"))]
    own = ["dataset=table", f"dataset.file={root / 'set.csv'}", "backbone=small_resnet", "dataset.crop.resize=80"]
    more = ["views.size=72", "training.batch_size=4", "training.num_workers=0", "dataset.on_bad_image=skip"]
    assert main([*small, *own, *more, f"hydra.run.dir={root / 'run'}"]) == 0
    return root


@pytest.mark.long
def test_photos_show(photos):
    html = (photos / "run" / "report" / "index.html").read_text()
    assert HOSTILE not in html
    data = data_of(photos / "run" / "report")
    assert HOSTILE in data["classes"]
    assert all(address.startswith("data:image/webp") for address in data["pictures"])
    assert "./=photo 0.png" in data["samples"]["path"]


@pytest.mark.long
def test_photos_that_are_gone_leave_a_page(photos, tmp_path, command):
    root = shutil.copytree(photos, tmp_path / "photos")
    for image in root.glob("*.png"):
        image.unlink()
    given = ["mode=report", f"run={root / 'run'}", f"output={tmp_path / 'page'}"]
    code, _, err = command(*given, f"dataset.file={root / 'nowhere.csv'}")
    assert code == 2  # what is typed must be right
    assert "nowhere.csv" in err
    shutil.move(photos / "set.csv", photos / "moved.csv")
    try:
        code, out, _ = command(*given)
    finally:
        shutil.move(photos / "moved.csv", photos / "set.csv")
    assert code == 0
    assert "missing: the images cannot be opened" in out
    assert "The images cannot be opened, so there are no pictures" in (tmp_path / "page" / "index.html").read_text()
    code, _, err = command(*given, "overwrite=true", f"dataset.file={photos / 'set.csv'}")
    assert (code, err) == (0, "")
    assert len(data_of(tmp_path / "page")["pictures"]) == 30


def test_another_data_set_is_not_shown_for_the_runs_own(run, command):
    code, _, err = command("mode=report", f"run={run}", "overwrite=true", "noise_seed=77")
    assert code == 2
    assert "holds other images or labels than the run was trained on" in err
