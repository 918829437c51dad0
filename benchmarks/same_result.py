"""Do two revisions compute the same? Bit for bit, in small runs of all that the library does.

    python benchmarks/same_result.py b2570b4 HEAD        # before and after a refactoring; six minutes of one core

Takes `src/` and `conf/` of both revisions out of git, trains each case with either one on one thread and on the same
files, and compares labels.csv, the columns that both metrics.csv have (but for seconds; new columns are listed, a lost
one is a difference) and all weights in the checkpoints. The last case begins a run with REV_A and continues it with
REV_B. Prints where runs differ first; the exit code is 1 if any does. The runs know nothing but the command line of a
revision, so that every revision works that has these settings.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from compare_runs import Comparison, compare

ROOT = Path(__file__).parents[1]
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
TIME_LIMIT = 600  # seconds that a run may take
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

SMALL = (
    "backbone=small_resnet", "backbone.width=16", "embedding_size=16", "training.limit_batches=4", "callbacks=none",
    "trainer.precision=32-true",
)  # fmt: skip
NOISE = ("noise=symmetric", "noise.rate=0.5")
# Epoch 1 is warm-up, 2 and 3 train on a division of the data.
THREE = ("training.epochs=3", "training.warmup_epochs=1", "optimizer.schedule.milestones=[2]")
# Epochs 1 and 2 are warm-up; in 3 and 4 the mixtures divide the data, in 5 and 6 the prototypes do.
SIX = (
    "training.epochs=6", "training.warmup_epochs=2", "optimizer.schedule.milestones=[3]",
    "cleaner.warmup_share=0.34", "cleaner.steps=40",
)  # fmt: skip
FILES = ("views.size=16", "dataset.crop.resize=20", "training.batch_size=4")
HISTORY = "cleaner.history_length=2"

# {data} is the folder that `write_data` fills.
CASES: dict[str, tuple[str, ...]] = {
    "gmm_agn": (*NOISE, *THREE, "cleaner=gmm_agn"),
    "gmm_awr": (*NOISE, *THREE, "cleaner=gmm_awr", HISTORY),
    "cpc_agn": (*NOISE, *SIX, "cleaner=cpc_agn"),
    "cpc_awr": (*NOISE, *SIX, "cleaner=cpc_awr", HISTORY, "semisup.lambda_u=25", "cleaner.alpha=1"),
    "warm_up_only": (*NOISE, *THREE, "cleaner=none"),
    "oracle": (*NOISE, *THREE, "cleaner=oracle"),
    "image_files": (
        "dataset=imagefolder", "dataset.root={data}/folders", *FILES, *NOISE, *SIX, "cleaner=cpc_awr",
        "training.num_workers=2",
    ),
    "table_with_val": (
        "dataset=table", "dataset.file={data}/table/labels.csv", *FILES, *THREE, "cleaner=gmm_agn",
        "training.num_workers=0",
    ),
    "clothing1m": (
        "dataset=clothing1m", "dataset.root={data}/clothing1m", *FILES, *SIX, "cleaner=cpc_agn",
        "training.balanced_batches=5", "training.num_workers=0",
    ),
    "asymmetric": (
        "dataset=fashion_mnist", "dataset.root={data}/fashion_mnist", "training.batch_size=32", "noise=asymmetric",
        *SIX, "cleaner=cpc_agn",
    ),
    "two_processes": (*NOISE, *SIX, "cleaner=cpc_awr", "trainer=ddp", "trainer.accelerator=cpu"),
    "resume": (*NOISE, *SIX, "cleaner=cpc_awr", HISTORY),
}  # fmt: skip
STOPPED = 3  # the epochs after which the case "resume" is continued


@dataclass
class Revision:
    """A revision's source in a folder of its own.

    Attributes:
        name: A or B.
        commit: its hash and title.
        source: the folder to import it from.
    """

    name: str
    commit: str
    source: Path

    def call(self, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """Python with this revision's package, on one thread, in `folder`."""
        paths = os.pathsep.join(map(str, (self.source, ROOT)))  # ROOT for tests/, which keeps no package of this name
        environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": paths}
        call = [sys.executable, *arguments]
        return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT)

    def train(self, settings: list[str], folder: Path) -> str | None:
        """Run the command line; the reason where that failed."""
        done = self.call(["-m", "cpc_lightning", *settings], folder)
        if done.returncode == 0:
            return None
        lines = done.stderr.strip().splitlines() or ["(nothing on standard error)"]
        reason = next((line for line in lines if line.startswith("error:")), lines[-1])
        return f"{self.name} ended with code {done.returncode}: {reason}"


# Revisions and their input --------------------------------------------------------------------------------------------


def take_out(name: str, revision: str, home: Path) -> Revision:
    """Lay out the package of `revision` in `home` as an installation does, with conf/ inside."""
    title = git("log", "-1", "--format=%h %s", revision).decode().strip()
    place = home / f"revision_{name}"
    with tarfile.open(fileobj=BytesIO(git("archive", revision, "src", "conf"))) as archive:
        archive.extractall(place, filter="data")
    (place / "conf").rename(place / "src" / "cpc_lightning" / "conf")  # setup.cfg maps it there
    taken = Revision(name, title, place / "src")
    code = "import cpc_lightning, cpc_lightning.conf as conf; print(*cpc_lightning.__path__, *conf.__path__, sep='\\n')"
    found = taken.call(["-c", code], home)
    package = str(taken.source / "cpc_lightning")
    if found.stdout.splitlines() != [package, f"{package}/conf"]:
        sys.exit(f"{revision} cannot be imported from {package}, but: {found.stdout}{found.stderr}")
    return taken


def git(*arguments: str) -> bytes:
    """What git answers; ends the program with git's own words where it refuses."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)
    if done.returncode:
        sys.exit(done.stderr.decode().strip())
    return done.stdout


def write_data(folder: Path) -> None:
    """Write the files that both revisions train on: this checkout's code makes them, once."""
    sys.path.append(str(ROOT))
    from tests.datasets.image_trees import write_clothing1m, write_folders, write_table

    write_folders(folder / "folders", {"dark": 20, "mid": 20, "light": 20})
    write_table(folder / "table", 60)
    write_clothing1m(folder / "clothing1m", train=84, clean=28)
    if FASHION_MNIST.is_dir():
        (folder / "fashion_mnist").mkdir()
        for part, count in (("train", 600), ("t10k", 200)):
            shorten_idx(f"{part}-images-idx3-ubyte.gz", 3, count, folder / "fashion_mnist")
            shorten_idx(f"{part}-labels-idx1-ubyte.gz", 1, count, folder / "fashion_mnist")


def shorten_idx(name: str, dimensions: int, count: int, folder: Path) -> None:
    """Copy the first `count` items of a file of Fashion-MNIST."""
    content = gzip.decompress((FASHION_MNIST / name).read_bytes())
    header = 4 + 4 * dimensions
    size = (len(content) - header) // int.from_bytes(content[4:8], "big")
    first = content[:4] + count.to_bytes(4, "big") + content[8 : header + count * size]
    (folder / name).write_bytes(gzip.compress(first))


# Runs -----------------------------------------------------------------------------------------------------------------


def run_case(name: str, revisions: list[Revision], home: Path) -> Iterator[tuple[str, Comparison, list[float]]]:
    """Train a case with both revisions; yields a row's name, the comparison and the seconds of each side."""
    settings = [text.replace("{data}", str(home / "data")) for text in (*SMALL, *CASES[name])]
    folders = [home / "runs" / name / revision.name for revision in revisions]
    trials = []
    for revision, folder in zip(revisions, folders, strict=True):
        more = []
        if name == "resume":  # the copy that a stop in epoch STOPPED + 1 would leave
            from tests.runs import WITNESS

            more = [WITNESS % folder.with_name(f"{revision.name}_seen")]
        trials.append(timed(revision, [*settings, *more, f"hydra.run.dir={folder}"], home))
    yield name, *judged(trials, folders)
    if name != "resume" or any(failure for failure, _ in trials):
        return
    stopped = [folder.with_name(f"{folder.name}_seen") / f"after_{STOPPED}" for folder in folders]
    across = shutil.copytree(stopped[0], folders[0].with_name("A_then_B"))  # before A continues there
    go_on = "~callbacks.witness"
    trials = [timed(rev, [f"resume={folder}", go_on], home) for rev, folder in zip(revisions, stopped, strict=True)]
    yield "resume: continued", *judged(trials, stopped)
    trials = [(None, 0.0), timed(revisions[1], [f"resume={across}", go_on], home)]
    yield "resume: A, then B", *judged(trials, [folders[0], across])


def timed(revision: Revision, settings: list[str], home: Path) -> tuple[str | None, float]:
    """Train; the reason where that failed, and the seconds."""
    begin = time.monotonic()
    return revision.train(settings, home), time.monotonic() - begin


def judged(trials: list[tuple[str | None, float]], folders: list[Path]) -> tuple[Comparison, list[float]]:
    """The comparison of two trials; a run that failed is a difference, also where both did."""
    failures = [failure for failure, _ in trials if failure]
    found = Comparison(differences=failures) if failures else compare(*folders)
    return found, [seconds for _, seconds in trials]


@contextmanager
def working_folder(kept: Path | None) -> Iterator[Path]:
    """A folder for all files, which stays where one is named."""
    if kept is not None:
        kept.mkdir(parents=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="same_result_") as folder:
        yield Path(folder).resolve()


def main() -> int:
    """Print the table, then each difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs=2, metavar=("REV_A", "REV_B"), help="commits, as git names them")
    parser.add_argument("--runs", help=f"some of the cases only: NAME,... of {', '.join(CASES)}")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder for data and runs, which stays")
    options = parser.parse_args()
    names = options.runs.split(",") if options.runs else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"--runs: there is no {', '.join(unknown)}; there are {', '.join(CASES)}")
    if "asymmetric" in names and not FASHION_MNIST.is_dir():
        print(f"Without the case asymmetric: there is no {FASHION_MNIST} (apt-get install dataset-fashion-mnist).")
        names.remove("asymmetric")
    differences: list[str] = []
    compared = 0
    with working_folder(options.keep) as home:
        revisions = [take_out(name, text, home) for name, text in zip("AB", options.revisions, strict=True)]
        for revision in revisions:
            print(f"{revision.name}: {revision.commit}")
        write_data(home / "data")
        print("\n| run | labels.csv | columns the same | new columns | lost columns | tensors the same | seconds |")
        print("|---|---|---|---|---|---|---|")
        for name in names:
            for row, found, seconds in run_case(name, revisions, home):
                times = ", ".join(f"{value:.0f}" for value in seconds)
                print(f"| {row} | {' | '.join(found.cells)} | {times} |", flush=True)
                differences += [f"{row}: {line}" for line in found.differences]
                compared += 1
    print(f"\nDifferences in {compared} comparisons: {len(differences)}")
    for line in differences:
        print(f"* {line}")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
