"""What the group `preset` changes, and that it goes with all else."""

import pytest

from cpc_lightning.app.parts import Parts
from cpc_lightning.app.settings import plain
from cpc_lightning.training.same_run import flatten


def composed(compose, *overrides):
    return flatten(plain(compose(*overrides), resolve=False))


@pytest.mark.parametrize("protocol", ["dataset=digits", "dataset=cifar10", "experiment=cifar100_sym50"])
def test_what_each_preset_sets(compose, protocol):
    usual, paper, fast = (composed(compose, protocol, *more) for more in ([], ["preset=paper"], ["preset=fast"]))
    assert paper == usual
    assert usual.keys() == fast.keys()
    assert {name: value for name, value in fast.items() if value != usual[name]} == {
        "semisup.views": 1, "semisup.kept_guesses": True
    }  # fmt: skip


def test_what_is_typed_goes_before_a_preset(compose):
    assert composed(compose, "preset=fast", "semisup.views=3")["semisup.views"] == 3


def test_a_preset_is_nothing_that_was_asked_of_a_method_without_the_risk(compose):
    settings = plain(compose("preset=fast", "method=elr"))
    usual = plain(compose("preset=fast", "method=elr"), resolve=False)
    Parts(settings, ["preset=fast", "method=elr"], usual).check_method()


@pytest.mark.parametrize(
    ("overrides", "lines"), [([], 0), (["cleaner=none"], 1), (["method=elr"], 2), (["method=longremix"], 0)]
)
def test_where_nothing_is_guessed_the_run_says_that_the_preset_changes_little(compose, overrides, lines):
    """ELR also says that it trains on all labels."""
    told = Parts(plain(compose("preset=fast", *overrides))).set_aside
    assert len(told) == lines
    assert sum(line.startswith("semisup.kept_guesses=true changes nothing") for line in told) == min(lines, 1)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], False),
        (["cleaner=gmm_agn"], False),
        (["cleaner=none"], True),
        (["cleaner=oracle"], True),
        (["method=longremix"], True),
        (["dataset=embeddings", "dataset.file=FILE", "backbone=mlp"], True),
    ],
)
def test_a_division_that_was_typed_to_wait_and_does_not_is_told(compose, overrides, told):
    typed = ["training.divide_when=paying", *overrides]
    lines = Parts(plain(compose(*typed)), typed).set_aside
    assert any(line.startswith("training.divide_when=paying changes nothing: ") for line in lines) == told
    several = ["++training={divide_when: paying}", *overrides]
    assert any("divide_when" in line for line in Parts(plain(compose(*typed)), several).set_aside) == told
    asked = [*overrides, "training.divide_when=scheduled"]
    assert not any("divide_when" in line for line in Parts(plain(compose(*asked)), asked).set_aside)
