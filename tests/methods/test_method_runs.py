"""Every method of conf/method keeps the contract: it resumes exactly, trains in two processes, judges the labels."""

import csv
import os
import socket
from datetime import timedelta
from pathlib import Path

import cpc_lightning.conf
import hydra
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from tests.runs import WITNESS, assert_same, checkpoint_without_seconds, spawn, table_without_seconds

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.run import run
from cpc_lightning.app.settings import plain
from cpc_lightning.methods.memory import SampleMemory

pytestmark = pytest.mark.long

KEPT = "codivide-kept"  # its guesses, from stage 1
METHODS = [*sorted(path.stem for path in Path(cpc_lightning.conf.__path__[0], "method").glob("*.yaml")), KEPT]
SIX_EPOCHS = (
    "noise=symmetric", "noise.rate=0.5", "training.epochs=6", "training.warmup_epochs=2",
    "training.batch_size=64", "optimizer.schedule.milestones=[4]",
    "backbone.width=8", "embedding_size=16", "callbacks=none", "report=false", "trainer.precision=32-true",
)  # fmt: skip
DIGITS = 1438

# So that in six epochs all that a method does takes place.
MORE = {
    KEPT: ["semisup.kept_guesses=true", "semisup.views=1", "semisup.lambda_u=1"],
    "elr_plus": ["method.average_rampup_steps=8"],
    "longremix": ["cleaner.streak=2", "cleaner.history_length=2"],
    "mopro": ["method.uncleaned_share=0.5"],
    "ncr": ["method.start_epoch=1", "method.lambda_elr=3"],
    "ngc": ["cleaner.neighbours=10", "cleaner.learn_above=0.2"],
    "protomix": ["cleaner.neighbours=20", "cleaner.learn_above=0.3"],
}


SHORTER = ("training.epochs=4", "training.warmup_epochs=1", "training.limit_batches=5", "training.batch_size=32")


def choice_of(name):
    """The choice of a group."""
    return "method=" + name.split("-")[0]


def settings_of(name):
    """Of a small run with a method."""
    return [*SIX_EPOCHS, choice_of(name), *MORE.get(name, [])]


@pytest.fixture(scope="module", params=METHODS)
def method(request):
    """The name of a method."""
    return request.param


@pytest.fixture(scope="module")
def straight(method, tmp_path_factory):
    """The folder of a run with it, and in "seen" its folder as it was after each epoch."""
    folder = tmp_path_factory.mktemp(method)
    with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):
        settings = [*settings_of(method), f"run_dir={folder / 'run'}", WITNESS % (folder / "seen")]
        run(hydra.compose("config", settings))
    return folder


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_resumed_run_ends_like_one_that_was_not_interrupted(straight, method, compose, tmp_path, epoch):
    """After 1 epoch: in warm-up, where there is one; after 3: past a division by what was learnt, too."""
    folder = straight / "seen" / f"after_{epoch}"
    run(compose(*settings_of(method), WITNESS % tmp_path, f"resume={folder}", folder=folder))
    ends = [folder, straight / "run"]
    assert_same(*(checkpoint_without_seconds(end, "last") for end in ends))
    assert_same(*(table_without_seconds(end / "metrics.csv") for end in ends))
    assert len({(end / "labels.csv").read_bytes() for end in ends}) == 1


def test_it_judges_every_label_better_than_chance(straight, method, compose):
    """Columns of network 2 are blank where there is one network; wrong labels are trusted less than right ones."""
    one = Parts(plain(compose(choice_of(method)))).method.trains_one
    with (straight / "run" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == DIGITS
    assert {row["clean_probability_2"] == "" for row in rows} == {one}
    trust = {right: [] for right in (True, False)}
    for row in rows:
        trust[row["noisy_label"] == row["true_label"]].append(float(row["clean_probability"]))
    means = {right: sum(values) / len(values) for right, values in trust.items()}
    assert means[True] > means[False] + 0.01  # elr_plus has hardly begun after six epochs
    with (straight / "run" / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert bool(last.get("train/loss_2")) is bool(last.get("test/accuracy_2")) is not one
    assert float(last["test/accuracy"]) > 15


def train(rank: int, port: int, folder: str) -> None:
    """One of two processes: a small run with each method; what it ends with."""
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "WORLD_SIZE": "2"}  # fmt: skip
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", timedelta(seconds=120), rank=rank, world_size=2)
    ends = {}
    for name in METHODS:
        with hydra.initialize_config_module("cpc_lightning.conf", version_base="1.3"):
            parts = Parts(plain(hydra.compose("config", [*settings_of(name), *SHORTER, "run_dir=unused"])))
        module, datamodule = parts.module, parts.datamodule
        trainer = pl.Trainer(
            accelerator="cpu", devices=2, max_epochs=4, logger=False, enable_checkpointing=False,
            strategy=DDPStrategy(find_unused_parameters=True), enable_progress_bar=False, limit_val_batches=0,
            enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1, callbacks=[parts.stage_one],
        )  # fmt: skip
        trainer.fit(module, datamodule)
        memories = [part for part in module.method.modules() if isinstance(part, SampleMemory)]
        ends[name] = {
            "weights": {name: weight.detach() for name, weight in module.named_parameters()},
            "memories": [memory.rows for memory in memories],
            "verdict": parts.stage_one.state_dict()["final"]["clean_probabilities"],
        }
    torch.save(ends, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """By rank and method, what two processes ended with."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(train, (port, str(folder)), 2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.ddp
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_end_with_the_same(ends, name):
    """Every weight, whatever is averaged, every row that is remembered, and the verdict."""
    first, second = (of_rank[name] for of_rank in ends)
    assert first["weights"].keys() == second["weights"].keys()
    for weight, value in first["weights"].items():
        assert torch.equal(value, second["weights"][weight]), weight
    assert all(torch.equal(ours, its) for ours, its in zip(first["memories"], second["memories"], strict=True))
    assert torch.equal(first["verdict"].nan_to_num(-1), second["verdict"].nan_to_num(-1))
