"""The table of a sweep, with means and deviations worked out by hand."""

import json
import os

from cpc_lightning.report.sweep import main, mean_and_deviation, read_runs, sweep_rows


def write(folder, number, overrides, best, auc):
    (folder / str(number)).mkdir()
    summary = {
        "test_accuracy_best": best, "test_accuracy_last": best - 1, "test_accuracy_last10": best - 2,
        "cleaner_auc_gmm": auc, "cleaner_auc_cpc": None, "overrides": overrides,
    }  # fmt: skip
    (folder / str(number) / "summary.json").write_text(json.dumps(summary))


def test_mean_and_deviation():
    assert mean_and_deviation([90.0, 92.0, 94.0]) == "92.00 ± 2.00"  # ((4 + 0 + 4) / 2) ** 0.5
    assert mean_and_deviation([0.8, 0.9]) == "0.850 ± 0.071"  # 0.1 / 2 ** 0.5
    assert mean_and_deviation([7.0]) == "7.00"
    assert mean_and_deviation([]) == "-"


def test_seeds_make_one_row(tmp_path):
    write(tmp_path, 0, ["cleaner=a", "seed=1", "noise.rate=0.8"], 90.0, 0.8)
    write(tmp_path, 1, ["cleaner=a", "seed=2", "noise.rate=0.8"], 94.0, 0.9)
    write(tmp_path, 2, ["cleaner=b", "seed=1", "noise.rate=0.8"], 80.0, None)
    header, rows = sweep_rows(read_runs([tmp_path]))
    assert header == ["run", "n", "accuracy, best", "accuracy, last", "accuracy, mean of last 10", "AUC of GMM"]
    assert rows == [
        ["cleaner=a", "2", "92.00 ± 2.83", "91.00 ± 2.83", "90.00 ± 2.83", "0.850 ± 0.071"],  # 4 / 2 ** 0.5 = 2.83
        ["cleaner=b", "1", "80.00", "79.00", "78.00", "-"],
    ]


def test_job_2_comes_before_job_10(tmp_path):
    for number in (10, 2):
        write(tmp_path, number, [f"cleaner={number}"], 50.0, None)
    assert [row[0] for row in sweep_rows(read_runs([tmp_path]))[1]] == ["cleaner=2", "cleaner=10"]


def test_eighty_columns_show_every_figure_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for number in (0, 1):
        summary = {
            "test_accuracy_best": 90.0 + number, "test_accuracy_last": 89.0, "test_accuracy_last10": 88.0,
            "cleaner_auc_gmm": 0.8, "cleaner_auc_cpc": 0.9 + 0.01 * number,
            "overrides": ["a=[bold]", f"seed={number}"],
        }  # fmt: skip
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "summary.json").write_text(json.dumps(summary))
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    for text in ("90.50 ±0.71", "89.00 ±0.00", "88.00 ±0.00", "0.800 ±0.000", "0.905 ±0.007", "a=[bold]"):
        assert text in out


def test_eighty_columns_hold_the_accuracy_of_prototypes_as_well(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for number in (0, 1):
        accuracies = {f"test_accuracy_{which}": 90.0 + number for which in ("best", "last", "last10")}
        more = {"test_prototype_accuracy_best": 80.0, "cleaner_auc_gmm": 0.8, "cleaner_auc_cpc": 0.9 + 0.01 * number}
        (tmp_path / str(number)).mkdir()
        summary = accuracies | more | {"overrides": ["cleaner=cpc_awr", f"seed={number}"]}
        (tmp_path / str(number) / "summary.json").write_text(json.dumps(summary))
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "…" not in out
    for text in ("90.50", "±0.71", "80.00", "±0.00", "0.800", "±0.000", "0.905", "±0.007"):
        assert text in out.split()


def test_markdown(tmp_path, capsys):
    write(tmp_path, 0, ["seed=1"], 90.0, None)
    assert main([str(tmp_path), "--markdown"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "| (defaults) | 1 | 90.00 | 89.00 | 88.00 |"


def test_a_folder_without_runs(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"folder={tmp_path}: holds no finished run (no summary.json)\n"


def test_a_folder_that_may_not_be_read_is_no_smaller_table(tmp_path, capsys, monkeypatch):
    write(tmp_path, 0, ["seed=1"], 90.0, None)
    scandir = os.scandir

    def guarded(path):
        if os.fspath(path) == str(tmp_path / "closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    (tmp_path / "closed").mkdir()
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"folder={tmp_path}/closed: cannot be read: Permission denied\n"


def test_hostile_values_neither_break_the_table_nor_the_terminal(tmp_path, capsys):
    write(tmp_path, 0, ["noise.path=a|b<script>[bold]\x1b[2J\n| forged | row |"], 90.0, None)
    assert main([str(tmp_path), "--markdown"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 3
    assert r"noise.path=a\|b&lt;script>[bold]\x1b[2J\n\| forged \| row \|" in out
    assert main([str(tmp_path)]) == 0
    assert "\x1b[2J" not in capsys.readouterr().out
