"""mode=apply: writes the data set of a run with decisions on its labels applied, and says how to train on it."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpc_lightning.app.judged import data_of, place_of, verdicts_of
from cpc_lightning.app.launch import process_number
from cpc_lightning.app.modes import check_free, mode_settings, one, switch
from cpc_lightning.app.of_run import parts_of_run
from cpc_lightning.app.second_run import second_run
from cpc_lightning.datasets.dataset import Vectors
from cpc_lightning.errors import InputError, one_line, require
from cpc_lightning.report.cleaned_set import COLUMNS, TABLE, CleanedSet
from cpc_lightning.report.decisions import Decisions, automatic, read_decisions
from cpc_lightning.report.decisions import apply as applied
from cpc_lightning.report.new_folder import check_new_folder, new_folder, require_apart
from cpc_lightning.report.pictures import file_of, roots_of
from cpc_lightning.report.run_folder import RunFolder, read_run_folder
from cpc_lightning.report.verdicts import Verdicts

AUTO = "auto"
FOR_AUTO = ("policy", "confidence")


def apply(arguments: Sequence[str]) -> int:
    """Write the cleaned set, and print what was done and the command of a second run; the exit code.

    Args:
        arguments: of the command line, options aside: `run=FOLDER decisions=FILE|auto [policy=relabel|drop]
            [confidence=0.9] [output=FILE.csv|FOLDER] [copy=true] [overwrite=true]`, and settings of the run to put in
            place of its own.

    Raises:
        InputError: for a setting, a file or a folder that cannot be used; nothing is written then.
    """
    given, of_run = mode_settings("apply", arguments)
    copy, overwrite = (switch(setting, given.get(setting, "false")) for setting in ("copy", "overwrite"))
    run = read_run_folder(one("run", given))
    verdicts = verdicts_of(run)
    decisions = decide(given, run, verdicts)
    if process_number() > 0:
        return 0  # the first process writes
    dataset = data_of(parts_of_run(run, of_run), run, verdicts)
    expected = "is of a data set of vectors, which no table of images can name: change the labels in its file"
    require(not isinstance(dataset.train.images, Vectors), "run", str(run.path), expected)
    cleaned = CleanedSet(dataset, verdicts, applied(verdicts, decisions))
    roots = {root for split in (dataset.train, *dataset.evaluation.values()) for root in roots_of(split.images)}
    if "output" in given:
        output = place_of(one("output", given))
    else:  # images in no files go to a folder
        output = run.path / ("cleaned" if file_of(dataset.train.images, 0) is None else TABLE)
    require_apart(output, roots, run.path)
    if output.suffix.lower() == ".csv":
        require(not copy, "copy", "true", "copies images into a folder, and the output is a table")
        check_table(output, overwrite, run)
        root = cleaned.root()
        cleaned.write_table(output, root)
        table, remarks = output, cleaned.remarks
    else:
        check_new_folder(output, overwrite, TABLE)
        with new_folder(output, overwrite, TABLE) as folder:
            remarks = [*cleaned.remarks, *cleaned.write_folders(folder, copy)]
        table, root = output / TABLE, None
    relabeled, dropped = int((decisions.relabeled >= 0).sum()), int(decisions.dropped.sum())
    kept = f"{int(decisions.kept.sum()):,} kept, " if decisions.by_person else ""
    count = f"{len(verdicts) - dropped:,} of {len(verdicts):,} samples to train on"
    said = [f"{output}: {count}; {kept}{relabeled:,} relabeled, {dropped:,} dropped", *remarks]
    if not (decisions.by_person or relabeled or dropped):
        said.append("no suspected label has a suggestion of another class above that confidence: nothing has changed")
    command, unlike = second_run(run, cleaned, table, root)
    print("\n".join(one_line(line) for line in (*said, *unlike)))
    print(f"\nTo train on it, and see what changed:\n{command}")
    return 0


def decide(given: Mapping[str, str], run: RunFolder, verdicts: Verdicts) -> Decisions:
    """The decisions that the settings name."""
    named = one("decisions", given) if "decisions" in given else "(not set)"
    require("decisions" in given, "decisions", named, "must name a csv file of decisions, or be auto")
    if named != AUTO:
        for setting in FOR_AUTO:
            require(setting not in given, setting, given.get(setting), "is for decisions=auto alone")
        names = run.class_names or [str(k) for k in range(1 + max(verdicts.noisy_label.tolist()))]
        return read_decisions(named, verdicts, names)
    text = given.get("confidence", "0.9")
    try:
        confidence = float(text)
    except ValueError:
        raise InputError("confidence", text, "must be a number in [0, 1]") from None
    return automatic(verdicts, given.get("policy", "relabel"), confidence)


def check_table(output: Path, overwrite: bool, run: RunFolder) -> None:
    """Raise `InputError` where the file may not be written: only a table that was written here is ever replaced."""
    check_free(output, overwrite)
    data = run.settings.get("dataset")
    own = data.get("file") if isinstance(data, Mapping) else None
    if not output.exists():
        return
    original = isinstance(own, str) and os.path.exists(own) and os.path.samefile(own, output)
    require(not original, "output", str(output), "is the table that the run was trained on, which is never touched")
    try:
        with output.open(newline="", encoding="utf-8") as lines:
            columns = next(csv.reader(lines), [])
    except (OSError, ValueError, csv.Error):
        columns = []
    require({*COLUMNS} <= {*columns}, "output", str(output), "is there, and is no cleaned set: name a new file")
