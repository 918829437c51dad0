"""What experiments come to: the parts that a run of each would train with, on small files in the real formats."""

from pathlib import Path

import pytest
from tests.app.test_experiments import write_files

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain

TINY = ("backbone=small_resnet", "backbone.width=8", "embedding_size=8", "training.num_workers=0")


@pytest.fixture
def parts(compose, tmp_path):
    """Parts of the experiment on its data set's files."""

    def parts(name: str, dataset: str, *overrides: str) -> Parts:
        files = write_files(dataset, tmp_path / "files")
        return Parts(plain(compose(f"experiment={name}", *files, *TINY, *overrides, folder=tmp_path / "run")))

    return parts


def test_webvisions_warm_up_sees_the_whole_set_in_batches_of_its_own_and_later_epochs_are_cut(parts):
    """A.2.1: "For each epoch, we sample 1000 mini-batches"; the code warms up on all images, twice the batch."""
    made = parts("webvision", "webvision", "training.limit_batches=1", "training.batch_size=3",
                 "training.warmup_batch_size=6")  # fmt: skip
    count = len(made.dataset.train)
    assert made.datamodule.most_steps(0, 1) == -(-count // 6) > 1
    assert made.datamodule.most_steps(1, 1) == 1
    assert made.datamodule.batch_size_in(0) == 6
    assert made.datamodule.batch_size_in(1) == 3


def test_clothing1ms_warm_up_draws_as_many_batches_of_twice_the_size(parts):
    """1000 of 64, then 1000 of 32: here one of 28, then one of 14, of 14 classes."""
    made = parts("clothing1m", "clothing1m", "training.batch_size=14", "training.warmup_batch_size=28",
                 "training.balanced_batches=1")  # fmt: skip
    assert [len(made.datamodule.draws(epoch)[0]) for epoch in (0, 1)] == [28, 14]
    assert [made.datamodule.most_steps(epoch, 1) for epoch in (0, 1)] == [1, 1]


@pytest.mark.parametrize(
    ("name", "dataset", "warm", "strong"),
    [
        ("augdesc_clothing1m", "clothing1m", "cifar10", "imagenet"),
        ("augdesc_cifar10_sym50", "cifar10", "cifar10", "cifar10"),
        ("clothing1m_gmm_agn", "clothing1m", None, "imagenet"),
    ],
)
def test_augdescs_saw_warms_up_on_strong_views(parts, name, dataset, warm, strong):
    """Its presets: SAW has warmup_transform transform_strong_c1m_c10 beside transform_strong_c1m_in in training."""
    module = parts(name, dataset).module
    warmup_views = module.method.warmup_views
    assert (warmup_views and warmup_views.policy.policy) == warm
    assert module.views.policy.policy == strong
    for views in filter(None, (module.views, warmup_views)):
        assert (views.policy.fill, views.policy.augdesc) == (128, True)


@pytest.mark.parametrize(
    ("name", "dataset", "forwards"),
    [("cifar10_sym20", "cifar10", True), ("cifar10_asym40", "cifar10", True), ("cifar100_sym90", "cifar100", True),
     ("clothing1m", "clothing1m", False), ("webvision", "webvision", False)],
)  # fmt: skip
def test_which_rows_are_forwarded(parts, name, dataset, forwards):
    """train_cifar.py mixes all rows whatever lambda_u is; train_clothing1M.py the first 2 x batch alone."""
    assert parts(name, dataset).risk.forwards_unlabeled == forwards


@pytest.mark.parametrize(
    "chosen",
    [("dataset=digits",), ("dataset=fashion_mnist",), ("dataset=imagefolder", "dataset.root=FOLDER"),
     ("dataset=table", "dataset.file=FILE")],
)  # fmt: skip
def test_data_that_no_paper_is_about_keep_the_cheap_step_and_torchvisions_views(compose, chosen):
    config = compose(*chosen)
    assert config.semisup.forward_unlabeled is False  # where lambda_u is 0; where it is not, the loss needs the rows
    assert config.views.augdesc is False
    assert (config.training.warmup_batch_size, config.training.warmup_policy) == (None, None)


def test_the_changelog_names_what_is_missing_as_the_readme_does():
    text = " ".join((Path(__file__).parents[2] / "CHANGELOG.md").read_text().split())
    assert "missing are those by ELR+, LongReMix, NGC, NCR, GJS and ProtoMix." in text
