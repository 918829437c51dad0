"""What strangers' folders and tables lead to, from the command line to labels.csv: what is said, and written."""

import io
import json
import shutil
import sys

import pytest
import torch
from tests.app.test_file_runs import SHORT, rows_of
from tests.datasets.image_trees import save_text, write_folders

from cpc_lightning.app.command_line import main
from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.cleaning.partition import Partition

QUICK = (*SHORT, "cleaner=gmm_agn")


@pytest.mark.long
def test_a_run_says_what_it_found_and_labels_csv_joins(command, tmp_path):
    """A table of ./paths with a copy, two spellings of one class and a thumbnail; then its labels.csv as a table."""
    write_folders(tmp_path, {"x": 24})
    shutil.copy(tmp_path / "x/0.jpg", tmp_path / "x/24.jpg")
    own = [f"./x/{n}.jpg,{('cat', 'dog', 'Cat')[n % 3]}" for n in range(25)] + ["./x/@eaDir/1.jpg,cat"]
    save_text(tmp_path / "own.csv", "\n".join(["path,label,split", *(f"{row}," for row in own)]))
    table = ("dataset=table", f"dataset.file={tmp_path / 'own.csv'}")
    with pytest.warns(UserWarning, match="left out: ") as warned:
        code, _, error = command(*table, *QUICK, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0, error
    said = "\n".join(str(warning.message) for warning in warned)
    assert "left out: 1 row of what a NAS or a file manager added; the first: ./x/@eaDir/1.jpg" in said
    assert "classes equal but for case, blanks, Unicode form or how a number is written: 'Cat' and 'cat'" in said
    assert "are copies of others: " in said or "are trained on too: " in said
    labels = rows_of(tmp_path / "run/labels.csv")
    assert {row["path"] for row in labels} <= {row.split(",")[0] for row in own}
    lines = (tmp_path / "own.csv").read_text().splitlines()
    classes = json.loads((tmp_path / "run/classes.json").read_text())
    for row in labels:
        path, label, _ = lines[int(row["row"]) - 1].split(",")
        assert (path, label) == (row["path"], row["noisy_class"])
        assert classes[int(row["noisy_label"])] == label
    code, out, error = command("mode=check", *table, *QUICK)
    assert code == 0, error
    assert "'Cat' and 'cat'" in " ".join(out.split())

    again = ("dataset=table", f"dataset.file={tmp_path / 'run/labels.csv'}", f"hydra.run.dir={tmp_path / 'run2'}")
    code, _, error = command(*again, *QUICK)
    assert code == 0, error
    assert json.loads((tmp_path / "run2/classes.json").read_text()) == classes
    assert {row["path"] for row in rows_of(tmp_path / "run2/labels.csv")} < {row["path"] for row in labels}


@pytest.mark.long
def test_mistakes_in_tables_are_one_line_before_training(command, tmp_path):
    write_folders(tmp_path, {"x": 12})
    cases = {
        "path,label\n"
        + "".join(f"x/{n}.jpg,{n % 3 - 1}\n" for n in range(12)): "line 2: label is '-1', which says 'not",
        "path,label,true_label\n" + "".join(f"x/{n}.jpg,{'ab'[n % 2]},{n % 2}\n" for n in range(12)): "by two names",
    }
    for text, says in cases.items():
        save_text(tmp_path / "t.csv", text)
        code, out, error = command("dataset=table", f"dataset.file={tmp_path / 't.csv'}", *QUICK,
                                   f"hydra.run.dir={tmp_path / 'run'}")  # fmt: skip
        assert (code, error.count("\n"), out) == (2, 1, "")
        assert says in error
        assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_terminal_that_cannot_show_a_name(tmp_path, monkeypatch):
    write_folders(tmp_path, {"猫": 8, "b": 16})
    for encoding in ("cp1252", "ascii"):
        shown = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding))
        assert main(["mode=check", "dataset=imagefolder", f"dataset.root={tmp_path}", *QUICK]) == 0
        sys.stdout.flush()
        assert r"\u732b" in shown.getvalue().decode(encoding)


@pytest.mark.long
def test_folders_that_are_numbers_keep_their_numbers(command, tmp_path):
    write_folders(tmp_path / "d", {str(k): 3 for k in range(11)})
    code, _, error = command(
        "dataset=imagefolder", f"dataset.root={tmp_path / 'd'}", *QUICK, f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert code == 0, error
    for row in rows_of(tmp_path / "run/labels.csv"):
        assert row["path"].split("/")[0] == row["noisy_label"] == row["noisy_class"]


def confirmed_and_unlabeled(folder):
    """A table of 36 dark and bright images: 4 wrong labels, 2 of them confirmed all the same; 8 images without one."""
    write_folders(folder, {"dark": 18, "light": 18})
    rows = []
    for n in range(36):
        true = ("dark", "light")[n // 18]
        given = "" if n % 9 in (7, 8) else {2: "light", 4: "light", 20: "dark", 22: "dark"}.get(n, true)
        rows.append(f"{true}/{n}.jpg,{given},{'true' if n in (2, 20) else ''},{true},{'test' if n % 9 == 0 else ''}")
    save_text(folder / "own.csv", "\n".join(["path,label,trusted,true_label,split", *rows]))
    return f"dataset.file={folder / 'own.csv'}"


@pytest.mark.long
@pytest.mark.parametrize("cleaner", ["cpc_awr", "gmm_agn", "none", "oracle"])
def test_images_without_a_label_get_a_suggestion_and_trusted_labels_no_suspicion(command, tmp_path, cleaner):
    settings = ["dataset=table", confirmed_and_unlabeled(tmp_path), "dataset.unlabeled=use", *SHORT,
                f"cleaner={cleaner}", "semisup.lambda_u=1", "training.epochs=6", "training.warmup_epochs=3",
                *(["cleaner.steps=20"] if cleaner == "cpc_awr" else [])]  # fmt: skip
    with pytest.warns(UserWarning, match="have no label"):
        code, out, error = command(*settings, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0, error
    rows = {row["path"]: row for row in rows_of(tmp_path / "run/labels.csv")}
    assert len(rows) == 32
    for path, row in rows.items():
        number = int(path.split("/")[1][:-4])
        without = number % 9 in (7, 8)
        assert (row["noisy_label"] == "") == (row["noisy_class"] == "") == without
        assert (row["clean_probability"] == "") == (row["suspected"] == "") == (without or cleaner == "none")
        assert row["suggested_class"] in ("dark", "light")
        if number in (2, 20):
            assert row["trusted"] == "true"
            assert cleaner == "none" or (row["suspected"], row["clean_probability"]) == ("false", "1.000000")
    if cleaner == "oracle":  # 24 labels to judge, 4 wrong ones of which 2 are trusted
        assert {path for path, row in rows.items() if row["suspected"] == "true"} == {"dark/4.jpg", "light/22.jpg"}
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["unlabeled_samples"], summary["trusted_labels"], summary["training_samples"]) == (8, 2, 32)
    assert summary["noise_rate_actual"] == pytest.approx(4 / 24)
    assert "of 24 labels suspected, 2 trusted; 8 images without a label" in out or cleaner == "none"
    code, out, error = command("mode=check", *settings)
    assert code == 0, error
    assert "8 of 32 images to train on have no label" in " ".join(out.split())


def test_images_without_a_label_are_learnt_from_in_stage_2_alone(compose, tmp_path):
    """In warm-up no step sees one; in stage 2 the unlabeled side goes round all of them, the labeled side none."""
    settings = ["dataset=table", confirmed_and_unlabeled(tmp_path), "dataset.unlabeled=use", *SHORT, "noise=symmetric",
                "noise.rate=0.9", "training.limit_batches=null"]  # fmt: skip
    datamodule = Parts(plain(compose(*settings, folder=tmp_path / "run"))).ready().datamodule
    without = set(datamodule.unlabeled.tolist())
    assert len(without) == 8
    trusted = torch.nonzero(datamodule.trusted).flatten().tolist()
    assert datamodule.noisy_labels[trusted].tolist() == [1, 0]  # as given: noise is not for what a person has confirmed
    assert not any(without & set(batch["index"].tolist()) for batch in datamodule.train_dataloader())
    labeled = datamodule.labeled
    half = Partition.from_probability(labeled, torch.tensor([0.9, 0.9, 0.9, 0.1]).repeat(len(labeled) // 4), 0.5)
    datamodule.partitions = half, half
    seen = [set(), set()]
    for batch in datamodule.train_dataloader():
        assert not without & set(batch["index"].tolist())
        seen[batch["network"]] |= set(batch["unlabeled_index"].tolist())
    assert seen == [without | set(half.unlabeled.tolist())] * 2
