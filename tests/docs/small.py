"""Stands for `python`, `torchrun` and `srun` where the documentation's commands are tried: the same ones, made small.

A training run gets two epochs of a few batches, a sweep two seeds. What this machine lacks is replaced: a GPU by the
CPU, SLURM's launcher by submitit's local one, weights from the network by random ones. Everything else runs as typed.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

EVERY_RUN = (
    "training.epochs=2", "training.warmup_epochs=1", "training.limit_batches=2", "training.warmup_batch_size=512",
    "optimizer.schedule.milestones=[1]", "training.num_workers=0", "callbacks=none", "trainer.precision=32-true",
)  # fmt: skip
PHOTOS = (
    "views.size=24",
    "dataset.crop.resize=24",
    "training.batch_size=8",
    "backbone=small_resnet",
    "embedding_size=16",
)
CIFAR = ("dataset.verify=false",)
SWEEPS = {
    "hparams_search=optuna": ("hydra.sweeper.n_trials=2",),
    "hydra/launcher=submitit_slurm": ("hydra/launcher=submitit_local",),
}


def small(arguments):
    """The arguments of `-m cpc_lightning` that are tried in place of those typed."""
    names = {argument.partition("=")[0]: argument.partition("=")[2] for argument in arguments}
    mode = names.get("mode", "train")
    if mode not in ("train", "check", "pretrain") or "resume" in names or {"--help", "--version"} & set(arguments):
        return list(arguments)
    kept = [a.replace("trainer=gpu", "trainer=cpu") for a in arguments if a not in ("backbone.weights=DEFAULT",)]
    kept = [re.sub(r"^(seed=\d+,\d+),.*", r"\1", a) for a in kept]
    slurm = shutil.which("sbatch") is not None
    if not slurm:
        kept = [a for a in kept if a not in SWEEPS and not a.startswith("hydra.launcher.partition=")] + [
            a for a in kept if a == "hparams_search=optuna"
        ]
    more = [*EVERY_RUN, *(["pretraining.epochs=2"] if mode == "pretrain" else [])]
    for typed, added in SWEEPS.items():
        more += added if typed in arguments and not (slurm and "slurm" in typed) else ()
    experiment = names.get("experiment", "")
    photos = names.get("dataset") in ("imagefolder", "table") or experiment == "photos"
    if names.get("features") or experiment == "photos":
        more += (
            ["features.weights=null", "features.size=32"] if names.get("features") != "module" else ["features.size=32"]
        )
        more += ["features.folder=features"]
        if names.get("features") == "timm":
            kept = [a.replace("vit_small_patch16_224", "resnet10t") for a in kept]
    elif photos:
        more += PHOTOS
    elif experiment.startswith("cifar"):
        more += [*CIFAR, "backbone=small_resnet", "embedding_size=16"]
    elif names.get("dataset") == "embeddings":
        more += ["backbone.width=16", "training.batch_size=8", "embedding_size=8"]
    elif names.get("backbone", "small_resnet") == "small_resnet" or names.get("dataset") == "fashion_mnist":
        kept = [a for a in kept if a != "backbone=preact_resnet18"]
        more += ["backbone.width=8", "embedding_size=16"]
    return [*kept, *more]


def main():
    """Run what was typed."""
    name, arguments = Path(sys.argv[1]).name, sys.argv[2:]
    if "-m" in arguments:
        place = arguments.index("-m")
        if arguments[place + 1] == "cpc_lightning":
            arguments = [*arguments[: place + 2], *small(arguments[place + 2 :])]
    if name == "torchrun":
        return subprocess.run([sys.executable, "-m", "torch.distributed.run", *arguments]).returncode
    if name == "srun":
        return srun([a for a in arguments if not a.startswith("--")][1:])
    if name.startswith("python") and arguments[:2] == ["-m", "venv"]:
        folder = Path(arguments[2]) / "bin"
        folder.mkdir(parents=True)
        for tool in Path(os.environ["SHIMS"]).iterdir():
            (folder / tool.name).symlink_to(tool)
        return 0
    if name == "pip":
        return installable(arguments)
    if name == "pre-commit":
        return 0 if arguments == ["install"] else 2
    return subprocess.run([sys.executable, *arguments]).returncode


def installable(arguments):
    """0 if each thing to install is this library, with extras that it has."""
    text = (Path(os.environ["REPOSITORY"]) / "pyproject.toml").read_text()
    assert arguments[0] == "install"
    for wanted in (a for a in arguments[1:] if not a.startswith("-")):
        library, _, extras = wanted.partition("[")
        assert library in (".", "cpc-lightning"), wanted
        for extra in filter(None, extras.rstrip("]").split(",")):
            assert f"\n{extra} = [" in text, wanted
    return 0


def srun(command):
    """Two tasks of a job on this machine, as srun starts them; the command without its `python`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"JOB_ID": 4321, "STEP_ID": 7, "NTASKS": 2, "NTASKS_PER_NODE": 2, "NNODES": 1, "NODEID": 0,
           "NODELIST": "127.0.0.1"}  # fmt: skip
    place = command.index("cpc_lightning") + 1
    command = [*command[:place], *small(command[place:])]
    tasks = []
    for rank in range(2):
        names = {**job, "PROCID": rank, "LOCALID": rank}
        environment = {**os.environ, "MASTER_PORT": str(port), **{f"SLURM_{n}": str(v) for n, v in names.items()}}
        tasks.append(subprocess.Popen([sys.executable, *command], env=environment))
    return max(task.wait() for task in tasks)


if __name__ == "__main__":
    sys.exit(main())
