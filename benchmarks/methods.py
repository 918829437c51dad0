"""The methods of the field beside CPC: same data, same network, same evaluation; runs over seeds, and their tables.

    python benchmarks/methods.py                        # the runs that are missing, for 40 minutes at most; then tables
    python benchmarks/methods.py --sets digits --methods elr cpc_awr --seeds 1
    python benchmarks/methods.py --table                # the tables alone, from the rows that there are

Sets and epochs are those of `cleaners.py`. Each method has the constants of its yaml, that is of its paper for CIFAR;
networks, views, batch size, learning rate and epochs are the set's, alike for all. "NAME, equal compute": for as many
epochs as cost what `cpc_awr` costs, by the seconds of the first seed. Rows go to RESULTS/methods_runs.csv, curves to
methods_curves.csv; started again, the script takes up what is missing. Seconds are of the processor.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from cleaners import COLUMNS as OF_CLEANERS
from cleaners import SEEDS, SETS, Run, run_missing
from cleaners_choices import PAPERS, rate_of
from measure import RESULTS, read_rows
from methods_tables import REFERENCE, tables

WEAK, STRONG = ("views.policy=weak",), ()
METHODS: Mapping[str, tuple[str, ...]] = {
    "cross-entropy": ("method=label_smoothing", "method.smoothing=0"),
    "label_smoothing": ("method=label_smoothing",),
    "co_teaching": ("method=co_teaching",),
    "elr": ("method=elr",),
    "elr_plus": ("method=elr_plus",),
    "gjs": ("method=gjs",),
    "ncr": ("method=ncr",),
    "mopro": ("method=mopro",),
    "protomix": ("method=protomix",),
    "ngc": ("method=ngc",),
    "dividemix": ("cleaner=gmm_agn", *PAPERS, *WEAK),
    "augdesc": ("cleaner=gmm_agn", *PAPERS),
    "longremix": ("method=longremix", *PAPERS, *WEAK),
    "ssr": ("method=ssr",),
    "promix": ("method=promix",),
    REFERENCE: (f"cleaner={REFERENCE}", *PAPERS),
    "cpc_awr, own data": (
        "cleaner=cpc_awr",
        "semisup=unmixed",
        "training.full_epochs=true",
        "training.divide_when=scheduled",
        *WEAK,
    ),
}
"""By name the settings of each; dividemix and augdesc are `method=codivide` by cleaner and views."""

UNDIVIDED = ("cross-entropy", "label_smoothing", "co_teaching", "elr", "elr_plus", "gjs", "ncr", "mopro")
"""Those that no cleaner divides the data for."""

COLUMNS = (*OF_CLEANERS[: OF_CLEANERS.index("seconds") + 1], "megabytes", *OF_CLEANERS[OF_CLEANERS.index("settings") :])
EQUAL = "{}, equal compute"


def times_of(method: str, name: str, noise: str) -> int | None:
    """How many times the epochs cost what `REFERENCE` costs; None where no row of the first seed tells, or once."""
    rows = {row["choice"]: float(row["seconds"]) for row in read_rows(RESULTS / "methods_runs.csv")
            if (row["set"], row["noise"], row["seed"]) == (name, noise, str(SEEDS[0]))}  # fmt: skip
    if method not in rows or REFERENCE not in rows:
        return None
    times = round(rows[REFERENCE] / rows[method])
    return times if times > 1 else None


def main() -> None:
    """Run what is missing, and print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--sets", nargs="+", default=["digits", "letters", "fashion"], choices=SETS)
    parser.add_argument("--noises", nargs="+", default=["symmetric 50 %", "symmetric 80 %", "asymmetric 40 %"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--equal", action="store_true", help="with the compute of the reference")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir(), "cleaners_data"))
    options = parser.parse_args()
    if not options.table:
        runs = []
        for seed, name in product(options.seeds, options.sets):
            for noise, method in product(SETS[name].noises, options.methods):
                times = times_of(method, name, noise) if options.equal else 1
                if noise in options.noises and times is not None:
                    chosen = (*METHODS[method], *rate_of(method, noise))
                    shown = EQUAL.format(method) if options.equal else method
                    runs.append(Run(name, noise, shown, seed, chosen, times, method not in UNDIVIDED))
        run_missing(runs, "methods", COLUMNS, options.data, options.jobs, options.minutes)
    text = tables(read_rows(RESULTS / "methods_runs.csv"))
    print(text)
    (RESULTS / "methods.md").write_text(text)


if __name__ == "__main__":
    main()
