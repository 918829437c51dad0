"""Which cells of the paper's tables can be run, held against the tables themselves, typed from the paper."""

import re
from itertools import pairwise
from pathlib import Path

import cpc_lightning.conf
import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
FOLDER = Path(cpc_lightning.conf.__path__[0]) / "experiment"

# Table 1. Columns: WebVision top-1 and top-5, ILSVRC12 top-1 and top-5, Clothing1M; None where the table has a dash.
TABLE_1 = {
    "ELR+": ("77.78", "91.64", "70.29", "89.76", "74.8"),
    "DivideMix": ("77.32", "91.64", "75.2", "90.84", "74.76"),
    "DivideMix, ResNet-50": ("76.3", "90.65", "74.42", "91.21", "74.76"),
    "LongReMix": ("78.92", "92.32", None, None, "74.38"),
    "NGC": ("79.16", "91.84", "74.44", "91.04", None),
    "AugDMix": (None, None, None, None, "75.11"),
    "NCR": ("80.5", None, None, None, "74.6"),
    "GJS": ("79.28", "91.22", "75.5", "91.27", None),
    "Baseline": ("76.3", "90.65", "74.42", "91.21", "74.73"),
    "Ours": ("79.63", "93.46", "75.75", "93.49", "75.40"),
}
# The experiments of a row: for WebVision and ILSVRC12, and for Clothing1M.
RUNS_1 = {
    "ELR+": ("elr_plus/webvision", "elr_plus/clothing1m"),
    "DivideMix": ("dividemix_inception", "dividemix_clothing1m"),
    "DivideMix, ResNet-50": ("dividemix_webvision", "dividemix_clothing1m"),
    "LongReMix": ("longremix/webvision", "longremix/clothing1m"),
    "NGC": ("ngc/webvision", None),
    "AugDMix": (None, "augdesc_clothing1m"),
    "NCR": ("ncr/webvision", "ncr/clothing1m"),
    "GJS": ("gjs/webvision", None),
    "Baseline": ("dividemix_webvision", "clothing1m_gmm_agn"),
    "Ours": ("webvision", "clothing1m clothing1m_tau07"),
}

CIFAR = ("cifar10_sym20", "cifar10_sym50", "cifar10_sym80", "cifar10_sym90", "cifar10_asym40",
         "cifar100_sym20", "cifar100_sym50", "cifar100_sym80", "cifar100_sym90")  # fmt: skip
# Table 2. Columns as in CIFAR.
TABLE_2 = {
    "ELR+": ("94.9", "93.9", "90.9", "74.5", "88.9", "76.3", "72.0", "57.2", "30.9"),
    "NCR": ("95.2", "94.3", "91.6", "75.1", "90.7", "76.6", "72.5", "58.0", "30.8"),
    "ProtoMix": ("96.4", "95.3", "93.3", "77.4", "92.6", "80.3", "76.0", "61.1", "33.1"),
    "DivideMix": ("96.1", "94.6", "93.2", "76.0", "93.4", "77.3", "74.5", "60.2", "31.5"),
    "LongReMix": ("96.2", "95.0", "93.9", "82.0", "94.7", "77.8", "75.6", "62.9", "33.8"),
    "AugDMix": ("96.3", "95.6", "93.6", "91.9", "94.6", "79.5", "77.2", "66.4", "41.2"),
    "NGC": ("95.88", "94.54", "91.59", "80.46", "90.55", "79.31", "75.91", "62.7", "29.76"),
    "GJS": ("95.33", None, "79.11", None, "89.65", "75.71", None, "44.49", None),
    "Ours": ("96.50", "95.64", "94.78", "92.55", "94.73", "80.22", "79.31", "69.56", "54.60"),
}
PREFIX_2 = {
    "ELR+": "elr_plus/", "NCR": "ncr/", "ProtoMix": "protomix/", "DivideMix": "dividemix_", "LongReMix": "longremix/",
    "AugDMix": "augdesc_", "NGC": "ngc/", "GJS": "gjs/", "Ours": "",
}  # fmt: skip

# Table 3. Columns: CIFAR-100 sym90, WebVision, CIFAR-10 asym40, Clothing1M.
COLUMNS_3 = ("cifar100_sym90", "webvision", "cifar10_asym40", "clothing1m")
TABLE_3 = {
    "gmm_agn": ("41.2", "76.32", "94.6", "74.73"),
    "gmm_awr": ("45.6", "78.66", "94.18", "74.18"),
    "cpc_agn": ("48.88", "79.4", "94.73", "75.4"),
    "cpc_awr": ("54.6", "79.63", "94.29", "74.36"),
}
OURS_3 = {
    "cifar100_sym90_cpc_awr",
    "webvision_cpc_awr",
    "cifar10_asym40_cpc_agn",
    "clothing1m_cpc_agn",
}  # Table 2's, 1's

# Table 4: e in per cent, tau and alpha, one at a time.
VALUES_4 = {"warmup_share": (0.05, 0.1, 0.15), "threshold": (0.5, 0.6, 0.7), "alpha": (0.0, 0.5, 1.0)}
TABLE_4 = {
    "cifar100_sym90": (("52.32", "54.60", "53.7"), ("54.60", "54.33", "54.05"), ("54.60", "54.48", "54.51")),
    "webvision": (("79.63", "79.32", "79.04"), ("79.63", "79.52", "79.36"), ("79.16", "79.44", "79.63")),
    "cifar10_asym40": (("94.73", "94.68", "94.59"), ("94.73", "94.71", "94.65"), ("94.73", "94.68", "94.72")),
    "clothing1m_tau07": (("75.40", "75.04", "74.89"), ("75.08", "75.15", "75.40"), ("75.35", "75.28", "75.40")),
}

# Table 5. Columns as in Table 3; its first row is Table 3's first, its last one Tables 1 and 2's.
TABLE_5 = {"cpc_contrastive": ("42.9", "26.8", "93.92", "74.09")}

OWN = {
    "digits_sym80", "fashion_mnist_asym40", "photos", "animal10n", "cifar10_pair45", "food101n", "mini_imagenet_red"
}  # fmt: skip
"""Experiments that are no cell of this paper."""

ELSEWHERE = {"elr", "mopro", "promix", "ssr"}
"""Methods without a row in the tables: their experiments are cells of their own papers."""


def head(name: str) -> str:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def cells() -> dict[str, dict[int, set[str]]]:
    """The published numbers that each experiment stands for, by table."""
    found: dict[str, dict[int, set[str]]] = {}

    def add(names: str | None, table: int, numbers: tuple[str | None, ...]) -> None:
        for name in (names or "").split():
            found.setdefault(name, {}).setdefault(table, set()).update(n for n in numbers if n is not None)

    for row, (webvision, clothing) in RUNS_1.items():
        add(webvision, 1, TABLE_1[row][:4])
        add(clothing, 1, TABLE_1[row][4:])
    for row, prefix in PREFIX_2.items():
        for column, number in zip(CIFAR, TABLE_2[row], strict=True):
            add(None if number is None else f"{prefix}{column}", 2, (number,))
    add("cifar100_sym80_e10", 2, ("69.56",))
    for cleaner, numbers in TABLE_3.items():
        for column, number in zip(COLUMNS_3, numbers, strict=True):
            if f"{column}_{cleaner}" not in OURS_3:
                add(f"{column}_{cleaner}", 3, (number,))
    for cleaner, numbers in TABLE_5.items():
        for column, number in zip(COLUMNS_3, numbers, strict=True):
            add(f"{column}_{cleaner}", 5, (number,))
    return found


def test_every_row_of_tables_1_and_2_has_experiments():
    assert set(TABLE_1) == set(RUNS_1)
    assert set(TABLE_2) == set(PREFIX_2)


def test_every_experiment_on_the_papers_data_is_a_cell():
    names = {
        path.relative_to(FOLDER).with_suffix("").as_posix()
        for path in FOLDER.rglob("*.yaml")
        if path.parent.name != "_shared"
    }
    assert set(cells()) == {name for name in names - OWN if name.partition("/")[0] not in ELSEWHERE}


@pytest.mark.parametrize("name", cells())
def test_heads_name_the_cells_and_their_numbers(name):
    text = head(name)
    for table, numbers in cells()[name].items():
        assert re.search(rf"Table {table}\b", text), table
        for number in numbers:
            assert re.search(rf"\b{re.escape(number)}\b", text), number


def test_what_table_3_shares_with_the_other_tables():
    """Its best prototypes are the experiments of Tables 1 and 2."""
    for name, cleaner in (("cifar100_sym90", "cpc_awr"), ("webvision", "cpc_awr"), ("cifar10_asym40", "cpc_agn")):
        column = COLUMNS_3.index(name)
        numbers = {n for found in cells()[name].values() for n in found}
        assert float(TABLE_3[cleaner][column]) in {float(n) for n in numbers}


@pytest.mark.parametrize("name", TABLE_4)
def test_a_row_of_table_4_is_three_sweeps_in_the_head_of_its_experiment(compose, name):
    lines = [line.removeprefix("#").strip() for line in (FOLDER / f"{name}.yaml").read_text().splitlines()]
    sweeps = {
        line.rsplit(" ", 1)[1]: after
        for line, after in pairwise(lines)
        if line.startswith(f"python -m cpc_lightning -m experiment={name} ")
    }
    assert len(sweeps) == 3
    for (setting, values), numbers in zip(VALUES_4.items(), TABLE_4[name], strict=True):
        (line,) = (line for line in sweeps if line.startswith(f"cleaner.{setting}="))
        assert tuple(map(float, line.split("=")[1].split(","))) == values
        assert sweeps[line] == f"published {', '.join(numbers)} %"
        command = next(text for text in lines if text.endswith(line))
        more = [o for o in command.split(" experiment=")[1].split()[1:] if not o.startswith("cleaner.")]
        best = values[max(range(3), key=lambda k: float(numbers[k]))]  # what the experiment itself has
        config = compose(f"experiment={name}", *more)
        assert OmegaConf.select(config, f"cleaner.{setting}") == best, setting
        if setting == "threshold":  # of the prototypes alone: the mixture that teaches keeps 0.5
            swept = compose(f"experiment={name}", *command.split(" experiment=")[1].split()[1:-1])
            assert swept.cleaner.gmm_threshold == 0.5
